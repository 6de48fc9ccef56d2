"""The task protocol, and the loop in which most tasks predict a split."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase
from transformers import ProcessorMixin as Processor

from vle_bench.data.asking import Asking, AskingCollator, Questions, Words
from vle_bench.data.collate import Batch
from vle_bench.data.loader import load_batches
from vle_bench.data.pixels import PixelStore, choose
from vle_bench.data.prepared import PreparedData as Data
from vle_bench.errors import RunFailed, first_of
from vle_bench.json_files import JsonObject
from vle_bench.progress import Bar
from vle_bench.tasks.predictions import Id, Prediction, Scores

Settings = JsonObject  # a group of a recipe, or `Task.input_settings`
Collate = Callable[[NDArray[np.int64]], Batch]


class Scored(Protocol):
    """The output of a model that has logits."""

    logits: torch.Tensor


@dataclass(frozen=True)
class Reading:
    """The examples of a split, and how a model reads them.

    Args:
        questions, images: tables of a prepared folder.
        input_settings: see `Task.input_settings`.
        labels: the answers by class, for the targets of VQA; empty: none, to predict.
        pixels: holds the pictures as the processor would make them; None: they are decoded.
    """

    questions: Dataset
    images: Dataset
    processor: Processor
    input_settings: Settings
    labels: list[str] = field(default_factory=list)
    pixels: PixelStore | None = None


@dataclass(frozen=True)
class Inference:
    """A model, the split that it predicts, and how.

    Args:
        labels: the model's answers by class; empty for a task without classes.
        input_settings: see `Task.input_settings`.
        num_workers: processes that load pictures; 0: the main process loads them.
        autocast: the context that the model computes in; the accelerator's own if not given.
    """

    model: torch.nn.Module
    data: Data
    split: str
    processor: Processor
    labels: list[str]
    input_settings: Settings
    accelerator: Accelerator
    batch_size: int
    num_workers: int = 0
    autocast: Callable[[], AbstractContextManager[object]] | None = None


class Task(Protocol):
    """A task knows its data and its metric. It knows nothing of loops, devices or recipes.

    `version` grows when a change of the task changes its scores: results of two versions are
    never compared.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def primary_metric(self) -> str: ...
    @property
    def architecture(self) -> str:
        """Name of the class in `vle_bench.models`."""
        ...

    @property
    def num_token_types(self) -> int | None:
        """Rows that the fusion's type table of a checkpoint is grown to. None: unchanged."""
        ...

    @property
    def submitted_with(self) -> str | None:
        """The other task whose predictions the official file needs. None: no other."""
        ...

    def open(self, root: Path) -> Data:
        """Open a prepared folder; raises RequestError for one of another kind of data."""
        ...

    def for_data(self, data: Data) -> "Task":
        """Return the task that scores with the metric that these data ask for."""
        ...

    def for_inputs(self, input_settings: Settings) -> "Task":
        """Return the task that reads the logits of a model with these `input_settings`."""
        ...

    def check(self, data: Data, split: str, input_settings: Settings) -> None:
        """Check before training that the model can represent every example of the split.

        Raises:
            RequestError: an example that does not fit.
        """
        ...

    def input_settings(self, model: Settings, num_token_types: int) -> Settings:
        """Return how texts and objects become tensors: `inputs` in a checkpoint's training.json.

        Args:
            model: the recipe's group `model`.
            num_token_types: rows of the model's type table.
        """
        ...

    def tokenizer(self, data: Data, split: str, vocab_size: int) -> PreTrainedTokenizerBase:
        """Train a tokenizer on the texts of a split, for a model from scratch."""
        ...

    def training_order(
        self, questions: Dataset, seed: int, epoch: int, per_image: int
    ) -> NDArray[np.int64]:
        """Return the order of an epoch: every example that teaches something, once.

        Args:
            per_image: how many examples of one image at most stand side by side.
        """
        ...

    def evaluation_batches(self, questions: Dataset, batch_size: int) -> list[NDArray[np.int64]]:
        """Split every example into batches of about `batch_size` texts, each image in one only."""
        ...

    def augmentation(self, settings: Settings, seed: int, epoch: int) -> object | None:
        """Return the augmentation of one epoch of training for `collator`, or None.

        Args:
            settings: the recipe's group `augment`, and `one_a_question`: whether each question of
                an image sees a view of its own.
        """
        ...

    def asked(self, rows: JsonObject) -> Questions:
        """Put rows of the questions into words, for a model that makes its input itself.

        Args:
            rows: columns of the questions' table.

        Raises:
            RequestError: the task cannot be asked in words.
        """
        ...

    def collator(self, reading: Reading, augment: Any = None) -> Collate:
        """Return the function from indices of a micro-batch to its tensors.

        Args:
            augment: see `augmentation`; None to evaluate.
        """
        ...

    def predictions(
        self, logits: torch.Tensor, ids: Sequence[Id], labels: list[str]
    ) -> list[Prediction]:
        """Turn the logits of a batch into one prediction for each example."""
        ...

    def predict(self, inference: Inference) -> list[Prediction]:
        """Predict every example of a split; see `predict_in_batches`, which most tasks use."""
        ...

    def for_submission(self) -> "Task":
        """Return the task that predicts everything that the official file asks for.

        Raises:
            RequestError: there is no official file.
        """
        ...

    def submission(self, predictions: list[Prediction], questions: Dataset) -> str:
        """Write the content of the official file.

        Raises:
            RunFailed: the predictions are not one for each question.
        """
        ...

    def wrong(self, prediction: Prediction) -> str | None:
        """Say what is wrong with the values of a prediction that was read from a file."""
        ...

    def score(self, predictions: list[Prediction], questions: Dataset) -> Scores:
        """Score the predictions of every example of a split; the ids must be the questions'."""
        ...


# not inference_mode: FSDP2 would keep the weights that it gathers as tensors that no later step
# may train with
@torch.no_grad()
def predict_in_batches(task: Task, inference: Inference) -> list[Prediction]:
    """Predict every example of a split, one forward pass a batch.

    Returns:
        The predictions of all processes, ordered by id, the same on every process.

    Raises:
        RunFailed: examples whose logits are not finite, with their number and the first ids.
    """
    model, accelerator, data = inference.model, inference.accelerator, inference.data
    split = inference.split
    questions = data.questions(split)
    all_batches = task.evaluation_batches(questions, inference.batch_size)
    own = all_batches[accelerator.process_index :: accelerator.num_processes]
    # Every process makes as many passes: sharded weights are gathered from all of them in each.
    passes = math.ceil(len(all_batches) / accelerator.num_processes)
    batches = own + all_batches[:1] * (passes - len(own))
    collate = collator_of(task, inference, questions)
    predictions: list[Prediction] = []
    broken: list[Id] = []  # examples with a logit that is NaN or infinite
    was_training = model.training
    model.eval()
    pinned = accelerator.device.type == "cuda"
    loader = load_batches(batches, collate, inference.num_workers, pinned=pinned)
    context = inference.autocast or accelerator.autocast
    # Autocast forgets the 16-bit copies of the weights where its outermost context ends. One around
    # all batches copies each weight once. FSDP2 must not keep copies of gathered weights.
    outermost = nullcontext() if accelerator.is_fsdp2 else context()
    bar = Bar(f"predict {split}", len(batches), enabled=accelerator.is_main_process)
    with outermost, bar:
        for number, batch in enumerate(loader):
            with context():
                output = output_of(model, batch, accelerator.device)
            if number < len(own):
                rows, finite = answers_of(task, output, batch["ids"], inference.labels)
                predictions += rows
                broken += [i for i, sound in zip(batch["ids"], finite, strict=True) if not sound]
            bar.advance()
    model.train(was_training)
    gathered = sorted(gather_object(predictions), key=lambda one: one.id)
    refuse_broken(split, sorted(gather_object(broken)), len(gathered))
    if len({one.id for one in gathered}) != len(gathered):
        raise RunFailed(f"{split}: an example was predicted twice")
    return gathered


def collator_of(task: Task, inference: Inference, questions: Dataset) -> Collate:
    """Return the collator of questions without labels: the task's, or the model's own."""
    processor, images = inference.processor, inference.data.images
    if isinstance(processor, Asking):
        return AskingCollator(questions, images, processor, task.asked)
    pixels, _ = choose(inference.data, processor)
    settings = inference.input_settings
    return task.collator(Reading(questions, images, processor, settings, pixels=pixels))


def output_of(model: torch.nn.Module, batch: Batch, device: torch.device) -> Words | Scored:
    """Run the model on a collated batch without its labels."""
    tensors = {
        name: value.to(device, non_blocking=True)
        for name, value in batch["inputs"].items()
        if name != "labels"
    }
    output: Words | Scored = model(**tensors)
    return output


def answers_of(
    task: Task, output: Words | Scored, ids: Sequence[Id], labels: list[str]
) -> tuple[list[Prediction], list[bool]]:
    """Read a prediction for each example, and whether its logits are finite."""
    if isinstance(output, Words):
        rows = zip(ids, output.rows, strict=True)
        return [Prediction(i, row) for i, row in rows], output.finite
    # The texts of one example stand side by side, see `Questions`.
    logits = output.logits.reshape(len(ids), -1)
    finite: list[bool] = logits.isfinite().flatten(1).all(1).tolist()
    return task.predictions(logits, ids, labels), finite


def refuse_broken(split: str, ids: Sequence[Id], examples: int) -> None:
    """Stop if logits are not finite: any answer that is read from them would be made up."""
    if ids:
        raise RunFailed(
            f"{split}: the logits of {len(ids):,} of {examples:,} examples are not finite (NaN or "
            f"infinite): {first_of(ids)}; nothing was scored or written; the weights are damaged, "
            "or overflow in 16 bits and not in fp32"
        )
