"""Visual question answering as classification over the frequent answers (VQA v2, easy-VQA)."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from vle_bench.data.asking import Asking, Questions
from vle_bench.data.augment import Views
from vle_bench.data.collate import QuestionCollator
from vle_bench.data.loader import grouped_order, image_batches
from vle_bench.data.prepared import PreparedData, open_prepared
from vle_bench.data.sources import RESULTS, SOURCES
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.errors import RequestError
from vle_bench.metrics.answerability import average_precision, f1
from vle_bench.metrics.answers import ALL_ACCURACIES
from vle_bench.metrics.bootstrap import figure, figures
from vle_bench.metrics.consensus import LARGEST, group_consensus
from vle_bench.metrics.numbers import Figure
from vle_bench.metrics.vqa import OFFICIAL, in_vocabulary, normalize_answer, vqa_accuracy
from vle_bench.tasks.base import Collate, Inference, Reading, Settings, Task, predict_in_batches
from vle_bench.tasks.catalogue import IN_VOCABULARY
from vle_bench.tasks.predictions import Id, Prediction, Row, Scores, by_id, is_probability

CHOICES = "choices"  # the column of a question's possible answers
# The column of questions that have no answer; the answer that says so; the name of its probability
UNANSWERABLE = "unanswerable"
REPHRASING_OF = "rephrasing_of"  # the column of the question that a rephrasing belongs to


@dataclass(frozen=True)
class VQA:
    """Choose an answer of the label map.

    Args:
        metric: the accuracy of a question, one of `ALL_ACCURACIES`.
        kinds: columns of the questions by which the accuracy is broken down, beside their types.
        results: see `Source`.
        choices: id → the possible answers of a question; empty: any answer of the label map.
        scores_choices: the model has a logit for each of these choices, not for each label.
        unanswerable: also predict the probability of the answer UNANSWERABLE, if it is a class.
    """

    name: str = "vqa"
    version: int = 1
    primary_metric: str = "accuracy"
    architecture: str = "VLEForVQA"
    num_token_types: int | None = None
    submitted_with: str | None = None
    metric: str = OFFICIAL
    kinds: tuple[str, ...] = ()
    results: tuple[str, str] = RESULTS
    choices: Mapping[Id, Sequence[str]] = field(default_factory=dict)
    scores_choices: bool = False
    unanswerable: bool = False

    def predict(self, inference: Inference) -> list[Prediction]:
        questions, choices = inference.data.questions(inference.split), {}
        if CHOICES in questions.column_names:
            choices = dict(zip(questions["question_id"], questions[CHOICES], strict=True))
        unanswerable = UNANSWERABLE in questions.column_names
        task = replace(
            self,
            choices=choices,
            scores_choices=isinstance(inference.processor, Asking),
            unanswerable=unanswerable,
        )
        return predict_in_batches(task, inference)

    def open(self, root: Path) -> PreparedData:
        data = open_prepared(root)
        if not data.labels:
            source, form = data.manifest.source, data.form
            reader = f"{source}/{data.manifest.form}-base"
            recipe = f"; recipes/{reader}.yaml reads it" * (data.manifest.form is not None)
            raise RequestError(
                f"{root}: holds prepared {source} of the form {form}, which has no answers to "
                f"choose from for vqa{recipe}"
            )
        return data

    def for_inputs(self, input_settings: Settings) -> Task:
        return self

    def for_data(self, data: PreparedData) -> Task:
        row, metric = SOURCES.get(data.manifest.source), data.manifest.metric or OFFICIAL
        if row is None:
            return replace(self, metric=metric)
        return replace(self, metric=metric, kinds=row.kinds, results=row.results)

    def check(self, data: PreparedData, split: str, input_settings: Settings) -> None:
        return None

    def input_settings(self, model: Settings, num_token_types: int) -> Settings:
        return {"max_text_length": model["max_text_length"]}

    def tokenizer(self, data: PreparedData, split: str, vocab_size: int) -> PreTrainedTokenizerBase:
        return train_tokenizer(data.questions(split)["question"][:], vocab_size)

    def training_order(
        self, questions: Dataset, seed: int, epoch: int, per_image: int
    ) -> NDArray[np.int64]:
        # A question without an answer in the vocabulary teaches nothing; it is scored all the same.
        answerable = np.flatnonzero(np.asarray(questions["answerable"][:]))
        return answerable[
            grouped_order(np.asarray(questions["image_row"][:])[answerable], seed, epoch, per_image)
        ]

    def evaluation_batches(self, questions: Dataset, batch_size: int) -> list[NDArray[np.int64]]:
        return image_batches(np.asarray(questions["image_row"][:]), batch_size)

    def augmentation(self, settings: Settings, seed: int, epoch: int) -> Views | None:
        return Views.of(settings, seed, epoch)

    def asked(self, rows: Row) -> Questions:
        return Questions(rows["question_id"], rows["question"], rows.get(CHOICES))

    def collator(self, reading: Reading, augment: Views | None = None) -> Collate:
        return QuestionCollator(
            reading.questions,
            reading.images,
            reading.processor,
            len(reading.labels),
            reading.input_settings["max_text_length"],
            augment,
            reading.pixels,
        )

    def predictions(
        self, logits: torch.Tensor, ids: Sequence[Id], labels: list[str]
    ) -> list[Prediction]:
        """Read the most probable answer of each question and its probability.

        The answer is the one of the highest logit: in float32 the sigmoid of every logit above 17
        is 1.

        Args:
            logits: (questions, labels).
        """
        if self.choices:
            return self.choose(logits, ids, labels)
        highest, best = logits.float().max(-1)
        scores = highest.sigmoid()
        predictions = [
            Prediction(i, {"answer": labels[label], "label": label, "score": round(score, 6)})
            for i, label, score in zip(ids, best.tolist(), scores.tolist(), strict=True)
        ]
        if self.unanswerable and UNANSWERABLE in labels:
            probabilities = logits[:, labels.index(UNANSWERABLE)].float().sigmoid().tolist()
            for one, probability in zip(predictions, probabilities, strict=True):
                one.values[UNANSWERABLE] = round(probability, 6)
        return predictions

    def choose(
        self, logits: torch.Tensor, ids: Sequence[Id], labels: list[str]
    ) -> list[Prediction]:
        """Read the most probable of each question's choices.

        A choice that is not in the label map cannot be chosen; if none is, the first one is. The
        score is the sigmoid of its logit; of a model that scores the choices, its share among them.
        """
        classes = {answer: label for label, answer in enumerate(labels)}
        predictions = []
        for i, row in zip(ids, logits.float().cpu(), strict=True):
            choices = self.choices[i]
            if self.scores_choices:
                share, place = row[: len(choices)].double().softmax(0).max(0)
                values = {"answer": choices[int(place)], "score": round(share.item(), 6)}
                predictions.append(Prediction(i, values))
                continue
            label_of = {c: classes.get(c, classes.get(normalize_answer(c))) for c in choices}
            known = {c: row[label].item() for c, label in label_of.items() if label is not None}
            answer = max(known, key=known.__getitem__) if known else choices[0]
            score = torch.tensor(known[answer]).sigmoid().item() if known else 0.0
            predictions.append(Prediction(i, {"answer": answer, "score": round(score, 6)}))
        return predictions

    def for_submission(self) -> Task:
        return self

    def submission(self, predictions: list[Prediction], questions: Dataset) -> str:
        """Write the official results file, ordered by id.

        A list of `{"question_id": int, "answer": str}`, or of the keys that `results` names; or an
        object of records by id if it names no key of the id. Ids are those of the official files.

        Raises:
            RunFailed: the predictions are not one for each question.
        """
        own = questions["question_id"][:]
        official = dict(zip(own, questions[id_column(questions)], strict=True))
        predicted = by_id(predictions, own)
        name, answer = self.results
        answered = [(official[i], {answer: predicted[i]["answer"]}) for i in sorted(own)]
        rows = [{name: i, **record} for i, record in answered] if name else dict(answered)
        return json.dumps(rows) + "\n"

    def wrong(self, prediction: Prediction) -> str | None:
        values = prediction.values
        if (
            type(prediction.id) is not int
            or not isinstance(values.get("answer"), str)
            or type(values.get("label", 0)) is not int
        ):
            return "an id, an answer and its label are expected"
        for name in ("score", UNANSWERABLE):
            value = values.get(name, 0 if name == UNANSWERABLE else None)
            if not is_probability(value):
                return f"{name}: {value!r} is no probability"
        return None

    def score(self, predictions: list[Prediction], questions: Dataset) -> Scores:
        """Compute the accuracy of `metric` and its breakdown, with 95 % intervals over images.

        Questions that were asked in several ways have consensus scores too, and those that may be
        unanswerable the average precision and the F1 of telling them apart.

        Beside it `soft_score_in_vocabulary`, which METER and VLE report while they train: the mean
        soft target of the class predicted. Questions without an answer in the vocabulary count as
        0 here; the published programs leave them out. It is left out for predictions without
        `label`: those of a model whose classes are not the data's.
        """
        columns = ["question_type", "answer_type", "answers", "label_ids", "label_scores"]
        columns += [
            c for c in (*self.kinds, REPHRASING_OF, UNANSWERABLE) if c in questions.column_names
        ]
        table = questions.select_columns(["question_id", "image_id", *columns]).to_list()
        annotations = [row | {"answers": numbered_answers(row["answers"])} for row in table]
        answers: dict[Any, str] = {one.id: one["answer"] for one in predictions}
        result = vqa_accuracy(answers, annotations, ALL_ACCURACIES[self.metric])
        per_example: dict[Id, float] = {
            i: result["per_question"][i] for i in questions["question_id"]
        }
        scores = np.array(list(per_example.values()))
        images = np.array([row["image_id"] for row in table])
        overall: Figure = {**figure(scores, images), "value": result["accuracy"]}
        metrics = {"accuracy": overall}
        open_ended = np.array([row["answer_type"] != "yes/no" for row in table])
        if open_ended.any():
            metrics["accuracy_not_yes_no"] = figure(scores[open_ended], images[open_ended])
        if all("label" in one.values for one in predictions):
            metrics[IN_VOCABULARY] = figure(soft_scores(predictions, table), images)
        if REPHRASING_OF in columns:
            metrics |= consensus(table, per_example)
        if UNANSWERABLE in columns:
            metrics |= answerability(table, predictions)
        names = ("answer_type", "question_type", *(k for k in self.kinds if k in columns))
        kinds = {name: [row[name] for row in table] for name in names}
        return Scores(
            n=result["n"],
            metrics=metrics,
            breakdown={name: figures(scores, images, values) for name, values in kinds.items()},
            per_example=per_example,
            kinds=kinds,
            per_answer_type=result["per_answer_type"],
            per_question_type=result["per_question_type"],
        )


def id_column(questions: Dataset) -> str:
    """Return the column of the ids that the official files have."""
    return "official_id" if "official_id" in questions.column_names else "question_id"


def consensus(table: list[Row], scores: Mapping[Id, float]) -> dict[str, Figure]:
    """Return CS(k) of the questions that were asked in several ways, with intervals over images."""
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in table:
        groups[row[REPHRASING_OF]].append(row)
    whole = [group for group in groups.values() if len(group) >= LARGEST]
    if not whole:
        return {}
    shares = [group_consensus([scores[row["question_id"]] for row in group]) for group in whole]
    images = np.array([group[0]["image_id"] for group in whole])
    return {
        f"consensus_{k}": figure(np.array([share[k] for share in shares]), images)
        for k in range(1, LARGEST + 1)
    }


def answerability(table: list[Row], predictions: list[Prediction]) -> dict[str, Figure]:
    """Return how well a model detects unanswerable questions.

    Empty if there are none, or if the model does not have the answer "unanswerable".
    """
    truths = [bool(row[UNANSWERABLE]) for row in table]
    if not any(truths) or any(UNANSWERABLE not in one.values for one in predictions):
        return {}
    score_of = {one.id: float(one[UNANSWERABLE]) for one in predictions}
    scores = [score_of[row["question_id"]] for row in table]
    figures = {"average_precision": average_precision(truths, scores), "f1": f1(truths, scores)}
    return {
        f"{UNANSWERABLE}_{name}": Figure(value=value, interval=None, n=len(table))
        for name, value in figures.items()
    }


def numbered_answers(answers: list[str]) -> list[Row]:
    """Return the annotators' answers as the official annotations have them."""
    return [{"answer": answer, "answer_id": i} for i, answer in enumerate(answers, 1)]


def soft_scores(predictions: list[Prediction], table: list[Row]) -> NDArray[np.float64]:
    """Return the soft target of each predicted class, (questions,).

    Rounded, because the tables hold 0.3 in 32 bits.
    """
    chosen = {one.id: one["label"] for one in predictions}
    scores: NDArray[np.float64] = np.array(
        [
            in_vocabulary(chosen[row["question_id"]], row["label_ids"], row["label_scores"])
            for row in table
        ]
    )
    return np.round(scores, 6)


VQA_TASK = VQA()
