"""Calibration, confusion and mistakes against figures worked out by hand."""

import math

import numpy as np
import pytest

from vle_bench.metrics.error_analysis import (
    calibration,
    confident_mistakes,
    confusion,
    most_frequent,
)


def test_calibration_by_hand():
    confidence, score = np.array([0.1, 0.15, 0.6, 0.65, 1.0]), np.array([0.0, 1.0, 1.0, 0.3, 1.0])
    error, bins = calibration(confidence, score)
    assert [b["n"] for b in bins] == [0, 2, 0, 0, 0, 0, 2, 0, 0, 1]
    # 0.1 and 0.6 belong to the bins they open, 1 to the last
    second, seventh, last = (bins[k] for k in (1, 6, 9))
    assert (second["confidence"], second["score"]) == pytest.approx((0.125, 0.5))
    assert (seventh["confidence"], seventh["score"]) == pytest.approx((0.625, 0.65))
    assert (last["confidence"], last["score"]) == (1, 1)
    assert bins[0] == {"low": 0.0, "high": 0.1, "n": 0, "confidence": None, "score": None}
    # (2 × |0.125 − 0.5| + 2 × |0.625 − 0.65| + 0) / 5
    assert error == pytest.approx((2 * 0.375 + 2 * 0.025) / 5)


def test_every_tenth_opens_its_bin():
    tenths = np.arange(10) / 10
    assert [b["n"] for b in calibration(tenths, np.zeros(10))[1]] == [1] * 10


@pytest.mark.parametrize("wrong", [[], [-0.1], [1.1], [math.nan]])
def test_what_is_no_probability_is_refused(wrong):
    with pytest.raises(ValueError, match="confidence: one or more figures"):
        calibration(np.array(wrong), np.zeros(len(wrong)))


def test_the_most_frequent_come_first_and_ties_alphabetically():
    assert most_frequent(["b", "c", "a", "c", "d", "b"], 3) == ["b", "c", "a"]


def test_confusion_by_hand():
    found = confusion(
        ["yes", "yes", "no", "red", "no"], ["yes", "no", "no", "yes", "blue"], ["yes", "no"]
    )
    assert found.tolist() == [[1, 1, 0], [0, 1, 1], [1, 0, 0]]


def test_confident_mistakes_are_those_without_any_score_and_ties_go_by_id():
    confidence, score = (
        np.array([0.9, 0.5, 0.9, 0.99, 0.95, 0.9]),
        np.array([0.0, 0.0, 0.0, 0.3, 1.0, 0.0]),
    )
    assert confident_mistakes([7, 1, 3, 4, 5, 6], confidence, score, 3) == ([2, 5, 0], 4)
    assert confident_mistakes(["b", "x", "c", "c", "d", "a"], confidence, score, 9) == (
        [5, 0, 2, 1],
        4,
    )
    assert confident_mistakes([1], np.array([0.5]), np.array([1.0]), 9) == ([], 0)
