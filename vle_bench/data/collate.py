"""Collate rows of prepared data to a batch of tensors that holds each image once."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import BatchFeature, ProcessorMixin

from vle_bench.data.augment import Views
from vle_bench.data.images import decode
from vle_bench.data.official.vcr import CHOICES
from vle_bench.data.pixels import PixelStore, Transformed
from vle_bench.data.tagged_text import record_of
from vle_bench.data.vcr_text import Encoding, WordIds, encode_record, pad_choices
from vle_bench.json_files import JsonObject

if TYPE_CHECKING:
    # The GPU check runs where this library is missing.
    from datasets import Dataset


# The logit of a choice that a question does not have. Its softmax is exactly 0. It is finite, since
# infinite logits are the mark of damaged weights.
NO_CHOICE = torch.finfo(torch.float32).min
# Tokens. A power of two keeps the number of different shapes of a compiled model small.
TEXT_MULTIPLE = 16


class Batch(TypedDict):
    """The ids of the examples, and the model's tensors by name."""

    ids: list[int | str]
    inputs: dict[str, torch.Tensor]


@dataclass(frozen=True)
class QuestionCollator:
    """Collate questions; an image that several of them share is decoded and encoded once.

    Args:
        questions, images: the tables of a prepared folder.
        processor: text and pictures → tensors.
        num_labels: width of the soft targets; 0: none, to predict.
        augment: changes training pictures; None for evaluation. With one view a question, no
            picture is shared.
        pixels: holds the pictures as the processor would make them; None: they are decoded.
    """

    questions: "Dataset"
    images: "Dataset"
    processor: ProcessorMixin
    num_labels: int
    max_text_length: int
    augment: Views | None = None
    pixels: PixelStore | None = None

    def __call__(self, indices: NDArray[np.int64]) -> Batch:
        """Return {"ids": question ids, "inputs": the model's tensors} of the questions (B,).

        `inputs` has `labels` (B, num_labels) unless num_labels is 0.
        """
        rows = self.questions[indices.tolist()]
        images, image_index = self.pictures_of(rows)
        inputs = dict(
            self.processor(images=images, text=rows["question"], max_length=self.max_text_length)
        )
        inputs["image_index"] = torch.from_numpy(image_index)
        if not self.num_labels:
            return {"ids": rows["question_id"], "inputs": inputs}
        inputs["labels"] = torch.zeros(len(indices), self.num_labels)
        # A split to predict has no labels.
        columns = [labels or [] for labels in rows["label_ids"]]
        scores = chain.from_iterable(values or [] for values in rows["label_scores"])
        row = np.repeat(np.arange(len(columns)), [len(labels) for labels in columns])
        column = np.fromiter(chain.from_iterable(columns), np.int64)
        inputs["labels"][row, column] = torch.tensor(list(scores), dtype=torch.float32)
        return {"ids": rows["question_id"], "inputs": inputs}

    def pictures_of(
        self, rows: JsonObject
    ) -> tuple[list[Image.Image] | Transformed, NDArray[np.int64]]:
        """Return the N pictures of questions (B,), and the place of each question's among them."""
        image_rows, image_index = np.unique(np.asarray(rows["image_row"]), return_inverse=True)
        if self.augment is None:
            return self._images(image_rows), image_index
        ids = list(zip(rows["image_id"], rows["question_id"], strict=True))
        if self.augment.one_a_question:
            return self._views(image_rows[image_index], ids), np.arange(len(ids))
        # One view for all questions of an image, whose id is any of theirs.
        id_of = dict(zip(image_index.tolist(), rows["image_id"], strict=True))
        return self._views(image_rows, [(id_of[i],) for i in range(len(image_rows))]), image_index

    def _images(self, rows: NDArray[np.int64]) -> list[Image.Image] | Transformed:
        """Return the pictures of rows (N,) of `images`, in the form that costs least."""
        return self.pixels.read(rows) if self.pixels else decoded(self.images[rows.tolist()])

    def _views(
        self, rows: NDArray[np.int64], ids: Sequence[tuple[int, ...]]
    ) -> list[Image.Image] | Transformed:
        """Return augmented views of rows (N,) of `images`; ids: (N,) what each view is drawn by."""
        assert self.augment is not None
        if self.pixels is not None and self.augment.change.randaugment is None:
            views = [
                self.augment.of_pixels(pixels, *own)
                for pixels, own in zip(self.pixels.decoded(rows), ids, strict=True)
            ]
            return Transformed.of_views(views)
        different, places = np.unique(rows, return_inverse=True)
        pictures = (
            decoded(self.images[different.tolist()])
            if self.pixels is None
            else self.pixels.pictures(different)
        )
        return [self.augment(pictures[i], *own) for i, own in zip(places, ids, strict=True)]


@dataclass(frozen=True)
class QuestionChoiceCollator(QuestionCollator):
    """Collate multiple-choice questions, each choice as a text pair with its question.

    `num_labels` has no meaning: the labels are indices.
    """

    def __call__(self, indices: NDArray[np.int64]) -> Batch:
        """Return {"ids": question ids, "inputs": the model's tensors} of the questions (B,).

        `inputs` has the R choices of all questions side by side, however many each has: input_ids
        and attention_mask (R, T), image_index (R,), and where they are (see `places_of`); `labels`
        (B,) if every question has one.
        """
        rows = self.questions[indices.tolist()]
        images, image_index = self.pictures_of(rows)
        inputs = self.tokens(rows["question"], rows["choices"])
        inputs["pixel_values"] = self.processor(images=images)["pixel_values"]
        return self.batch(rows, inputs, image_index)

    def batch(
        self, rows: JsonObject, inputs: dict[str, torch.Tensor], image_index: NDArray[np.int64]
    ) -> Batch:
        """Add to the tensors of the choices which picture, question and label each belongs to."""
        inputs |= places_of([len(choices) for choices in rows["choices"]], image_index)
        if all(label is not None for label in rows["right_choice"]):
            inputs["labels"] = torch.tensor(rows["right_choice"])
        return {"ids": rows["question_id"], "inputs": inputs}

    def tokens(self, questions: list[str], choices: list[list[str]]) -> dict[str, torch.Tensor]:
        """Encode each choice as a pair with its question; the longer text of the two is cut."""
        pairs = [(q, choice) for q, own in zip(questions, choices, strict=True) for choice in own]
        encoded = self.processor.tokenizer(
            [question for question, _ in pairs],
            [choice for _, choice in pairs],
            padding=True,
            padding_side="right",
            truncation="longest_first",
            max_length=self.max_text_length,
            return_tensors="pt",
            return_token_type_ids=False,
        )
        return dict(encoded)


def places_of(counts: Sequence[int], image_index: NDArray[np.int64]) -> dict[str, torch.Tensor]:
    """Map the choices of each of B questions to R texts.

    No text stands for a choice that a question does not have: it would cost as much as another.

    Args:
        counts: (B,) choices of each question; the texts are in their order.
        image_index: (B,) picture of each question.

    Returns:
        `text_index` (B, C) for the most choices C of a question: the text of each choice, 0 where
        there is none; `choice_mask` (B, C) bool: there is one; `image_index` (R,).
    """
    each = np.asarray(counts)
    places = np.arange(each.max())
    mask = places < each[:, None]
    texts = np.where(mask, (np.cumsum(each) - each)[:, None] + places, 0)
    return {
        "text_index": torch.from_numpy(texts),
        "choice_mask": torch.from_numpy(mask),
        "image_index": torch.from_numpy(np.repeat(image_index, each)),
    }


def decoded(rows: JsonObject) -> list[Image.Image]:
    """Decode rows of an images table."""
    files = zip(rows["bytes"], rows["file_name"], strict=True)
    return [decode(content, name) for content, name in files]


@dataclass(frozen=True)
class TaggedChoiceCollator(QuestionChoiceCollator):
    """Collate multiple-choice questions that tag objects with boxes, each question its own.

    Args:
        alignment: False: no object tokens, and types 0 for all words.
        known: the words that were tokenised before, with their ids.
    """

    alignment: bool = True
    known: WordIds = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, indices: NDArray[np.int64]) -> Batch:
        """Return the tensors of `QuestionChoiceCollator`, and those of types and objects.

        Those are token_type_ids (R, T), object_patch_mask (R, K, P) bool, object_token_type_ids and
        object_mask (R, K); see `pad_choices`.
        """
        rows = self.questions[indices.tolist()]
        images, image_index = self.pictures_of(rows)
        pixels, patches = self.patches_of(images, image_index, rows["boxes"])
        encoded = [
            self.encode({name: column[place] for name, column in rows.items()})
            for place in range(len(indices))
        ]
        texts = [[choice] for choices in encoded for choice in choices]
        masks = [mask for mask, own in zip(patches, encoded, strict=True) for _ in own]
        padded = pad_choices(texts, masks, self.processor.tokenizer.pad_token_id)  # (R, 1, ...)
        inputs = {name: torch.from_numpy(value[:, 0]) for name, value in padded.items()}
        inputs["pixel_values"] = pixels
        return self.batch(rows, inputs, image_index)

    def patches_of(
        self,
        images: list[Image.Image] | Transformed,
        image_index: NDArray[np.int64],
        boxes: list[list[list[float]]],
    ) -> tuple[torch.Tensor, list[NDArray[np.bool_]]]:
        """Return pixel_values of N pictures, and the patches (K, P) of each question's K objects.

        Args:
            image_index: (B,) the picture of each question.
            boxes: of each question.
        """
        of_images: list[list[list[float]]] = [[] for _ in range(image_index.max() + 1)]
        starts = []
        for image, own in zip(image_index, boxes, strict=True):
            starts.append(len(of_images[image]))
            of_images[image] += own
        arrays = [np.array(own, dtype=np.float64).reshape(-1, 4) for own in of_images]
        features = self.processor(images=images, boxes=arrays)
        masks = features["object_patch_mask"].numpy()
        return features["pixel_values"], [
            masks[image, start : start + len(own)]
            for image, start, own in zip(image_index, starts, boxes, strict=True)
        ]

    def encode(self, row: JsonObject) -> list[Encoding]:
        """Encode the choices of a question as those of VCR's, see `encode_record`."""
        tokenizer, length = self.processor.tokenizer, self.max_text_length
        encoded = encode_record(record_of(row), tokenizer, "q2a", length, known=self.known)
        return encoded if self.alignment else list(map(without_objects, encoded))


def without_objects(choice: Encoding) -> Encoding:
    """Return a choice without object tokens, and with types 0 for all words."""
    types = [0] * len(choice["input_ids"])
    return {**choice, "objects": [], "object_token_type_ids": [], "token_type_ids": types}


Part = Literal["q2a", "qa2r", "qa2r, every answer"]
WIDTH: dict[Part, int] = {"q2a": CHOICES, "qa2r": CHOICES, "qa2r, every answer": CHOICES * CHOICES}


@dataclass(frozen=True)
class ChoiceCollator:
    """Collate VCR records: the choices of each part one after the other, and each picture once.

    Args:
        questions, images: the tables of a prepared folder.
        processor: pictures and boxes → tensors.
        parts: `q2a`, the answers; `qa2r`, the rationales after the right answer; `qa2r, every
            answer`, the rationales after each of the four answers.
        alignment: False: no object tokens, and types 0 for all words.
        pixels: holds the pictures as the processor would make them; None: they are decoded.
        known: the words that were tokenised before, with their ids.
    """

    questions: "Dataset"
    images: "Dataset"
    processor: ProcessorMixin
    parts: tuple[Part, ...]
    max_text_length: int
    alignment: bool
    pixels: PixelStore | None = None
    known: WordIds = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, indices: NDArray[np.int64]) -> Batch:
        """Return {"ids": annot_ids, "inputs": tensors of the model} of the records `indices` (B,).

        `inputs` has `labels` if the split has them: (B,) for one part and (B, parts) for several.
        """
        rows = self.questions[indices.tolist()]
        records = [json.loads(record) for record in rows["record"]]
        pictures, image_index = np.unique(rows["image_row"], return_inverse=True)
        features = self.pictures(pictures)
        masks, counts = (
            features["object_patch_mask"].numpy(),
            features["object_mask"].sum(1).numpy(),
        )
        patches = [masks[i, : counts[i]] for i in image_index]
        batch = pad_choices(
            [self.encode(r) for r in records], patches, self.processor.tokenizer.pad_token_id
        )
        inputs = {name: torch.from_numpy(value) for name, value in batch.items()}
        inputs |= {
            "pixel_values": features["pixel_values"],
            "image_index": torch.from_numpy(image_index),
        }
        if (labels := self._labels(rows)) is not None:
            inputs["labels"] = labels
        return {"ids": rows["annot_id"], "inputs": inputs}

    def pictures(self, chosen: NDArray[np.int64]) -> BatchFeature:
        """Return pixel_values, object_patch_mask and object_mask of rows (N,) of `images`."""
        if self.pixels is not None:
            rows = self._boxes[chosen.tolist()]
            images: list[Image.Image] | Transformed = self.pixels.read(chosen)
        else:
            rows = self.images[chosen.tolist()]
            images = decoded(rows)
        boxes = [np.array(b, dtype=np.float64).reshape(-1, 4) for b in rows["boxes"]]
        features: BatchFeature = self.processor(images=images, boxes=boxes)
        return features

    @cached_property
    def _boxes(self) -> "Dataset":
        """The images table without the files, which need not be read beside a pixel store."""
        return self.images.select_columns(["boxes"])

    def encode(self, record: JsonObject) -> list[Encoding]:
        """Encode the choices of each part, one part after the other, see `encode_record`."""
        choices: list[Encoding] = []
        for part in self.parts:
            task: Literal["q2a", "qa2r"] = "q2a" if part == "q2a" else "qa2r"
            for answer in range(CHOICES) if part == "qa2r, every answer" else [None]:
                choices += encode_record(
                    record,
                    self.processor.tokenizer,
                    task,
                    self.max_text_length,
                    answer,
                    self.known,
                )
        return choices if self.alignment else list(map(without_objects, choices))

    def _labels(self, rows: JsonObject) -> torch.Tensor | None:
        columns = {"q2a": rows["answer_label"], "qa2r": rows["rationale_label"]}
        labels_of_parts = [columns[part] for part in self.parts if part in columns]
        if len(labels_of_parts) != len(self.parts) or any(
            label is None for column in labels_of_parts for label in column
        ):
            return None
        labels = torch.tensor(labels_of_parts).T
        return labels[:, 0].contiguous() if len(labels_of_parts) == 1 else labels.contiguous()


def padded_text(
    inputs: dict[str, torch.Tensor], longest: int, pad_token_id: int
) -> dict[str, torch.Tensor]:
    """Pad texts (..., T) to a multiple of `TEXT_MULTIPLE` tokens, but to no more than `longest`."""
    length = inputs["input_ids"].shape[-1]
    target = min(math.ceil(length / TEXT_MULTIPLE) * TEXT_MULTIPLE, longest)
    missing = max(length, target) - length
    fill = {"input_ids": pad_token_id, "mlm_input_ids": pad_token_id}
    fill |= {"attention_mask": 0, "token_type_ids": 0}
    return inputs | {
        name: torch.nn.functional.pad(inputs[name], (0, missing), value=value)
        for name, value in fill.items()
        if name in inputs
    }
