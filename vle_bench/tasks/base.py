"""What the loop and the evaluation ask of a task."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vle_bench.data.prepared import PreparedData as Data

Row = dict[str, Any]  # one prediction, keyed by "id"
Scores = dict[str, Any]


class Task(Protocol):
    """A task knows its data and its metric; it knows nothing of loops, devices or recipes.

    `version` grows when a change of the task changes its scores; results of two versions are never compared.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def primary_metric(self) -> str: ...
    @property
    def architecture(self) -> str:
        """Class in `vle_bench.models`."""
        ...

    @property
    def num_token_types(self) -> int | None:
        """Rows that the fusion's type table of a checkpoint is grown to; None: as it is."""
        ...

    @property
    def submitted_with(self) -> str | None:
        """The task whose predictions the official file needs beside this one's; None: none."""
        ...

    def open(self, root: Path) -> Data:
        """The prepared folder; a RequestError if it is none, or of another kind of data."""
        ...

    def check(self, data: Data, split: str, inputs: dict[str, Any]) -> None:
        """A RequestError for what a model with these `inputs` cannot read, before the first step."""
        ...

    def inputs(self, model: dict[str, Any], num_token_types: int) -> dict[str, Any]:
        """The recipe's group `model` → how texts and objects are turned into tensors; saved with every checkpoint."""
        ...

    def tokenizer(self, data: Data, split: str, vocab_size: int) -> Any:
        """A tokenizer trained on the texts of a split, for a model from scratch."""
        ...

    def training_order(
        self, questions: Any, seed: int, epoch: int, per_image: int
    ) -> NDArray[np.int64]:
        """Every example that teaches something, once, in this epoch's order; at most `per_image` of one image side by side."""
        ...

    def evaluation_batches(
        self, questions: Any, batch_size: int, submission: bool = False
    ) -> list[NDArray[np.int64]]:
        """Every example once, in batches of about `batch_size` texts that encode each image once."""
        ...

    def augmentation(self, settings: dict[str, Any], seed: int, epoch: int) -> Any:
        """What happens to the examples in one epoch of training, for `collator`; or None.

        Args:
            settings: the recipe's group `augment`, and `one_a_question`: whether questions of an image see views
                of their own.
        """
        ...

    def collator(
        self,
        questions: Any,
        images: Any,
        processor: Any,
        labels: list[str],
        inputs: dict[str, Any],
        augment: Any = None,
        submission: bool = False,
    ) -> Callable[[Any], dict[str, Any]]:
        """Indices of a micro-batch → {"ids": ids, "inputs": the model's tensors}.

        Args:
            submission: predict what the official file asks for, which may be more than a score needs.
        """
        ...

    def predictions(self, logits: torch.Tensor, ids: list[Any], labels: list[str]) -> list[Row]:
        """One row an example."""
        ...

    def submission(self, rows: list[Row], questions: Any) -> str:
        """Rows of every example of a split → the file that the official server takes; checks the ids."""
        ...

    def score(self, rows: list[Row], questions: Any) -> Scores:
        """Rows of every example of a split → {"n", "metrics": {name: {"value", "interval"}}, "breakdown"}; checks the ids.

        Also `per_example`, id → score in the order of the questions, whose mean is the primary metric, and in the same order
        `kinds`, what the breakdown groups the questions by: kind → the group of each.
        """
        ...
