"""What the evaluation of a run left in its folder, read and checked: record, predictions and data belong together."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vle_bench.errors import RequestError, RunFailed
from vle_bench.evaluation.provenance import ids_digest
from vle_bench.evaluation.record import ROUNDING, Record, load_record
from vle_bench.evaluation.vcr_join import evaluated
from vle_bench.json_files import jsonl_records
from vle_bench.progress import Bar
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Data
from vle_bench.tasks.catalogue import CATALOGUE, JOINED, REPORTED
from vle_bench.tasks.predictions import Prediction, Scores

Curves = dict[str, dict[str, list[tuple[float, float]]]]


@dataclass(frozen=True)
class Evaluation:
    """What the evaluation of a run, or of two that are joined, left; and the data that it was about."""

    runs: list[Path]
    recipes: list[Recipe]  # none of checkpoints that were trained elsewhere
    record: Record
    rows: list[Prediction]
    data: Data
    questions: list[dict[str, Any]]
    scores: Scores  # of the rows, computed again; as `Task.score` gives them


def read_evaluation(
    run: Path, split: str | None, other: Path | None, moved: Path | None, progress: Bar
) -> Evaluation:
    runs = [run] if other is None else [run, other]
    evaluated_on = [tasks_and_splits(folder) for folder in runs]
    recipes = [
        read_recipe(folder)
        for folder, elsewhere in zip(runs, evaluated_on, strict=True)
        if not elsewhere
    ]
    tasks = [task_and_split(folder, split)[0] for folder in runs]
    if other is None and tasks[0] not in REPORTED:
        raise RequestError(
            f"{run}: {tasks[0]} answers no question; a report is about a run of {', '.join(REPORTED)}"
        )
    if other is not None and tasks != [*CATALOGUE[JOINED].halves]:
        expected = " with one of ".join(CATALOGUE[JOINED].halves)
        raise RequestError(
            f"{run} --with {other}: a run of {expected} is expected, not {' with '.join(tasks)}"
        )
    split = split or task_and_split(run, split)[1]
    left = [evaluated(folder, task, split) for folder, task in zip(runs, tasks, strict=True)]
    for folder, task, (found, rows) in zip(runs, tasks, left, strict=True):
        if (found.task, found.split) != (task, split):
            raise RequestError(
                f"{folder / 'results'}: {task}.{split}.json is a record of {found.task} on {found.split}; evaluate again"
            )
        check_rows(folder / "predictions" / f"{task}.{split}.jsonl", task, rows)
    record, rows = left[0]
    if other is not None:
        record, rows = joined(run, other, split, left)
    progress.advance()
    data = open_data(None if evaluated_on[0] else recipes[0], run, moved, record)
    questions = data.questions(split)
    scores = score_again(run, record, rows, questions)
    progress.advance()
    return Evaluation(runs, recipes, record, rows, data, questions.to_list(), scores)


def read_recipe(run: Path) -> Recipe:
    if not run.is_dir():
        raise RequestError(
            f"{run}: no such folder; a checkpoint from elsewhere gets it from `vle-bench evaluate`"
        )
    if not (run / "recipe.yaml").is_file():
        raise RequestError(
            f"{run}: has no recipe.yaml; the folder of a run is expected, as `vle-bench train` writes it, or a checkpoint from "
            "elsewhere that `vle-bench evaluate` has scored"
        )
    return load_recipe(str(run / "recipe.yaml"))


def tasks_and_splits(folder: Path) -> set[tuple[str, str]]:
    """Of the records that `evaluate` wrote of a checkpoint from elsewhere; none of a run, whose recipe says it."""
    if (folder / "recipe.yaml").is_file():
        return set()
    records = [load_record(path) for path in sorted(folder.glob("results/*.json"))]
    return {
        (one.task, one.split)
        for one in records
        if one.kind == "elsewhere" and CATALOGUE[one.task].trained
    }


def task_and_split(folder: Path, split: str | None) -> tuple[str, str]:
    """What a run, or a checkpoint from elsewhere, is asked; `split`, else the one that it reports.

    Raises:
        RequestError: neither a run nor evaluated, or evaluated on several splits of which none is named.
    """
    if not (found := tasks_and_splits(folder)):
        recipe = read_recipe(folder)
        return recipe.task, split or recipe.data.report
    chosen = sorted(pair for pair in found if split in (None, pair[1]))
    if len(chosen) != 1:
        there = ", ".join(sorted(f"{task} on {name}" for task, name in found))
        raise RequestError(f"{folder / 'results'}: holds {there}; --split names one of them")
    return chosen[0]


def check_rows(path: Path, task: str, rows: list[Prediction]) -> None:
    """Refuses predictions that are not what an evaluation writes."""
    wrong = load_task(task).wrong
    for number, row in enumerate(rows, 1):
        if problem := wrong(row):
            raise RequestError(
                f"{path}: prediction {number} (id {row.id!r}): {problem}; evaluate again"
            )


def joined(
    run: Path, other: Path, split: str, left: list[tuple[Record, list[Prediction]]]
) -> tuple[Record, list[Prediction]]:
    """The record that `evaluate --with` wrote, and the rows of both."""
    path = run / "results" / f"{JOINED}.{split}.json"
    if not path.is_file():
        raise RequestError(
            f"{path}: no such file; `vle-bench evaluate {run} --with {other} --split {split}` writes it"
        )
    record = load_record(path)
    if record.model.get("checkpoint_sha256") != " + ".join(
        str(one.model.get("checkpoint_sha256")) for one, _ in left
    ):
        raise RequestError(
            f"{path}: is of other checkpoints than those of {run} and {other} now; evaluate again, with --with {other}"
        )
    rationales = {row.id: row for row in left[1][1]}
    if rationales.keys() != {row.id for row in left[0][1]}:
        raise RequestError(
            f"{run} and {other}: predictions of different questions; evaluate both on the same data"
        )
    return record, [row.with_values_of(rationales[row.id]) for row in left[0][1]]


def open_data(recipe: Recipe | None, run: Path, moved: Path | None, record: Record) -> Data:
    if moved is None and recipe is None:
        raise RequestError(
            f"{run}: of a checkpoint from elsewhere: --data DIR names the prepared data that it was scored on"
        )
    root = moved or Path(recipe.data.root if recipe else "")
    named = "--data" if moved else f"data.root of {run / 'recipe.yaml'}"
    try:
        data = load_task(record.task).open(root)
    except RequestError as error:
        raise RequestError(
            f"{error} ({named}; where the data has moved, --data names its folder)"
        ) from error
    if data.manifest["hash"] != record.data["manifest_hash"]:
        raise RequestError(
            f"{root}: other data than the record's, manifest hash {data.manifest['hash']} and not {record.data['manifest_hash']} "
            f"({named}; --data names another folder)"
        )
    return data


def score_again(run: Path, record: Record, rows: list[Prediction], questions: Any) -> Scores:
    """The task's own score of the predictions, which must be the record's."""
    task = load_task(record.task)
    where = f"{run}: predictions/ and results/ of {record.task} on {record.split}"
    again = f"`vle-bench evaluate {run} --split {record.split}` writes both again"
    if task.version != record.task_version:
        raise RequestError(
            f"{where}: of version {record.task_version} of the task, this is version {task.version}; {again}"
        )
    try:
        scores = task.score(rows, questions)
    except (RequestError, RunFailed) as error:
        raise RequestError(f"{where}: not the questions of the split: {error}; {again}") from error
    for name, metric in record.metrics.items():
        value = scores.metrics.get(name, {}).get("value", math.nan)
        if not math.isclose(value, metric.value, rel_tol=0, abs_tol=ROUNDING):
            raise RequestError(
                f"{where}: differ, {name} is {value} and {metric.value} in the record; {again}"
            )
    if scores.n != record.n or record.ids_sha256 not in (
        None,
        ids_digest(row.id for row in rows),
    ):
        raise RequestError(f"{where}: differ, the record is of other questions; {again}")
    return scores


def read_curves(run: Path) -> tuple[Curves, set[str]]:
    """A run's log → {"loss", "lr", "score"}: name → points (step, value); and the splits that the scores are of."""
    path = run / "log.jsonl"
    curves: Curves = {"loss": {}, "lr": {}, "score": {}}
    splits = set()
    for number, entry in jsonl_records(path):
        kinds: dict[str, str] = {name: name for name in ("loss", "lr") if name in entry}
        if "split" in entry:
            splits.add(str(entry["split"]))
            kinds = dict.fromkeys(sorted(entry.keys() - {"step", "split", "seconds"}), "score")
        for name, kind in kinds.items():
            step, value = entry.get("step"), entry[name]
            if not (type(step) is int and type(value) in (int, float) and math.isfinite(value)):
                raise RequestError(f"{path}: line {number}: step and {name} must be finite numbers")
            curves[kind].setdefault(name, []).append((float(step), float(value)))
    return curves, splits
