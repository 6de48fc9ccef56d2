"""The accuracy of one answer, as the evaluation programs of further datasets compute it.

Every function takes the predicted answer and the annotators' answers as the official file has them,
and returns a fraction in 0..1. VQA v2's own accuracy, which OK-VQA, AdVQA, VQA-CP v2 and
VQA-Rephrasings use too, is `metrics.vqa.question_accuracy`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

from vle_bench.metrics.numbers import mean
from vle_bench.metrics.vqa import (
    ACCURACIES,
    CONTRACTIONS,
    IN_WORDS,
    Accuracy,
    Record,
    normalize_answer,
)

ENOUGH = 3  # annotators with the same answer make it fully right


def leave_one_out(answer: str, truths: Sequence[str]) -> float:
    """Return the mean of min(1, matches among the other annotators / 3) over all annotators."""
    hits = [truth == answer for truth in truths]
    total = sum(hits)
    return mean([min(1.0, (total - hit) / ENOUGH) for hit in hits])


def gqa(prediction: str, answers: Sequence[str]) -> float:
    """Compare with the one right answer, character by character (GQA, `eval.py`)."""
    return float(prediction == answers[0])


def multiple_choice(prediction: str, answers: Sequence[str]) -> float:
    """Compare with the right choice, character by character (A-OKVQA, `eval_predictions.py`)."""
    return float(prediction == answers[0])


def direct_answer(prediction: str, answers: Sequence[str]) -> float:
    """Return min(1, matches / 3) over all annotators; nothing is normalised or left out.

    A-OKVQA, `evaluation/eval_predictions.py`.
    """
    return min(1.0, sum(answer == prediction for answer in answers) / ENOUGH)


def vizwiz(prediction: str, answers: Sequence[str]) -> float:
    """Compare the normalised prediction with the annotators' answers as they stand.

    VizWiz's `vqaEval.py` always normalises the prediction and never the annotators' answers: an
    answer that they gave as "Two" or "a cat" cannot be matched.
    """
    return leave_one_out(_of_vizwiz(prediction), answers)


def textvqa(prediction: str, answers: Sequence[str]) -> float:
    """Normalise the prediction and every annotator's answer (mmf, `TextVQAAccuracyEvaluator`)."""
    return leave_one_out(_of_textvqa(prediction), [_of_textvqa(answer) for answer in answers])


# VizWiz's copy of VQA's table of contractions has typographic apostrophes, but for these words.
_STRAIGHT_KEYS = {"couldn'tve", "hadn'tve"}
_STRAIGHT_VALUES = {"aint", "arent", "cant", "couldve", "couldnt", "weve", "wheres", "whove"}
VIZWIZ_CONTRACTIONS = {
    word if word in _STRAIGHT_KEYS else word.replace("'", "’"): (
        replacement if word in _STRAIGHT_VALUES else replacement.replace("'", "’")
    )
    for word, replacement in CONTRACTIONS.items()
}


@lru_cache(maxsize=1 << 17)
def _of_vizwiz(answer: str) -> str:
    return normalize_answer(answer, VIZWIZ_CONTRACTIONS)


@lru_cache(maxsize=1 << 17)
def _of_textvqa(answer: str) -> str:
    """Drop commas and question marks and part a possessive s first, as mmf's tokenizer does."""
    words = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return normalize_answer(words.strip())


def _of_records(accuracy: Callable[[str, Sequence[str]], float]) -> Accuracy:
    """Return the accuracy as a function of official records of answers."""

    def of_records(prediction: str, answers: Sequence[Record]) -> float:
        return accuracy(prediction, [record["answer"] for record in answers])

    return of_records


# Every accuracy that prepared data may name. Those of single datasets are not offered for others.
ALL_ACCURACIES: dict[str, Accuracy] = ACCURACIES | {
    "gqa": _of_records(gqa),
    "vizwiz": _of_records(vizwiz),
    "textvqa": _of_records(textvqa),
    "multiple_choice": _of_records(multiple_choice),
    "direct_answer": _of_records(direct_answer),
}
ALL_IN_WORDS = IN_WORDS | {
    "gqa": "equal to the one right answer, character by character",
    "vizwiz": "VQA v2's accuracy of the normalised answer, the annotators' as they stand",
    "textvqa": "VQA v2's accuracy, all answers normalised",
    "multiple_choice": "the right choice",
    "direct_answer": "min(1, n / 3), n equal direct answers, as they stand",
}
