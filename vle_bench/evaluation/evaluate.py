"""The one path from a checkpoint and a split to a result."""

import json
import math
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.utils.data import DataLoader

from vle_bench import atomic
from vle_bench.analysis.model_card import write_cards
from vle_bench.data.loader import in_loader
from vle_bench.data.prepared import check_labelled, check_labels, check_whole
from vle_bench.data.splits import overlap
from vle_bench.digests import file_sha256
from vle_bench.errors import RequestError, RunFailed
from vle_bench.evaluation.provenance import code_version, device_name, ids_digest, library_versions
from vle_bench.evaluation.record import SCHEMA_VERSION, Record
from vle_bench.models import pretrained
from vle_bench.progress import Bar
from vle_bench.tasks import TASKS, Data, Task

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
) -> list[dict[str, Any]]:
    """Predictions for every example of a split as rows keyed by id, ordered by id, the same on every process.

    Args:
        inputs: see Task.inputs.
        submission: see Task.collator.
    """
    questions = data.questions(split)
    all_batches = task.evaluation_batches(questions, batch_size, submission)
    own = all_batches[accelerator.process_index :: accelerator.num_processes]
    # Every process makes as many passes: where the weights are in shards, each pass gathers them from all.
    passes = math.ceil(len(all_batches) / accelerator.num_processes)
    batches: Any = own + all_batches[:1] * (passes - len(own))
    collate = task.collator(
        questions, data.images, processor, labels, inputs, submission=submission
    )
    rows: list[dict[str, Any]] = []
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
            logits = forward(model, batch, accelerator)
            if number < len(own):
                rows += task.predictions(logits, batch["ids"], labels)
            bar.advance()
    model.train(was_training)
    gathered = sorted(gather_object(rows), key=lambda row: row["id"])
    if len({row["id"] for row in gathered}) != len(gathered):
        raise RunFailed(f"{split}: an example was predicted twice")
    return gathered


def forward(model: Any, batch: dict[str, Any], accelerator: Accelerator) -> torch.Tensor:
    """The logits of a collated batch, which its labels have no part in."""
    tensors = {
        name: value.to(accelerator.device)
        for name, value in batch["inputs"].items()
        if name != "labels"
    }
    with accelerator.autocast():
        return model(**tensors).logits


def write_predictions(path: Path, rows: list[dict[str, Any]]) -> None:
    atomic.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@dataclass(frozen=True)
class Loaded:
    """A checkpoint with the data that it is asked about."""

    folder: Path
    training: dict[str, Any]  # what was saved with it: see checkpoint.save
    task: Task
    data: Data
    model: Any
    labels: list[str]
    sha256: str  # of the weights


def load(
    folder: Path, data_root: Path, split: str, *, labelled: bool, accelerator: Accelerator
) -> Loaded:
    """Open a checkpoint and the data, the data first: a wrong split is told before weights are read."""
    folder = pretrained.resolve(folder)
    training = pretrained.read_json(folder / pretrained.TRAINING_FILE)
    if "inputs" not in training:
        raise RequestError(
            f"{folder / pretrained.TRAINING_FILE}: written by an earlier version; train again"
        )
    task = TASKS[training["task"]]
    data = task.open(data_root)
    data.questions(split)
    if labelled:
        check_labelled(data, split)
    labels = pretrained.load_labels(folder) if data.labels else []
    check_labels(labels, data)
    task.check(data, split, training["inputs"])
    sha256 = file_sha256(
        folder / "model.safetensors"
    )  # now: a run that goes on may replace its best/ at any time
    model = pretrained.load_model(folder, task.architecture).to(accelerator.device)
    return Loaded(folder, training, task, data, model, labels, sha256)


def predict_split(
    loaded: Loaded, split: str, accelerator: Accelerator, batch_size: int, submission: bool = False
) -> list[dict[str, Any]]:
    return predict(
        loaded.model,
        pretrained.load_processor(loaded.folder),
        loaded.task,
        loaded.data,
        split,
        loaded.labels,
        accelerator=accelerator,
        batch_size=batch_size,
        inputs=loaded.training["inputs"],
        submission=submission,
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
) -> tuple[int, str]:
    """Write a checkpoint's predictions for a split, with labels or without, in the official submission format.

    Args:
        other: the checkpoint of the task that the official file needs beside (VCR's two tasks share one file).

    Returns:
        How many examples were predicted, and the source of the data.
    """
    loaded = [
        load(path, data_root, split, labelled=False, accelerator=accelerator)
        for path in (folder, other)
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
    return len(joined), loaded[0].data.manifest["source"]


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
    batch_size: int = EVALUATION_BATCH_SIZE,
) -> Record:
    """Score a checkpoint on a split; writes the record to `output` and the predictions beside it."""
    started = time.monotonic()
    loaded = load(folder, data_root, split, labelled=True, accelerator=accelerator)
    task = loaded.task
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
        write_predictions(output.parent.parent / "predictions" / f"{task.name}.{split}.jsonl", rows)
        atomic.write_json(output, record.model_dump(mode="json"))
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
            "name": training["recipe"]["name"],
            "parameters": sum(p.numel() for p in loaded.model.parameters()),
            "checkpoint_sha256": loaded.sha256,
        },
        data={"source": data.manifest["source"], "manifest_hash": data.manifest["hash"]},
        seed=training["seed"],
        code=code_version(),
        libraries=library_versions(),
        training=training["progress"],
        command=" ".join(["vle-bench", *sys.argv[1:]]),
        **measured,
    )
