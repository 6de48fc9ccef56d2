"""Visual question answering as classification over the frequent answers (VQA v2, easy-VQA)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vle_bench.data.collate import QuestionCollator
from vle_bench.data.images import Augment, Augmentation
from vle_bench.data.prepared import PreparedData, open_prepared
from vle_bench.data.samplers import grouped_order, image_order, with_others
from vle_bench.data.tokenizer import train_tokenizer
from vle_bench.metrics.bootstrap import interval
from vle_bench.metrics.vqa import vqa_accuracy
from vle_bench.tasks.base import Row, Scores


@dataclass(frozen=True)
class VQA:
    name: str = "vqa"
    version: int = 1
    primary_metric: str = "accuracy"
    architecture: str = "VLEForVQA"

    def open(self, root: Path) -> PreparedData:
        return open_prepared(root)

    def tokenizer(self, data: PreparedData, split: str, vocab_size: int) -> Any:
        return train_tokenizer(data.questions(split)["question"], vocab_size)

    def training_order(self, questions: Any, seed: int, epoch: int, per_image: int) -> NDArray[np.int64]:
        # a question without an answer in the vocabulary has nothing to teach; it is scored all the same
        answerable = np.flatnonzero(np.asarray(questions["answerable"]))
        return answerable[grouped_order(np.asarray(questions["image_row"])[answerable], seed, epoch, per_image)]

    def first_stage(
        self, questions: Any, question_types: list[str], other_share: float, seed: int, epoch: int
    ) -> NDArray[np.bool_]:
        types = np.asarray(questions["question_type"])
        if unknown := set(question_types) - set(types):
            there = ", ".join(sorted(set(types))[:8])
            raise ValueError(f"no question has the type {', '.join(sorted(unknown))}; there are {there}")
        return with_others(np.isin(types, question_types), other_share, seed, epoch)

    def evaluation_order(self, questions: Any) -> NDArray[np.int64]:
        return image_order(np.asarray(questions["image_row"]))

    def augmentation(self, settings: dict[str, Any], seed: int, epoch: int) -> Augment | None:
        chosen = Augmentation(flip=settings["flip"], transpose=settings["transpose"], shift=settings["shift"])
        return partial(chosen, seed=seed, epoch=epoch) if chosen != Augmentation() else None

    def collator(
        self,
        questions: Any,
        images: Any,
        processor: Any,
        labels: list[str],
        max_text_length: int,
        augment: Augment | None,
    ) -> Callable[[Any], dict[str, Any]]:
        return QuestionCollator(questions, images, processor, len(labels), max_text_length, augment)

    def predictions(self, logits: torch.Tensor, ids: list[int], labels: list[str]) -> list[Row]:
        """logits (B, num_labels) → the most probable answer of each question and its probability."""
        scores, best = logits.float().sigmoid().max(-1)
        return [
            {"id": question_id, "answer": labels[label], "score": round(score, 6)}
            for question_id, label, score in zip(ids, best.tolist(), scores.tolist(), strict=True)
        ]

    def score(self, rows: list[Row], questions: Any) -> Scores:
        """The official accuracy, overall and by type, with 95 % intervals from images drawn with replacement."""
        table = questions.select_columns(
            ["question_id", "image_id", "question_type", "answer_type", "multiple_choice_answer", "answers"]
        ).to_list()
        annotations = [
            {**row, "answers": [{"answer": a, "answer_id": i + 1} for i, a in enumerate(row["answers"])]} for row in table
        ]
        result = vqa_accuracy({row["id"]: row["answer"] for row in rows}, annotations)
        scores = np.array([result["per_question"][row["question_id"]] for row in table])
        images = np.array([row["image_id"] for row in table])
        metrics = {"accuracy": {"value": result["accuracy"], "interval": list(interval(scores, images))}}
        open_ended = np.array([row["answer_type"] != "yes/no" for row in table])
        if open_ended.any():
            metrics["accuracy_not_yes_no"] = {
                "value": float(scores[open_ended].mean()),
                "interval": list(interval(scores[open_ended], images[open_ended])),
                "n": int(open_ended.sum()),
            }
        return {
            "n": result["n"],
            "metrics": metrics,
            "per_answer_type": result["per_answer_type"],
            "per_question_type": result["per_question_type"],
            "per_example": result["per_question"],
        }
