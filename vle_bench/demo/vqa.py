"""`vle-bench demo`: prepare, train and evaluate on easy-VQA, with a table, pictures and a page."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from vle_bench.data.images import decode
from vle_bench.data.prepare.easy_vqa import prepare_easy_vqa
from vle_bench.data.prepared import open_prepared
from vle_bench.demo.figures import AnsweredQuestion, contact_sheet, learning_curves
from vle_bench.demo.jobs import Job
from vle_bench.demo.runs import (
    prepare_pixels,
    print_table,
    result_of,
    ruled_table,
    write_demo_page,
)
from vle_bench.evaluation.record import Record, load_record, picked_on
from vle_bench.json_files import Row
from vle_bench.leaderboard.published import load_published
from vle_bench.metrics.numbers import plus_minus
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks.predictions import read_predictions

# "not yes/no" are 2,537 of the 9,673 questions
COLUMNS = ["", "all questions", "not yes/no"]
METRICS = ("accuracy", "accuracy_not_yes_no")
SHEET = 16  # pictures on the contact sheet


RECIPE = "recipes/demo/vqa-tiny.yaml"


def plan(overrides: list[str], seeds: int, folder: Path) -> list[Job]:
    """Prepare the data; return the trainings, one for each seed."""
    recipe = load_recipe(RECIPE, overrides)
    root = Path(recipe.data.root)
    if not (root / "manifest.json").exists():
        print(f"preparing {recipe.data.source} in {root}", flush=True)
        prepare_easy_vqa(root)
    prepare_pixels(recipe)
    first = recipe.train.seed
    return [
        Job(load_recipe(RECIPE, [*overrides, f"train.seed={seed}"]), folder / f"seed-{seed}")
        for seed in range(first, first + seeds)
    ]


def write_results(jobs: Sequence[Job], folder: Path) -> None:
    """Print the table of trained models; write curves, sheet and index.html."""
    recipe, root = jobs[0].recipe, Path(jobs[0].recipe.data.root)
    records = [load_record(result_of(job.recipe, job.folder)) for job in jobs]
    runs = {f"seed {job.recipe.train.seed}": job.folder for job in jobs}
    references = published_rows()
    rows = [*references, own_row(records)]
    print_table(results_table(rows, records[0].n))
    curve, sheet = folder / "learning-curve.png", folder / "contact-sheet.png"
    lines = {row[""]: float(row[COLUMNS[1]]) for row in references}
    learning_curves(runs, curve, dict(zip(METRICS, COLUMNS[1:], strict=True)), lines)
    contact_sheet(sheet_examples(root, recipe.data.report, jobs[0].folder), sheet)
    write_demo_page(
        folder / "index.html",
        f"{recipe.name}: visual question answering on easy-VQA",
        rows,
        COLUMNS,
        {"Learning curve": curve, "Sixteen test images": sheet},
        recipe,
        records[0],
        notes(records),
    )
    for path in (folder / "index.html", curve, sheet):
        print(f"written: {path}")


def published_rows() -> list[dict[str, str]]:
    """Return the baselines and the published figures on the official test set."""
    published = load_published(Path("leaderboards"))
    scores = [score for score in published.scores if score.data == "easy-vqa"]
    rows = []
    for model in dict.fromkeys(score.model for score in scores):
        own = {score.metric: score for score in scores if score.model == model}
        kind = "baseline" if own["accuracy"].read_as == "computed" else "published"
        cells = [str(own[metric].value) if metric in own else "–" for metric in METRICS]
        rows.append(dict(zip(COLUMNS, (f"{kind}: {model}", *cells), strict=True)))
    return rows


def own_row(records: list[Record]) -> dict[str, str]:
    """Return this run's row: the score ± half of its interval, or mean and range of seeds."""
    name = (
        f"this run ({records[0].recipe['name']})"
        if len(records) == 1
        else f"this run, mean of {len(records)} seeds"
    )
    cells = [score_text(records, metric) for metric in METRICS]
    return dict(zip(COLUMNS, (name, *cells), strict=True))


def score_text(records: list[Record], metric: str) -> str:
    metrics = [record.metrics[metric] for record in records if metric in record.metrics]
    if not metrics:
        return "–"
    if len(metrics) == 1:
        return plus_minus(metrics[0].value, metrics[0].interval)
    values = [100 * metric.value for metric in metrics]
    return f"{statistics.mean(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def results_table(rows: list[dict[str, str]], n: int) -> Table:
    """Return the table in percent on the official test set; the last row is the run itself."""
    title = f"easy-VQA, official test set: accuracy in percent, {n:,} questions"
    return ruled_table(title, COLUMNS, rows)


def notes(records: list[Record]) -> list[str]:
    seconds = ", ".join(f"{record.training.get('seconds', 0):.0f} s" for record in records)
    first = records[0]
    return [
        f"Training took {seconds} on {first.device}; "
        f"the model has {first.model['parameters']:,} parameters.",
        picked_on(first),
        "± is half of the 95 % bootstrap interval over images; a range is over seeds.",
    ]


def sheet_examples(root: Path, split: str, run: Path) -> list[AnsweredQuestion]:
    """Choose a question about each of 16 images, evenly spread over the split."""
    data = open_prepared(root)
    path = run / "predictions" / f"vqa.{split}.jsonl"
    predictions = {row.id: row["answer"] for row in read_predictions(path)}
    by_image: dict[int, list[Row]] = {}
    for question in data.questions(split).to_list():
        by_image.setdefault(question["image_row"], []).append(question)
    chosen = list(by_image)[:: max(1, len(by_image) // SHEET)][:SHEET]
    examples = []
    for number, image_row in enumerate(chosen):
        questions, stored = by_image[image_row], data.images[image_row]
        question = questions[number % len(questions)]
        examples.append(
            AnsweredQuestion(
                decode(stored["bytes"], stored["file_name"]),
                question["question"],
                predictions[question["question_id"]],
                question["multiple_choice_answer"],
            )
        )
    return examples
