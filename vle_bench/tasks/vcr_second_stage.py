"""A second stage of pre-training on VCR, between the general one and the fine-tuning."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray

from vle_bench.data.augment import Draws
from vle_bench.data.collate import Part
from vle_bench.data.loader import image_batches
from vle_bench.data.masking import SecondStageCollator
from vle_bench.data.prepared import PreparedData
from vle_bench.errors import RequestError
from vle_bench.metrics.bootstrap import figure
from vle_bench.tasks.base import Collate, Reading, Settings, Task
from vle_bench.tasks.predictions import Id, Prediction, Scores, by_id
from vle_bench.tasks.vcr import VCR

TEXTS = 2  # of a question: its masked copy, and the whole text


@dataclass(frozen=True)
class VCRSecondStage(VCR):
    """Predict masked words, and whether the text belongs to the picture.

    The text is the question with its right answer and right rationale. Data, texts and objects are
    the VCR tasks'; questions are trained on, not answered.
    """

    name: str = "vcr_second_stage"
    architecture: str = "VLEForVCRSecondStage"
    parts: tuple[Part, ...] = ("qa2r",)
    primary_metric: str = "mlm_accuracy"
    submitted_with: str | None = None
    version: int = 2  # 2: a tie is right only where the right class is the first of it

    def check(self, data: PreparedData, split: str, input_settings: Settings) -> None:
        super().check(data, split, input_settings)
        if len(np.unique(np.asarray(data.questions(split)["image_row"][:]))) < 2:
            raise RequestError(
                f"{data.root}: {split}: has a single picture; {self.name} needs another for texts "
                "that do not match"
            )

    def evaluation_batches(self, questions: Dataset, batch_size: int) -> list[NDArray[np.int64]]:
        return image_batches(np.asarray(questions["image_row"][:]), max(1, batch_size // TEXTS))

    def augmentation(self, settings: Settings, seed: int, epoch: int) -> Draws:
        """Return seed and epoch in every case: they decide which words are masked."""
        return Draws(seed, epoch)

    def collator(self, reading: Reading, augment: Draws | None = None) -> Collate:
        # Without an augmentation the seed is fixed: every evaluation masks the same words.
        draws = augment or Draws(seed=0, epoch=0)
        tokenizer = reading.processor.tokenizer
        return SecondStageCollator(
            self.choices(reading),
            draws,
            image_rows=np.unique(np.asarray(reading.questions["image_row"][:])),
            words=np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids),
        )

    def predictions(
        self, logits: torch.Tensor, ids: Sequence[Id], labels: list[str]
    ) -> list[Prediction]:
        """Count the words masked and found, and whether the match was found.

        Args:
            logits: (questions, masked words + 1), see VLEForVCRSecondStage.
        """
        words, match = logits[:, :-1], logits[:, -1]
        masked, right = (words != -1).sum(1).tolist(), (words == 1).sum(1).tolist()
        matched = (match == 1).tolist()
        return [
            Prediction(i, {"mlm_masked": m, "mlm_right": r, "itm_right": matches})
            for i, m, r, matches in zip(ids, masked, right, matched, strict=True)
        ]

    def for_submission(self) -> Task:
        raise RequestError(
            f"{self.name}: answers no question, so there is no file for a leaderboard; fine-tune "
            "vcr_q2a or vcr_qa2r from it (model.checkpoint=RUN) and predict with that"
        )

    def wrong(self, prediction: Prediction) -> str | None:
        counts = [prediction.values.get(name) for name in ("mlm_masked", "mlm_right")]
        if not isinstance(prediction.id, str) or any(type(count) is not int for count in counts):
            return "an id and two counts of words are expected"
        return None

    def score(self, predictions: list[Prediction], questions: Dataset) -> Scores:
        """Compute `mlm_accuracy` over the masked tokens, and `itm_accuracy`.

        Both have 95 % intervals from images drawn with replacement.
        """
        ids, images = questions["annot_id"][:], np.asarray(questions["image_id"][:])
        predicted = by_id(predictions, ids)
        masked = np.array([predicted[i]["mlm_masked"] for i in ids])
        right = np.array([predicted[i]["mlm_right"] for i in ids])
        matched = np.array([predicted[i]["itm_right"] for i in ids], float)
        # one entry a masked token, the right ones of a question before the wrong ones
        tokens = np.repeat(
            np.tile([1.0, 0.0], len(ids)), np.stack([right, masked - right], 1).ravel()
        )
        return Scores(
            n=len(ids),
            metrics={
                "mlm_accuracy": figure(tokens, np.repeat(images, masked)),
                "itm_accuracy": figure(matched, images),
            },
            per_example=dict(zip(ids, (right / np.maximum(masked, 1)).tolist(), strict=True)),
        )


SECOND_STAGE = VCRSecondStage()
