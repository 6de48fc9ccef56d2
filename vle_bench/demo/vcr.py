"""The demo's second half: VCR's two tasks on drawn pictures whose questions only the tagged boxes can answer."""

import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.table import Table

from vle_bench.analysis.html import write_page
from vle_bench.data.images import decode
from vle_bench.data.prepare.shapes_vcr import prepare_shapes_vcr
from vle_bench.data.prepared import open_prepared
from vle_bench.data.vcr_text import spoken
from vle_bench.demo.baselines import majority_baseline, text_baseline
from vle_bench.demo.figures import ablation_curve, choices_sheet
from vle_bench.demo.runs import print_table, ruled_table, run_once
from vle_bench.evaluation.record import Metric, Record
from vle_bench.evaluation.vcr_join import join_vcr
from vle_bench.recipe.load import load_recipe

RECIPES = {"q2a": "demo/vcr-q2a-tiny", "qa2r": "demo/vcr-qa2r-tiny"}

BLANK = "-blank"  # the same data with grey pictures

# Folder's suffix → overrides, data, what the table calls it
KINDS = {
    "": ([], "", "alignment on"),
    "-off": (["model.alignment=off"], "", "alignment off: picture, no boxes"),
    "-text": ([], BLANK, "text only: grey pictures"),
}

COLUMNS = ["", "Q2A", "QA2R", "Q2AR"]

SHEET = 8


def run_vcr_demo(overrides: list[str], folder: Path) -> None:
    """Train each task with alignment, without it, and without pictures; the table of the ablation, curves, sheet and page."""
    roots = prepare(overrides)
    records: dict[str, dict[str, Record]] = {}
    for kind, (changes, data, name) in KINDS.items():
        records[kind] = {}
        for task, recipe in RECIPES.items():
            print(f"\n{task}: {name}", flush=True)
            named = [f"name=vcr-{task}-tiny{kind}", f"data.root={roots[data]}"]
            loaded = load_recipe(recipe, [*overrides, *changes, *named])
            records[kind][task] = run_once(loaded, folder / f"vcr-{task}{kind}")
        output = folder / f"vcr-q2a{kind}" / "results" / "vcr_q2ar.val.json"
        q2a, qa2r = (folder / f"vcr-{task}{kind}" for task in RECIPES)
        records[kind]["q2ar"] = join_vcr(
            q2a, qa2r, records[kind]["q2a"].split, output, accelerator=Accelerator()
        )
    write_results(roots[""], folder, records)


def prepare(overrides: list[str]) -> dict[str, Path]:
    """The data of the recipes, and the same with grey pictures."""
    root = Path(load_recipe(RECIPES["q2a"], overrides).data.root)
    roots = {"": root, BLANK: root.with_name(root.name + BLANK)}
    for kind, path in roots.items():
        if not (path / "manifest.json").exists():
            print(f"drawing pictures and questions: {path}", flush=True)
            prepare_shapes_vcr(path, seed=0, blank=bool(kind))
    return roots


def write_results(root: Path, folder: Path, records: dict[str, dict[str, Record]]) -> None:
    split = records[""]["q2a"].split
    rows = [
        *control_rows(root, split),
        *(row_of(KINDS[kind][2], records[kind]) for kind in ("-text", "-off", "")),
    ]
    print_table(results_table(rows, split, records[""]["q2a"].n))
    logs = {
        f"{task.upper()}, {KINDS[kind][2].partition(':')[0]}": folder
        / f"vcr-{task}{kind}"
        / "log.jsonl"
        for task in RECIPES
        for kind in KINDS
    }
    ablation_curve(logs, folder / "vcr-learning-curve.png", chance=25.0)
    choices_sheet(sheet_examples(root, split, folder), folder / "vcr-contact-sheet.png")
    first = records[""]["q2ar"]
    write_page(
        folder / "vcr.html",
        "VCR's two tasks on shapes-VCR: what the alignment of words and boxes is worth",
        rows,
        COLUMNS,
        {
            "Learning curves": folder / "vcr-learning-curve.png",
            "Eight questions of val": folder / "vcr-contact-sheet.png",
        },
        {
            "Recipe": load_recipe(RECIPES["q2a"]).to_yaml(),
            "Result record": json.dumps(first.model_dump(mode="json"), indent=1),
        },
        notes(records),
    )
    for name in ("vcr.html", "vcr-learning-curve.png", "vcr-contact-sheet.png"):
        print(f"written: {folder / name}")


def results_table(rows: list[dict[str, str]], split: str, n: int) -> Table:
    """Percent; the last row is what the others are held against."""
    title = f"shapes-VCR, {split}: accuracy in percent, {n:,} questions; chance is 25, 25, 6.25"
    return ruled_table(title, COLUMNS, rows)


def row_of(name: str, records: dict[str, Record]) -> dict[str, str]:
    shown = [percent(records["q2ar"].metrics[metric]) for metric in ("q2a", "qa2r", "q2ar")]
    return dict(zip(COLUMNS, (name, *shown), strict=True))


def percent(metric: Metric) -> str:
    """± half of the 95 % interval."""
    low, high = metric.interval or (metric.value, metric.value)
    return f"{100 * metric.value:.2f} ± {50 * (high - low):.2f}"


def control_rows(root: Path, split: str) -> list[dict[str, str]]:
    """What the labels alone, and what the words alone are worth: no model is trained for these."""
    data = open_prepared(root)
    train, scored = (
        [json.loads(record) for record in data.questions(name)["record"]]
        for name in ("train", split)
    )
    labels = {"q2a": "answer_label", "qa2r": "rationale_label"}
    majority = [
        majority_baseline((r[key] for r in train), [r[key] for r in scored])
        for key in labels.values()
    ]
    words = [text_baseline(train, scored, task) for task in labels]
    return [
        dict(zip(COLUMNS, (name, *(f"{100 * value:.2f}" for value in values), "–"), strict=True))
        for name, values in (("majority label", majority), ("words alone, naive Bayes", words))
    ]


def notes(records: dict[str, dict[str, Record]]) -> list[str]:
    seconds = "; ".join(
        f"{KINDS[kind][2].partition(':')[0]} {' and '.join(format(r.training.get('seconds', 0), '.0f') + ' s' for r in rows)}"
        for kind in KINDS
        for rows in [[records[kind][task] for task in RECIPES]]
    )
    first = records[""]["q2a"]
    return [
        "Every choice is true of somebody in the picture: only the box that a tag stands for tells which is right.",
        f"Training took ({' and '.join(task.upper() for task in RECIPES)}): {seconds} on {first.device}; each model has "
        f"{first.model['parameters']:,} parameters.",
        f"{first.split} also picked each checkpoint, as in the published VCR figures: that flatters all rows alike.",
        "± is half of the 95 % bootstrap interval over images. Q2AR: both right, the rationale after the right answer.",
    ]


def sheet_examples(root: Path, split: str, folder: Path) -> list[dict[str, Any]]:
    """Eight questions, evenly spread over the split, answers and rationales in turn; chosen without a look at the answers."""
    data = open_prepared(root)
    questions = data.questions(split)
    chosen: dict[str, dict[str, int]] = {}
    for task in RECIPES:
        path = folder / f"vcr-{task}" / "predictions" / f"vcr_{task}.{split}.jsonl"
        chosen[task] = {
            row["id"]: row[task] for row in map(json.loads, path.read_text().splitlines())
        }
    examples = []
    for number, row in enumerate(
        list(range(len(questions)))[:: max(1, len(questions) // SHEET)][:SHEET]
    ):
        question, task = questions[row], ("q2a", "qa2r")[number % 2]
        record, picture = json.loads(question["record"]), data.images[question["image_row"]]
        names = [f"[{k + 1}]" for k in range(len(record["objects"]))]
        text = spoken(record["question"], names)
        if task == "qa2r":
            text += f" — {spoken(record['answer_choices'][record['answer_label']], names)} Why?"
        choices = record["answer_choices" if task == "q2a" else "rationale_choices"]
        examples.append(
            {
                "image": decode(picture["bytes"], picture["file_name"]),
                "boxes": picture["boxes"],
                "tagged": {
                    i for token in record["question"] if not isinstance(token, str) for i in token
                },
                "question": text,
                "choices": [spoken(choice, names) for choice in choices],
                "chosen": chosen[task][record["annot_id"]],
                "truth": record["answer_label" if task == "q2a" else "rationale_label"],
            }
        )
    return examples
