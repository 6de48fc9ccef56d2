"""The demo's second half: VCR's tasks on drawn pictures whose questions only the boxes answer."""

import json
from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator
from rich.table import Table

from vle_bench.analysis.vcr import LABELS, TEXTS
from vle_bench.data.images import decode
from vle_bench.data.prepare.shapes_vcr import prepare_shapes_vcr
from vle_bench.data.prepared import open_prepared
from vle_bench.data.vcr_text import spoken, tagged
from vle_bench.demo.baselines import majority_baseline, text_baseline
from vle_bench.demo.figures import ChosenAnswer, choices_sheet, learning_curves
from vle_bench.demo.jobs import Job
from vle_bench.demo.runs import (
    prepare_pixels,
    print_table,
    result_of,
    ruled_table,
    write_demo_page,
)
from vle_bench.evaluation.record import Record, load_record
from vle_bench.evaluation.vcr_join import join_vcr
from vle_bench.metrics.numbers import percent, plus_minus
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks.catalogue import JOINED
from vle_bench.tasks.predictions import read_predictions

RECIPES = {"q2a": "demo/vcr-q2a-tiny", "qa2r": "demo/vcr-qa2r-tiny"}
BLANK = "-blank"  # suffix of the same data with grey pictures

# Suffix of run folders -> overrides, suffix of the data, name in the table
KINDS: dict[str, tuple[list[str], str, str]] = {
    "": ([], "", "alignment on"),
    "-off": (["model.alignment=off"], "", "alignment off: picture, no boxes"),
    "-text": ([], BLANK, "text only: grey pictures"),
}

COLUMNS = ["", "Q2A", "QA2R", "Q2AR"]
CHANCE = 25.0  # percent, of four choices
SHEET = 8  # questions on the sheet


def plan(overrides: list[str], folder: Path) -> dict[str, dict[str, Job]]:
    """Prepare the data; return a training of each task for each of `KINDS`."""
    roots = prepare(overrides)
    jobs: dict[str, dict[str, Job]] = {}
    for kind, (changes, data, _) in KINDS.items():
        jobs[kind] = {}
        for task, recipe in RECIPES.items():
            named = [f"name=vcr-{task}-tiny{kind}", f"data.root={roots[data]}"]
            loaded = load_recipe(recipe, [*overrides, *changes, *named])
            jobs[kind][task] = Job(loaded, folder / f"vcr-{task}{kind}")
    return jobs


def longest_first(jobs: Mapping[str, Mapping[str, Job]]) -> list[Job]:
    """Order jobs so that no core waits long for the last one."""
    return sorted((job for both in jobs.values() for job in both.values()), key=lambda j: -j.steps)


def join_and_write(jobs: Mapping[str, Mapping[str, Job]], folder: Path) -> None:
    """Join the two tasks of each kind, and write the results."""
    records: dict[str, dict[str, Record]] = {}
    for kind, both in jobs.items():
        records[kind] = {
            task: load_record(result_of(job.recipe, job.folder)) for task, job in both.items()
        }
        output = folder / f"vcr-q2a{kind}" / "results" / f"{JOINED}.val.json"
        q2a, qa2r = (folder / f"vcr-{task}{kind}" for task in RECIPES)
        records[kind]["q2ar"] = join_vcr(
            q2a, qa2r, records[kind]["q2a"].split, output, accelerator=Accelerator()
        )
    write_results(Path(jobs[""]["q2a"].recipe.data.root), folder, records)


def prepare(overrides: list[str]) -> dict[str, Path]:
    """Map suffixes to prepared data: those of the recipes, and the same with grey pictures."""
    root = Path(load_recipe(RECIPES["q2a"], overrides).data.root)
    roots = {"": root, BLANK: root.with_name(root.name + BLANK)}
    for kind, path in roots.items():
        if not (path / "manifest.json").exists():
            print(f"drawing pictures and questions: {path}", flush=True)
            prepare_shapes_vcr(path, seed=0, blank=bool(kind))
        prepare_pixels(load_recipe(RECIPES["q2a"], [*overrides, f"data.root={path}"]))
    return roots


def short_name(kind: str) -> str:
    return KINDS[kind][2].partition(":")[0]


def write_results(root: Path, folder: Path, records: dict[str, dict[str, Record]]) -> None:
    """Print the table of the ablation; write curves, sheet and page."""
    first = records[""]["q2a"]
    measured = (row_of(KINDS[kind][2], records[kind]) for kind in ("-text", "-off", ""))
    rows = [*control_rows(root, first.split), *measured]
    print_table(results_table(rows, first.split, first.n))
    runs = {
        f"{task.upper()}, {short_name(kind)}": folder / f"vcr-{task}{kind}"
        for task in RECIPES
        for kind in KINDS
    }
    curve, sheet = folder / "vcr-learning-curve.png", folder / "vcr-contact-sheet.png"
    learning_curves(runs, curve, {"accuracy": ""}, {"chance": CHANCE}, loss=False)
    choices_sheet(sheet_examples(root, first.split, folder), sheet)
    write_demo_page(
        folder / "vcr.html",
        "VCR's two tasks on shapes-VCR: what the alignment of words and boxes is worth",
        rows,
        COLUMNS,
        {"Learning curves": curve, "Eight questions of val": sheet},
        load_recipe(RECIPES["q2a"]),
        records[""]["q2ar"],
        notes(records),
    )
    for path in (folder / "vcr.html", curve, sheet):
        print(f"written: {path}")


def results_table(rows: list[dict[str, str]], split: str, n: int) -> Table:
    """Return the table in percent; the other rows are compared with the last one."""
    title = f"shapes-VCR, {split}: accuracy in percent, {n:,} questions; chance is 25, 25, 6.25"
    return ruled_table(title, COLUMNS, rows)


def row_of(name: str, records: Mapping[str, Record]) -> dict[str, str]:
    metrics = [records["q2ar"].metrics[metric] for metric in ("q2a", "qa2r", "q2ar")]
    cells = [plus_minus(metric.value, metric.interval) for metric in metrics]
    return dict(zip(COLUMNS, (name, *cells), strict=True))


def control_rows(root: Path, split: str) -> list[dict[str, str]]:
    """Return scores from labels alone and from words alone, without a trained model."""
    data = open_prepared(root)
    train, scored = (
        [json.loads(record) for record in data.questions(name)["record"]]
        for name in ("train", split)
    )
    majority = [
        majority_baseline((record[key] for record in train), [record[key] for record in scored])
        for key in LABELS.values()
    ]
    words = [text_baseline(train, scored, task) for task in LABELS]
    return [
        dict(zip(COLUMNS, (name, *map(percent, values), "–"), strict=True))
        for name, values in (("majority label", majority), ("words alone, naive Bayes", words))
    ]


def notes(records: dict[str, dict[str, Record]]) -> list[str]:
    durations = {
        kind: " and ".join(
            f"{records[kind][task].training.get('seconds', 0):.0f} s" for task in RECIPES
        )
        for kind in KINDS
    }
    seconds = "; ".join(f"{short_name(kind)} {text}" for kind, text in durations.items())
    first = records[""]["q2a"]
    return [
        "Every choice is true of somebody in the picture: only the box that a tag stands for tells "
        "which is right.",
        f"Training took ({' and '.join(task.upper() for task in RECIPES)}): {seconds} on "
        f"{first.device}; each model has {first.model['parameters']:,} parameters.",
        f"{first.split} also picked each checkpoint, as in the published VCR figures: "
        "that flatters all rows alike.",
        "± is half of the 95 % bootstrap interval over images. "
        "Q2AR: both right, the rationale after the right answer.",
    ]


def sheet_examples(root: Path, split: str, folder: Path) -> list[ChosenAnswer]:
    """Choose eight questions, evenly spread over the split whatever the answers; tasks in turn."""
    data = open_prepared(root)
    questions = data.questions(split)
    chosen = {task: choices_of(folder / f"vcr-{task}", task, split) for task in RECIPES}
    rows = range(len(questions))[:: max(1, len(questions) // SHEET)][:SHEET]
    examples = []
    for number, index in enumerate(rows):
        question, task = questions[index], ("q2a", "qa2r")[number % 2]
        record, picture = json.loads(question["record"]), data.images[question["image_row"]]
        names = [f"[{k + 1}]" for k in range(len(record["objects"]))]
        text = spoken(record["question"], names)
        if task == "qa2r":
            answer = record["answer_choices"][record["answer_label"]]
            text += f" — {spoken(answer, names)} Why?"
        examples.append(
            ChosenAnswer(
                decode(picture["bytes"], picture["file_name"]),
                picture["boxes"],
                tagged(record["question"]),
                text,
                [spoken(choice, names) for choice in record[TEXTS[task]]],
                chosen[task][record["annot_id"]],
                record[LABELS[task]],
            )
        )
    return examples


def choices_of(run: Path, task: str, split: str) -> dict[str, int]:
    """Map ids of questions to the choices that a run predicted."""
    path = run / "predictions" / f"vcr_{task}.{split}.jsonl"
    return {str(row.id): row[task] for row in read_predictions(path)}
