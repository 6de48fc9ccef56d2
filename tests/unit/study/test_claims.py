"""The comparisons, on made-up scores, beside plain sums."""

import statistics

import numpy as np
import pytest

from vle_bench.study.claims import ALL, CLAIMS, METERS, Claim, difference
from vle_bench.study.rows import ROWS, Row

RNG = np.random.default_rng(0)
IMAGES = np.repeat(np.arange(50), 3)
CLAIM = Claim("c", Row("vle", METERS), Row("vle", ALL), ("q2a",))


def scored(share, seeds=3):
    return [((RNG.random(150) < share).astype(float), IMAGES) for _ in range(seeds)]


def test_a_difference_is_of_the_means_over_seeds():
    a, b = scored(0.3), scored(0.8)
    result = difference(CLAIM, "Q2A", a, b)
    plain = [statistics.fmean(y) - statistics.fmean(x) for (x, _), (y, _) in zip(a, b, strict=True)]
    assert result.by_seed == pytest.approx(plain)
    assert result.difference == pytest.approx(statistics.fmean(plain))
    assert result.n == 150 and result.p is not None and result.p < 0.01
    assert result.interval is not None and result.interval[0] < result.difference
    assert result.verdict == "holds"
    assert difference(CLAIM, "Q2A", b, a).verdict == "fails"
    assert (result.a, result.b) == ("VLE-tiny, MLM + ITM", "VLE-tiny, MLM + ITM + PBC + MPC")


def test_equal_models_show_nothing():
    a = scored(0.5)
    result = difference(CLAIM, "Q2A", a, a)
    assert result.difference == 0 and result.p == 1.0 and result.verdict == "open"


def test_other_examples_are_refused():
    a, b = scored(0.5), [(scores, images + 1) for scores, images in scored(0.5)]
    with pytest.raises(ValueError, match="other examples"):
        difference(CLAIM, "Q2A", a, b)


def test_the_claims_compare_rows_of_the_study_that_differ_in_one_thing():
    rows = set(ROWS)
    for claim in CLAIMS:
        assert {claim.a, claim.b} <= rows and claim.trainings
        assert (claim.a.family == claim.b.family) != (claim.a.objectives == claim.b.objectives)
