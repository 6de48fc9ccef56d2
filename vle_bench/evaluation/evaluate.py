"""The one path from a checkpoint and a split to a result."""

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from vle_bench import atomic
from vle_bench.data.asking import Asking
from vle_bench.data.pixels import choose
from vle_bench.data.prepared import check_labelled, check_whole
from vle_bench.data.splits import same_dataset, seen
from vle_bench.errors import RequestError, RunFailed, few
from vle_bench.evaluation import other_models, published_checkpoint
from vle_bench.evaluation.copies import copies, say_copies
from vle_bench.evaluation.environment import (
    autocast,
    code_version,
    device_name,
    library_versions,
    scoring_precision,
    set_tf32,
)
from vle_bench.evaluation.pretraining import for_record, seen_before, without_folders
from vle_bench.evaluation.published_checkpoint import (
    Described,
    read_training,
    trained_on,
)
from vle_bench.evaluation.record import (
    NOT_KNOWN,
    SCHEMA_VERSION,
    Record,
    Training,
    either,
    ids_digest,
)
from vle_bench.evaluation.request import (
    Request,
    evaluation_folder,
    predictions_file,
    to_be_replaced,
)
from vle_bench.model_families import FAMILIES
from vle_bench.models import pretrained
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Data, Inference, Task
from vle_bench.tasks.predictions import Id, Prediction, Scores, write_predictions

# Facts of a model that tell two evaluations of the same files apart
COMPARED = (
    "resize",
    "max_text_length",
    "protocol",
    "prompt",
    "asked_with",
    "max_new_tokens",
    "pictures",
    "answers_sha256",
)


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory with the data to predict.

    Args:
        training: training.json of the checkpoint; None for one that was trained elsewhere.
        labels: the answers by class; empty for a task without classes.
        sha256: digest of the weights.
        files_sha256: digest of config.json and the processor's files.
        precision: `fp32`, `bf16` or `fp16`, to score in.
    """

    request: Request
    folder: Path
    training: Training | None
    described: Described
    task: Task
    data: Data
    model: torch.nn.Module
    processor: Any
    labels: list[str]
    sha256: str
    files_sha256: str
    precision: str


def load(request: Request, accelerator: Accelerator, *, labelled: bool) -> Loaded:
    """Open the data, then the checkpoint: a wrong split is refused before weights are read.

    Args:
        labelled: refuse a split without labels.
    """
    folder, split, asked = pretrained.resolve(request.checkpoint), request.split, request.asked
    family = other_models.family_of(folder, asked.model)
    training = read_training(folder)
    described, processor = other_models.described(folder, family, training, request)
    trained_in = training.progress.precision if training else None
    precision = scoring_precision(trained_in, request.precision, accelerator.device)
    if training and not trained_in and not request.precision and accelerator.is_main_process:
        print(
            f"{folder}: does not say in which precision it was trained, as an earlier version "
            f"wrote it; scored in {precision}, --precision names another",
            file=sys.stderr,
        )
    task = load_task(described.task)
    data = task.open(request.data_root)
    task = task.for_data(data)
    data.questions(split)
    if labelled:
        check_labelled(data, split)
    if training is None:
        published_checkpoint.check_splits(asked, data.manifest.source)
    labels, of_answers = other_models.answers(folder, family, training, asked, data)
    described = described.with_facts(of_answers)
    if not isinstance(processor, Asking):
        task.check(data, split, described.input_settings)
    # Before the model is read: a run in progress may replace its best/ at any time.
    sha256 = published_checkpoint.weights_sha256(folder)
    files_sha256 = pretrained.files_sha256(folder)
    model = other_models.load_model(folder, family, training, task.architecture, processor, labels)
    if training is None and FAMILIES[family].answers == "head":
        other_models.refuse_strange(folder, labels, data, split)
    return Loaded(
        request,
        folder,
        training,
        described,
        task,
        data,
        model.to(accelerator.device),
        processor,
        labels,
        sha256,
        files_sha256,
        precision,
    )


def training_data(loaded: Loaded) -> dict[str, str]:
    """Return the data that a checkpoint was trained on; empty if they may be taken for these."""
    if loaded.training is None:
        return {}
    unknown = {} if loaded.labels == loaded.data.labels else {"source": NOT_KNOWN}
    return trained_on(loaded.folder, loaded.training) or unknown


def predict_split(loaded: Loaded, task: Task, accelerator: Accelerator) -> list[Prediction]:
    """Predict the split with a loaded checkpoint.

    Args:
        task: the checkpoint's, or its `for_submission`.

    Raises:
        RunFailed: logits or weights are not finite.
    """
    set_tf32(loaded.training is not None and loaded.training.progress.tf32)
    note = "" if isinstance(loaded.processor, Asking) else choose(loaded.data, loaded.processor)[1]
    if note and accelerator.is_main_process:
        print(f"pixels: {note}", file=sys.stderr)
    try:
        predictions = task.predict(
            Inference(
                loaded.model,
                loaded.data,
                loaded.request.split,
                loaded.processor,
                loaded.labels,
                loaded.described.input_settings,
                accelerator,
                loaded.request.batch_size,
                loaded.request.num_workers,
                autocast=partial(autocast, accelerator.device, loaded.precision),
            )
        )
    except RunFailed as error:
        if names := pretrained.not_finite(loaded.model.named_parameters()):
            raise RunFailed(f"{error}; weights that are not finite: {few(names)}") from error
        raise
    # tanh hides an infinite weight: the logits were finite.
    if names := pretrained.not_finite(loaded.model.named_parameters()):
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
    request: Request, output: Path, *, accelerator: Accelerator, other: Path | None = None
) -> tuple[int, str]:
    """Write the predictions for a split, with labels or without, in the official format.

    Args:
        other: the checkpoint of the other task that the official file needs, as VCR's does.

    Returns:
        The number of examples predicted, and the source of the data.
    """
    first = load(request, accelerator, labelled=False)
    loaded = [first]
    if other is not None:
        # A model that answers in words has no task of its own; other checkpoints name theirs.
        task = first.task.submitted_with if isinstance(first.processor, Asking) else None
        second = replace(request, checkpoint=other, asked=replace(request.asked, task=task))
        loaded.append(load(second, accelerator, labelled=False))
    check_whole(first.data, request.split)
    check_complete([one.task for one in loaded], request.checkpoint)
    tasks = [one.task.for_submission() for one in loaded]
    predicted = [
        predict_split(one, task, accelerator) for one, task in zip(loaded, tasks, strict=True)
    ]
    whole = [reduce(Prediction.with_values_of, same) for same in zip(*predicted, strict=True)]
    text = first.task.submission(whole, first.data.questions(request.split))
    if accelerator.is_main_process:
        atomic.write_text(output, text)
    return len(whole), first.data.manifest.source


def check_complete(tasks: list[Task], folder: Path) -> None:
    """Refuse other tasks than those that one official file is made of."""
    wanted = tasks[0].submitted_with
    if wanted is None and len(tasks) > 1:
        raise RequestError(f"{folder}: {tasks[0].name} needs no other checkpoint; leave --with out")
    if wanted is not None and [task.name for task in tasks[1:]] != [wanted]:
        given = f", not one of {tasks[1].name}" if len(tasks) > 1 else ""
        raise RequestError(
            f"{folder}: the official file of {tasks[0].name} needs --with RUN, a run of "
            f"{wanted}{given}"
        )


def evaluate_checkpoint(request: Request, output: Path, *, accelerator: Accelerator) -> Record:
    """Score a checkpoint on a split with labels.

    Writes the record to `output`, and the predictions to `predictions_file` of it.
    """
    started = time.monotonic()
    loaded = load(request, accelerator, labelled=True)
    task, split = loaded.task, request.split
    if loaded.training is None:
        refuse_another(output, loaded)
    predictions = predict_split(loaded, task, accelerator)
    scores = task.score(predictions, loaded.data.questions(split))
    ids = [one.id for one in predictions]
    words = other_models.counted_words(predictions)
    loaded = replace(loaded, described=loaded.described.with_facts(words))
    record = record_of(loaded, scores, ids, accelerator=accelerator, started=started)
    if accelerator.is_main_process:
        run = evaluation_folder(request.checkpoint)
        write_predictions(predictions_file(output, run, task.name, split), predictions)
        atomic.write_json(output, record.model_dump(mode="json"))
    return record


def was_seen(
    data: dict[str, str], split: str, trained: dict[str, str], training_splits: list[str]
) -> bool | None:
    """Return whether the model may have been trained on pictures of the split, by their names.

    None: it is not known which pictures they are.
    """
    if trained and trained["source"] == data["source"] and not same_dataset(trained, data):
        return False  # both are users' own data, whose splits have the same names
    source = trained.get("source", data["source"])
    return seen(data["source"], split, source, training_splits)


def refuse_another(record: Path, loaded: Loaded) -> None:
    """Refuse to replace the record of another evaluation of a checkpoint from elsewhere.

    Only the same files, data, settings and precision may be evaluated again. Otherwise the first
    score would be overwritten silently.

    Raises:
        RequestError: names the first difference.
    """
    if (there := to_be_replaced(record)) is None:
        return
    model = there.model
    if model.get("checkpoint_sha256") != loaded.sha256:
        other = "not of this checkpoint"
    elif model.get("files_sha256", loaded.files_sha256) != loaded.files_sha256:
        other = "of other files beside the weights"
    elif there.data.get("manifest_hash", loaded.data.manifest.hash) != loaded.data.manifest.hash:
        other = f"of other data than {loaded.request.data_root}"
    else:
        ours = loaded.described.training_splits
        facts = {**loaded.described.model, **loaded.processor.facts}
        pairs = {
            "split": (there.split, loaded.request.split),
            "precision": (there.precision, loaded.precision),
            **{key: (model.get(key), facts[key]) for key in COMPARED if key in facts},
        }
        if (
            there.training_splits
        ):  # a record that did not know them may be replaced by one that does
            splits = ("+".join(there.training_splits), "+".join(ours) or "left out")
            pairs["--trained-on"] = splits
        differing = [name for name, (old, new) in pairs.items() if old not in (None, new)]
        if not differing:
            return
        old, new = pairs[differing[0]]
        other = f"of another {differing[0]} ({old}, not {new})"
    raise RequestError(f"{record}: exists already and is {other}; name another file with --output")


def seen_by_training(
    loaded: Loaded, data: dict[str, str], trained: dict[str, str], accelerator: Accelerator
) -> bool | None:
    """Return whether the training has seen pictures of the split, by bytes or names; None: unknown.

    Args:
        data, trained: the scored data and those of the training, as the record names them.
    """
    split, splits = loaded.request.split, loaded.described.training_splits
    shared = copies(loaded.folder, trained, splits, loaded.data, split)
    say_copies(shared, f"{split} of {loaded.request.data_root}", accelerator)
    if shared == 0:
        return was_seen(data, split, trained, splits)
    return None if shared is None else True


def record_of(
    loaded: Loaded, scores: Scores, ids: Iterable[Id], *, accelerator: Accelerator, started: float
) -> Record:
    """Return the record of scores.

    Facts about the training come from the checkpoint, the rest from this process.

    Args:
        started: of the evaluation, by the monotonic clock.
    """
    training, described, task = loaded.training, loaded.described, loaded.task
    split, manifest = loaded.request.split, loaded.data.manifest
    more = {"targets": manifest.targets, "metric": manifest.metric}
    data = manifest.identity | {key: value for key, value in more.items() if value is not None}
    trained = training_data(loaded)
    before = training.pretraining if training else []
    contaminated = seen_by_training(loaded, data, trained, accelerator)
    return Record(
        kind="elsewhere" if training is None else "run",
        schema_version=SCHEMA_VERSION,
        task=task.name,
        task_version=task.version,
        split=split,
        n=scores.n,
        ids_sha256=ids_digest(ids),
        metrics=scores.metrics,
        primary_metric=task.primary_metric,
        per_answer_type=scores.per_answer_type,
        per_question_type=scores.per_question_type,
        breakdown=scores.breakdown,
        recipe=training.recipe if training else {},
        expect=training.expect if training else None,
        seed=training.seed if training else None,
        training=training.progress.model_dump(exclude_unset=True) if training else {},
        training_splits=described.training_splits,
        training_data=trained,
        mixed=without_folders(training.mixed) if training else [],
        contaminated=either([contaminated, seen_before(training, loaded.data, split, accelerator)]),
        pretraining=for_record(before),
        model={
            **described.model,
            "parameters": sum(p.numel() for p in loaded.model.parameters()),
            "checkpoint_sha256": loaded.sha256,
            "files_sha256": loaded.files_sha256,
            "class": type(loaded.model).__name__,
            **loaded.processor.facts,
        },
        data=data,
        precision=loaded.precision,
        code=code_version(),
        libraries=library_versions(),
        command=" ".join(["vle-bench", *sys.argv[1:]]),
        device=device_name(accelerator),
        processes=accelerator.num_processes,
        batch_size=loaded.request.batch_size,
        seconds=round(time.monotonic() - started, 2),
    )
