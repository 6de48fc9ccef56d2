"""The one path from a checkpoint and a split to a result."""

import json
import math
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from pydantic import ValidationError
from torch.utils.data import DataLoader

from vle_bench import atomic
from vle_bench.analysis.model_card import write_cards
from vle_bench.data.loader import in_loader
from vle_bench.data.prepared import check_labelled, check_labels, check_whole
from vle_bench.data.splits import overlap
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
from vle_bench.evaluation.record import SCHEMA_VERSION, Record, Training, describe
from vle_bench.models import pretrained
from vle_bench.models.vle.convert.converted import few, not_finite
from vle_bench.progress import Bar
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Data, Task
from vle_bench.tasks.catalogue import CATALOGUE

EVALUATION_BATCH_SIZE = 128


@torch.no_grad()  # not inference_mode: FSDP2 would keep what it gathers as tensors that no later step may train with
def predict(
    model: Any,
    processor: Any,
    task: Task,
    data: Data,
    split: str,
    labels: list[str],
    *,
    accelerator: Accelerator,
    batch_size: int,
    inputs: dict[str, Any],
    submission: bool = False,
    num_workers: int = 0,
    precision: str | None = None,
) -> list[dict[str, Any]]:
    """Predictions for every example of a split as rows keyed by id, ordered by id, the same on every process.

    Args:
        inputs: see Task.inputs.
        submission: see Task.collator.
        precision: `fp32`, `bf16` or `fp16`; the accelerator's own if not given.

    Raises:
        RunFailed: examples whose logits are not finite, with their number and the first ids.
    """
    questions = data.questions(split)
    all_batches = task.evaluation_batches(questions, batch_size, submission)
    own = all_batches[accelerator.process_index :: accelerator.num_processes]
    # Every process makes as many passes: where the weights are in shards, each pass gathers them from all.
    passes = math.ceil(len(all_batches) / accelerator.num_processes)
    batches: Any = own + all_batches[:1] * (passes - len(own))
    collate = task.collator(
        questions, data.images, processor, [], inputs, submission=submission
    )  # a prediction needs no targets
    rows: list[dict[str, Any]] = []
    broken: list[Any] = []  # ids of the examples with a logit that is NaN or infinite
    was_training = model.training
    model.eval()
    with Bar(
        f"{'predict' if submission else 'evaluate'} {split}",
        len(batches),
        enabled=accelerator.is_main_process,
    ) as bar:
        loader = DataLoader(
            batches,
            batch_size=None,
            collate_fn=collate,
            num_workers=num_workers,
            worker_init_fn=in_loader,
            generator=torch.Generator(),  # an evaluation must not take from the numbers that training uses
        )
        for number, batch in enumerate(loader):
            logits = forward(model, batch, accelerator, precision)
            if number < len(own):
                rows += task.predictions(logits, batch["ids"], labels)
                finite = logits.isfinite().flatten(1).all(1).tolist()
                broken += [i for i, sound in zip(batch["ids"], finite, strict=True) if not sound]
            bar.advance()
    model.train(was_training)
    gathered = sorted(gather_object(rows), key=lambda row: row["id"])
    refuse_broken(split, sorted(gather_object(broken)), len(gathered))
    if len({row["id"] for row in gathered}) != len(gathered):
        raise RunFailed(f"{split}: an example was predicted twice")
    return gathered


def refuse_broken(split: str, ids: list[Any], examples: int) -> None:
    """Stop where logits are not finite: any answer that is read from them is a made-up one."""
    if ids:
        shown = ", ".join(map(str, ids[:8])) + (
            f" and {len(ids) - 8:,} more" if len(ids) > 8 else ""
        )
        raise RunFailed(
            f"{split}: the logits of {len(ids):,} of {examples:,} examples are not finite (NaN or infinite): {shown}; "
            "nothing was scored or written; the weights are damaged, or overflow in 16 bits and not in fp32"
        )


def forward(
    model: Any,
    batch: dict[str, Any],
    accelerator: Accelerator,
    precision: str | None = None,
) -> torch.Tensor:
    """The logits of a collated batch, which its labels have no part in; precision: see `predict`."""
    tensors = {
        name: value.to(accelerator.device)
        for name, value in batch["inputs"].items()
        if name != "labels"
    }
    with accelerator.autocast() if precision is None else autocast(accelerator.device, precision):
        return model(**tensors).logits


def write_predictions(path: Path, rows: list[dict[str, Any]]) -> None:
    atomic.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@dataclass(frozen=True)
class Loaded:
    """A checkpoint with the data that it is asked about."""

    folder: Path
    training: dict[
        str, Any
    ]  # what was saved with it: see checkpoint.save, or published_checkpoint.described
    task: Task
    data: Data
    model: Any
    processor: Any
    labels: list[str]
    sha256: str  # of the weights
    precision: str  # to score in
    elsewhere: bool  # it was trained by others

    @property
    def shared_labels(self) -> bool:
        """Whether the model's classes are the data's, as soft targets need it."""
        return self.labels == self.data.labels


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
    """Open a checkpoint and the data, the data first: a wrong split is told before weights are read.

    Args:
        precision: to score in; the one of the training if not given.
        asked: for a checkpoint from elsewhere, what its folder does not say, or not as it says.
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
        if (
            precision is None
            and trained_precision(training) is None
            and accelerator.is_main_process
        ):
            print(
                f"{folder}: does not say in which precision it was trained, as an earlier version wrote it; scored in "
                f"{scored_in}, --precision names another",
                file=sys.stderr,
            )
    task = load_task(training["task"])
    data = task.open(data_root)
    data.questions(split)
    if labelled:
        check_labelled(data, split)
    if elsewhere:
        published_checkpoint.check_splits(asked, data.manifest.source)
        labels = published_checkpoint.answers(folder) if data.labels else []
    else:
        labels = pretrained.load_labels(folder) if data.labels else []
        check_labels(labels, data)
    task.check(data, split, training["inputs"])
    sha256 = published_checkpoint.weights_sha256(
        folder
    )  # now: a run that goes on may replace its best/ at any time
    model = pretrained.load_model(folder, task.architecture)
    if elsewhere:
        published_checkpoint.check_head(folder, model, labels)
    else:
        pretrained.check_vocabulary(folder, processor, model)
    model = model.to(accelerator.device)
    return Loaded(
        folder, training, task, data, model, processor, labels, sha256, scored_in, elsewhere
    )


def own_training(folder: Path) -> dict[str, Any]:
    """What was saved with a checkpoint, checked before anything is computed; see `checkpoint.save`."""
    path = folder / pretrained.TRAINING_FILE
    training = pretrained.read_json(path)
    if isinstance(training, dict) and "inputs" not in training:
        raise RequestError(f"{path}: written by an earlier version; train again")
    try:
        Training.model_validate(training)
    except ValidationError as error:
        problems = "; ".join(describe(problem) for problem in error.errors()[:3])
        raise RequestError(f"{path}: not as `train` writes it: {problems}") from error
    if training["task"] not in CATALOGUE:
        raise RequestError(f"{path}: task: {training['task']!r} is none of {', '.join(CATALOGUE)}")
    checked: dict[str, Any] = training
    return checked


def predict_split(
    loaded: Loaded, split: str, accelerator: Accelerator, batch_size: int, submission: bool = False
) -> list[dict[str, Any]]:
    set_tf32(trained_tf32(loaded.training))
    rows = predict(
        loaded.model,
        loaded.processor,
        loaded.task,
        loaded.data,
        split,
        loaded.labels,
        accelerator=accelerator,
        batch_size=batch_size,
        inputs=loaded.training["inputs"],
        submission=submission,
        precision=loaded.precision,
    )
    if names := not_finite(
        loaded.model.named_parameters()
    ):  # tanh hides an infinite weight: the logits were finite
        raise RunFailed(
            f"{loaded.folder}: nothing was scored or written: weights that are not finite: {few(names)}"
        )
    # A class's number means nothing beside the targets of another label map.
    return (
        rows
        if loaded.shared_labels
        else [{key: row[key] for key in row if key != "label"} for row in rows]
    )


def predict_checkpoint(
    folder: Path,
    data_root: Path,
    split: str,
    output: Path,
    *,
    accelerator: Accelerator,
    other: Path | None = None,
    batch_size: int = EVALUATION_BATCH_SIZE,
    precision: str | None = None,
    asked: Asked = AS_SAVED,
) -> tuple[int, str]:
    """Write a checkpoint's predictions for a split, with labels or without, in the official submission format.

    Args:
        other: the checkpoint of the task that the official file needs beside (VCR's two tasks share one file).
        precision: of both; each one's own if not given.

    Returns:
        How many examples were predicted, and the source of the data.
    """
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
        for path, task in ((folder, asked.task), (other, None))
        if path
    ]
    check_whole(loaded[0].data, split)
    check_complete([one.task for one in loaded], folder)
    rows = [predict_split(one, split, accelerator, batch_size, submission=True) for one in loaded]
    joined = [
        {key: value for row in same for key, value in row.items()}
        for same in zip(*rows, strict=True)
    ]
    text = loaded[0].task.submission(joined, loaded[0].data.questions(split))
    if accelerator.is_main_process:
        atomic.write_text(output, text)
    return len(joined), loaded[0].data.manifest.source


def check_complete(tasks: list[Task], folder: Path) -> None:
    """The tasks that one official file is made of, neither fewer nor more."""
    wanted = tasks[0].submitted_with
    if wanted is None and len(tasks) > 1:
        raise RequestError(f"{folder}: {tasks[0].name} needs no other checkpoint; leave --with out")
    if wanted is not None and [task.name for task in tasks[1:]] != [wanted]:
        came = f", not one of {tasks[1].name}" if len(tasks) > 1 else ""
        raise RequestError(
            f"{folder}: the official file of {tasks[0].name} needs --with RUN, a run of {wanted}{came}"
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
    precision: str | None = None,
    asked: Asked = AS_SAVED,
) -> Record:
    """Score a checkpoint on a split; writes the record to `output`, and the predictions where `predictions_file` says.

    Args:
        run: the folder whose own record `output` may be; the run folder that the checkpoint lies in if not given.
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
        published_checkpoint.refuse_anothers(output, loaded.sha256)
    rows = predict_split(loaded, split, accelerator, batch_size)
    scores = task.score(rows, loaded.data.questions(split))
    record = record_of(
        loaded,
        split,
        scores,
        (row["id"] for row in rows),
        device=device_name(accelerator),
        processes=accelerator.num_processes,
        batch_size=batch_size,
        seconds=round(time.monotonic() - started, 2),
    )
    if accelerator.is_main_process:
        write_predictions(predictions_file(output, run or run_of(folder), task.name, split), rows)
        atomic.write_json(output, record.model_dump(mode="json"))
        if not loaded.elsewhere:
            write_cards(loaded.folder.parent)
    return record


def record_of(
    loaded: Loaded, split: str, scores: dict[str, Any], ids: Iterable[Any], **measured: Any
) -> Record:
    """The record of scores: what was trained is taken from the checkpoint, the rest from this process.

    Args:
        scores: see Task.score.
        measured: device, processes, batch_size and seconds of the evaluation.
    """
    training, task, data = loaded.training, loaded.task, loaded.data
    return Record(
        kind="elsewhere" if loaded.elsewhere else "run",
        schema_version=SCHEMA_VERSION,
        task=task.name,
        task_version=task.version,
        split=split,
        n=scores["n"],
        ids_sha256=ids_digest(ids),
        expect=training.get("expect"),
        metrics=scores["metrics"],
        primary_metric=task.primary_metric,
        per_answer_type=scores.get("per_answer_type", {}),
        per_question_type=scores.get("per_question_type", {}),
        breakdown=scores["breakdown"],
        recipe=training["recipe"],
        training_splits=training["training_splits"],
        contaminated=overlap(split, "+".join(training["training_splits"])),
        model={
            **(training["model"] if loaded.elsewhere else {"name": training["recipe"]["name"]}),
            "parameters": sum(p.numel() for p in loaded.model.parameters()),
            "checkpoint_sha256": loaded.sha256,
            "resize": loaded.processor.resize,
        },
        data={"source": data.manifest.source}
        | ({} if data.manifest.targets is None else {"targets": data.manifest.targets})
        | {"manifest_hash": data.manifest.hash},
        precision=loaded.precision,
        seed=training["seed"],
        code=code_version(),
        libraries=library_versions(),
        training=training["progress"],
        command=" ".join(["vle-bench", *sys.argv[1:]]),
        **measured,
    )


def joined(values: Iterable[str | None]) -> str | None:
    """What two runs have in common, else both with a plus sign; None where one does not say."""
    distinct = list(dict.fromkeys(values))
    return None if None in distinct else " + ".join(value for value in distinct if value)
