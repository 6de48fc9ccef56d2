"""Multiple-choice questions about pictures, each with its own number of choices."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from vle_bench.data.asking import Questions
from vle_bench.data.augment import Views
from vle_bench.data.collate import NO_CHOICE, QuestionChoiceCollator, TaggedChoiceCollator
from vle_bench.data.loader import grouped_order, image_batches
from vle_bench.data.official.further import OFFICIAL_ID
from vle_bench.data.prepared import PreparedData, open_prepared
from vle_bench.data.tagged_text import record_of, tagged_in
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.data.vcr_text import object_names, spoken
from vle_bench.errors import RequestError, RunFailed
from vle_bench.json_files import JsonObject
from vle_bench.metrics.bootstrap import figure, figures
from vle_bench.tasks.base import Collate, Reading, Settings, Task, predict_in_batches
from vle_bench.tasks.predictions import Id, Prediction, Scores, by_id, is_probability
from vle_bench.tasks.vcr import NUM_TOKEN_TYPES, object_inputs, texts_of, too_few_types

CHOSEN = "choice"  # key of a results file: the index of the choice from 0


@dataclass(frozen=True)
class Choice:
    """Choose one of a question's own choices.

    Where the data have boxes, texts and objects become tensors as those of VCR.
    """

    name: str = "choice"
    version: int = 1
    primary_metric: str = "accuracy"
    architecture: str = "VLEForChoice"
    num_token_types: int | None = None
    submitted_with: str | None = None

    predict = predict_in_batches

    def open(self, root: Path) -> PreparedData:
        data = open_prepared(root)
        if data.form != "choice":
            raise RequestError(
                f"{root}: holds prepared {data.manifest.source} of the form {data.form}; "
                f"{self.name} needs questions with choices (`prepare own` with form: choice)"
            )
        return data

    def for_inputs(self, input_settings: Settings) -> Task:
        return self

    def for_data(self, data: PreparedData) -> Task:
        """Return the task with types for objects where the data have boxes."""
        return replace(self, num_token_types=NUM_TOKEN_TYPES) if data.tagged else self

    def check(self, data: PreparedData, split: str, input_settings: Settings) -> None:
        """Check that the model has a type for every object that a choice tags."""
        if not data.tagged or not input_settings.get("alignment"):
            return
        types, questions = input_settings["most_objects"], data.questions(split)
        if max(map(len, questions["object_names"][:]), default=0) <= types:
            return
        for row in questions.select_columns(["question_id", "question", "choices", "object_names"]):
            if (objects := max(map(len, tagged_in(row)))) > types:
                question = f"{data.root}: {split}: question {row['question_id']}"
                raise too_few_types(question, objects, types)

    def input_settings(self, model: Settings, num_token_types: int) -> Settings:
        if self.num_token_types is None:
            return {"max_text_length": model["max_text_length"]}
        return object_inputs(model, num_token_types)

    def tokenizer(self, data: PreparedData, split: str, vocab_size: int) -> PreTrainedTokenizerBase:
        questions = data.questions(split)
        if data.tagged:
            records = map(record_of, questions.remove_columns(["boxes"]))
            return train_tokenizer((text for one in records for text in texts_of(one)), vocab_size)
        choices = (choice for choices in questions["choices"][:] for choice in choices)
        return train_tokenizer([*questions["question"], *choices], vocab_size)

    def training_order(
        self, questions: Dataset, seed: int, epoch: int, per_image: int
    ) -> NDArray[np.int64]:
        return grouped_order(np.asarray(questions["image_row"][:]), seed, epoch, per_image)

    def evaluation_batches(self, questions: Dataset, batch_size: int) -> list[NDArray[np.int64]]:
        texts = np.array([len(choices) for choices in questions["choices"][:]])
        return image_batches(np.asarray(questions["image_row"][:]), batch_size, texts)

    def augmentation(self, settings: Settings, seed: int, epoch: int) -> Views | None:
        return Views.of(settings, seed, epoch)

    def asked(self, rows: JsonObject) -> Questions:
        """Ask for a choice, with names in the places of tagged objects."""
        if "object_names" not in rows:
            return Questions(rows["question_id"], rows["question"], rows["choices"])
        texts, choices = [], []
        tagged = ("question_id", "question", "choices", "object_names")
        for values in zip(*(rows[name] for name in tagged), strict=True):
            record = record_of(dict(zip(tagged, values, strict=True)))
            names = object_names(record["objects"])
            texts.append(spoken(record["question"], names))
            choices.append([spoken(choice, names) for choice in record["answer_choices"]])
        return Questions(rows["question_id"], texts, choices)

    def collator(self, reading: Reading, augment: Views | None = None) -> Collate:
        settings = reading.input_settings
        given = (
            reading.questions,
            reading.images,
            reading.processor,
            0,
            settings["max_text_length"],
            augment,
            reading.pixels,
        )
        if "boxes" not in reading.questions.column_names:
            return QuestionChoiceCollator(*given)
        # A model that was trained without boxes reads the names of the objects alone.
        return TaggedChoiceCollator(*given, alignment=settings.get("alignment", False))

    def predictions(
        self, logits: torch.Tensor, ids: Sequence[Id], labels: list[str]
    ) -> list[Prediction]:
        """Read each question's choice, counted from 0, and the probability of each of its choices.

        A tie goes to the lowest choice. The probabilities are computed in float64, see VCR.

        Args:
            logits: (questions, choices), `NO_CHOICE` where a question has fewer.
        """
        exact = logits.cpu().double()
        counts = (logits.cpu() != NO_CHOICE).sum(-1).tolist()
        chosen, probabilities = exact.argmax(-1).tolist(), exact.softmax(-1).tolist()
        return [
            Prediction(i, {"chosen": best, "scores": scores[:count]})
            for i, best, scores, count in zip(ids, chosen, probabilities, counts, strict=True)
        ]

    def for_submission(self) -> Task:
        return self

    def submission(self, predictions: list[Prediction], questions: Dataset) -> str:
        """Write a list of `{"question_id", "choice", "answer"}`, ordered by id.

        `choice` is the index from 0 and `answer` its text; ids are those of the user's data.

        Raises:
            RunFailed: the predictions are not one for each question.
        """
        own = questions["question_id"][:]
        column = OFFICIAL_ID.name if OFFICIAL_ID.name in questions.column_names else "question_id"
        predicted = by_id(predictions, own)
        table = sorted(zip(own, questions[column], questions["choices"], strict=True))
        chosen = [(given, predicted[i]["chosen"], choices) for i, given, choices in table]
        rows = [
            {"question_id": given, CHOSEN: index, "answer": choices[index]}
            for given, index, choices in chosen
        ]
        return json.dumps(rows) + "\n"

    def wrong(self, prediction: Prediction) -> str | None:
        chosen, scores = prediction.values.get("chosen"), prediction.values.get("scores")
        if type(prediction.id) is not int:
            return "an id is expected"
        if not isinstance(scores, list) or not all(map(is_probability, scores)):
            return "scores: the probabilities of the choices are expected"
        if type(chosen) is not int or chosen not in range(len(scores)):
            return f"chosen: {chosen!r} is none of the {len(scores)} choices"
        if scores[chosen] < max(scores):
            return f"chosen: {chosen} was chosen, and another choice is more probable"
        return None

    def score(self, predictions: list[Prediction], questions: Dataset) -> Scores:
        """Compute the accuracy and its breakdown, with 95 % intervals from resampled images.

        Raises:
            RunFailed: the predictions are not one for each question, or of other choices.
        """
        columns = ["question_id", "image_id", "question_type", "choices", "right_choice"]
        table = questions.select_columns(columns).to_list()
        predicted = by_id(predictions, [row["question_id"] for row in table])
        for row in table:
            if len(predicted[row["question_id"]]["scores"]) != len(row["choices"]):
                raise RunFailed(
                    f"question {row['question_id']}: its {len(row['choices'])} choices are not "
                    "those that were predicted"
                )
        hits = np.array(
            [float(predicted[row["question_id"]]["chosen"] == row["right_choice"]) for row in table]
        )
        images = np.array([row["image_id"] for row in table])
        kinds = {
            "question_type": [row["question_type"] for row in table],
            "number of choices": [str(len(row["choices"])) for row in table],
        }
        return Scores(
            n=len(table),
            metrics={"accuracy": figure(hits, images)},
            breakdown={name: figures(hits, images, values) for name, values in kinds.items()},
            per_example={
                row["question_id"]: float(hit) for row, hit in zip(table, hits, strict=True)
            },
            kinds=kinds,
        )


CHOICE = Choice()
