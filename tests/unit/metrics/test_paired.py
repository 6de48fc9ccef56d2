"""Differences of two runs: against cases that can be computed by hand, and the same seen from the other side."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from vle_bench.metrics import paired
from vle_bench.metrics.paired import binomial_p, differences, draws, mcnemar, p_value


def all_of(a, b, images, **options):
    a, b = np.array(a, float), np.array(b, float)
    (found,) = differences(a, b, np.array(images), [np.ones(len(a), bool)], **options)
    return found


def test_two_images_by_hand():
    """Four equally likely draws of two images: the mean difference is 1, 0.5, 0.5 or −1, as the first has three examples."""
    found = all_of([0, 0, 0, 1], [1, 1, 1, 0], [7, 7, 7, 9])
    assert (found.n, found.a, found.b, found.value) == (4, 0.25, 0.75, 0.5)
    assert found.interval == (-1.0, 1.0)
    assert found.p == pytest.approx(2 * 0.25, abs=0.02)  # a quarter of the draws lies below 0
    three = all_of([0, 0], [1, 0], [1, 2])  # 1, 0.5, 0.5, 0: those at none count on both sides
    assert three.interval == (0.0, 1.0) and three.p == pytest.approx(0.5, abs=0.02)


def test_the_draws_are_whole_images_as_many_as_there_are():
    weights = np.concatenate(list(draws(5, 0, 1000)))
    assert weights.shape == (1000, 5) and (weights.sum(1) == 5).all()
    assert weights.mean(0) == pytest.approx(np.ones(5), abs=0.1)  # each as often as another
    assert (weights == 0).mean() == pytest.approx((1 - 1 / 5) ** 5, abs=0.03)  # with replacement


def test_questions_of_one_image_go_together():
    rng = np.random.default_rng(3)
    a, b = rng.random(40), rng.random(40)
    alone = all_of(a, b, np.arange(40))
    tenfold = all_of(np.repeat(a, 10), np.repeat(b, 10), np.repeat(np.arange(40), 10))
    assert tenfold.interval == pytest.approx(alone.interval) and tenfold.p == alone.p
    as_if_apart = all_of(np.repeat(a, 10), np.repeat(b, 10), np.arange(400))
    assert np.ptp(as_if_apart.interval) < 0.5 * np.ptp(
        alone.interval
    )  # √10 too narrow: what the images are for


def test_pairs_know_more_than_two_intervals():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, 2000).astype(float)
    b = a.copy()
    b[:20] = 1.0
    found = all_of(a, b, np.arange(2000))
    assert (
        found.value > 0 and found.interval[0] > 0 and found.p < 0.01
    )  # each alone is known to ± 2.2 points


def test_the_other_way_round_is_the_negative():
    rng = np.random.default_rng(1)
    a, b, images = rng.random(300), rng.random(300), rng.integers(0, 40, 300)
    one, other = all_of(a, b, images), all_of(b, a, images)
    assert other.value == -one.value and other.p == one.p
    assert other.interval == pytest.approx((-one.interval[1], -one.interval[0]), abs=1e-14)
    assert all_of(a, b, images) == one  # the same draws every time


def test_a_group_sees_its_own_examples_only(monkeypatch):
    rng = np.random.default_rng(2)
    a, b, images = rng.random(60), rng.random(60), rng.integers(0, 12, 60)
    few = images < 4
    everything, group, single = differences(a, b, images, [np.ones(60, bool), few, images == 5])
    assert group.n == few.sum() and group.value == pytest.approx((b - a)[few].mean())
    weights = np.concatenate(list(draws(12, 0, 10_000)))[:, images] * few  # (draws, examples)
    there = weights.sum(1) > 0
    means = (weights @ (b - a))[there] / weights.sum(1)[there]
    assert there.sum() < 10_000 and group.interval == pytest.approx(
        np.quantile(means, (0.025, 0.975))
    )
    assert group.p == p_value(means)
    assert single.interval is None and single.p is None  # one image: nothing to draw
    monkeypatch.setattr(paired, "CELLS", 100)  # in parts of eight draws
    assert differences(a, b, images, [np.ones(60, bool)])[0].interval == pytest.approx(
        everything.interval
    )


def test_p_of_no_difference_and_of_a_certain_one():
    assert p_value(np.zeros(100)) == 1.0
    assert p_value(np.full(9999, 0.3)) == 2 / 10_000 == p_value(np.full(9999, -0.3))
    assert p_value(np.array([-1.0, 1.0, 1.0, 1.0])) == 2 * (1 + 1) / (4 + 1)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1),
        (1, 0, 1),
        (3, 3, 1),
        (1, 5, Fraction(2 * (1 + 6), 64)),
        (10, 0, Fraction(2, 1024)),
        (2, 8, Fraction(2 * 56, 1024)),
    ],
)
def test_mcnemar_by_hand(only_a, only_b, p):
    both = [(1, 1)] * 4 + [(0, 0)] * 3
    a, b = np.array([*both, *[(1, 0)] * only_a, *[(0, 1)] * only_b], float).T
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b, found.p) == (only_a, only_b, float(p))
    swapped = mcnemar(b, a)
    assert (swapped.only_a, swapped.only_b, swapped.p) == (only_b, only_a, float(p))


def test_large_binomials_neither_overflow_nor_vanish():
    exact = 2 * Fraction(sum(comb(4000, k) for k in range(1901)), 2**4000)
    assert binomial_p(1900, 4000) == float(exact)
    assert 0 < binomial_p(300, 2000) < 1e-200
