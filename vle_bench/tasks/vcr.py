"""Visual commonsense reasoning.

Which of four answers is right (q2a), which rationale for the right answer (qa2r), or both.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from vle_bench.data.asking import Questions
from vle_bench.data.augment import Draws
from vle_bench.data.collate import WIDTH, ChoiceCollator, Part
from vle_bench.data.loader import grouped_order, image_batches
from vle_bench.data.official.vcr import CHOICES, COLUMNS, Record
from vle_bench.data.prepared import PreparedData, open_prepared
from vle_bench.data.sources import SOURCES, prepared_of
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.data.vcr_text import FIRST_OBJECT_TYPE, object_names, spoken, tagged
from vle_bench.errors import RequestError
from vle_bench.metrics.bootstrap import figure, figures
from vle_bench.metrics.vcr import vcr_accuracy
from vle_bench.tasks.base import Collate, Reading, Settings, Task, predict_in_batches
from vle_bench.tasks.predictions import Id, Prediction, Row, Scores, by_id, is_probability

LENGTHS = (
    (5, "1 to 5"),
    (8, "6 to 8"),
    (12, "9 to 12"),
)  # words of a question, with its tags and marks; VCR's mean is 6.6
PARTS = ("q2a", "qa2r")
# The prompt for a rationale, for models that answer in words; the wording is ours.
REASON = "{}\nThe answer is: {}\nWhy is this the answer?"
NUM_TOKEN_TYPES = 83  # of the released VLE models for VCR: text, image, and 81 objects


@dataclass(frozen=True)
class VCR:
    """Choose among four answers, four rationales, or both.

    Args:
        parts: the choices that the model makes for a question, in the order of its logits.
    """

    name: str
    architecture: str
    parts: tuple[Part, ...]
    primary_metric: str
    submitted_with: str | None
    version: int = 1
    num_token_types: int | None = NUM_TOKEN_TYPES

    predict = predict_in_batches

    def open(self, root: Path) -> PreparedData:
        data = open_prepared(root)
        source = data.manifest.source
        if SOURCES[source].form != "vcr":
            known = " or ".join(prepared_of("vcr"))
            raise RequestError(f"{root}: holds prepared {source}, {self.name} needs {known}")
        return data

    def for_inputs(self, input_settings: Settings) -> Task:
        return self

    def for_data(self, data: PreparedData) -> Task:
        return self

    def check(self, data: PreparedData, split: str, input_settings: Settings) -> None:
        """Check before training that the model has a type for every object that a choice tags.

        A checkpoint of an earlier version that gave every object a token is refused too.
        """
        if input_settings.get("objects", "tagged") != "tagged":
            raise RequestError(
                f"model.objects: {input_settings['objects']!r} is of an earlier version; this one "
                "knows only 'tagged', so the checkpoint cannot be scored or trained on"
            )
        types = input_settings["most_objects"]
        most_in_an_image = max(map(len, data.images["class_names"]), default=0)
        if not input_settings["alignment"] or most_in_an_image <= types:
            return
        for row in data.questions(split).select_columns(["annot_id", "record"]):
            if (objects := most_tagged(json.loads(row["record"]))) > types:
                raise too_few_types(f"{data.root}: {split}: {row['annot_id']}", objects, types)

    def input_settings(self, model: Settings, num_token_types: int) -> Settings:
        return object_inputs(model, num_token_types)

    def tokenizer(self, data: PreparedData, split: str, vocab_size: int) -> PreTrainedTokenizerBase:
        records = map(json.loads, data.questions(split)["record"][:])
        return train_tokenizer((text for one in records for text in texts_of(one)), vocab_size)

    def training_order(
        self, questions: Dataset, seed: int, epoch: int, per_image: int
    ) -> NDArray[np.int64]:
        return grouped_order(np.asarray(questions["image_row"][:]), seed, epoch, per_image)

    def evaluation_batches(self, questions: Dataset, batch_size: int) -> list[NDArray[np.int64]]:
        texts = sum(WIDTH[part] for part in self.parts)
        return image_batches(np.asarray(questions["image_row"][:]), max(1, batch_size // texts))

    def augmentation(self, settings: Settings, seed: int, epoch: int) -> Draws | None:
        return None

    def asked(self, rows: Row) -> Questions:
        """Ask for the answer, or for the rationale of one answer or of each, with objects' names.

        Raises:
            RequestError: the task asks for both, of which the second depends on the first.
        """
        if len(self.parts) > 1:
            raise RequestError(
                f"{self.name}: a model that answers in words needs vcr_q2a and vcr_qa2r separately"
            )
        texts, choices = [], []
        for record in map(json.loads, rows["record"]):
            names = object_names(record["objects"])
            question = spoken(record["question"], names)
            answers = [spoken(answer, names) for answer in record["answer_choices"]]
            if self.parts == ("q2a",):
                texts.append(question)
                choices.append(answers)
                continue
            given = answers if self.parts[0] != "qa2r" else [answers[record["answer_label"]]]
            texts += [REASON.format(question, answer) for answer in given]
            rationales = [spoken(rationale, names) for rationale in record["rationale_choices"]]
            choices += [rationales] * len(given)
        return Questions(rows["annot_id"], texts, choices)

    def collator(self, reading: Reading, augment: Any = None) -> Collate:
        return self.choices(reading)

    def choices(self, reading: Reading) -> ChoiceCollator:
        """Return the collator of the choices that the model makes."""
        return ChoiceCollator(
            reading.questions,
            reading.images,
            reading.processor,
            self.parts,
            reading.input_settings["max_text_length"],
            reading.input_settings["alignment"],
            reading.pixels,
        )

    def predictions(
        self, logits: torch.Tensor, ids: Sequence[Id], labels: list[str]
    ) -> list[Prediction]:
        """Read each question's choice and the probability of every choice among its four.

        A tie goes to the lowest choice. The probabilities are computed in float64: in float32 two
        logits that differ in their last bit get one probability, and the leaderboard's file would
        name another choice than the record.

        Args:
            logits: (questions, choices), the four choices of each part side by side.
        """
        fours = logits.cpu().double().unflatten(1, (-1, CHOICES))  # (B, C / 4, 4)
        chosen, probabilities = fours.argmax(-1).tolist(), fours.softmax(-1).tolist()
        predictions = []
        for annot_id, scores, best in zip(ids, probabilities, chosen, strict=True):
            values: Row = {}
            for part in self.parts:
                if part == "q2a":
                    values |= {"q2a": best.pop(0), "q2a_scores": scores.pop(0)}
                else:  # the last part: one four, or one for each answer
                    values |= {"qa2r": best[0]} if len(best) == 1 else {}
                    values["qa2r_scores"] = [value for four in scores for value in four]
            predictions.append(Prediction(annot_id, values))
        return predictions

    def for_submission(self) -> Task:
        """Return the task that chooses a rationale after every answer, right or wrong."""
        every: dict[Part, Part] = {"qa2r": "qa2r, every answer"}
        return replace(self, parts=tuple(every.get(part, part) for part in self.parts))

    def submission(self, predictions: list[Prediction], questions: Dataset) -> str:
        """Write the leaderboard's CSV, in the order of the questions.

        Raises:
            RunFailed: the predictions are not one for each question.
        """
        ids = questions["annot_id"][:]
        predicted = by_id(predictions, ids)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for i in ids:
            writer.writerow([i, *predicted[i]["q2a_scores"], *predicted[i]["qa2r_scores"]])
        return text.getvalue()

    def wrong(self, prediction: Prediction) -> str | None:
        if not isinstance(prediction.id, str):
            return "an id is expected"
        for part in self.parts:
            chosen, scores = prediction.values.get(part), prediction.values.get(f"{part}_scores")
            if type(chosen) is not int or chosen not in range(CHOICES):
                return f"{part}: {chosen!r} is not a number of 0 to {CHOICES - 1}"
            if (
                not isinstance(scores, list)
                or len(scores) != CHOICES
                or not all(map(is_probability, scores))
            ):
                return f"{part}_scores: {CHOICES} probabilities are expected"
            if scores[chosen] < max(scores):
                return f"{part}: {chosen} was chosen, and another choice is more probable"
        return None

    def score(self, predictions: list[Prediction], questions: Dataset) -> Scores:
        """Compute the accuracy and its breakdown, with 95 % intervals from resampled images.

        One part gives `accuracy`; both give `q2ar`, `q2a` and `qa2r`.
        """
        parts = [part for part in PARTS if part in self.parts]
        return vcr_scores(predictions, questions, parts)


def object_inputs(model: Settings, num_token_types: int) -> Settings:
    """Return the `inputs` of a task whose texts tag objects, see `Task.inputs`."""
    return {
        "max_text_length": model["max_text_length"],
        "alignment": model["alignment"] == "on",
        "most_objects": num_token_types - FIRST_OBJECT_TYPE,
    }


def too_few_types(question: str, objects: int, types: int) -> RequestError:
    """Make the error for a question with more tagged objects than the model has types."""
    return RequestError(
        f"{question} tags {objects} objects in one choice, and the model has types for {types}: "
        "model.config.num_token_types"
    )


def vcr_scores(predictions: list[Prediction], questions: Dataset, parts: Sequence[str]) -> Scores:
    """Score predictions with a choice for each part; the ids must be the questions'."""
    columns = ["answer_label", "rationale_label", "answer_likelihood"]
    table = questions.select_columns(["annot_id", "image_id", "record", *columns]).to_list()
    labels = {row["annot_id"]: (row["answer_label"], row["rationale_label"]) for row in table}
    right = {i: dict(zip(PARTS, pair, strict=True)) for i, pair in labels.items()}
    # A part that was not predicted is taken from the labels, and its accuracy is not reported.
    chosen: dict[str, dict[Any, int]] = {
        part: {one.id: one[part] for one in predictions}
        if part in parts
        else {i: right[i][part] for i in labels}
        for part in PARTS
    }
    result = vcr_accuracy(chosen["q2a"], chosen["qa2r"], labels)
    both = {"q2ar": "q2ar", "q2a": "q2a", "qa2r": "qa2r"}
    metric_of = both if len(parts) == 2 else {parts[0]: "accuracy"}
    images = np.array([row["image_id"] for row in table])
    hits = {
        metric: np.array([result["per_record"][row["annot_id"]][part] for row in table], float)
        for part, metric in metric_of.items()
    }
    primary, kinds = next(iter(hits.values())), kinds_of(table, parts)
    breakdown = {}
    for kind, groups in kinds.items():
        by_group = figures(primary, images, groups)
        breakdown[kind] = {group: by_group[group] for group in sorted(by_group, key=natural)}
    return Scores(
        n=result["n"],
        metrics={name: figure(values, images) for name, values in hits.items()},
        breakdown=breakdown,
        per_example={
            row["annot_id"]: float(value) for row, value in zip(table, primary, strict=True)
        },
        kinds=kinds,
    )


def kinds_of(table: list[Row], parts: Sequence[str]) -> dict[str, list[str]]:
    """Group questions by the objects tagged in their right texts, their words, and likelihood."""
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
    """Sort groups: numbers in their order, words after them."""
    number = group.split()[0]
    return (int(number), group) if number.isdigit() else (1000, group)


def most_tagged(record: Row) -> int:
    """Count the objects that question, answer and rationale tag together, of the fullest choice."""
    question = tagged(record["question"])
    answers = [question | tagged(answer) for answer in record["answer_choices"]]
    return max(
        len(answer | tagged(rationale))
        for answer in answers
        for rationale in record["rationale_choices"]
    )


def texts_of(record: Record) -> list[str]:
    """Return a record's texts with names instead of tags, for a tokenizer's vocabulary."""
    names = object_names(record["objects"])
    rationales = record.get("rationale_choices", [])
    texts = [record["question"], *record["answer_choices"], *rationales]
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
