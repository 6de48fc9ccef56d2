"""The one path from a checkpoint and a split to a result."""

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from accelerate import Accelerator
from pydantic import ValidationError

from vle_bench import atomic
from vle_bench.data.prepared import check_labelled, check_labels, check_whole
from vle_bench.data.sources import overlap
from vle_bench.errors import RequestError, RunFailed
from vle_bench.evaluation import published_checkpoint
from vle_bench.evaluation.outputs import predictions_file, run_of
from vle_bench.evaluation.precision import (
    autocast,
    scoring_precision,
    set_tf32,
    trained_precision,
    trained_tf32,
)
from vle_bench.evaluation.provenance import code_version, device_name, ids_digest, library_versions
from vle_bench.evaluation.published_checkpoint import AS_SAVED, Asked
from vle_bench.evaluation.record import SCHEMA_VERSION, Metric, Record, Training, invalid_key
from vle_bench.models import pretrained
from vle_bench.models.vle.convert.converted import few, not_finite
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Data, Task
from vle_bench.tasks.catalogue import CATALOGUE
from vle_bench.tasks.predictions import Id, Prediction, Scores, write_predictions

EVALUATION_BATCH_SIZE = 128


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory with the data to predict.

    Args:
        training: training.json of the checkpoint, or `published_checkpoint.described` of one that
            was trained elsewhere.
        labels: the answers by class; empty for a task without classes.
        sha256: digest of the weights.
        files_sha256: digest of config.json and the processor's files.
        precision: `fp32`, `bf16` or `fp16`, to score in.
        elsewhere: the checkpoint was not trained by vle-bench.
    """

    folder: Path
    training: dict[str, Any]
    task: Task
    data: Data
    model: torch.nn.Module
    processor: Any
    labels: list[str]
    sha256: str
    files_sha256: str
    precision: str
    elsewhere: bool


def load(
    folder: Path,
    data_root: Path,
    split: str,
    *,
    labelled: bool,
    accelerator: Accelerator,
    precision: str | None = None,
    asked: Asked = AS_SAVED,
) -> Loaded:
    """Open the data, then the checkpoint: a wrong split is refused before weights are read.

    Args:
        labelled: refuse a split without labels.
        precision: to score in; the one of the training if not given.
        asked: for a checkpoint from elsewhere, the settings that its folder does not hold.
    """
    folder = pretrained.resolve(folder)
    elsewhere = published_checkpoint.is_elsewhere(folder)
    if elsewhere:
        training, processor = published_checkpoint.described(folder, asked)
        scored_in = scoring_precision(None, precision, accelerator.device)
    else:
        training, processor = own_training(folder), pretrained.load_processor(folder)
        asked.refuse(folder, training["task"])
        scored_in = scoring_precision(training, precision, accelerator.device)
        unknown = precision is None and trained_precision(training) is None
        if unknown and accelerator.is_main_process:
            warn_of_precision(folder, scored_in)
    task = load_task(training["task"])
    data = task.open(data_root)
    task = task.for_data(data)
    data.questions(split)
    if labelled:
        check_labelled(data, split)
    if elsewhere:
        published_checkpoint.check_splits(asked, data.manifest.source)
    labels = answers(folder, data, elsewhere)
    task.check(data, split, training["inputs"])
    # Before the model is read: a run that goes on may replace its best/ at any time.
    sha256 = published_checkpoint.weights_sha256(folder)
    files_sha256 = pretrained.files_sha256(folder)
    model = pretrained.load_model(folder, task.architecture)
    if elsewhere:
        published_checkpoint.check_head(folder, model, labels)
    else:
        pretrained.check_vocabulary(folder, processor, model)
    model = model.to(accelerator.device)
    return Loaded(
        folder,
        training,
        task,
        data,
        model,
        processor,
        labels,
        sha256,
        files_sha256,
        scored_in,
        elsewhere,
    )


def answers(folder: Path, data: Data, elsewhere: bool) -> list[str]:
    """Return the checkpoint's answers by class; those of one trained elsewhere may differ from the
    data's."""
    if not data.labels:
        return []
    if elsewhere:
        return published_checkpoint.answers(folder)
    labels = pretrained.load_labels(folder)
    check_labels(labels, data)
    return labels


def warn_of_precision(folder: Path, scored_in: str) -> None:
    """Say in which precision a checkpoint is scored that does not say how it was trained."""
    print(
        f"{folder}: does not say in which precision it was trained, as an earlier version wrote "
        f"it; scored in {scored_in}, --precision names another",
        file=sys.stderr,
    )


def own_training(folder: Path) -> dict[str, Any]:
    """Read training.json of a checkpoint of ours, checked before anything is computed."""
    path = folder / pretrained.TRAINING_FILE
    training: dict[str, Any] = pretrained.read_json(path)
    if isinstance(training, dict) and "inputs" not in training:
        raise RequestError(f"{path}: written by an earlier version; train again")
    try:
        Training.model_validate(training)
    except ValidationError as error:
        problems = "; ".join(invalid_key(details) for details in error.errors()[:3])
        raise RequestError(f"{path}: not as `train` writes it: {problems}") from error
    if training["task"] not in CATALOGUE:
        raise RequestError(f"{path}: task: {training['task']!r} is none of {', '.join(CATALOGUE)}")
    return training


def predict_split(
    loaded: Loaded,
    task: Task,
    split: str,
    accelerator: Accelerator,
    batch_size: int,
    num_workers: int,
) -> list[Prediction]:
    """Predict a split with a loaded checkpoint.

    Args:
        task: the checkpoint's, or its `for_submission`.

    Raises:
        RunFailed: logits or weights are not finite.
    """
    set_tf32(trained_tf32(loaded.training))
    predictions = task.predict(
        loaded.model,
        loaded.data,
        split,
        processor=loaded.processor,
        labels=loaded.labels,
        inputs=loaded.training["inputs"],
        accelerator=accelerator,
        batch_size=batch_size,
        num_workers=num_workers,
        autocast=partial(autocast, accelerator.device, loaded.precision),
    )
    # tanh hides an infinite weight: the logits were finite.
    if names := not_finite(loaded.model.named_parameters()):
        raise RunFailed(
            f"{loaded.folder}: nothing was scored or written: weights that are not finite: "
            f"{few(names)}"
        )
    if loaded.labels == loaded.data.labels:
        return predictions
    # The number of a class means nothing beside the soft targets of another label map.
    return [
        Prediction(one.id, {name: one[name] for name in one.values if name != "label"})
        for one in predictions
    ]


def predict_checkpoint(
    folder: Path,
    data_root: Path,
    split: str,
    output: Path,
    *,
    accelerator: Accelerator,
    other: Path | None = None,
    batch_size: int = EVALUATION_BATCH_SIZE,
    num_workers: int = 0,
    precision: str | None = None,
    asked: Asked = AS_SAVED,
) -> tuple[int, str]:
    """Write the predictions for a split, with labels or without, in the official format.

    Args:
        other: the checkpoint of the other task that the official file needs, as VCR's does.
        num_workers: processes that load pictures.
        precision: of both; each one's own if not given.

    Returns:
        The number of examples predicted, and the source of the data.
    """
    folders = [(folder, asked.task)] + ([(other, None)] if other else [])
    loaded = [
        load(
            path,
            data_root,
            split,
            labelled=False,
            accelerator=accelerator,
            precision=precision,
            asked=replace(asked, task=task),
        )
        for path, task in folders
    ]
    first = loaded[0]
    check_whole(first.data, split)
    check_complete([one.task for one in loaded], folder)
    tasks = [one.task.for_submission() for one in loaded]
    predicted = [
        predict_split(one, task, split, accelerator, batch_size, num_workers)
        for one, task in zip(loaded, tasks, strict=True)
    ]
    whole = [reduce(Prediction.with_values_of, same) for same in zip(*predicted, strict=True)]
    text = first.task.submission(whole, first.data.questions(split))
    if accelerator.is_main_process:
        atomic.write_text(output, text)
    return len(whole), first.data.manifest.source


def check_complete(tasks: list[Task], folder: Path) -> None:
    """Check that these are the tasks that one official file is made of, neither fewer nor more."""
    wanted = tasks[0].submitted_with
    if wanted is None and len(tasks) > 1:
        raise RequestError(f"{folder}: {tasks[0].name} needs no other checkpoint; leave --with out")
    if wanted is not None and [task.name for task in tasks[1:]] != [wanted]:
        given = f", not one of {tasks[1].name}" if len(tasks) > 1 else ""
        raise RequestError(
            f"{folder}: the official file of {tasks[0].name} needs --with RUN, a run of "
            f"{wanted}{given}"
        )


def evaluate_checkpoint(
    folder: Path,
    data_root: Path,
    split: str,
    output: Path,
    *,
    accelerator: Accelerator,
    run: Path | None = None,
    batch_size: int = EVALUATION_BATCH_SIZE,
    num_workers: int = 0,
    precision: str | None = None,
    asked: Asked = AS_SAVED,
) -> Record:
    """Score a checkpoint on a split.

    Writes the record to `output`, and the predictions to `predictions_file` of it.

    Args:
        run: the folder whose own record `output` may be; the run folder that the checkpoint lies
            in if not given.
        num_workers: processes that load pictures; the scores do not depend on it.
        precision, asked: see `load`.
    """
    started = time.monotonic()
    loaded = load(
        folder,
        data_root,
        split,
        labelled=True,
        accelerator=accelerator,
        precision=precision,
        asked=asked,
    )
    task = loaded.task
    if loaded.elsewhere:
        published_checkpoint.refuse_anothers(output, loaded.sha256, loaded.files_sha256)
    predictions = predict_split(loaded, task, split, accelerator, batch_size, num_workers)
    record = record_of(
        loaded,
        split,
        task.score(predictions, loaded.data.questions(split)),
        [one.id for one in predictions],
        device=device_name(accelerator),
        processes=accelerator.num_processes,
        batch_size=batch_size,
        started=started,
    )
    if accelerator.is_main_process:
        path = predictions_file(output, run or run_of(folder), task.name, split)
        write_predictions(path, predictions)
        atomic.write_json(output, record.model_dump(mode="json"))
    return record


def record_of(
    loaded: Loaded,
    split: str,
    scores: Scores,
    ids: Iterable[Id],
    *,
    device: str,
    processes: int,
    batch_size: int,
    started: float,
    data: Mapping[str, str] = MappingProxyType({}),
) -> Record:
    """Return the record of scores.

    What was trained is taken from the checkpoint, the rest from this process.

    Args:
        started: of the evaluation, by the monotonic clock.
        data: further digests of the data, beside the manifest's.
    """
    training, task, manifest = loaded.training, loaded.task, loaded.data.manifest
    model = training["model"] if loaded.elsewhere else {"name": training["recipe"]["name"]}
    own = {
        "source": manifest.source,
        "name": manifest.name,
        "targets": manifest.targets,
        "metric": manifest.metric,
    }
    own = {key: value for key, value in own.items() if value is not None}
    return Record(
        kind="elsewhere" if loaded.elsewhere else "run",
        schema_version=SCHEMA_VERSION,
        task=task.name,
        task_version=task.version,
        split=split,
        n=scores.n,
        ids_sha256=ids_digest(ids),
        expect=training.get("expect"),
        metrics={name: Metric(**metric) for name, metric in scores.metrics.items()},
        primary_metric=task.primary_metric,
        per_answer_type=dict(scores.per_answer_type),
        per_question_type=dict(scores.per_question_type),
        breakdown=breakdown_of(scores),
        recipe=training["recipe"],
        training_splits=training["training_splits"],
        contaminated=overlap(split, "+".join(training["training_splits"])),
        model={
            **model,
            "parameters": sum(p.numel() for p in loaded.model.parameters()),
            "checkpoint_sha256": loaded.sha256,
            "files_sha256": loaded.files_sha256,
            "resize": loaded.processor.resize,
        },
        data={**own, "manifest_hash": manifest.hash, **data},
        precision=loaded.precision,
        seed=training["seed"],
        code=code_version(),
        libraries=library_versions(),
        training=training["progress"],
        command=" ".join(["vle-bench", *sys.argv[1:]]),
        device=device,
        processes=processes,
        batch_size=batch_size,
        seconds=round(time.monotonic() - started, 2),
    )


def breakdown_of(scores: Scores) -> dict[str, dict[str, Metric]]:
    """Return the breakdown as a record holds it."""
    return {
        kind: {group: Metric(**metric) for group, metric in groups.items()}
        for kind, groups in scores.breakdown.items()
    }
