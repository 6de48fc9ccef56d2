"""Average precision and F1 against plain versions that go through every threshold."""

import random

import pytest

from vle_bench.metrics.answerability import average_precision, f1


def plain_average_precision(truths, scores):
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [truth for truth, score in zip(truths, scores, strict=True) if score >= threshold]
        precision, recall = sum(chosen) / len(chosen), sum(chosen) / sum(truths)
        total += (recall - recall_before) * precision
        recall_before = recall
    return total


def plain_f1(truths, scores):
    pairs = [(truth, score > 0.5) for truth, score in zip(truths, scores, strict=True)]
    right = pairs.count((True, True))
    precision = right / max(1, right + pairs.count((False, True)))
    recall = right / max(1, right + pairs.count((True, False)))
    return 2 * precision * recall / (precision + recall) if right else 0.0


def test_generated_questions():
    for seed in range(300):
        draw = random.Random(seed)
        truths = [True, *(draw.random() < 0.3 for _ in range(draw.randint(1, 40)))]
        scores = [
            round(draw.random(), draw.choice([1, 6])) for _ in truths
        ]  # with and without ties
        expected = plain_average_precision(truths, scores)
        assert average_precision(truths, scores) == pytest.approx(expected, abs=1e-12)
        assert f1(truths, scores) == pytest.approx(plain_f1(truths, scores), abs=1e-12)


def test_by_hand():
    # thresholds 0.8, 0.4, 0.35, 0.1: precision 1, 1/2, 2/3, 1/2 at recall 1/2, 1/2, 1, 1
    truths, scores = [False, False, True, True], [0.1, 0.4, 0.35, 0.8]
    assert average_precision(truths, scores) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert f1(truths, scores) == pytest.approx(
        2 / 3
    )  # one right of one chosen and two to be chosen
    assert f1([True, False], [0.5, 0.5]) == 0.0  # not above the threshold
    assert average_precision([True, False], [0.2, 0.2]) == 0.5
