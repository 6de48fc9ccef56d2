"""The official VQA accuracy as a module of Hugging Face's `evaluate`, which loads a copy of it."""

import warnings
from collections.abc import Iterable, Mapping

import datasets
import evaluate

from vle_bench.errors import RequestError
from vle_bench.metrics import vqa
from vle_bench.metrics.vqa import (
    NUMBER_OF_ANSWERS,
    NUMBERED,
    Record,
    lack_ids,
    numbered,
    problem_of_repeated_id,
    whole,
)

_DESCRIPTION = """
The accuracy of the VQA challenge, as the official evaluation program (github.com/GT-Vision-Lab/VQA,
vqaEval.py) computes it: for each of the ten annotators in turn, min(1, matches among the other nine
/ 3), averaged; answers are normalised first if the annotators do not all agree. It is not the soft
score over an answer vocabulary that training programs report.
"""

_CITATION = """\
@inproceedings{goyal2017making,
  title     = {Making the {V} in {VQA} Matter: Elevating the Role of Image Understanding in
               {V}isual {Q}uestion {A}nswering},
  author    = {Goyal, Yash and Khot, Tejas and Summers-Stay, Douglas and Batra, Dhruv and
               Parikh, Devi},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2017}
}
@inproceedings{antol2015vqa,
  title     = {{VQA}: Visual Question Answering},
  author    = {Antol, Stanislaw and Agrawal, Aishwarya and Lu, Jiasen and Mitchell, Margaret and
               Batra, Dhruv and Zitnick, C. Lawrence and Parikh, Devi},
  booktitle = {International Conference on Computer Vision (ICCV)},
  year      = {2015}
}
"""

_INPUTS = """
Args:
    predictions: results as in an official file, each {"question_id": int, "answer": str}.
    references: official annotations, each {"question_id", "question_type", "answer_type",
        "answers": [{"answer_id", "answer", "answer_confidence"}, ...]}; other fields are ignored,
        and answers without answer_id are numbered by their position; two of one id are refused.
        Predictions and references are
        matched by question_id, in any order.

Returns:
    accuracy, per_answer_type, per_question_type: fractions in 0..1; n: the number of questions.

Example:
    >>> import evaluate, vle_bench
    >>> metric = evaluate.load(f"{vle_bench.__path__[0]}/metrics/vqa_accuracy")
    >>> answers = [
    ...     {"answer_id": i, "answer": "two" if i <= 3 else "3", "answer_confidence": "yes"}
    ...     for i in range(1, 11)
    ... ]
    >>> truth = {"question_type": "how many", "answer_type": "number", "answers": answers}
    >>> for i, answer in ((1, "2"), (2, "three")):
    ...     prediction = {"question_id": i, "answer": answer}
    ...     metric.add_batch(predictions=[prediction], references=[{**truth, "question_id": i}])
    >>> {name: round(value, 4) for name, value in metric.compute()["per_answer_type"].items()}
    {'number': 0.95}
"""

PREDICTION = {"question_id": "int64", "answer": "string"}
REFERENCE = {"question_id": "int64", "question_type": "string", "answer_type": "string"}
ANSWER = {"answer_id": "int64", "answer": "string", "answer_confidence": "string"}


def _values(kinds: Mapping[str, str]) -> dict[str, datasets.Value]:
    return {name: datasets.Value(kind) for name, kind in kinds.items()}


def _id(record: Record, name: str, value: object) -> int:
    """Return an id as Arrow holds it, which would cut 1.7 to 1 and read "1" as a number."""
    number = whole(value)
    if number is None or not -(2**63) <= number < 2**63:
        problem = "is not a whole number" if number is None else "has more than 64 bits"
        raise RequestError(
            f"question_id {record['question_id']}: {name}: {value!r} {problem}; number them anew"
        )
    return number


def _prediction(record: Record) -> dict[str, object]:
    question_id = _id(record, "question_id", record["question_id"])
    # A number would silently become its text, and the server refuses it.
    if not isinstance(record["answer"], str):
        raise RequestError(
            f"question_id {record['question_id']}: answer: {record['answer']!r} is not a string"
        )
    return {"question_id": question_id, "answer": record["answer"]}


def _reference(record: Record) -> dict[str, object]:
    if (count := len(record["answers"])) != NUMBER_OF_ANSWERS:
        raise RequestError(
            f"question_id {record['question_id']}: answers: {count} of them, "
            f"not {NUMBER_OF_ANSWERS}"
        )
    answers = [{name: answer.get(name) for name in ANSWER} for answer in record["answers"]]
    question_id = _id(record, "question_id", record["question_id"])
    for answer in answers:
        if answer["answer_id"] is not None:
            answer["answer_id"] = _id(record, "answer_id", answer["answer_id"])
    if lack_ids(answers):
        warnings.warn(NUMBERED, stacklevel=2)  # shown once, however many records lack them
        answers = numbered(answers)
    elif problem := problem_of_repeated_id(answers):
        raise RequestError(f"question_id {record['question_id']}: {problem}")
    kept = {name: record[name] for name in REFERENCE}
    return {**kept, "question_id": question_id, "answers": answers}


class VQAAccuracy(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    def _info(self) -> evaluate.MetricInfo:
        features = {
            "predictions": _values(PREDICTION),
            "references": {**_values(REFERENCE), "answers": [_values(ANSWER)]},
        }
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(features),
            reference_urls=[
                "https://visualqa.org/evaluation.html",
                "https://github.com/GT-Vision-Lab/VQA",
            ],
        )

    def add_batch(
        self,
        *,
        predictions: Iterable[Record],
        references: Iterable[Record],
        **kwargs: object,
    ) -> None:
        """Add official records; other fields are ignored."""
        chosen = {
            "predictions": [_prediction(p) for p in predictions],
            "references": [_reference(r) for r in references],
        }
        super().add_batch(**chosen, **kwargs)

    def add(self, *, prediction: Record, reference: Record, **kwargs: object) -> None:
        """Add one official record of each kind."""
        super().add(prediction=_prediction(prediction), reference=_reference(reference), **kwargs)

    def _compute(
        self, predictions: Iterable[Record], references: Iterable[Record]
    ) -> dict[str, object]:
        given: dict[int, str] = {}
        for record in predictions:
            if record["question_id"] in given:
                raise RequestError(f"question_id {record['question_id']} is predicted twice")
            given[record["question_id"]] = record["answer"]
        result = vqa.vqa_accuracy(given, list(references))
        return {name: value for name, value in result.items() if name != "per_question"}
