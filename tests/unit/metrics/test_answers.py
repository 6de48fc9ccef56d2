"""Accuracies of further datasets against plain implementations of their programs' descriptions.

The plain versions are written for these tests: they count with loops and rebuild the texts step by step.
"""

import itertools
import random
import re

import pytest

from vle_bench.metrics.answers import (
    VIZWIZ_CONTRACTIONS,
    direct_answer,
    gqa,
    textvqa,
    vizwiz,
)
from vle_bench.metrics.consensus import consensus_scores
from vle_bench.metrics.vqa import CONTRACTIONS

CASES = 400
PARTS = (
    "two 2 ten the a an yes no Yes cat cats red, t-shirt black/white 5.5 p.m. 1,000 10:30 $5 dont don't don’t "
    "couldn'tve wheres what's joe's Joe's? stop! (c) none No.1 hi;you é unanswerable unsuitable\tx y\nz . ... - @ `"
).split(" ")


def pool(seed, size=3):
    """A few answers of one to three words, among which ten annotators and a model choose."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(PARTS, k=draw.randint(1, 3))) for _ in range(size)]


def cases():
    for seed in range(CASES):
        draw = random.Random(1000 + seed)
        answers = pool(seed)
        truths = draw.choices([*answers, *(a.lower() for a in answers), "cat"], k=10)
        yield (
            draw.choice([*answers, "cat", truths[0], truths[0].upper(), f" {truths[3]}\n"]),
            truths,
        )


def plain_normal(text, contractions):
    text = re.sub(r"[\n\t]", " ", text).strip(" \r\x0b\x0c")
    comma = re.search(r"[0-9],[0-9]", text)
    out = text
    for mark in [
        ";",
        "/",
        "[",
        "]",
        '"',
        "{",
        "}",
        "(",
        ")",
        "=",
        "+",
        "\\",
        "_",
        "-",
        ">",
        "<",
        "@",
        "`",
        ",",
        "?",
        "!",
    ]:
        beside_space = any(
            text[i] == mark and ((i and text[i - 1] == " ") or text[i + 1 : i + 2] == " ")
            for i in range(len(text))
        )
        out = "".join(("" if beside_space or comma else " ") if c == mark else c for c in out)
    kept, removed = [], 0
    for i, character in enumerate(out):
        if character == "." and not out[i + 1 : i + 2].isdigit() and removed < 32:
            removed += 1
        else:
            kept.append(character)
    numbers = {
        w: str(n)
        for n, w in enumerate("zero one two three four five six seven eight nine ten".split())
    }
    words = [numbers.get(w, "0" if w == "none" else w) for w in "".join(kept).lower().split()]
    return " ".join(contractions.get(w, w) for w in words if w not in ("a", "an", "the"))


def plain_leave_one_out(answer, truths):
    scores = []
    for out in range(len(truths)):
        matches = 0
        for i, truth in enumerate(truths):
            if i != out and truth == answer:
                matches += 1
        scores.append(1.0 if matches >= 3 else matches / 3)
    total = 0.0
    for score in scores:
        total += score
    return total / len(scores)


def test_vizwiz():
    seen = set()
    for prediction, truths in cases():
        expected = plain_leave_one_out(plain_normal(prediction, VIZWIZ_CONTRACTIONS), truths)
        assert vizwiz(prediction, truths) == expected, (prediction, truths)
        seen.add(round(expected, 3))
    assert {0.0, 0.3, 0.6, 0.9, 1.0} <= seen


@pytest.mark.parametrize(
    ("prediction", "truth", "score"),
    [
        ("Two", "2", 1.0),
        ("2", "two", 0.0),  # the annotators' answers are never normalised
        ("the cat", "cat", 1.0),
        ("cat", "the cat", 0.0),
        ("dont", "don't", 0.0),  # its table has a typographic apostrophe here,
        ("dont", "don’t", 1.0),
        ("cant", "can't", 1.0),  # and none here
        ("unanswerable", "unanswerable", 1.0),
    ],
)
def test_what_vizwiz_normalises(prediction, truth, score):
    assert vizwiz(prediction, [truth] * 10) == score


def test_vizwiz_counts_equal_answers_of_two_people_as_two():
    assert (
        vizwiz("cat", ["cat", "cat", *"abcdefgh"])
        == plain_leave_one_out("cat", ["cat", "cat", *"abcdefgh"])
        > 0
    )


def test_the_table_of_vizwiz():
    typographic = {w: r for w, r in VIZWIZ_CONTRACTIONS.items() if "’" in w + r}
    assert len(VIZWIZ_CONTRACTIONS) == len(CONTRACTIONS) and len(typographic) > 100
    assert (
        VIZWIZ_CONTRACTIONS["couldn'tve"] == "couldn’t’ve"
        and VIZWIZ_CONTRACTIONS["weve"] == "we've"
    )
    assert (
        VIZWIZ_CONTRACTIONS["somebody’d"] == "somebodyd"
        and VIZWIZ_CONTRACTIONS["hadnt’ve"] == "hadn’t’ve"
    )


def plain_textvqa(answer):
    lowered = "".join(c for c in answer.lower() if c not in ",?")
    return plain_normal(lowered.replace("'s", " 's").strip(), CONTRACTIONS)


def test_textvqa():
    seen = set()
    for prediction, truths in cases():
        expected = plain_leave_one_out(
            plain_textvqa(prediction), [plain_textvqa(t) for t in truths]
        )
        assert textvqa(prediction, truths) == expected, (prediction, truths)
        seen.add(round(expected, 3))
    assert {0.0, 0.3, 0.6, 0.9, 1.0} <= seen


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        ("2", "Two"),
        ("1000", "1,000"),
        ("joe 's", "Joe's"),
        ("what", "What?"),
        ("yes", "Yes"),
        ("t shirt", "t-shirt"),
    ],
)
def test_textvqa_always_normalises_both(prediction, truth):
    assert textvqa(prediction, [truth] * 10) == textvqa(truth, [prediction] * 10) == 1.0


def test_gqa():
    for prediction, truths in cases():
        same = len(prediction) == len(truths[0]) and all(
            a == b for a, b in zip(prediction, truths[0], strict=True)
        )
        assert gqa(prediction, truths[:1]) == (1.0 if same else 0.0)
    assert gqa("Yes", ["yes"]) == gqa("yes ", ["yes"]) == 0.0


def test_direct_answers():
    seen = set()
    for prediction, truths in cases():
        matches = len([t for t in truths if t == prediction])
        expected = {0: 0.0, 1: 1 / 3, 2: 2 / 3}.get(matches, 1.0)
        assert direct_answer(prediction, truths) == expected
        seen.add(expected)
    assert seen == {0.0, 1 / 3, 2 / 3, 1.0}


def plain_consensus(groups, k):
    shares = []
    for scores in groups:
        if len(scores) < 4:
            continue
        subsets = list(itertools.combinations(scores, k))
        shares.append(
            sum(1.0 for subset in subsets if all(score != 0 for score in subset)) / len(subsets)
        )
    total = 0.0
    for share in shares:
        total += share
    return total / len(shares)


def test_consensus():
    for seed in range(CASES):
        draw = random.Random(seed)
        groups = [
            draw.choices([0.0, 0.3, 0.6, 1.0], k=draw.choice([3, 4, 4, 5]))
            for _ in range(draw.randint(1, 9))
        ] + [[0.0, 0.3, 1.0, 1.0]]
        assert consensus_scores(groups) == {k: plain_consensus(groups, k) for k in (1, 2, 3, 4)}


def test_consensus_of_one_group():
    assert consensus_scores([[1.0, 0.3, 0.0, 1.0]]) == {1: 3 / 4, 2: 3 / 6, 3: 1 / 4, 4: 0.0}
    assert consensus_scores([[1.0, 1.0, 1.0]]) == {}
