"""The probes' scores against plain loops."""

import numpy as np
import pytest

from vle_bench.metrics.probes import chance, first_above, overlap, pointing, preferred

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(40, 9))
TRUTH = RNG.random((40, 9)) < 0.3
CHOSEN = RNG.random((40, 9)) < 0.4


def test_a_pair_is_right_if_the_right_text_scores_higher_and_half_right_in_a_tie():
    assert preferred(np.array([2.0, 1.0, 3.0]), np.array([1.0, 2.0, 3.0])).tolist() == [1, 0, 0.5]


def test_pointing_is_whether_the_best_patch_is_in_the_box():
    expected = []
    for scores, truth in zip(SCORES, TRUTH, strict=True):
        best = 0
        for patch, score in enumerate(scores):
            if score > scores[best]:
                best = patch
        expected.append(1.0 if truth[best] else 0.0)
    assert pointing(SCORES, TRUTH).tolist() == expected
    assert 0 < sum(expected) < 40


def test_overlap_is_intersection_over_union():
    expected = []
    for chosen, truth in zip(CHOSEN, TRUTH, strict=True):
        one, other = set(np.flatnonzero(chosen)), set(np.flatnonzero(truth))
        expected.append(len(one & other) / len(one | other) if one | other else 0.0)
    assert overlap(CHOSEN, TRUTH) == pytest.approx(expected)
    assert overlap(np.zeros((1, 4), bool), np.zeros((1, 4), bool)).tolist() == [0.0]


def test_chance_is_the_share_of_patches():
    assert chance(TRUTH) == pytest.approx([sum(row) / 9 for row in TRUTH.tolist()])
    random_hits = [TRUTH[np.arange(40), RNG.integers(0, 9, 40)].mean() for _ in range(2000)]
    assert np.mean(random_hits) == pytest.approx(chance(TRUTH).mean(), abs=0.01)


def test_the_first_step_at_the_target():
    curve = [(50, 0.25), (100, 0.899), (150, 0.9), (200, 0.8)]
    assert first_above(curve, 0.9) == 150
    assert first_above(curve, 0.91) is None and first_above([], 0.5) is None
