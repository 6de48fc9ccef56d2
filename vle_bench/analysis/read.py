"""Read a run's evaluation and check that record, predictions and data belong together."""

import math
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from vle_bench.data.prepared import PreparedData, read_manifest
from vle_bench.data.splits import name_in
from vle_bench.errors import RequestError, RunFailed
from vle_bench.evaluation.record import ROUNDING, Record, ids_digest, load_record
from vle_bench.evaluation.request import predictions_file, record_file
from vle_bench.evaluation.vcr_join import evaluated
from vle_bench.json_files import Row, jsonl_records
from vle_bench.progress import Bar
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.catalogue import CATALOGUE, JOINED, REPORTED
from vle_bench.tasks.predictions import Prediction, Scores

# Kind of curve (loss, lr, score) -> name -> points (step, value)
Curves = dict[str, dict[str, list[tuple[float, float]]]]


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a run, or of two runs that are joined, with its data.

    Args:
        recipes: none of checkpoints that were trained elsewhere.
        scores: computed again from `rows`, as `Task.score` gives them.
    """

    runs: list[Path]
    recipes: list[Recipe]
    record: Record
    rows: list[Prediction]
    data: PreparedData
    questions: list[Row]
    scores: Scores


def read_evaluation(
    run: Path, split: str | None, other: Path | None, moved: Path | None, progress: Bar
) -> Evaluation:
    """Read and check the evaluation of `run`, or of `run` joined with `other`.

    Args:
        split: what the recipe reports if not given.
        moved: the prepared data if they are no longer in the recipe's `data.root`.

    Raises:
        RequestError: something is missing, damaged or of another run, version or data.
    """
    runs = [run] if other is None else [run, other]
    elsewhere = [bool(tasks_and_splits(folder)) for folder in runs]
    recipes = [
        read_recipe(folder) for folder, foreign in zip(runs, elsewhere, strict=True) if not foreign
    ]
    tasks = [task_and_split(folder, split)[0] for folder in runs]
    if other is None and tasks[0] not in REPORTED:
        raise RequestError(
            f"{run}: {tasks[0]} answers no question; "
            f"a report is about a run of {', '.join(REPORTED)}"
        )
    if other is not None and tasks != [*CATALOGUE[JOINED].halves]:
        expected = " with one of ".join(CATALOGUE[JOINED].halves)
        raise RequestError(
            f"{run} --with {other}: a run of {expected} is expected, not {' with '.join(tasks)}"
        )
    split = split or task_and_split(run, split)[1]
    evaluations = [
        evaluated(folder, task, split, other_data(folder, task, split, moved))
        for folder, task in zip(runs, tasks, strict=True)
    ]
    for folder, task, (record, rows) in zip(runs, tasks, evaluations, strict=True):
        if (record.task, record.split) != (task, split):
            raise RequestError(
                f"{folder / 'results'}: {task}.{split}.json is a record of {record.task} on "
                f"{record.split}; evaluate again"
            )
        result = record_file(folder, task, split, other_data(folder, task, split, moved))
        check_rows(predictions_file(result, folder, task, split), task, rows)
    record, rows = evaluations[0]
    if other is not None:
        record, rows = joined(run, other, split, evaluations)
    progress.advance()
    data = open_data(None if elsewhere[0] else recipes[0], run, moved, record)
    questions = data.questions(split)
    scores = score_again(run, record, rows, data, questions)
    progress.advance()
    return Evaluation(runs, recipes, record, rows, data, questions.to_list(), scores)


def other_data(run: Path, task: str, split: str, data: Path | None) -> str | None:
    """Return the name of prepared data if the run was scored on them without training on them.

    It is `other_name`: data of the training's name have their hash in it.
    """
    manifest = None if data is None else data / "manifest.json"
    if manifest is None or not manifest.is_file():
        return None
    identity = read_manifest(manifest).identity
    name = name_in(identity)
    names = (f"{name}-{identity['manifest_hash'][:8]}", name)
    return next((n for n in names if record_file(run, task, split, n).is_file()), None)


def read_recipe(run: Path) -> Recipe:
    """Return the recipe of a run folder."""
    if run.is_file():
        raise RequestError(f"{run}: a file; name the folder of the run or of the results")
    if not run.is_dir():
        raise RequestError(
            f"{run}: no such folder; a checkpoint from elsewhere gets it from `vle-bench evaluate`"
        )
    if not (run / "recipe.yaml").is_file():
        raise RequestError(
            f"{run}: has no recipe.yaml; the folder of a run is expected, as `vle-bench train` "
            "writes it, or a checkpoint from elsewhere that `vle-bench evaluate` has scored"
        )
    return load_recipe(str(run / "recipe.yaml"))


def tasks_and_splits(folder: Path) -> set[tuple[str, str]]:
    """Return the tasks and splits of the records of a checkpoint from elsewhere; none for a run."""
    if (folder / "recipe.yaml").is_file():
        return set()
    records = [load_record(path) for path in sorted(folder.glob("results/*.json"))]
    return {
        (record.task, record.split)
        for record in records
        if record.kind == "elsewhere" and CATALOGUE[record.task].trained
    }


def task_and_split(folder: Path, split: str | None) -> tuple[str, str]:
    """Return the task of a run or of a checkpoint from elsewhere, and the split.

    Raises:
        RequestError: neither a run nor evaluated, or evaluated on several splits and none is named.
    """
    if not (pairs := tasks_and_splits(folder)):
        recipe = read_recipe(folder)
        return recipe.task, split or recipe.data.report
    chosen = sorted(pair for pair in pairs if split in (None, pair[1]))
    if len(chosen) != 1:
        known = ", ".join(sorted(f"{task} on {name}" for task, name in pairs))
        raise RequestError(f"{folder / 'results'}: holds {known}; --split names one of them")
    return chosen[0]


def check_rows(path: Path, task: str, rows: list[Prediction]) -> None:
    """Refuse predictions that no evaluation writes."""
    fault_of = load_task(task).wrong
    for number, row in enumerate(rows, 1):
        if fault := fault_of(row):
            raise RequestError(
                f"{path}: prediction {number} (id {row.id!r}): {fault}; evaluate again"
            )


def joined(
    run: Path, other: Path, split: str, evaluations: list[tuple[Record, list[Prediction]]]
) -> tuple[Record, list[Prediction]]:
    """Return the record that `evaluate --with` wrote, and the rows of both runs in one."""
    path = run / "results" / f"{JOINED}.{split}.json"
    if not path.is_file():
        raise RequestError(
            f"{path}: no such file; "
            f"`vle-bench evaluate {run} --with {other} --split {split}` writes it"
        )
    record = load_record(path)
    digests = [str(part.model.get("checkpoint_sha256")) for part, _ in evaluations]
    if record.model.get("checkpoint_sha256") != " + ".join(digests):
        raise RequestError(
            f"{path}: is of other checkpoints than those of {run} and {other} now; "
            f"evaluate again, with --with {other}"
        )
    (_, answers), (_, rationale_rows) = evaluations
    rationales = {row.id: row for row in rationale_rows}
    if rationales.keys() != {row.id for row in answers}:
        raise RequestError(
            f"{run} and {other}: predictions of different questions; evaluate both on the same data"
        )
    return record, [row.with_values_of(rationales[row.id]) for row in answers]


def open_data(recipe: Recipe | None, run: Path, moved: Path | None, record: Record) -> PreparedData:
    """Return the prepared data of the record; without a recipe, `moved` has to name them."""
    if moved is None and recipe is None:
        raise RequestError(
            f"{run}: of a checkpoint from elsewhere: "
            "--data DIR names the prepared data that it was scored on"
        )
    root = moved or Path(recipe.data.root if recipe else "")
    named = "--data" if moved else f"data.root of {run / 'recipe.yaml'}"
    try:
        data = load_task(record.task).open(root)
    except RequestError as error:
        raise RequestError(
            f"{error} ({named}; where the data has moved, --data names its folder)"
        ) from error
    digest, expected = data.manifest.hash, record.data["manifest_hash"]
    if digest != expected:
        raise RequestError(
            f"{root}: other data than the record's, manifest hash {digest} and not {expected} "
            f"({named}; --data names another folder)"
        )
    return data


def score_again(
    run: Path, record: Record, rows: list[Prediction], data: PreparedData, questions: Dataset
) -> Scores:
    """Score the predictions; refuse them if the result is not the record's."""
    task = load_task(record.task).for_data(data)
    where = f"{run}: predictions/ and results/ of {record.task} on {record.split}"
    again = f"`vle-bench evaluate {run} --split {record.split}` writes both again"
    if task.version != record.task_version:
        raise RequestError(
            f"{where}: of version {record.task_version} of the task, "
            f"this is version {task.version}; {again}"
        )
    try:
        scores = task.score(rows, questions)
    except (RequestError, RunFailed) as error:
        raise RequestError(f"{where}: not the questions of the split: {error}; {again}") from error
    for name, metric in record.metrics.items():
        value = scores.metrics[name]["value"] if name in scores.metrics else math.nan
        if not math.isclose(value, metric.value, rel_tol=0, abs_tol=ROUNDING):
            raise RequestError(
                f"{where}: differ, {name} is {value} and {metric.value} in the record; {again}"
            )
    digest = ids_digest(row.id for row in rows)
    if scores.n != record.n or record.ids_sha256 not in (None, digest):
        raise RequestError(f"{where}: differ, the record is of other questions; {again}")
    return scores


def read_curves(run: Path) -> tuple[Curves, set[str]]:
    """Return the curves in a run's log, and the splits that its scores are of.

    Raises:
        RequestError: a line without finite numbers; names the line.
    """
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
