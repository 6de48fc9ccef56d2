"""`vle-bench demo`: the whole road on easy-VQA, and what it found as a table, pictures and a page."""

import json
import statistics
from pathlib import Path
from typing import Any

from rich.table import Table

from vle_bench.analysis.html import write_page
from vle_bench.data.images import decode
from vle_bench.data.prepare.easy_vqa import prepare_easy_vqa
from vle_bench.data.prepared import open_prepared
from vle_bench.demo.figures import contact_sheet, learning_curve
from vle_bench.demo.runs import print_table, ruled_table, run_once
from vle_bench.evaluation.record import Record, picked_on
from vle_bench.leaderboard.published import load_published
from vle_bench.recipe.load import load_recipe

COLUMNS = ["", "all questions", "not yes/no"]  # "not yes/no": 2,537 of the 9,673

METRICS = ("accuracy", "accuracy_not_yes_no")

SHEET = 16


def run_demo(recipe_path: str, overrides: list[str], seeds: int, folder: Path) -> None:
    """Prepare, train once a seed, evaluate, then the table, the learning curve, the contact sheet and index.html."""
    recipe = load_recipe(recipe_path, overrides)
    root = Path(recipe.data.root)
    if not (root / "manifest.json").exists():
        print(f"preparing {recipe.data.source} in {root}", flush=True)
        prepare_easy_vqa(root)
    first = recipe.train.seed
    records = [
        run_once(
            load_recipe(recipe_path, [*overrides, f"train.seed={seed}"]), folder / f"seed-{seed}"
        )
        for seed in range(first, first + seeds)
    ]
    logs = [folder / f"seed-{seed}" / "log.jsonl" for seed in range(first, first + seeds)]
    references = published_rows()
    rows = [*references, own_row(records)]
    print_table(results_table(rows, records[0].n))
    lines = {row[""]: float(row[COLUMNS[1]]) for row in references}
    learning_curve(logs, folder / "learning-curve.png", lines)
    contact_sheet(
        sheet_examples(root, recipe.data.report, logs[0].parent), folder / "contact-sheet.png"
    )
    write_page(
        folder / "index.html",
        f"{recipe.name}: visual question answering on easy-VQA",
        rows,
        COLUMNS,
        {
            "Learning curve": folder / "learning-curve.png",
            "Sixteen test images": folder / "contact-sheet.png",
        },
        {
            "Recipe": recipe.to_yaml(),
            "Result record": json.dumps(records[0].model_dump(mode="json"), indent=1),
        },
        notes(records),
    )
    for name in ("index.html", "learning-curve.png", "contact-sheet.png"):
        print(f"written: {folder / name}")


def published_rows() -> list[dict[str, str]]:
    """The baselines and the published figures on the official test set."""
    scores = [
        score for score in load_published(Path("leaderboards")).scores if score.data == "easy-vqa"
    ]
    rows = []
    for model in dict.fromkeys(score.model for score in scores):
        own = {score.metric: score for score in scores if score.model == model}
        kind = "baseline" if own["accuracy"].read_as == "computed" else "published"
        cells = [str(own[metric].value) if metric in own else "–" for metric in METRICS]
        rows.append(dict(zip(COLUMNS, (f"{kind}: {model}", *cells), strict=True)))
    return rows


def own_row(records: list[Record]) -> dict[str, str]:
    """This run: the score ± half of its interval, or the mean and the range of several seeds."""
    shown = []
    for metric in METRICS:
        values = [100 * r.metrics[metric].value for r in records if metric in r.metrics]
        interval = records[0].metrics[metric].interval if metric in records[0].metrics else None
        if not values:
            shown.append("–")
        elif len(values) > 1:
            shown.append(f"{statistics.mean(values):.2f} ({min(values):.2f}–{max(values):.2f})")
        else:
            low, high = interval or (values[0] / 100, values[0] / 100)
            shown.append(f"{values[0]:.2f} ± {50 * (high - low):.2f}")
    name = (
        f"this run ({records[0].recipe['name']})"
        if len(records) == 1
        else f"this run, mean of {len(records)} seeds"
    )
    return dict(zip(COLUMNS, (name, *shown), strict=True))


def results_table(rows: list[dict[str, str]], n: int) -> Table:
    """Percent on the official test set; the last row is the run itself."""
    return ruled_table(
        f"easy-VQA, official test set: accuracy in percent, {n:,} questions", COLUMNS, rows
    )


def notes(records: list[Record]) -> list[str]:
    seconds = ", ".join(f"{r.training.get('seconds', 0):.0f} s" for r in records)
    first = records[0]
    return [
        f"Training took {seconds} on {first.device}; the model has {first.model['parameters']:,} parameters.",
        picked_on(first),
        "± is half of the 95 % bootstrap interval over images; a range is over seeds.",
    ]


def sheet_examples(root: Path, split: str, run: Path) -> list[dict[str, Any]]:
    """One question of each of 16 images, evenly spread over the split; chosen without a look at the answers."""
    data = open_prepared(root)
    questions = data.questions(split).to_list()
    predictions = {}
    path = run / "predictions" / f"vqa.{split}.jsonl"
    for line in path.read_text().splitlines():
        row = json.loads(line)
        predictions[row["id"]] = row["answer"]
    by_image: dict[int, list[dict[str, Any]]] = {}
    for question in questions:
        by_image.setdefault(question["image_row"], []).append(question)
    rows = list(by_image)[:: max(1, len(by_image) // SHEET)][:SHEET]
    examples = []
    for number, row in enumerate(rows):
        asked = by_image[row]
        question = asked[number % len(asked)]
        stored = data.images[row]
        prediction, truth = predictions[question["question_id"]], question["multiple_choice_answer"]
        examples.append(
            {
                "image": decode(stored["bytes"], stored["file_name"]),
                "question": question["question"],
                "prediction": prediction,
                "truth": truth,
                "correct": prediction == truth,
            }
        )
    return examples
