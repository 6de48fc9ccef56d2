"""Visual question answering as classification over the frequent answers (VQA v2, easy-VQA)."""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vle_bench.data.augment import Augmentation
from vle_bench.data.collate import QuestionCollator
from vle_bench.data.images import Views
from vle_bench.data.prepared import PreparedData, open_prepared
from vle_bench.data.samplers import grouped_order, image_batches
from vle_bench.data.tokenizer import train_tokenizer
from vle_bench.errors import RequestError, RunFailed
from vle_bench.metrics.bootstrap import figure, figures
from vle_bench.metrics.vqa import in_vocabulary, vqa_accuracy
from vle_bench.tasks.base import Row, Scores


@dataclass(frozen=True)
class VQA:
    name: str = "vqa"
    version: int = 1
    primary_metric: str = "accuracy"
    architecture: str = "VLEForVQA"
    num_token_types: int | None = None
    submitted_with: str | None = None

    def open(self, root: Path) -> PreparedData:
        data = open_prepared(root)
        if not data.labels:
            raise RequestError(
                f"{root}: holds prepared {data.manifest['source']}, which has no answers to choose from for vqa"
            )
        return data

    def check(self, data: PreparedData, split: str, inputs: dict[str, Any]) -> None:
        return None

    def inputs(self, model: dict[str, Any], num_token_types: int) -> dict[str, Any]:
        return {"max_text_length": model["max_text_length"]}

    def tokenizer(self, data: PreparedData, split: str, vocab_size: int) -> Any:
        return train_tokenizer(data.questions(split)["question"], vocab_size)

    def training_order(
        self, questions: Any, seed: int, epoch: int, per_image: int
    ) -> NDArray[np.int64]:
        # a question without an answer in the vocabulary has nothing to teach; it is scored all the same
        answerable = np.flatnonzero(np.asarray(questions["answerable"]))
        return answerable[
            grouped_order(np.asarray(questions["image_row"])[answerable], seed, epoch, per_image)
        ]

    def evaluation_batches(
        self, questions: Any, batch_size: int, submission: bool = False
    ) -> list[NDArray[np.int64]]:
        return image_batches(np.asarray(questions["image_row"]), batch_size)

    def augmentation(self, settings: dict[str, Any], seed: int, epoch: int) -> Views | None:
        chosen = Augmentation(
            **{field.name: settings[field.name] for field in fields(Augmentation)}
        )
        return (
            Views(chosen, seed, epoch, settings.get("one_a_question", False))
            if chosen != Augmentation()
            else None
        )

    def collator(
        self,
        questions: Any,
        images: Any,
        processor: Any,
        labels: list[str],
        inputs: dict[str, Any],
        augment: Views | None = None,
        submission: bool = False,
    ) -> Callable[[Any], dict[str, Any]]:
        return QuestionCollator(
            questions, images, processor, len(labels), inputs["max_text_length"], augment
        )

    def predictions(self, logits: torch.Tensor, ids: list[Any], labels: list[str]) -> list[Row]:
        """logits (B, num_labels) → the most probable answer of each question and its probability.

        The answer with the highest logit: in float32 the sigmoid of every logit above 17 is 1.
        """
        highest, best = logits.float().max(-1)
        scores = highest.sigmoid()
        return [
            {"id": question_id, "answer": labels[label], "label": label, "score": round(score, 6)}
            for question_id, label, score in zip(ids, best.tolist(), scores.tolist(), strict=True)
        ]

    def submission(self, rows: list[Row], questions: Any) -> str:
        """The official results file, `[{"question_id": int, "answer": str}, ...]`, ordered by id.

        Raises:
            RunFailed: the rows are not one for each question.
        """
        ordered = sorted(rows, key=lambda row: row["id"])
        if [row["id"] for row in ordered] != sorted(questions["question_id"]):
            raise RunFailed(
                f"{len(rows)} predictions are not one for each of the {len(questions)} questions"
            )
        return (
            json.dumps([{"question_id": row["id"], "answer": row["answer"]} for row in ordered])
            + "\n"
        )

    def score(self, rows: list[Row], questions: Any) -> Scores:
        """The official accuracy, overall and by type, with 95 % intervals from images drawn with replacement.

        Beside it `soft_score_in_vocabulary`, what METER and VLE report while they train: the mean soft target of the class
        predicted. Questions without an answer in the vocabulary count as 0 here; the published programs leave them out. It is
        left out for rows without `label`: those of a model whose classes are not the data's.
        """
        table = questions.select_columns(
            [
                "question_id",
                "image_id",
                "question_type",
                "answer_type",
                "answers",
                "label_ids",
                "label_scores",
            ]
        ).to_list()
        annotations = [
            {
                **row,
                "answers": [
                    {"answer": a, "answer_id": i + 1} for i, a in enumerate(row["answers"])
                ],
            }
            for row in table
        ]
        result = vqa_accuracy({row["id"]: row["answer"] for row in rows}, annotations)
        scores = np.array([result["per_question"][row["question_id"]] for row in table])
        images = np.array([row["image_id"] for row in table])
        metrics = {"accuracy": {**figure(scores, images), "value": result["accuracy"]}}
        open_ended = np.array([row["answer_type"] != "yes/no" for row in table])
        if open_ended.any():
            metrics["accuracy_not_yes_no"] = figure(scores[open_ended], images[open_ended])
        if all("label" in row for row in rows):
            chosen = {row["id"]: row["label"] for row in rows}
            soft = np.array(
                [
                    in_vocabulary(chosen[row["question_id"]], row["label_ids"], row["label_scores"])
                    for row in table
                ]
            )
            metrics["soft_score_in_vocabulary"] = figure(
                soft.round(6), images
            )  # the tables hold 0.3 in 32 bits
        kinds = {name: [row[name] for row in table] for name in ("answer_type", "question_type")}
        return {
            "n": result["n"],
            "metrics": metrics,
            "per_answer_type": result["per_answer_type"],
            "per_question_type": result["per_question_type"],
            "breakdown": {name: figures(scores, images, values) for name, values in kinds.items()},
            "per_example": result["per_question"],
            "kinds": kinds,
        }


VQA_TASK = VQA()
