"""The official VQA accuracy, bug for bug (GT-Vision-Lab/VQA, `vqaEval.py`), and plainer ones."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from numbers import Integral
from typing import TypedDict

from vle_bench.errors import RequestError, plural
from vle_bench.json_files import JsonObject, Record
from vle_bench.metrics.numbers import mean


def whole(value: object) -> int | None:
    """Return the whole number that an id equals, as Python compares: 11.0 is 11, true is 1."""
    if isinstance(value, Integral):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else None


def clean(answer: str) -> str:
    """Clean an answer, as the official program does first: line ends and tabs become spaces."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


# The same few strings come millions of times in a split; bounded, since files may hold any others.
_clean = lru_cache(maxsize=1 << 17)(clean)


def normalize_answer(answer: str, contractions: Mapping[str, str] | None = None) -> str:
    """Apply `clean` and normalise punctuation, digits, articles and contractions.

    The official program does this if the annotators differ.

    Args:
        contractions: word -> replacement; the official table if not given.
    """
    return normalize_words(normalize_punctuation(clean(answer)), contractions)


def normalize_punctuation(text: str, digit_comma: re.Pattern[str] | None = None) -> str:
    """Delete the marks of PUNCTUATION or turn them into spaces, and delete periods.

    Args:
        digit_comma: where it matches every mark is deleted; digit, comma, digit if not given.
    """
    spaced = (digit_comma or _DIGIT_COMMA).search(text) is not None
    result = text
    for mark in PUNCTUATION:
        delete = spaced or f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if delete else " ")
    return _PERIOD.sub("", result, count=MAX_PERIODS)


def normalize_words(text: str, contractions: Mapping[str, str] | None = None) -> str:
    """Lower the case, map digits and contractions and drop articles, word by word."""
    table = CONTRACTIONS if contractions is None else contractions
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(table.get(word, word) for word in words if word not in _ARTICLES)


_normal = lru_cache(maxsize=1 << 17)(normalize_answer)


def question_accuracy(prediction: str, answers: Sequence[Record]) -> float:
    """Return the accuracy in 0..1 of one prediction against the annotators' answers.

    Args:
        answers: official records with `answer` and anything that distinguishes two annotators, such
            as `answer_id`. Equal records do not count as each other's witnesses, as in the official
            program.
    """
    given = [record["answer"] for record in answers]
    read = _normal if len({_clean(answer) for answer in set(given)}) > 1 else _clean
    truths, prediction = [read(answer) for answer in given], read(prediction)
    if _all_differ(answers):
        return _leave_one_out(tuple([truth == prediction for truth in truths]))
    records = [{**record, "answer": truth} for record, truth in zip(answers, truths, strict=True)]
    scores = [
        min(1.0, sum(other["answer"] == prediction for other in records if other != record) / 3)
        for record in records
    ]
    return mean(scores)


def _all_differ(answers: Sequence[Record]) -> bool:
    """Return whether the ids alone show that no two records are equal, to save comparing pairs."""
    try:
        return len({record["answer_id"] for record in answers}) == len(answers)
    except (KeyError, TypeError):  # a record without an id, a list as an id
        return False


@lru_cache(maxsize=1 << 12)
def _leave_one_out(hits: tuple[bool, ...]) -> float:
    """Return the mean of min(1, hits among the other annotators / 3), in the annotators' order."""
    total = sum(hits)
    return mean([min(1.0, (total - hit) / 3) for hit in hits])


def in_vocabulary(label: int, label_ids: Sequence[int], label_scores: Sequence[float]) -> float:
    """Return the soft target (0, 0.3, 0.6, 0.9 or 1) of the predicted class.

    This is not the official accuracy, which has no vocabulary.

    Args:
        label_ids, label_scores: classes of the annotators' answers and their targets, see
            `soft_target`.
    """
    return next(
        (score for known, score in zip(label_ids, label_scores, strict=True) if known == label), 0.0
    )


def exact_accuracy(prediction: str, answers: Sequence[Record]) -> float:
    """Return 1 for a prediction that equals one of the answers, both normalised, else 0."""
    return float(_matches(prediction, answers) > 0)


def soft_accuracy(prediction: str, answers: Sequence[Record]) -> float:
    """Return min(1, n / 3), n answers equal to the prediction, all normalised.

    The official accuracy leaves one annotator out at a time and needs ten; this is its plain form
    for any number of answers, as A-OKVQA's direct answers are scored.
    """
    return min(1.0, _matches(prediction, answers) / 3)


def _matches(prediction: str, answers: Sequence[Record]) -> int:
    read = _normal(prediction)
    return sum(_normal(record["answer"]) == read for record in answers)


OFFICIAL, EXACT, SOFT = "vqa", "exact", "soft"
Accuracy = Callable[[str, Sequence[Record]], float]  # prediction, annotators' answers → 0..1
# The accuracy of a question by the name that a manifest and a record give to it, for any data;
# `metrics.answers` has those of single datasets too.
ACCURACIES: dict[str, Accuracy] = {
    OFFICIAL: question_accuracy,
    EXACT: exact_accuracy,
    SOFT: soft_accuracy,
}

IN_WORDS = {
    OFFICIAL: "the official accuracy of VQA v2, ten answers a question",
    EXACT: "equal to the answer, both normalised",
    SOFT: "min(1, n / 3), n equal answers, all normalised",
}


class VQAAccuracies(TypedDict):
    """Fractions in 0..1, and the number of questions."""

    accuracy: float
    per_answer_type: dict[str, float]
    per_question_type: dict[str, float]
    n: int
    per_question: dict[int, float]


def vqa_accuracy(
    predictions: Mapping[int, str],
    annotations: Sequence[Record],
    accuracy: Accuracy = question_accuracy,
) -> VQAAccuracies:
    """Return the accuracy of a split: the official one, or another.

    Raises:
        RequestError: the ids of the predictions are not those of the annotations.
    """
    check_ids(predictions, [record["question_id"] for record in annotations])
    per_question = {
        record["question_id"]: accuracy(predictions[record["question_id"]], record["answers"])
        for record in annotations
    }
    by_answer_type, by_question_type = defaultdict(list), defaultdict(list)
    for record in annotations:
        by_answer_type[record["answer_type"]].append(per_question[record["question_id"]])
        by_question_type[record["question_type"]].append(per_question[record["question_id"]])
    return {
        "accuracy": mean(list(per_question.values())),
        "per_answer_type": {name: mean(scores) for name, scores in sorted(by_answer_type.items())},
        "per_question_type": {
            name: mean(scores) for name, scores in sorted(by_question_type.items())
        },
        "n": len(per_question),
        "per_question": per_question,
    }


def check_ids(predictions: Mapping[int, str], expected: Sequence[int]) -> None:
    """Refuse ids that are missing, unknown or repeated."""
    repeated = [i for i, count in Counter(expected).items() if count > 1]
    missing, unknown = (
        sorted(set(expected) - set(predictions)),
        sorted(set(predictions) - set(expected)),
    )
    problems = [
        f"{plural(len(ids), 'question id')} {what} ({', '.join(map(str, ids[:3]))}"
        f"{', ...' if len(ids) > 3 else ''})"
        for ids, what in (
            (missing, "without a prediction"),
            (unknown, "unknown to the annotations"),
            (repeated, "twice in the annotations"),
        )
        if ids
    ]
    if problems or not expected:
        raise RequestError("; ".join(problems) or "there are no annotations to score against")


PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
# The official program passes a flag as `count` of `re.sub`: re.UNICODE is 32, so the 33rd period
# stays.
MAX_PERIODS = 32
_PERIOD = re.compile(r"(?!<=\d)\.(?!\d)")
_DIGIT_COMMA = re.compile(r"\d,\d")
_NUMBERS = dict(
    zip(
        "none zero one two three four five six seven eight nine ten".split(),
        "0 0 1 2 3 4 5 6 7 8 9 10".split(),
        strict=True,
    )
)
_ARTICLES = {"a", "an", "the"}

# The official table of contractions with its oddities: `somebody'd` loses its apostrophe, `Im`
# cannot match because words are lower-cased first. word=replacement.
_CONTRACTED = """
aint=ain't arent=aren't cant=can't couldve=could've couldnt=couldn't couldn'tve=couldn't've
couldnt've=couldn't've didnt=didn't doesnt=doesn't dont=don't hadnt=hadn't hadnt've=hadn't've
hadn'tve=hadn't've hasnt=hasn't havent=haven't hed=he'd hed've=he'd've he'dve=he'd've hes=he's
howd=how'd howll=how'll hows=how's Id've=I'd've I'dve=I'd've Im=I'm Ive=I've isnt=isn't itd=it'd
itd've=it'd've it'dve=it'd've itll=it'll let's=let's maam=ma'am mightnt=mightn't
mightnt've=mightn't've mightn'tve=mightn't've mightve=might've mustnt=mustn't mustve=must've
neednt=needn't notve=not've oclock=o'clock oughtnt=oughtn't ow's'at='ow's'at 'ows'at='ow's'at
'ow'sat='ow's'at shant=shan't shed've=she'd've she'dve=she'd've she's=she's shouldve=should've
shouldnt=shouldn't shouldnt've=shouldn't've shouldn'tve=shouldn't've somebody'd=somebodyd
somebodyd've=somebody'd've somebody'dve=somebody'd've somebodyll=somebody'll somebodys=somebody's
someoned=someone'd someoned've=someone'd've someone'dve=someone'd've someonell=someone'll
someones=someone's somethingd=something'd somethingd've=something'd've
something'dve=something'd've somethingll=something'll thats=that's thered=there'd
thered've=there'd've there'dve=there'd've therere=there're theres=there's theyd=they'd
theyd've=they'd've they'dve=they'd've theyll=they'll theyre=they're theyve=they've twas='twas
wasnt=wasn't wed've=we'd've we'dve=we'd've weve=we've werent=weren't whatll=what'll
whatre=what're whats=what's whatve=what've whens=when's whered=where'd wheres=where's
whereve=where've whod=who'd whod've=who'd've who'dve=who'd've wholl=who'll whos=who's
whove=who've whyll=why'll whyre=why're whys=why's wont=won't wouldve=would've wouldnt=wouldn't
wouldnt've=wouldn't've wouldn'tve=wouldn't've yall=y'all yall'll=y'all'll y'allll=y'all'll
yall'd've=y'all'd've y'alld've=y'all'd've y'all'dve=y'all'd've youd=you'd youd've=you'd've
you'dve=you'd've youll=you'll youre=you're youve=you've
"""
CONTRACTIONS = dict(pair.split("=") for pair in _CONTRACTED.split())
NUMBER_OF_ANSWERS = 10  # official: every question was answered by ten people
NUMBERED = "answers without answer_id are numbered by their place"


def lack_ids(answers: list[JsonObject]) -> bool:
    """Return whether an answer lacks an answer_id, which separates equal answers of two people."""
    return any(answer.get("answer_id") is None for answer in answers)


def problem_of_repeated_id(answers: Sequence[Record]) -> str | None:
    """Describe the first answer_id that two answers share; None if all differ.

    The official program would take equal records for one annotator's, none of which counts for the
    others: ten right answers of one id score 0.
    """
    if _all_differ(answers):
        return None
    ids = [record["answer_id"] for record in answers]
    repeated = next((one for place, one in enumerate(ids) if one in ids[:place]), None)
    if repeated is None:
        return None
    return (
        f"answers: answer_id {repeated} occurs twice; give each answer its own, or none: then they "
        "are numbered by their place"
    )


def numbered(answers: list[JsonObject]) -> list[JsonObject]:
    """Return the answers with their position, from 1, as answer_id."""
    return [{**answer, "answer_id": place} for place, answer in enumerate(answers, 1)]
