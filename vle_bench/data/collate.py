"""Rows of prepared data → one batch of tensors, each image in it once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from vle_bench.data.images import decode


@dataclass(frozen=True)
class QuestionCollator:
    """Collates question rows of one micro-batch; an image that several questions share is decoded and encoded once.

    Args:
        questions, images: the tables of a prepared folder.
        processor: text and pictures → tensors.
        num_labels: width of the soft targets.
        augment: (picture, image id) → picture; None for evaluation.
    """

    questions: Any
    images: Any
    processor: Callable[..., Any]
    num_labels: int
    max_text_length: int
    augment: Callable[[Image.Image, int], Image.Image] | None = None

    def __call__(self, indices: np.ndarray) -> dict[str, Any]:
        """indices (B,) → {"ids": question ids, "inputs": the model's tensors with `labels` (B, num_labels)}."""
        rows = self.questions[indices.tolist()]
        image_rows, image_index = np.unique(np.asarray(rows["image_row"]), return_inverse=True)
        inputs = dict(self.processor(images=self._pictures(image_rows), text=rows["question"], max_length=self.max_text_length))
        inputs["image_index"] = torch.from_numpy(image_index)
        inputs["labels"] = torch.zeros(len(indices), self.num_labels)
        for row, (labels, scores) in enumerate(zip(rows["label_ids"], rows["label_scores"], strict=True)):
            if labels:  # a split to predict has none
                inputs["labels"][row, labels] = torch.tensor(scores)
        return {"ids": rows["question_id"], "inputs": inputs}

    def _pictures(self, image_rows: np.ndarray) -> list[Image.Image]:
        found = self.images[image_rows.tolist()]
        pictures = [decode(b, name) for b, name in zip(found["bytes"], found["file_name"], strict=True)]
        if self.augment is not None:
            pictures = [self.augment(p, i) for p, i in zip(pictures, found["image_id"], strict=True)]
        return pictures
