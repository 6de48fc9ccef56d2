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

from vle_bench import atomic, checkpoint, published_checkpoint
from vle_bench.errors import RequestError, RunFailed
from vle_bench.model_card import write_cards
from vle_bench.models.vle.converted import few, not_finite
from vle_bench.outputs import predictions_file, run_of
from vle_bench.precision import autocast, scoring_precision, set_tf32, trained_precision, trained_tf32
from vle_bench.progress import Bar
from vle_bench.published_checkpoint import AS_SAVED, Asked
from vle_bench.results import (
    SCHEMA_VERSION,
    Metric,
    Record,
    Training,
    code_version,
    describe,
    ids_digest,
    library_versions,
    load_record,
)
from vle_bench.signals import in_loader
from vle_bench.splits import overlap, tables
from vle_bench.tasks import TASKS, Data, Task
from vle_bench.vcr_files import jsonl_records

EVALUATION_BATCH_SIZE = 128


@torch.no_grad()  # not inference_mode: FSDP2 would keep what it gathers as tensors that no later step may train with
def predict(
    model: Any, processor: Any, task: Task, data: Data, split: str, labels: list[str], *,
    accelerator: Accelerator, batch_size: int, inputs: dict[str, Any], submission: bool = False, num_workers: int = 0,
    precision: str | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
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
    collate = task.collator(questions, data.images, processor, [], inputs, submission=submission)  # a prediction needs no targets
    rows: list[dict[str, Any]] = []
    broken: list[Any] = []  # ids of the examples with a logit that is NaN or infinite
    was_training = model.training
    model.eval()
    with Bar(f"{'predict' if submission else 'evaluate'} {split}", len(batches), enabled=accelerator.is_main_process) as bar:
        loader = DataLoader(
            batches, batch_size=None, collate_fn=collate, num_workers=num_workers, worker_init_fn=in_loader,
            generator=torch.Generator(),  # an evaluation must not take from the numbers that training uses
        )  # fmt: skip
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
        shown = ", ".join(map(str, ids[:8])) + (f" and {len(ids) - 8:,} more" if len(ids) > 8 else "")
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
    tensors = {name: value.to(accelerator.device) for name, value in batch["inputs"].items() if name != "labels"}
    with accelerator.autocast() if precision is None else autocast(accelerator.device, precision):
        return model(**tensors).logits


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
    training: dict[str, Any]  # what was saved with it: see checkpoint.save, or published_checkpoint.described
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
    folder = checkpoint.resolve(folder)
    elsewhere = published_checkpoint.is_elsewhere(folder)
    if elsewhere:
        training, processor = published_checkpoint.described(folder, asked)
        scored_in = scoring_precision(None, precision, accelerator.device)
    else:
        training, processor = own_training(folder), checkpoint.load_processor(folder)
        asked.refuse(folder, training["task"])
        scored_in = scoring_precision(training, precision, accelerator.device)
        if precision is None and trained_precision(training) is None and accelerator.is_main_process:
            print(
                f"{folder}: does not say in which precision it was trained, as an earlier version wrote it; scored in "
                f"{scored_in}, --precision names another",
                file=sys.stderr,
            )
    task = TASKS[training["task"]]
    data = task.open(data_root)
    data.questions(split)
    if labelled:
        check_labelled(data, split)
    if elsewhere:
        published_checkpoint.check_splits(asked, data.manifest["source"])
        labels = published_checkpoint.answers(folder) if data.labels else []
    else:
        labels = checkpoint.load_labels(folder) if data.labels else []
        check_labels(labels, data)
    task.check(data, split, training["inputs"])
    sha256 = published_checkpoint.weights_sha256(folder)  # now: a run that goes on may replace its best/ at any time
    model = checkpoint.load_model(folder, task.architecture)
    if elsewhere:
        published_checkpoint.check_head(folder, model, labels)
    else:
        checkpoint.check_vocabulary(folder, processor, model)
    model = model.to(accelerator.device)
    return Loaded(folder, training, task, data, model, processor, labels, sha256, scored_in, elsewhere)


def own_training(folder: Path) -> dict[str, Any]:
    """What was saved with a checkpoint, checked before anything is computed; see `checkpoint.save`."""
    path = folder / checkpoint.TRAINING_FILE
    training = checkpoint.read_json(path)
    if isinstance(training, dict) and "inputs" not in training:
        raise RequestError(f"{path}: written by an earlier version; train again")
    try:
        Training.model_validate(training)
    except ValidationError as error:
        problems = "; ".join(describe(problem) for problem in error.errors()[:3])
        raise RequestError(f"{path}: not as `train` writes it: {problems}") from error
    if training["task"] not in TASKS:
        raise RequestError(f"{path}: task: {training['task']!r} is none of {', '.join(TASKS)}")
    checked: dict[str, Any] = training
    return checked


def predict_split(
    loaded: Loaded, split: str, accelerator: Accelerator, batch_size: int, submission: bool = False
) -> list[dict[str, Any]]:  # fmt: skip
    set_tf32(trained_tf32(loaded.training))
    rows = predict(
        loaded.model, loaded.processor, loaded.task, loaded.data, split, loaded.labels,
        accelerator=accelerator, batch_size=batch_size, inputs=loaded.training["inputs"], submission=submission,
        precision=loaded.precision,
    )  # fmt: skip
    if names := not_finite(loaded.model.named_parameters()):  # tanh hides an infinite weight: the logits were finite
        raise RunFailed(f"{loaded.folder}: nothing was scored or written: weights that are not finite: {few(names)}")
    # A class's number means nothing beside the targets of another label map.
    return rows if loaded.shared_labels else [{key: row[key] for key in row if key != "label"} for row in rows]


def predict_checkpoint(
    folder: Path, data_root: Path, split: str, output: Path, *, accelerator: Accelerator, other: Path | None = None,
    batch_size: int = EVALUATION_BATCH_SIZE, precision: str | None = None, asked: Asked = AS_SAVED,
) -> tuple[int, str]:  # fmt: skip
    """Write a checkpoint's predictions for a split, with labels or without, in the official submission format.

    Args:
        other: the checkpoint of the task that the official file needs beside (VCR's two tasks share one file).
        precision: of both; each one's own if not given.

    Returns:
        How many examples were predicted, and the source of the data.
    """
    loaded = [
        load(
            path, data_root, split, labelled=False, accelerator=accelerator, precision=precision,
            asked=replace(asked, task=task),
        )
        for path, task in ((folder, asked.task), (other, None)) if path
    ]  # fmt: skip
    check_whole(loaded[0].data, split)
    check_complete([one.task for one in loaded], folder)
    rows = [predict_split(one, split, accelerator, batch_size, submission=True) for one in loaded]
    joined = [{key: value for row in same for key, value in row.items()} for same in zip(*rows, strict=True)]
    text = loaded[0].task.submission(joined, loaded[0].data.questions(split))
    if accelerator.is_main_process:
        atomic.write_text(output, text)
    return len(joined), loaded[0].data.manifest["source"]


def check_whole(data: Data, split: str) -> None:
    """The server takes no file without the questions that a preparation has left out."""
    report = data.manifest.get("report", {})
    for part in tables(split, set(data.manifest["splits"])):
        found = report.get("splits", report).get(part, {})
        if count := found.get("left_out_with_their_image", 0) + found.get("left_out_as_bad_records", 0):
            raise RequestError(
                f"{data.root}: {count:,} questions of {part} were left out when it was prepared (manifest.json, left_out): the "
                "official file needs them all; prepare the data again without skipping"
            )


def check_complete(tasks: list[Task], folder: Path) -> None:
    """The tasks that one official file is made of, neither fewer nor more."""
    wanted = tasks[0].submitted_with
    if wanted is None and len(tasks) > 1:
        raise RequestError(f"{folder}: {tasks[0].name} needs no other checkpoint; leave --with out")
    if wanted is not None and [task.name for task in tasks[1:]] != [wanted]:
        came = f", not one of {tasks[1].name}" if len(tasks) > 1 else ""
        raise RequestError(f"{folder}: the official file of {tasks[0].name} needs --with RUN, a run of {wanted}{came}")


def evaluate_checkpoint(
    folder: Path, data_root: Path, split: str, output: Path, *, accelerator: Accelerator, run: Path | None = None,
    batch_size: int = EVALUATION_BATCH_SIZE, precision: str | None = None, asked: Asked = AS_SAVED,
) -> Record:  # fmt: skip
    """Score a checkpoint on a split; writes the record to `output`, and the predictions where `predictions_file` says.

    Args:
        run: the folder whose own record `output` may be; the run folder that the checkpoint lies in if not given.
        precision, asked: see `load`.
    """
    started = time.monotonic()
    loaded = load(folder, data_root, split, labelled=True, accelerator=accelerator, precision=precision, asked=asked)
    task = loaded.task
    if loaded.elsewhere:
        published_checkpoint.refuse_anothers(output, loaded.sha256)
    rows = predict_split(loaded, split, accelerator, batch_size)
    scores = task.score(rows, loaded.data.questions(split))
    record = record_of(
        loaded, split, scores, (row["id"] for row in rows), device=device_name(accelerator),
        processes=accelerator.num_processes, batch_size=batch_size, seconds=round(time.monotonic() - started, 2),
    )  # fmt: skip
    if accelerator.is_main_process:
        write_predictions(predictions_file(output, run or run_of(folder), task.name, split), rows)
        atomic.write_json(output, record.model_dump(mode="json"))
        if not loaded.elsewhere:
            write_cards(loaded.folder.parent)
    return record


def record_of(loaded: Loaded, split: str, scores: dict[str, Any], ids: Iterable[Any], **measured: Any) -> Record:
    """The record of scores: what was trained is taken from the checkpoint, the rest from this process.

    Args:
        scores: see Task.score.
        measured: device, processes, batch_size and seconds of the evaluation.
    """
    training, task, data = loaded.training, loaded.task, loaded.data
    return Record(
        kind="elsewhere" if loaded.elsewhere else "run",
        schema_version=SCHEMA_VERSION, task=task.name, task_version=task.version, split=split, n=scores["n"],
        ids_sha256=ids_digest(ids), expect=training.get("expect"),
        metrics=scores["metrics"], primary_metric=task.primary_metric,
        per_answer_type=scores.get("per_answer_type", {}), per_question_type=scores.get("per_question_type", {}),
        breakdown=scores["breakdown"],
        recipe=training["recipe"], training_splits=training["training_splits"],
        contaminated=overlap(split, "+".join(training["training_splits"])),
        model={
            **(training["model"] if loaded.elsewhere else {"name": training["recipe"]["name"]}),
            "parameters": sum(p.numel() for p in loaded.model.parameters()),
            "checkpoint_sha256": loaded.sha256,
            "resize": loaded.processor.resize,
        },
        data={key: data.manifest[key] for key in ("source", "targets") if key in data.manifest}
        | {"manifest_hash": data.manifest["hash"]},
        precision=loaded.precision, seed=training["seed"], code=code_version(), libraries=library_versions(),
        training=training["progress"], command=" ".join(["vle-bench", *sys.argv[1:]]), **measured,
    )  # fmt: skip


def device_name(accelerator: Accelerator) -> str:
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_name(accelerator.device)
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' * (threads > 1)}"


def join_vcr(
    answers: Path, rationales: Path, split: str, output: Path, *, accelerator: Accelerator, data_root: Path | None = None
) -> Record:  # fmt: skip
    """Q2AR of two runs from the predictions that `evaluate_checkpoint` wrote for each; writes the record to `output`.

    Args:
        answers, rationales: the folders that hold results/ and predictions/: of runs, or of checkpoints from elsewhere.
        data_root: the prepared data; the run's own if not given.

    Raises:
        RequestError: a run was not evaluated on the split, its predictions are not those of its record, or the two were
            evaluated on different data.
    """
    started = time.monotonic()
    q2a, qa2r = (evaluated(run, name, split) for run, name in ((answers, "vcr_q2a"), (rationales, "vcr_qa2r")))
    for (one, rows), other in ((q2a, qa2r), (qa2r, q2a)):
        if one.data != other[0].data:
            raise RequestError(f"{answers} and {rationales}: evaluated on different data; evaluate both on the same")
        if missing := {row["id"] for row in rows} - {row["id"] for row in other[1]}:
            raise RequestError(f"{answers} and {rationales}: {len(missing)} annot_ids are in one only, such as {min(missing)!r}")
    if data_root is None and q2a[0].kind == "elsewhere":
        raise RequestError(f"{answers}: of a checkpoint from elsewhere: --data DIR names the prepared data that it was scored on")
    root = data_root or Path(checkpoint.read_json(checkpoint.resolve(answers) / checkpoint.TRAINING_FILE)["data_root"])
    task = TASKS["vcr_joint"]
    data = task.open(root)
    if data.manifest["hash"] != q2a[0].data["manifest_hash"]:
        raise RequestError(f"{root}: other data than {answers} was evaluated on; --data DIR names another folder")
    questions = data.questions(split)
    rows = [{**one, **two} for one, two in zip(q2a[1], qa2r[1], strict=True)]
    scores = task.score(rows, questions)
    for name, (record, _) in (("q2a", q2a), ("qa2r", qa2r)):
        if scores["metrics"][name]["value"] != record.metrics["accuracy"].value:
            raise RequestError(f"{answers} and {rationales}: the predictions of {name} are not those of the record; evaluate again")
    parts = [q2a[0], qa2r[0]]
    elsewhere = any(part.kind == "elsewhere" for part in parts)
    asked = " + ".join(part.model.get("asked", "as published") for part in parts if part.kind == "elsewhere")
    record = parts[0].model_copy(update={
        "schema_version": SCHEMA_VERSION, "task": "vcr_q2ar", "task_version": task.version, "primary_metric": "q2ar",
        "expect": None,
        "metrics": {name: Metric(**metric) for name, metric in scores["metrics"].items()},
        "breakdown": {kind: {g: Metric(**m) for g, m in groups.items()} for kind, groups in scores["breakdown"].items()},
        "kind": "elsewhere" if elsewhere else "run", "seed": None if elsewhere else parts[0].seed,
        "recipe": {} if elsewhere else {
            key: " + ".join(part.recipe[key] for part in parts) for key in parts[0].recipe if key in parts[1].recipe
        },
        # of one unknown part nothing is known of the whole
        "training_splits": sorted({name for part in parts for name in part.training_splits})
        if all(part.training_splits for part in parts) else [],
        "contaminated": any(part.contaminated for part in parts),
        "model": {
            "name": " + ".join(part.model["name"] for part in parts),
            "parameters": sum(part.model["parameters"] for part in parts),
            "checkpoint_sha256": " + ".join(part.model["checkpoint_sha256"] for part in parts),
            "resize": " + ".join(dict.fromkeys(part.model.get("resize", "unknown") for part in parts)),
            **({"asked": asked} if any("asked" in part.model for part in parts) else {}),
        },
        "precision": joined(part.precision for part in parts),
        "training": {"seconds": sum(part.training.get("seconds", 0) for part in parts)} | {
            key: value for key in ("split", "precision")
            if (value := joined(part.training.get(key) for part in parts)) is not None
        },
        "seconds": round(time.monotonic() - started, 2), "command": " ".join(["vle-bench", *sys.argv[1:]]),
    })  # fmt: skip
    if accelerator.is_main_process:
        atomic.write_json(output, record.model_dump(mode="json"))
    return record


def joined(values: Iterable[str | None]) -> str | None:
    """What two runs have in common, else both with a plus sign; None where one does not say."""
    distinct = list(dict.fromkeys(values))
    return None if None in distinct else " + ".join(value for value in distinct if value)


def evaluated(run: Path, task: str, split: str) -> tuple[Record, list[dict[str, Any]]]:
    """The record and the predictions, ordered by id, that an evaluation of a run left in its folder."""
    result, predictions = run / "results" / f"{task}.{split}.json", run / "predictions" / f"{task}.{split}.jsonl"
    for path in (result, predictions):
        if not path.is_file():
            ours = (run / "recipe.yaml").is_file()
            what = f"`vle-bench evaluate {run} --split {split}` writes it, for a run of {task}"
            raise RequestError(f"{path}: no such file; {what if ours else f'evaluate the checkpoint for {task} on {split} first'}")
    return load_record(result), [row for _, row in jsonl_records(predictions)]
