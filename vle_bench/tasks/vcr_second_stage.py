"""A second stage of pre-training, on VCR's texts and pictures, between the general one and the fine-tuning."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vle_bench.data.augment import Draws
from vle_bench.data.collate import Part
from vle_bench.data.masking import SecondStageCollator
from vle_bench.data.prepared import PreparedData
from vle_bench.data.samplers import image_batches
from vle_bench.errors import RequestError, RunFailed
from vle_bench.metrics.bootstrap import interval
from vle_bench.metrics.sums import mean
from vle_bench.tasks.base import Row, Scores
from vle_bench.tasks.vcr import VCR

TEXTS = 2  # of a question: its masked copy, and the whole text


@dataclass(frozen=True)
class VCRSecondStage(VCR):
    """Masked words of question, right answer and right rationale, and whether they belong to the picture.

    Data, texts and objects are the VCR tasks'; a question is learnt from, not answered.
    """

    name: str = "vcr_second_stage"
    architecture: str = "VLEForVCRSecondStage"
    parts: tuple[Part, ...] = ("qa2r",)
    primary_metric: str = "mlm_accuracy"
    submitted_with: str | None = None
    version: int = 2  # 2: a tie is right only where the right class is the first of it

    def check(self, data: PreparedData, split: str, inputs: dict[str, Any]) -> None:
        super().check(data, split, inputs)
        if len(np.unique(np.asarray(data.questions(split)["image_row"]))) < 2:
            raise RequestError(
                f"{data.root}: {split}: has a single picture; {self.name} needs another for texts that do not match"
            )

    def evaluation_batches(
        self, questions: Any, batch_size: int, submission: bool = False
    ) -> list[NDArray[np.int64]]:
        if submission:  # before anything is predicted
            self.submission([], questions)
        return image_batches(np.asarray(questions["image_row"]), max(1, batch_size // TEXTS))

    def augmentation(self, settings: dict[str, Any], seed: int, epoch: int) -> Draws:
        """Never None: seed and epoch decide which words are masked."""
        return Draws(seed, epoch)

    def collator(
        self,
        questions: Any,
        images: Any,
        processor: Any,
        labels: list[str],
        inputs: dict[str, Any],
        augment: Draws | None = None,
        submission: bool = False,
    ) -> Callable[[Any], dict[str, Any]]:
        # Every evaluation masks the same words.
        draws = augment or Draws(seed=0, epoch=0)
        tokenizer = processor.tokenizer
        return SecondStageCollator(
            self.choices(questions, images, processor, self.parts, inputs),
            draws,
            image_rows=np.unique(np.asarray(questions["image_row"])),
            words=np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids),
        )

    def predictions(self, logits: torch.Tensor, ids: list[Any], labels: list[str]) -> list[Row]:
        """logits (B, M + 1), see VLEForVCRSecondStage → how many words were masked and found, and whether the match was."""
        words, match = logits[:, :-1], logits[:, -1]
        masked, right = (words != -1).sum(1).tolist(), (words == 1).sum(1).tolist()
        return [
            {"id": i, "mlm_masked": m, "mlm_right": r, "itm_right": found}
            for i, m, r, found in zip(ids, masked, right, (match == 1).tolist(), strict=True)
        ]

    def submission(self, rows: list[Row], questions: Any) -> str:
        raise RequestError(
            f"{self.name}: answers no question, so there is no file for a leaderboard; fine-tune vcr_q2a or vcr_qa2r from it "
            "(model.checkpoint=RUN) and predict with that"
        )

    def score(self, rows: list[Row], questions: Any) -> Scores:
        """`mlm_accuracy` over the masked tokens and `itm_accuracy`, with 95 % intervals from images drawn with replacement."""
        found = {row["id"]: row for row in rows}
        ids, images = questions["annot_id"], np.asarray(questions["image_id"])
        if len(rows) != len(found) or found.keys() != set(ids):
            raise RunFailed(
                f"{len(rows)} predictions are not one for each of the {len(ids)} questions"
            )
        masked, right = (
            np.array([found[i][key] for i in ids]) for key in ("mlm_masked", "mlm_right")
        )
        matched = np.array([found[i]["itm_right"] for i in ids], float)
        # one entry a masked token, the right ones of a question before the wrong ones
        tokens = np.repeat(
            np.tile([1.0, 0.0], len(ids)), np.stack([right, masked - right], 1).ravel()
        )
        of_tokens = np.repeat(images, masked)
        return {
            "n": len(ids),
            "metrics": {
                "mlm_accuracy": {
                    "value": mean(tokens.tolist()),
                    "interval": list(interval(tokens, of_tokens)),
                    "n": len(tokens),
                },
                "itm_accuracy": {
                    "value": mean(matched.tolist()),
                    "interval": list(interval(matched, images)),
                    "n": len(ids),
                },
            },
            "breakdown": {},
            "kinds": {},
            "per_example": dict(zip(ids, (right / np.maximum(masked, 1)).tolist(), strict=True)),
        }


SECOND_STAGE = VCRSecondStage()
