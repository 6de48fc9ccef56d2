"""Questions in words, for models that make their input themselves; and answers in words."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vle_bench.data.collate import Batch, decoded
from vle_bench.json_files import JsonObject

if TYPE_CHECKING:
    from datasets import Dataset


class Questions(NamedTuple):
    """A batch of B questions in words.

    Args:
        ids: of the questions.
        texts: the questions; several for each id where a question is asked after several answers.
        choices: each question's own choices; None: any answer.
    """

    ids: list[int | str]
    texts: list[str]
    choices: list[list[str]] | None


@runtime_checkable
class Asking(Protocol):
    """The processor of a model that makes its input itself. A value: workers get a copy."""

    @property
    def facts(self) -> JsonObject:
        """Return the facts that decide the input, for the record: protocol, prompt and others."""
        ...

    def ask(
        self, pictures: list[Image.Image], image_index: NDArray[np.int64], questions: Questions
    ) -> dict[str, Tensor]:
        """Return the tensors of a batch of B questions, which the model takes by name.

        Args:
            pictures: N upright RGB pictures, each once.
            image_index: (B,) the picture of each question.
        """
        ...


@dataclass(frozen=True)
class Words:
    """Answers in words: the output of a model that has no logits for each answer.

    Args:
        rows: for each question `answer`, `score` in 0..1, `text`, what the model wrote, `cut`, if
            it was ended by the limit of tokens, and whatever else is to be kept.
        finite: for each question, whether the logits that decided were numbers.
    """

    rows: list[JsonObject]
    finite: list[bool]


@dataclass(frozen=True)
class AskingCollator:
    """Collate questions for a model that makes its input itself; each picture is decoded once.

    Args:
        questions, images: the tables of a prepared folder.
        asked: rows of `questions` → the questions in words.
    """

    questions: "Dataset"
    images: "Dataset"
    processor: Asking
    asked: Callable[[JsonObject], Questions]

    def __call__(self, indices: NDArray[np.int64]) -> Batch:
        """Return {"ids": ids, "inputs": the model's tensors} of the questions (B,)."""
        rows = self.questions[indices.tolist()]
        image_rows, image_index = np.unique(np.asarray(rows["image_row"]), return_inverse=True)
        questions = self.asked(rows)
        image_index = image_index.repeat(len(questions.texts) // len(questions.ids))
        pictures = decoded(self.images[image_rows.tolist()])
        return {
            "ids": questions.ids,
            "inputs": self.processor.ask(pictures, image_index, questions),
        }
