from decimal import Decimal

import pytest

from vle_bench.metrics.rounding import percent, percent_range, plus_minus, rounded, signed


@pytest.mark.parametrize(
    ("fraction", "shown"),
    [
        (0.98145, "98.15"),  # printf rounds the binary digits behind it, 98.1449..., to 98.14
        (0.98155, "98.16"),
        (0.5, "50.00"),
        (1.0, "100.00"),
        (0.000049, "0.00"),
        (0.00005, "0.01"),
        (2 / 3, "66.67"),
    ],
)
def test_half_goes_away_from_zero(fraction: float, shown: str) -> None:
    assert percent(fraction) == shown


def test_differences_have_a_sign() -> None:
    assert [signed(Decimal(text), 2) for text in ("0.305", "-0.305", "0.004", "-0.004")] == [
        "+0.31",
        "−0.31",
        "0.00",
        "0.00",
    ]
    assert rounded(Decimal("-0.25"), 1) == "-0.3"


def test_intervals_are_shown_in_percent() -> None:
    assert percent_range((0.769, 0.77605)) == "76.90 to 77.61"
    assert percent_range(None) == "" and percent_range(None, "–") == "–"
    assert plus_minus(0.7741, (0.769, 0.776)) == "77.41 ± 0.35"
    assert plus_minus(0.7741, None) == "77.41"
