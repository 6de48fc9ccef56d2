"""The one path from a checkpoint and a split to a result."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.utils.data import DataLoader

from vle_bench import atomic, checkpoint
from vle_bench.errors import RequestError, RunFailed
from vle_bench.progress import Bar
from vle_bench.results import SCHEMA_VERSION, Record, code_version, file_sha256, library_versions
from vle_bench.splits import overlap, tables
from vle_bench.tasks import TASKS, Data, Task

EVALUATION_BATCH_SIZE = 128


@torch.inference_mode()
def predict(
    model: Any, processor: Any, task: Task, data: Data, split: str, labels: list[str], *,
    accelerator: Accelerator, batch_size: int, max_text_length: int, num_workers: int = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """Predictions for every example of a split as rows keyed by id, ordered by id, the same on every process."""
    questions = data.questions(split)
    batches: Any = task.evaluation_batches(questions, batch_size)[accelerator.process_index :: accelerator.num_processes]
    collate = task.collator(questions, data.images, processor, labels, max_text_length, None)
    rows: list[dict[str, Any]] = []
    was_training = model.training
    model.eval()
    with Bar(f"evaluate {split}", len(batches), enabled=accelerator.is_main_process) as bar:
        for batch in DataLoader(batches, batch_size=None, collate_fn=collate, num_workers=num_workers):
            inputs = {name: value.to(accelerator.device) for name, value in batch["inputs"].items() if name != "labels"}
            with accelerator.autocast():
                logits = model(**inputs).logits
            rows += task.predictions(logits, batch["ids"], labels)
            bar.advance()
    model.train(was_training)
    gathered = sorted(gather_object(rows), key=lambda row: row["id"])
    if len({row["id"] for row in gathered}) != len(gathered):
        raise RunFailed(f"{split}: an example was predicted twice")
    return gathered


def write_predictions(path: Path, rows: list[dict[str, Any]]) -> None:
    atomic.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def check_labels(labels: list[str], data: Data) -> None:
    """A checkpoint must answer with the answers that the data was prepared with."""
    if labels != data.labels:
        raise RequestError(
            f"{data.root}: its label map ({len(data.labels)} answers) is not the checkpoint's ({len(labels)}); "
            "prepare the data with the same label map"
        )


def check_labelled(data: Data, split: str) -> None:
    """A split without answers can be neither trained on nor scored."""
    for part in tables(split, set(data.manifest["splits"])):
        if not data.manifest["splits"].get(part, {}).get("labelled", True):
            raise RequestError(f"{data.root}: split {part!r} has no labels; `vle-bench predict` writes the answers to it")


@dataclass(frozen=True)
class Loaded:
    """A checkpoint with the data that it is asked about."""

    folder: Path
    training: dict[str, Any]  # what was saved with it: see checkpoint.save
    task: Task
    data: Data
    model: Any
    labels: list[str]


def load(folder: Path, data_root: Path, split: str, *, labelled: bool, accelerator: Accelerator) -> Loaded:
    """Open a checkpoint and the data, the data first: a wrong split is told before weights are read."""
    folder = checkpoint.resolve(folder)
    training = checkpoint.read_json(folder / checkpoint.TRAINING_FILE)
    task = TASKS[training["task"]]
    data = task.open(data_root)
    data.questions(split)
    if labelled:
        check_labelled(data, split)
    labels = checkpoint.load_labels(folder)
    check_labels(labels, data)
    model = checkpoint.load_model(folder, task.architecture).to(accelerator.device)
    return Loaded(folder, training, task, data, model, labels)


def predict_split(loaded: Loaded, split: str, accelerator: Accelerator, batch_size: int) -> list[dict[str, Any]]:
    return predict(
        loaded.model, checkpoint.load_processor(loaded.folder), loaded.task, loaded.data, split, loaded.labels,
        accelerator=accelerator, batch_size=batch_size, max_text_length=loaded.training["max_text_length"],
    )  # fmt: skip


def predict_checkpoint(
    folder: Path, data_root: Path, split: str, output: Path, *, accelerator: Accelerator, batch_size: int = EVALUATION_BATCH_SIZE
) -> tuple[int, str]:  # fmt: skip
    """Write a checkpoint's predictions for a split, with labels or without, in the official submission format.

    Returns:
        How many examples were predicted, and the source of the data.
    """
    loaded = load(folder, data_root, split, labelled=False, accelerator=accelerator)
    rows = predict_split(loaded, split, accelerator, batch_size)
    text = loaded.task.submission(rows, loaded.data.questions(split))
    if accelerator.is_main_process:
        atomic.write_text(output, text)
    return len(rows), loaded.data.manifest["source"]


def evaluate_checkpoint(
    folder: Path, data_root: Path, split: str, output: Path, *, accelerator: Accelerator, batch_size: int = EVALUATION_BATCH_SIZE
) -> Record:  # fmt: skip
    """Score a checkpoint on a split; writes the record to `output` and the predictions beside it."""
    started = time.monotonic()
    loaded = load(folder, data_root, split, labelled=True, accelerator=accelerator)
    training, task, data = loaded.training, loaded.task, loaded.data
    rows = predict_split(loaded, split, accelerator, batch_size)
    scores = task.score(rows, data.questions(split))
    record = Record(
        schema_version=SCHEMA_VERSION, task=task.name, task_version=task.version, split=split, n=scores["n"],
        metrics=scores["metrics"], primary_metric=task.primary_metric,
        per_answer_type=scores["per_answer_type"], per_question_type=scores["per_question_type"],
        recipe=training["recipe"], training_splits=training["training_splits"],
        contaminated=overlap(split, "+".join(training["training_splits"])),
        model={
            "name": training["recipe"]["name"],
            "parameters": sum(p.numel() for p in loaded.model.parameters()),
            "checkpoint_sha256": file_sha256(loaded.folder / "model.safetensors"),
        },
        data={"source": data.manifest["source"], "manifest_hash": data.manifest["hash"]},
        seed=training["seed"], code=code_version(), libraries=library_versions(), device=device_name(accelerator),
        processes=accelerator.num_processes, batch_size=batch_size, seconds=round(time.monotonic() - started, 2),
        training=training["progress"], command=" ".join(["vle-bench", *sys.argv[1:]]),
    )  # fmt: skip
    if accelerator.is_main_process:
        write_predictions(output.parent.parent / "predictions" / f"{task.name}.{split}.jsonl", rows)
        atomic.write_json(output, record.model_dump(mode="json"))
    return record


def device_name(accelerator: Accelerator) -> str:
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_name(accelerator.device)
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' * (threads > 1)}"
