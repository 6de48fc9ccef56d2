"""Visual commonsense reasoning: which of four answers is right (q2a), which rationale for the right answer (qa2r), or both."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vle_bench.data.augment import Draws
from vle_bench.data.collate import WIDTH, ChoiceCollator, Part
from vle_bench.data.official.vcr import CHOICES, COLUMNS
from vle_bench.data.prepared import PreparedData, open_prepared
from vle_bench.data.samplers import grouped_order, image_batches
from vle_bench.data.sources import SOURCES, prepared_of
from vle_bench.data.tokenizer import train_tokenizer
from vle_bench.data.vcr_text import FIRST_OBJECT_TYPE, object_names, tagged
from vle_bench.errors import RequestError, RunFailed
from vle_bench.metrics.bootstrap import figure, figures
from vle_bench.metrics.vcr import vcr_accuracy
from vle_bench.tasks.base import Row, Scores

LENGTHS = (
    (5, "1 to 5"),
    (8, "6 to 8"),
    (12, "9 to 12"),
)  # words of a question, with its tags and marks; VCR's mean is 6.6
NUM_TOKEN_TYPES = 83  # of the released VLE models for VCR: text, image, and 81 objects


@dataclass(frozen=True)
class VCR:
    name: str
    architecture: str
    parts: tuple[Part, ...]
    primary_metric: str
    submitted_with: str | None
    version: int = 1
    num_token_types: int | None = NUM_TOKEN_TYPES

    def open(self, root: Path) -> PreparedData:
        data = open_prepared(root)
        if SOURCES[data.manifest["source"]].form != "vcr":
            known = " or ".join(prepared_of("vcr"))
            raise RequestError(
                f"{root}: holds prepared {data.manifest['source']}, {self.name} needs {known}"
            )
        return data

    def check(self, data: PreparedData, split: str, inputs: dict[str, Any]) -> None:
        """Refuse, before the first step, a record that tags more objects than the model has types for.

        A checkpoint of an earlier version that gave a token to every object is refused too.
        """
        if inputs.get("objects", "tagged") != "tagged":
            raise RequestError(
                f"model.objects: {inputs['objects']!r} is of an earlier version; this one knows only "
                "'tagged', so the checkpoint cannot be scored or trained on"
            )
        most = inputs["most_objects"]
        if not inputs["alignment"] or max(map(len, data.images["class_names"]), default=0) <= most:
            return
        for row in data.questions(split).select_columns(["annot_id", "record"]):
            if (found := most_tagged(json.loads(row["record"]))) > most:
                raise RequestError(
                    f"{data.root}: {split}: {row['annot_id']} tags {found} objects in one choice, and the model has types for "
                    f"{most}: model.config.num_token_types"
                )

    def inputs(self, model: dict[str, Any], num_token_types: int) -> dict[str, Any]:
        return {
            "max_text_length": model["max_text_length"],
            "alignment": model["alignment"] == "on",
            "most_objects": num_token_types - FIRST_OBJECT_TYPE,
        }

    def tokenizer(self, data: PreparedData, split: str, vocab_size: int) -> Any:
        return train_tokenizer(
            (text for row in data.questions(split)["record"] for text in texts_of(json.loads(row))),
            vocab_size,
        )

    def training_order(
        self, questions: Any, seed: int, epoch: int, per_image: int
    ) -> NDArray[np.int64]:
        return grouped_order(np.asarray(questions["image_row"]), seed, epoch, per_image)

    def evaluation_batches(
        self, questions: Any, batch_size: int, submission: bool = False
    ) -> list[NDArray[np.int64]]:
        texts = sum(WIDTH[part] for part in self._parts(submission))
        return image_batches(np.asarray(questions["image_row"]), max(1, batch_size // texts))

    def augmentation(self, settings: dict[str, Any], seed: int, epoch: int) -> Draws | None:
        return None

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
        return self.choices(questions, images, processor, self._parts(submission), inputs)

    @staticmethod
    def choices(
        questions: Any,
        images: Any,
        processor: Any,
        parts: tuple[Part, ...],
        inputs: dict[str, Any],
    ) -> ChoiceCollator:
        """The collator of these parts, as `inputs` of a recipe or of a checkpoint say."""
        length, alignment = inputs["max_text_length"], inputs["alignment"]
        return ChoiceCollator(questions, images, processor, parts, length, alignment)

    def _parts(self, submission: bool) -> tuple[Part, ...]:
        """The leaderboard wants the rationales after every answer, right or wrong."""
        every: dict[Part, Part] = {"qa2r": "qa2r, every answer"}
        return tuple(every.get(part, part) for part in self.parts) if submission else self.parts

    def predictions(self, logits: torch.Tensor, ids: list[Any], labels: list[str]) -> list[Row]:
        """logits (B, C) → the choice of each question and every choice's probability among its four; ties to the lowest.

        The probabilities are computed in float64: in float32 two logits that differ in their last
        bit get one probability, and the leaderboard's file would name another choice than the record.
        """
        fours = logits.cpu().double().unflatten(1, (-1, CHOICES))  # (B, C / 4, 4)
        chosen, probabilities = fours.argmax(-1).tolist(), fours.softmax(-1).tolist()
        rows = []
        for annot_id, scores, best in zip(ids, probabilities, chosen, strict=True):
            row: Row = {"id": annot_id}
            for part in self.parts:
                if part == "q2a":
                    row |= {"q2a": best.pop(0), "q2a_scores": scores.pop(0)}
                else:  # the last part: one four, or one for each answer
                    row |= {"qa2r": best[0]} if len(best) == 1 else {}
                    row["qa2r_scores"] = [value for four in scores for value in four]
            rows.append(row)
        return rows

    def submission(self, rows: list[Row], questions: Any) -> str:
        """The leaderboard's CSV, in the order of the questions.

        Raises:
            RunFailed: the rows are not one for each of the questions.
        """
        found = {row["id"]: row for row in rows}
        ids = questions["annot_id"]
        if len(rows) != len(found) or found.keys() != set(ids):
            raise RunFailed(
                f"{len(rows)} predictions are not one for each of the {len(ids)} questions"
            )
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([i, *found[i]["q2a_scores"], *found[i]["qa2r_scores"]] for i in ids)
        return text.getvalue()

    def score(self, rows: list[Row], questions: Any) -> Scores:
        """Accuracy, with 95 % intervals from images drawn with replacement, and by what the questions are like.

        One part gives `accuracy`; both give `q2ar`, `q2a` and `qa2r`.
        """
        return vcr_scores(rows, questions, [part for part in ("q2a", "qa2r") if part in self.parts])


def vcr_scores(rows: list[Row], questions: Any, parts: list[str]) -> Scores:
    """Rows with a choice for each part → {"n", "metrics", "breakdown", "kinds", "per_example"}; the ids must be the questions'."""
    table = questions.select_columns(
        ["annot_id", "image_id", "record", "answer_label", "rationale_label", "answer_likelihood"]
    ).to_list()
    labels = {row["annot_id"]: (row["answer_label"], row["rationale_label"]) for row in table}
    right = {i: dict(zip(("q2a", "qa2r"), pair, strict=True)) for i, pair in labels.items()}
    # a part that was not predicted is taken from the truth, and its figures are not shown
    chosen = {
        part: {row["id"]: row[part] for row in rows}
        if part in parts
        else {i: right[i][part] for i in labels}
        for part in ("q2a", "qa2r")
    }
    result = vcr_accuracy(chosen["q2a"], chosen["qa2r"], labels)
    names = (
        {"q2ar": "q2ar", "q2a": "q2a", "qa2r": "qa2r"}
        if len(parts) == 2
        else {parts[0]: "accuracy"}
    )
    images = np.array([row["image_id"] for row in table])
    hits = {
        shown: np.array([result["per_record"][row["annot_id"]][name] for row in table], float)
        for name, shown in names.items()
    }
    metrics = {name: figure(values, images) for name, values in hits.items()}
    primary, kinds = next(iter(hits.values())), kinds_of(table, parts)
    found = {name: figures(primary, images, values) for name, values in kinds.items()}
    return {
        "n": result["n"],
        "metrics": metrics,
        "breakdown": {
            name: {kind: values[kind] for kind in sorted(values, key=natural)}
            for name, values in found.items()
        },
        "kinds": kinds,
        "per_example": {
            row["annot_id"]: float(value) for row, value in zip(table, primary, strict=True)
        },
    }


def kinds_of(table: list[dict[str, Any]], parts: list[str]) -> dict[str, list[str]]:
    """Of each question: the objects tagged in its right texts, its words, and its answer's likelihood."""
    groups: dict[str, list[str]] = {
        "objects tagged": [],
        "words in the question": [],
        "answer_likelihood": [],
    }
    for row in table:
        record = json.loads(row["record"])
        texts = [record["question"], record["answer_choices"][row["answer_label"]]]
        if "qa2r" in parts:
            texts.append(record["rationale_choices"][row["rationale_label"]])
        count = len(set().union(*map(tagged, texts)))
        groups["objects tagged"].append(str(count) if count < 4 else "4 or more")
        groups["words in the question"].append(length_group(len(record["question"])))
        groups["answer_likelihood"].append(row["answer_likelihood"] or "not given")
    return groups


def length_group(words: int) -> str:
    return next((name for most, name in LENGTHS if words <= most), "13 or more")


def natural(group: str) -> tuple[int, str]:
    """Numbers in their order, words after them."""
    number = group.split()[0]
    return (int(number), group) if number.isdigit() else (1000, group)


def most_tagged(record: dict[str, Any]) -> int:
    """The most objects that any choice of either part tags, question, answer and rationale together."""
    question = tagged(record["question"])
    answers = [question | tagged(answer) for answer in record["answer_choices"]]
    return max(
        len(answer | tagged(rationale))
        for answer in answers
        for rationale in record["rationale_choices"]
    )


def texts_of(record: dict[str, Any]) -> list[str]:
    """A record's texts with the names that persons get, for a tokenizer's vocabulary."""
    names = object_names(record["objects"])
    texts = [record["question"], *record["answer_choices"], *record["rationale_choices"]]
    return [
        " ".join(
            word
            for token in text
            for word in ([token] if isinstance(token, str) else [names[i] for i in token])
        )
        for text in texts
    ]


Q2A = VCR("vcr_q2a", "VLEForVCRQ2A", ("q2a",), "accuracy", submitted_with="vcr_qa2r")
QA2R = VCR("vcr_qa2r", "VLEForVCRQA2R", ("qa2r",), "accuracy", submitted_with="vcr_q2a")
JOINT = VCR("vcr_joint", "VLEForVCRJoint", ("q2a", "qa2r"), "q2ar", submitted_with=None)
