"""Every command and every table of the README, run as it stands there, on small data in the place of the large."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from tests.miniature.vcr import write_vcr
from tests.miniature.vqav2 import write_vqav2
from vle_bench.data.prepare.shapes_vcr import prepare_shapes_vcr
from vle_bench.demo import vcr
from vle_bench.demo.vqa import own_row, published_rows, results_table
from vle_bench.evaluation.record import load_record
from vle_bench.recipe import preflight
from vle_bench.recipe.load import load_recipe

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FEW_STEPS = (
    "train.max_steps=4 train.evaluate_every=4 train.batch_size=32 train.per_device_batch_size=32"
)
MINIATURE = "train.epochs=1 train.batch_size=4 train.per_device_batch_size=2 train.num_workers=0 model.image_size=64"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands():
    lines = [line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    return [parts for line in lines if (parts := shlex.split(line, comments=True))]


def execute(command, folder, code=0):
    """Run one command in `folder`, with the interpreter of the tests; returns what it prints, on stderr where it is to fail."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == code, f"{shlex.join(map(str, command))}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def make(parts, folder, arguments="", dry=False):
    given = [p for p in parts[1:] if not p.startswith(("ARGS=", "VENV=", "LAUNCH="))]
    own = " ".join(p.removeprefix("ARGS=") for p in parts if p.startswith("ARGS="))
    flags = ["-n"] if dry else []
    return execute(
        [
            "make",
            *flags,
            "-f",
            ROOT / "Makefile",
            *given,
            "VENV=",
            f"PYTHON={sys.executable}",
            f"ARGS={own} {arguments}",
        ],
        folder,
    )


def without_head(folder):
    """As the published pre-trained models: no head, and no answers in its configuration."""
    (folder / "label_map.json").unlink()
    weights = load_file(folder / "model.safetensors")
    encoder = {name: value for name, value in weights.items() if name.startswith("vle.")}
    assert 0 < len(encoder) < len(weights)
    save_file(encoder, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["id2label"], config["label2id"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    run = [sys.executable, "-m", "vle_bench"]
    execute(
        [*run, "prepare", "easy-vqa", "--output", "data/easy-vqa", "--limit-images", "40"], folder
    )
    write_vqav2(folder / "data" / "vqav2-official", val=4)
    write_vcr(folder / "data" / "vcr-official", 2, 2, 2)
    for name, blank in (("shapes-vcr", False), ("shapes-vcr-blank", True)):
        prepare_shapes_vcr(
            folder / "data" / name, 0, questions={"train": 64, "val": 16, "test": 4}, blank=blank
        )
    (folder / "predictions.json").write_text("[]", encoding="utf-8")
    (folder / "leaderboards").mkdir()
    published = (ROOT / "leaderboards" / "published.yaml").read_text(encoding="utf-8")
    questions = len(
        (folder / "data" / "vcr-official" / "val.jsonl").read_text(encoding="utf-8").splitlines()
    )  # VCR's val is the miniature's here
    assert "split: val, n: 26_534" in published
    (folder / "leaderboards" / "published.yaml").write_text(
        published.replace("split: val, n: 26_534", f"split: val, n: {questions}"), encoding="utf-8"
    )
    return folder


def test_every_command(work):
    """One test, in the README's order: later commands use what earlier ones wrote."""
    seen = []
    for parts in commands():
        line = shlex.join(parts)
        if parts[:2] == ["make", "demo"] and "VENV=" not in line:
            several = ["--seeds" in line]
            shown = make(
                parts, work, FEW_STEPS + (" --output-dir runs/three" if any(several) else "")
            )
            assert "index.html" in shown and "easy-VQA-keras" in shown
            assert "vcr.html" in shown and "alignment off: picture, no boxes" in shown
        elif parts == ["make", "test"]:
            assert "-m pytest" in make(parts, work, dry=True)
        elif parts[0] == "pip":
            assert parts == ["pip", "install", "."]  # the wheel: tests/unit/test_packaging.py
        elif parts[:2] == ["vle-bench", "download"]:
            shipped = {"vqav2": "vqa/vle-base", "vcr": "vcr/vle-base-q2a"}[parts[2]]
            assert line in preflight.data_commands(
                load_recipe(shipped).data
            )  # tests/unit/data/test_download*.py run it
        elif parts[:2] == ["hf", "download"]:
            assert line in preflight.checkpoint_commands("checkpoints/vle-base")
            target = work / parts[-1]
            target.parent.mkdir(parents=True)
            (work / "runs" / "demo" / "seed-0" / "last").rename(
                target
            )  # a small checkpoint of the same layout
            without_head(target)
        elif parts[:2] == ["make", "vqa-base"]:
            if not any(p.startswith("LAUNCH=") for p in parts):
                assert "written: runs/vle-base-vqa/" in make(parts, work, MINIATURE)
                assert (
                    len(
                        json.loads(
                            (work / "runs/vle-base-vqa/vqa_test.json").read_text(encoding="utf-8")
                        )
                    )
                    > 0
                )
            else:
                assert "accelerate.commands.launch --num_processes 8 -m vle_bench" in execute(
                    ["make", "-n", "-f", ROOT / "Makefile", *parts[1:], "VENV="], work
                )
        elif parts[0] == "make" and parts[1].startswith(
            "score-"
        ):  # tests/unit/evaluation/test_published_checkpoint.py has small ones
            data = "vqav2" if "vqa" in parts[1] else "vcr"
            shown = execute(["make", "-n", "-f", ROOT / "Makefile", *parts[1:], "VENV="], work)
            assert (
                f"checkpoints/{parts[1].removeprefix('score-').split('-')[0]}" in shown
                and "--published VLE-base" in shown
            )
            said = subprocess.run(
                ["make", "-f", ROOT / "Makefile", *parts[1:], "VENV=", f"PYTHON={sys.executable}"],
                cwd=work,
                capture_output=True,
                text=True,
            )
            assert (
                f"data/{data}: no prepared data there: README" in said.stderr
                and said.returncode == 2
            )
        elif parts == ["make", "vcr-base"]:
            shown = make(parts, work, MINIATURE)
            assert "written: runs/vle-base-vcr-q2a/results/vcr_q2ar.val.json" in shown
            shown = (work / "leaderboards" / "comparison.md").read_text(encoding="utf-8")
            assert re.search(r"\| VCR Q2AR \| val \| \d", shown), shown
        elif parts[:3] == ["vle-bench", "score", "vqa"]:
            questions = json.loads(
                (work / "data/easy-vqa-official/questions-test.json").read_text(encoding="utf-8")
            )["questions"]
            answers = [{"question_id": q["question_id"], "answer": "no"} for q in questions]
            (work / "predictions.json").write_text(json.dumps(answers), encoding="utf-8")
            assert "accuracy" in execute([sys.executable, "-m", "vle_bench", *parts[1:]], work)
        elif parts[:2] == ["vle-bench", "predict"]:
            shown = execute([sys.executable, "-m", "vle_bench", *parts[1:]], work)
            assert "each question of test once" in shown
            unlabelled = ["evaluate", "runs/vle-base-vqa", "--split", "test"]
            assert "'test' has no labels" in execute(
                [sys.executable, "-m", "vle_bench", *unlabelled], work, code=2
            )
        elif "--server-result" in parts:  # tests/e2e/test_hub.py has one of as many questions
            (work / parts[-1]).write_text('[{"test-dev": {"overall": 71.32}}]', encoding="utf-8")
            shown = execute([sys.executable, "-m", "vle_bench", *parts[1:]], work, code=2)
            assert "questions of test-dev, the server 107,394" in shown
        elif parts[:2] == ["vle-bench", "reproduce"]:
            shown = execute([sys.executable, "-m", "vle_bench", *parts[1:]], work, code=2)
            assert "accuracy on test-dev is expected, and nothing is measured there yet" in shown
        elif parts[:2] == ["vle-bench", "compare"]:
            shutil.copytree(work / parts[2], work / parts[3])
            shown = execute([sys.executable, "-m", "vle_bench", *parts[1:]], work)
            assert f"A: {parts[2]}" in shown and "No example's score changed." in shown
        elif parts == ["make", "bench"]:
            shown = execute(["make", "-n", "-f", ROOT / "Makefile", "bench", "VENV="], work)
            assert (
                "bench recipes/vqa/vle-base.yaml --synthetic --naive" in shown
                and "vcr/vle-base-q2a.yaml" in shown
            )
        elif parts[:2] == ["vle-bench", "bench"]:
            few = [*MINIATURE.split(), "--steps", "1", "--evaluation-batch-size", "8"]
            assert "training" in execute(
                [sys.executable, "-m", "vle_bench", *parts[1:], *few], work
            )
        elif parts[-1] == "--resume":
            shown = execute(
                [sys.executable, "-m", "vle_bench", *parts[1:], *MINIATURE.split()], work
            )
            assert "runs/vle-base-vqa: this run is finished" in shown
        elif parts[0] == "vle-bench":
            small = ["--limit-images", "40"] if parts[1:3] == ["prepare", "easy-vqa"] else []
            assert execute([sys.executable, "-m", "vle_bench", *parts[1:], *small], work).strip()
        else:
            raise AssertionError(f"the README has a command that no test runs: {line}")
        seen.append(parts[0])
    assert {"make", "pip", "vle-bench", "hf"} <= set(seen)


def test_python(work):
    if not (work / "runs" / "demo" / "seed-0" / "best").is_dir():
        make(["make", "demo"], work, FEW_STEPS)
    shown = [execute([sys.executable, "-c", block], work) for block in blocks("python")]
    assert "'answer':" in shown[-1] and "'score':" in shown[-1]


def newest(task):
    """The demo's records of the newest schema version: those of earlier code stay in the tables."""
    records = [
        load_record(path)
        for path in sorted((ROOT / "leaderboards" / "results" / task).glob("*tiny*.json"))
    ]
    return [
        record
        for record in records
        if record.schema_version == max(r.schema_version for r in records)
    ]


def test_the_demo_output_is_that_of_the_record():
    record = newest("vqa")[-1]
    console = Console(width=100, file=open(os.devnull, "w", encoding="utf-8"), record=True)
    console.print(results_table([*published_rows(), own_row([record])], record.n))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    missing = [line for line in lines if line.strip() and line.strip() not in README]
    assert not missing, "\n".join(lines)


def test_the_vcr_demo_output_is_that_of_its_records():
    records = newest("vcr_q2ar")
    assert len(records) == len(vcr.KINDS)
    for kind, (_, _, shown) in vcr.KINDS.items():
        name = " + ".join(f"vcr-{task}-tiny{kind}" for task in vcr.RECIPES)
        (record,) = [r for r in records if r.recipe["name"] == name]
        row = vcr.row_of(shown, {"q2ar": record})
        assert any(all(cell in line for cell in row.values()) for line in README.splitlines()), row


def test_the_comparison_is_the_rendered_one():
    """The README shows the published columns; what was measured beside them is on the page."""
    text = (ROOT / "leaderboards" / "comparison.md").read_text(encoding="utf-8")
    rows = [
        line
        for line in text[: text.index("## Everything measured")].splitlines()
        if line.startswith("| ")
    ]
    shown = ["| " + " | ".join(line.strip("| ").split(" | ")[:6]) + " |" for line in rows]
    assert len(shown) == 10
    assert all(line in README for line in shown if "---" not in line), "\n".join(shown)
