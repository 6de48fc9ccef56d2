"""The official VQA accuracy, bug for bug (GT-Vision-Lab/VQA, `vqaEval.py`)."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from vle_bench.errors import RequestError
from vle_bench.metrics.sums import mean
from vle_bench.vqa_answers import clean, normalize_answer

# The same few strings come millions of times in a split; bounded, because a file from anywhere may hold other ones.
_clean = lru_cache(maxsize=1 << 17)(clean)
_normal = lru_cache(maxsize=1 << 17)(normalize_answer)


def question_accuracy(prediction: str, answers: Sequence[Mapping[str, Any]]) -> float:
    """Accuracy in 0..1 of one prediction against the annotators' answers.

    Args:
        answers: official records with `answer` and whatever tells two annotators apart (`answer_id`); records that are wholly
            equal do not count as each other's witnesses, as in the official program.
    """
    given = [record["answer"] for record in answers]
    read = _normal if len({_clean(answer) for answer in set(given)}) > 1 else _clean
    truths, prediction = [read(answer) for answer in given], read(prediction)
    if _all_differ(answers):
        return _leave_one_out(tuple([truth == prediction for truth in truths]))
    records = [{**record, "answer": truth} for record, truth in zip(answers, truths, strict=True)]
    scores = [min(1.0, sum(other["answer"] == prediction for other in records if other != record) / 3) for record in records]
    return mean(scores)


def _all_differ(answers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the ids alone show that no two records are equal, so that records need no comparison in pairs."""
    try:
        return len({record["answer_id"] for record in answers}) == len(answers)
    except (KeyError, TypeError):  # a record without an id, a list as an id
        return False


@lru_cache(maxsize=1 << 12)
def _leave_one_out(hits: tuple[bool, ...]) -> float:
    """Accuracy where every other annotator is a witness: the mean, in their order, of min(1, hits among the others / 3)."""
    total = sum(hits)
    return mean([min(1.0, (total - hit) / 3) for hit in hits])


def in_vocabulary(label: int, label_ids: Sequence[int], label_scores: Sequence[float]) -> float:
    """The soft target (0, 0.3, 0.6, 0.9 or 1) of the class predicted; not the official accuracy, which has no vocabulary.

    Args:
        label_ids, label_scores: the classes among the annotators' answers and their targets (`soft_target`).
    """
    return next((score for known, score in zip(label_ids, label_scores, strict=True) if known == label), 0.0)


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
