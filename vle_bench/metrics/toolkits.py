"""The VQA accuracy that other toolkits print, as departures from the official program.

Each toolkit is a set of rules. Replacing the official rules by a toolkit's one after the other
tells which of them moves a question's score. The rules were read in these public files:

- lmms-eval: EvolvingLMMs-Lab/lmms-eval, `lmms_eval/tasks/vqav2/utils.py` (commit 79938359) and
  `lmms_eval/tasks/_task_utils/vqa_eval_metric.py` (61e5060b).
- VLMEvalKit: open-compass/VLMEvalKit, `vlmeval/dataset/utils/vqa_eval.py` (0a04a1d2), the method
  `vqa_score`, with `vlmeval/smp/misc.py` (06d45c58). It has no VQA v2; TextVQA is scored so.
- LAVIS: salesforce/LAVIS, `lavis/common/vqa_tools/vqa_eval.py` (200ac172).
- mmf: facebookresearch/mmf, `mmf/modules/metrics.py` (089d9f37), `vqa_evalai_accuracy`, with
  `mmf/datasets/processors/processors.py` (06026b66), `EvalAIAnswerProcessor`. Its other metric,
  `vqa_accuracy`, looks a class up in soft targets, so that it cannot be had from answers.
- mmpretrain: open-mmlab/mmpretrain, `mmpretrain/evaluation/metrics/vqa.py` (0f3fcae6), `VQAAcc`,
  with the weights of `mmpretrain/datasets/coco_vqa.py` (0f3fcae6).

Their tables of punctuation, digits, articles and contractions are the official ones, and so is
their regular expression of periods with its limit of 32. What differs is below.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Literal

from vle_bench.metrics.answers import leave_one_out
from vle_bench.metrics.numbers import add, mean
from vle_bench.metrics.vqa import clean, normalize_punctuation, normalize_words

Which = Literal["none", "prediction", "all"]  # of the answers of a question
FULL_WEIGHT = 0.3  # mmpretrain: the share of the annotators that makes an answer fully right


@dataclass(frozen=True)
class Rules:
    """A program's comparison of a prediction with the annotators' answers; the official by default.

    The order of the fields is the order in which the official rules are replaced.

    Args:
        if_unanimous: the answers that are normalised although all annotators gave the same one.
        words_mapped: in the annotators' answers capitals, digits, articles and contractions are
            mapped too, not punctuation alone.
        cleaned: line ends and tabs of the annotators' answers become spaces, outer ones go.
        tokenized: the answers whose commas and question marks are deleted, and whose possessive s
            is parted from its word, before they are normalised.
        many_commas: several commas between two digits count as one, as in "1,,000".
        one_left_out: the mean of min(1, matches / 3) over the annotators, each left out once; else
            min(1, share of matches / 0.3).
    """

    if_unanimous: Which = "none"
    words_mapped: bool = True
    cleaned: bool = True
    tokenized: Which = "none"
    many_commas: bool = False
    one_left_out: bool = True


@dataclass(frozen=True)
class Toolkit:
    """A toolkit whose figure `score vqa --as` computes.

    Args:
        title: its name in tables, and the metric if it has several.
        source: repository, file and commit.
    """

    title: str
    source: str
    rules: Rules


OFFICIAL_RULES = Rules()
TOOLKITS: dict[str, Toolkit] = {
    "lmms-eval": Toolkit(
        "lmms-eval",
        "EvolvingLMMs-Lab/lmms-eval lmms_eval/tasks/vqav2/utils.py 79938359",
        Rules(if_unanimous="prediction", tokenized="prediction", many_commas=True),
    ),
    "vlmevalkit": Toolkit(
        "VLMEvalKit (vqa_score)",
        "open-compass/VLMEvalKit vlmeval/dataset/utils/vqa_eval.py 0a04a1d2",
        Rules(if_unanimous="all"),
    ),
    "lavis": Toolkit(
        "LAVIS",
        "salesforce/LAVIS lavis/common/vqa_tools/vqa_eval.py 200ac172",
        Rules(if_unanimous="prediction", cleaned=False, words_mapped=False),
    ),
    "mmf": Toolkit(
        "mmf (vqa_evalai_accuracy)",
        "facebookresearch/mmf mmf/modules/metrics.py 089d9f37",
        Rules(if_unanimous="all", tokenized="all"),  # no comma is left for `many_commas`
    ),
    "mmpretrain": Toolkit(
        "mmpretrain (VQAAcc)",
        "open-mmlab/mmpretrain mmpretrain/evaluation/metrics/vqa.py 0f3fcae6",
        Rules(if_unanimous="all", one_left_out=False),
    ),
}

# Field and value of a departure -> the reason, as it is printed
REASONS: dict[tuple[str, Which | bool], str] = {
    ("if_unanimous", "prediction"): (
        "the prediction is normalised although all annotators agree, and their answer is not"
    ),
    ("if_unanimous", "all"): "all answers are normalised although all annotators agree",
    ("cleaned", False): "tabs, line ends and outer blanks of the annotators' answers are kept",
    ("words_mapped", False): (
        "capitals, digits, articles and contractions of the annotators' answers are never mapped"
    ),
    ("tokenized", "prediction"): (
        "commas and question marks go and a possessive s is parted, in the prediction alone"
    ),
    ("tokenized", "all"): "commas and question marks go and a possessive s is parted, everywhere",
    ("many_commas", True): "several commas between digits are deleted as one is",
    ("one_left_out", False): "no annotator is left out: the share of matches / 0.3, at most 1",
}

_MANY_COMMAS = re.compile(r"(?<=\d),+(?=\d)")


def accuracy_under(rules: Rules, prediction: str, answers: Sequence[str]) -> float:
    """Return the accuracy in 0..1 of one prediction under a program's rules.

    Args:
        answers: the annotators', as the official file has them, each of another annotator.
    """
    given = [_clean(answer) for answer in answers] if rules.cleaned else list(answers)
    unanimous = len(set(given)) == 1
    read = _prediction_as_read(rules, prediction, unanimous)
    read_as = {one: _truth_as_read(rules, one, unanimous) for one in set(given)}
    if rules.one_left_out:
        return leave_one_out(read, [read_as[one] for one in given])
    shares = (n / len(given) for one, n in Counter(given).items() if read_as[one] == read)
    return min(1.0, add(shares) / FULL_WEIGHT)


def departures(rules: Rules, prediction: str, answers: Sequence[str]) -> dict[str, float]:
    """Return reason -> change of a question's accuracy, of the departures that move it.

    The rules replace the official ones in the order of their fields, so that the changes add up to
    the difference of the two accuracies.
    """
    so_far, changes = OFFICIAL_RULES, {}
    before = accuracy_under(so_far, prediction, answers)
    for field in fields(Rules):
        value = getattr(rules, field.name)
        if value == getattr(so_far, field.name):
            continue
        so_far = replace(so_far, **{field.name: value})
        after = accuracy_under(so_far, prediction, answers)
        if after != before:
            changes[REASONS[field.name, value]] = after - before
        before = after
    return changes


@dataclass(frozen=True)
class Difference:
    """A question whose accuracy is another in a toolkit.

    Args:
        official, theirs: fractions in 0..1.
        changes: see `departures`; at least one.
    """

    question_id: int
    prediction: str
    answers: Sequence[str]
    official: float
    theirs: float
    changes: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """The accuracy in 0..1 that a toolkit prints for `n` questions, and where it differs."""

    accuracy: float
    n: int
    differences: list[Difference]

    def by_reason(self) -> dict[str, list[Difference]]:
        """Return reason -> the questions that it moves, the most frequent reason first."""
        groups: dict[str, list[Difference]] = {}
        for difference in self.differences:
            for reason in difference.changes:
                groups.setdefault(reason, []).append(difference)
        return dict(sorted(groups.items(), key=lambda item: -len(item[1])))

    def moved(self, reason: str) -> float:
        """Return by how much a reason moves the accuracy of all questions."""
        return add(one.changes.get(reason, 0.0) for one in self.differences) / self.n


def compare(
    rules: Rules, predictions: Mapping[int, str], answers: Mapping[int, Sequence[str]]
) -> Comparison:
    """Compare a toolkit's accuracy with the official one, question by question.

    Args:
        predictions: question id -> answer.
        answers: question id -> the annotators' answers; the same ids.
    """
    scores, differences = [], []
    for question_id, given in answers.items():
        prediction = predictions[question_id]
        official = accuracy_under(OFFICIAL_RULES, prediction, given)
        theirs = accuracy_under(rules, prediction, given)
        scores.append(theirs)
        if theirs != official:
            changes = departures(rules, prediction, given)
            differences.append(
                Difference(question_id, prediction, given, official, theirs, changes)
            )
    return Comparison(mean(scores), len(scores), differences)


_clean = lru_cache(maxsize=1 << 17)(clean)


@lru_cache(maxsize=1 << 17)
def _prediction_as_read(rules: Rules, prediction: str, unanimous: bool) -> str:
    """Read the prediction; lmms-eval normalises it a second time if the annotators differ.

    The second time moves nothing but answers of more than 32 periods.
    """
    text = clean(prediction)
    if unanimous and rules.if_unanimous == "none":
        return text
    if rules.tokenized != "none":
        text = _tokenized(text)
    once = _normalized(rules, text)
    twice = rules.tokenized == "prediction" and not unanimous
    return _normalized(rules, once) if twice else once


@lru_cache(maxsize=1 << 17)
def _truth_as_read(rules: Rules, answer: str, unanimous: bool) -> str:
    text = clean(answer) if rules.cleaned else answer
    if unanimous and rules.if_unanimous != "all":
        return text
    if rules.tokenized == "all":
        text = _tokenized(text)
    if not rules.words_mapped:
        return normalize_punctuation(text)
    return _normalized(rules, text)


def _tokenized(text: str) -> str:
    """Delete commas and question marks and part a possessive s, as mmf's `word_tokenize` does."""
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()


def _normalized(rules: Rules, text: str) -> str:
    pattern = _MANY_COMMAS if rules.many_commas else None
    return normalize_words(normalize_punctuation(clean(text), pattern))
