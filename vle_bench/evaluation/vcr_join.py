"""Compute Q2AR from the predictions of two VCR runs."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path

from accelerate import Accelerator

from vle_bench import atomic
from vle_bench.errors import RequestError
from vle_bench.evaluation.published_checkpoint import read_training
from vle_bench.evaluation.record import SCHEMA_VERSION, Record, either, load_record
from vle_bench.evaluation.request import predictions_file, record_file
from vle_bench.json_files import JsonObject
from vle_bench.models import pretrained
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Task
from vle_bench.tasks.catalogue import CATALOGUE, JOINED
from vle_bench.tasks.predictions import Prediction, Scores, read_predictions

Evaluated = tuple[Record, list[Prediction]]


def join_vcr(
    answers: Path,
    rationales: Path,
    split: str,
    output: Path,
    *,
    accelerator: Accelerator,
    data_root: Path | None = None,
) -> Record:
    """Compute Q2AR of two runs from the predictions that `evaluate_checkpoint` wrote for each.

    Writes the record to `output`.

    Args:
        answers, rationales: the folders that hold results/ and predictions/, of runs or of
            checkpoints from elsewhere; or the record files of such evaluations.
        data_root: the prepared data; the run's own if not given.

    Raises:
        RequestError: a run was not evaluated on the split, its predictions are not those of its
            record, or the two were evaluated on different data.
    """
    started = time.monotonic()
    both, halves = f"{answers} and {rationales}", CATALOGUE[JOINED].halves
    evaluations = [
        evaluated(run, task, split) for run, task in zip((answers, rationales), halves, strict=True)
    ]
    check_same_questions(both, evaluations)
    records = [record for record, _ in evaluations]
    root = data_root or trained_on(answers, records[0])
    task = load_task(JOINED)
    data = task.open(root)
    if data.manifest.hash != records[0].data["manifest_hash"]:
        raise RequestError(
            f"{root}: other data than {answers} was evaluated on; --data DIR names another folder"
        )
    pairs = zip(*(predictions for _, predictions in evaluations), strict=True)
    joined = [answer.with_values_of(rationale) for answer, rationale in pairs]
    scores = task.score(joined, data.questions(split))
    for part, record in zip(CATALOGUE[JOINED].parts, records, strict=True):
        if scores.metrics[part]["value"] != record.metrics[record.primary_metric].value:
            raise RequestError(
                f"{both}: the predictions of {part} are not those of the record; evaluate again"
            )
    record = joined_record(records, task, scores, round(time.monotonic() - started, 2))
    if accelerator.is_main_process:
        atomic.write_json(output, record.model_dump(mode="json"))
    return record


def check_same_questions(both: str, evaluations: list[Evaluated]) -> None:
    """Refuse two evaluations that are not of the same questions of the same data."""
    (one, its_predictions), (other, others_predictions) = evaluations
    if one.data != other.data:
        raise RequestError(f"{both}: evaluated on different data; evaluate both on the same")
    if in_one := {p.id for p in its_predictions} ^ {p.id for p in others_predictions}:
        example = min(map(str, in_one))
        raise RequestError(f"{both}: {len(in_one)} annot_ids are in one only, such as {example!r}")


def trained_on(run: Path, record: Record) -> Path:
    """Return the prepared data that a run of ours was trained on."""
    if run.is_file():
        raise RequestError(f"{run}: --data DIR names the prepared data that it was scored on")
    elsewhere = record.kind == "elsewhere"
    training = None if elsewhere else read_training(pretrained.resolve(run))
    if training is None:
        raise RequestError(
            f"{run}: of a checkpoint from elsewhere: --data DIR names the prepared data that it "
            "was scored on"
        )
    return Path(training.data_root)


def joined_record(records: list[Record], task: Task, scores: Scores, seconds: float) -> Record:
    """Return the record of two joined evaluations: of the first, with the parts of both."""
    first, second = records
    ours = all(record.kind == "run" for record in records)
    keys = [key for key in first.recipe if key in second.recipe]
    known = all(record.training_splits for record in records)  # else nothing is known of the whole
    before = [entry for record in records for entry in record.pretraining]
    training: JsonObject = {"seconds": sum(r.training.get("seconds", 0) for r in records)}
    for key in ("split", "precision"):
        if (value := in_common(record.training.get(key) for record in records)) is not None:
            training[key] = value
    changes = {
        "schema_version": SCHEMA_VERSION,
        "task": JOINED,
        "task_version": task.version,
        "primary_metric": task.primary_metric,
        "expect": None,
        "metrics": scores.metrics,
        "breakdown": scores.breakdown,
        "kind": "run" if ours else "elsewhere",
        "seed": first.seed if ours else None,
        "recipe": {key: joined_text(r.recipe[key] for r in records) for key in keys if ours},
        "training_splits": sorted({name for r in records for name in r.training_splits if known}),
        "training_data": next(
            (r.training_data for r in records if r.transferred), first.training_data
        ),
        "contaminated": either(record.contaminated for record in records),
        "pretraining": [e for i, e in enumerate(before) if e not in before[:i]],
        "model": joined_model(records),
        "precision": in_common(record.precision for record in records),
        "training": training,
        "seconds": seconds,
        "command": " ".join(["vle-bench", *sys.argv[1:]]),
    }
    return Record.model_validate(first.model_dump() | changes)


def joined_model(records: list[Record]) -> JsonObject:
    """Return the `model` of a joined record."""
    models = [record.model for record in records]
    joined: JsonObject = {
        key: joined_text(model[key] for model in models)
        for key in ("name", "checkpoint_sha256", "files_sha256")
        if all(key in model for model in models)
    }
    joined["parameters"] = sum(model["parameters"] for model in models)
    joined["resize"] = joined_text(
        dict.fromkeys(model.get("resize", "unknown") for model in models)
    )
    if any("asked" in model for model in models):
        elsewhere = [record.model for record in records if record.kind == "elsewhere"]
        joined["asked"] = joined_text(model.get("asked", "as published") for model in elsewhere)
    return joined


def joined_text(values: Iterable[str]) -> str:
    return " + ".join(values)


def in_common(values: Iterable[str | None]) -> str | None:
    """Return the value of two runs, or both with a plus sign; None if one of them is unknown."""
    distinct = list(dict.fromkeys(values))
    return None if None in distinct else " + ".join(value for value in distinct if value)


def evaluated(run: Path, task: str, split: str, other_data: str | None = None) -> Evaluated:
    """Read the record and the predictions that an evaluation left in a run folder.

    Args:
        run: the folder, or the record file itself, whose predictions `evaluate` wrote beside it.
        other_data: see `record_file`.

    Raises:
        RequestError: one of the two is missing or damaged.
    """
    if run.is_file():
        record, result, run = load_record(run), run, run.parent.parent
        if (record.task, record.split) != (task, split):
            raise RequestError(
                f"{result}: is of {record.task} on {record.split}, not of {task} on {split}"
            )
    else:
        result = record_file(run, task, split, other_data)
    predictions = predictions_file(result, run, task, split)
    for path in (result, predictions):
        if path.is_file():
            continue
        if (run / "recipe.yaml").is_file():
            way = f"`vle-bench evaluate {run} --split {split}` writes it, for a run of {task}"
        else:
            way = f"evaluate the checkpoint for {task} on {split} first"
        raise RequestError(f"{path}: no such file; {way}")
    return load_record(result), read_predictions(predictions)
