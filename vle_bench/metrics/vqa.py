"""The official VQA accuracy, bug for bug (GT-Vision-Lab/VQA, `vqaEval.py`)."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from vle_bench.errors import RequestError
from vle_bench.vqa_answers import clean, normalize_answer


def question_accuracy(prediction: str, answers: Sequence[Mapping[str, Any]]) -> float:
    """Accuracy in 0..1 of one prediction against the annotators' answers.

    Args:
        answers: official records with `answer` and whatever tells two annotators apart (`answer_id`); records that are wholly
            equal do not count as each other's witnesses, as in the official program.
    """
    truths = [clean(record["answer"]) for record in answers]
    prediction = clean(prediction)
    if len(set(truths)) > 1:
        truths = [normalize_answer(truth) for truth in truths]
        prediction = normalize_answer(prediction)
    records = [{**record, "answer": truth} for record, truth in zip(answers, truths, strict=True)]
    scores = [min(1.0, sum(other["answer"] == prediction for other in records if other != record) / 3) for record in records]
    return sum(scores) / len(scores)


def vqa_accuracy(predictions: Mapping[int, str], annotations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Official accuracy of a split: fractions in 0..1, overall, by answer type, by question type and per question.

    Raises:
        RequestError: the ids of the predictions are not those of the annotations.
    """
    check_ids(predictions, [record["question_id"] for record in annotations])
    per_question = {
        record["question_id"]: question_accuracy(predictions[record["question_id"]], record["answers"]) for record in annotations
    }
    by_answer_type, by_question_type = defaultdict(list), defaultdict(list)
    for record in annotations:
        by_answer_type[record["answer_type"]].append(per_question[record["question_id"]])
        by_question_type[record["question_type"]].append(per_question[record["question_id"]])
    return {
        "accuracy": mean(list(per_question.values())),
        "per_answer_type": {name: mean(scores) for name, scores in sorted(by_answer_type.items())},
        "per_question_type": {name: mean(scores) for name, scores in sorted(by_question_type.items())},
        "n": len(per_question),
        "per_question": per_question,
    }


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def check_ids(predictions: Mapping[int, str], expected: Sequence[int]) -> None:
    """Every question once, none beyond them."""
    repeated = [i for i, count in Counter(expected).items() if count > 1]
    missing, unknown = sorted(set(expected) - set(predictions)), sorted(set(predictions) - set(expected))
    problems = [
        f"{len(ids)} question ids {what} ({', '.join(map(str, ids[:3]))}{', ...' if len(ids) > 3 else ''})"
        for ids, what in ((missing, "without a prediction"), (unknown, "unknown to the annotations"),
                          (repeated, "twice in the annotations")) if ids
    ]  # fmt: skip
    if problems or not expected:
        raise RequestError("; ".join(problems) or "there are no annotations to score against")
