"""The kinds of files that are fuzzed: the originals, the command that reads them, and what a copy may say instead."""

import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tests.miniature.by_name import WRITERS
from tests.miniature.vcr import write_vcr
from tests.miniature.vqav2 import write_vqav2
from vle_bench.cli.app import main
from vle_bench.data.prepare.by_name import LAYOUTS, official_questions
from vle_bench.data.sources import CHECKED, SOURCES

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"


@dataclass
class Outcome:
    """What a command did: exit status, its texts, and its score where it ended well."""

    code: int
    output: str
    errors: str
    score: Any = None


def command(*arguments: Any, cwd: Path) -> Outcome:
    """`vle-bench` in this process; an exception that escapes is the caller's."""
    output, errors, before = io.StringIO(), io.StringIO(), (sys.argv, os.getcwd())
    sys.argv = ["vle-bench", *map(str, arguments)]
    os.chdir(cwd)
    code = 0
    try:
        with (
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("always")
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before[0]
        os.chdir(before[1])
    return Outcome(code, output.getvalue(), errors.getvalue())


def call(function: Callable[[], Any]) -> Outcome:
    """A reader by itself, with the exit statuses of the command line."""
    from vle_bench.errors import RequestError, RunFailed

    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), warnings.catch_warnings():
        warnings.simplefilter("always")
        try:
            score = function()
        except (RequestError, RunFailed) as error:
            return Outcome(
                2 if isinstance(error, RequestError) else 1, "", errors.getvalue() + str(error)
            )
    return Outcome(0, "", errors.getvalue(), score)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def strict_json(content: bytes) -> Any:
    """JSON as the standard has it: UTF-8 without a mark, no key twice, no NaN; ValueError otherwise."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(content.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)


def says_so(name: str, content: bytes) -> bool:
    """Whether a file is well formed, so that another score is what it says and no misreading."""
    try:
        if name.endswith(".json"):
            strict_json(content)
        elif name.endswith(".jsonl"):
            for line in content.decode("utf-8").split("\n"):
                if line.strip():
                    strict_json(line.encode())
        elif name.endswith(".yaml"):
            yaml.safe_load(content.decode("utf-8"))
        else:
            content.decode("utf-8")
    except (ValueError, RecursionError, yaml.YAMLError):
        return False
    return True


@dataclass
class Kind:
    """Files that one or more commands read; `folder` holds the originals, `files` are those to damage."""

    folder: Path
    files: list[str]
    outputs: Path = field(init=False)

    def __post_init__(self) -> None:
        self.outputs = self.folder / "outputs"

    def run(self, name: str, number: int) -> Outcome:
        """Read the files of which `name` is damaged; what is written goes under `outputs`."""
        raise NotImplementedError

    def explained(self, name: str, damage: str, outcome: Outcome) -> bool:
        """Whether a score that differs from the original's is what the damaged file says."""
        return says_so(name, (self.folder / name).read_bytes())


class Recipes(Kind):
    def __init__(self, folder: Path) -> None:
        shutil.copytree(ROOT / "recipes", folder / "recipes")
        files = [
            str(p.relative_to(folder))
            for p in sorted((folder / "recipes").rglob("*.yaml"))
            if "accelerate" not in p.parts
        ]
        super().__init__(folder, files)

    def run(self, name: str, number: int) -> Outcome:
        from vle_bench.recipe.load import load_recipe

        outcome = command("validate", name, cwd=self.folder)
        if (
            outcome.code == 0
        ):  # what `validate` accepts loads to the same recipe again from what it writes
            loaded = load_recipe(str(self.folder / name), [])
            self.outputs.mkdir(exist_ok=True)
            (self.outputs / "again.yaml").write_text(loaded.to_yaml(), encoding="utf-8")
            again = load_recipe(str(self.outputs / "again.yaml"), [])
            assert again.hash == loaded.hash, "the resolved recipe loads as another one"
            outcome.score = loaded.hash
        return outcome


class VQA(Kind):
    """`score vqa` on forty of the golden questions, beside a scorer of a few lines."""

    def __init__(self, folder: Path) -> None:
        read = {
            name: json.loads((GOLDEN / "vqa_accuracy" / f"{name}.json").read_text(encoding="utf-8"))
            for name in self.NAMES
        }
        chosen = [question["question_id"] for question in read["questions"]["questions"][:40]]
        for name, key in (("questions", "questions"), ("annotations", "annotations")):
            read[name][key] = [
                record for record in read[name][key] if record["question_id"] in chosen
            ]
        read["results"] = [record for record in read["results"] if record["question_id"] in chosen]
        for name, content in read.items():
            (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        super().__init__(folder, [f"{name}.json" for name in self.NAMES])

    NAMES = ("questions", "annotations", "results")

    def run(self, name: str, number: int) -> Outcome:
        options = [
            part for key in ("questions", "annotations") for part in (f"--{key}", f"{key}.json")
        ]
        options += [
            "--predictions",
            "results.json",
            "--per-question",
            "outputs/each.json",
            "--json",
        ]
        outcome = command("score", "vqa", *options, cwd=self.folder)
        if outcome.code == 0:
            outcome.score = json.loads(outcome.output)["accuracy"]
            each = json.loads((self.outputs / "each.json").read_text(encoding="utf-8"))
            assert abs(sum(each.values()) / len(each) - outcome.score) < 1e-9, (
                "the mean of the questions is another"
            )
        return outcome

    def explained(self, name: str, damage: str, outcome: Outcome) -> bool:
        try:
            _, annotations, results = (
                strict_json((self.folder / file).read_bytes()) for file in self.files
            )
            given = {record["question_id"]: record["answer"] for record in results}
            scores = [
                naive_accuracy(given[r["question_id"]], r["answers"])
                for r in annotations["annotations"]
            ]
        except (ValueError, RecursionError, TypeError, KeyError):
            return False
        return abs(sum(scores) / len(scores) - outcome.score) < 1e-12


def naive_accuracy(prediction: str, answers: list[dict[str, Any]]) -> float:
    """The official program's, with its normalisation taken from the package, which tests of its own cover."""
    from vle_bench.metrics.vqa import clean, normalize_answer

    texts = [clean(record["answer"]) for record in answers]
    read = normalize_answer if len(set(texts)) > 1 else str
    truths, prediction = [read(text) for text in texts], read(clean(prediction))
    hits = [truth == prediction for truth in truths]
    return sum(min(1.0, (sum(hits) - hit) / 3) for hit in hits) / len(hits)


class VCR(Kind):
    """`score vcr` where the records are damaged, `prepare vcr` where the metadata are, and by turns for the records."""

    def __init__(self, folder: Path) -> None:
        write_vcr(folder / "official", 2, 2, 1)
        records = [
            json.loads(line)
            for line in (folder / "official" / "val.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        rng = np.random.default_rng(0)
        header = ["annot_id", *(f"answer_{i}" for i in range(4))]
        header += [f"rationale_conditioned_on_a{a}_{i}" for a in range(4) for i in range(4)]
        with (folder / "scores.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                [header, *([r["annot_id"], *rng.random(20).round(4)] for r in records)]
            )
        metadata = sorted((folder / "official").rglob("*.json"))
        super().__init__(
            folder,
            [
                "official/val.jsonl",
                "official/train.jsonl",
                "scores.csv",
                *(str(p.relative_to(folder)) for p in metadata),
            ],
        )

    def run(self, name: str, number: int) -> Outcome:
        if name == "scores.csv" or (name == "official/val.jsonl" and number % 2):
            outcome = command(
                "score",
                "vcr",
                "--annotations",
                "official/val.jsonl",
                "--predictions",
                "scores.csv",
                "--json",
                cwd=self.folder,
            )
            if outcome.code == 0:
                outcome.score = json.loads(outcome.output)
            return outcome
        outcome = command(
            "prepare", "vcr", "--source", "official", "--output", "outputs/data", cwd=self.folder
        )
        if outcome.code == 0:
            outcome.score = json.loads(
                (self.outputs / "data" / "manifest.json").read_text(encoding="utf-8")
            )["hash"]
        return outcome


class LabelMaps(Kind):
    """The forms of label maps, read by themselves."""

    def __init__(self, folder: Path) -> None:
        answers = ["yes", "no", "café", "2", "t-shirt", "ﬁve", "blue", "a b"]
        index = {answer: i for i, answer in enumerate(answers)}
        forms = {
            "list": answers,
            "answers": {"answers": answers},
            "index": index,
            "label2id": {"label2id": index},
            "config": {
                "id2label": {str(i): answer for answer, i in index.items()},
                "label2id": index,
            },
        }
        for name, content in forms.items():
            (folder / f"{name}.json").write_text(
                json.dumps(content, ensure_ascii=False), encoding="utf-8"
            )
        super().__init__(folder, [f"{name}.json" for name in forms])

    def run(self, name: str, number: int) -> Outcome:
        from vle_bench.data.label_map import read_label_map

        return call(lambda: read_label_map(self.folder / name))


class Images(Kind):
    """Pictures of the formats that are met, read by themselves, and every tenth one through `prepare vqav2`."""

    PREPARED = "official/train2014/COCO_train2014_000000000001.jpg"

    def __init__(self, folder: Path) -> None:
        write_vqav2(folder / "official", 1, 3, 1)
        rng = np.random.default_rng(0)
        image = Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6
        for name, options in (
            ("plain.jpg", {}),
            ("turned.jpg", {"exif": exif}),
            ("progressive.jpg", {"progressive": True}),
            ("plain.png", {}),
            ("turned.png", {"exif": exif}),
            ("plain.webp", {"lossless": True}),
            ("plain.gif", {}),
            ("plain.bmp", {}),
            ("plain.tiff", {}),
        ):
            image.save(folder / name, **options)
        files = sorted(p.name for p in folder.iterdir() if p.is_file())
        super().__init__(folder, [*files, self.PREPARED])

    def run(self, name: str, number: int) -> Outcome:
        if name != self.PREPARED:
            from vle_bench.data.images import decode

            path = self.folder / name
            return call(lambda: pixels(decode(path.read_bytes(), str(path))))
        outcome = command(
            "prepare", "vqav2", "--source", "official", "--output", "outputs/data", cwd=self.folder
        )
        if outcome.code == 0:
            outcome.score = json.loads(
                (self.outputs / "data" / "manifest.json").read_text(encoding="utf-8")
            )["hash"]
        return outcome

    def explained(self, name: str, damage: str, outcome: Outcome) -> bool:
        """Only PNG has checksums; a cut file has too few pixels in any format."""
        return damage not in ("cut", "empty") and not name.endswith(".png")


def pixels(image: Image.Image) -> str:
    return f"{image.size} {digest(image.tobytes())}"


class Checkpoints(Kind):
    """A run's checkpoint, evaluated on a miniature VQA v2; METER's training checkpoint, converted."""

    METER = "meter.ckpt"

    def __init__(self, folder: Path) -> None:
        from tests.long.tiny_run import write_tiny_run

        names = write_tiny_run(folder, GOLDEN / "meter")
        super().__init__(folder, [*(f"run/best/{name}" for name in names), self.METER])

    def run(self, name: str, number: int) -> Outcome:
        if name == self.METER:
            outcome = command(
                "convert",
                self.METER,
                "--output",
                "outputs/converted",
                "--config",
                GOLDEN / "meter" / "config.json",
                cwd=self.folder,
            )
            if outcome.code == 0:
                outcome.score = digest(
                    (self.outputs / "converted" / "model.safetensors").read_bytes()
                )
            return outcome
        outcome = command(
            "evaluate", "run", "--output", "outputs/results/record.json", cwd=self.folder
        )
        if outcome.code == 0:
            record = json.loads(
                (self.outputs / "results" / "record.json").read_text(encoding="utf-8")
            )
            predictions = next(self.outputs.rglob("*.jsonl")).read_bytes()
            outcome.score = [record["metrics"]["accuracy"]["value"], digest(predictions)]
            if "NaN" in predictions.decode() or "Infinity" in predictions.decode():
                raise AssertionError("a score that is not finite was written")
        return outcome

    def explained(self, name: str, damage: str, outcome: Outcome) -> bool:
        """Other weights have another digest in the record; a zip has checksums."""
        return name.endswith(".safetensors") or (
            name != self.METER and says_so(name, (self.folder / name).read_bytes())
        )


class ByName(Kind):
    """`prepare` of the datasets by name, and `check-submission` of their results files."""

    def __init__(self, folder: Path) -> None:
        self.asked: dict[str, Path] = {}  # results file -> the questions that it answers
        for name, write in WRITERS.items():
            write(folder / name)
        files = sorted(folder.rglob("*.json"))
        for name in CHECKED:
            split, (id_key, answer) = SOURCES[name].unlabelled[-1], SOURCES[name].results
            questions = folder / name / LAYOUTS[name].splits[split].questions
            ids, _ = official_questions(name, questions)
            rows = [{id_key: i, answer: "cab"} for i in ids] if id_key else None
            content = {i: {answer: "cab"} for i in ids} if rows is None else rows
            (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
            files.append(folder / f"{name}.json")
            self.asked[f"{name}.json"] = questions
        super().__init__(folder, [str(path.relative_to(folder)) for path in files])

    def run(self, name: str, number: int) -> Outcome:
        if name in self.asked:
            source, questions = Path(name).stem, self.asked[name]
            return command(
                "check-submission", source, name, "--questions", questions, cwd=self.folder
            )
        source = Path(name).parts[0]
        outcome = command(
            "prepare", source, "--source", source, "--output", "outputs/data", cwd=self.folder
        )
        if outcome.code == 0:
            manifest = (self.outputs / "data" / "manifest.json").read_text(encoding="utf-8")
            outcome.score = json.loads(manifest)["hash"]
        return outcome


KINDS: dict[str, type[Kind]] = {
    "by-name": ByName,
    "recipes": Recipes,
    "vqa": VQA,
    "vcr": VCR,
    "label-maps": LabelMaps,
    "images": Images,
    "checkpoints": Checkpoints,
}
