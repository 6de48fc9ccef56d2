"""Sums and printed figures that are the same on every Python, numpy and processor.

`sum` compensates for rounding since Python 3.12 and did not before, and numpy adds in pairs. One
question's accuracy was 0.8999999999999998 on one Python and 0.9 on the next. A score must not
depend on the interpreter. Printed fractions are rounded half away from zero, as in papers, despite
binary digits.
"""

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import TypedDict


class Figure(TypedDict):
    """A mean in 0..1 with its interval and the number of examples, as in a record."""

    value: float
    interval: Sequence[float] | None
    n: int


def add(values: Iterable[float]) -> float:
    """Add from left to right, rounding after each addition, as `sum` did before Python 3.12."""
    total = 0.0
    for value in values:
        total += value
    return total


def mean(values: Sequence[float]) -> float:
    """Return `add` divided by the number of values, at least one."""
    return add(values) / len(values)


def percent(fraction: float, decimals: int = 2) -> str:
    """Print a fraction in percent: 0.98145 → `98.15`, rounding Python's decimal digits."""
    return rounded(Decimal(repr(float(fraction))) * 100, decimals)


def rounded(value: Decimal, decimals: int) -> str:
    """Print a figure with so many decimals, half away from zero; zero has no sign."""
    figure = value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)
    return f"{figure or abs(figure):f}"


def signed(value: Decimal, decimals: int) -> str:
    """Print a difference: `+0.30`, `−0.30` with a true minus, `0.00`."""
    text = rounded(value, decimals)
    if text.startswith("-"):
        return f"−{text[1:]}"
    return f"+{text}" if Decimal(text) else text


def signed_percent(fraction: float) -> str:
    """Print a difference of two fractions in points: 0.003 → `+0.30`."""
    return signed(Decimal(repr(float(fraction))) * 100, 2)


def percent_range(interval: Sequence[float] | None, missing: str = "") -> str:
    """Print an interval of fractions in percent: `76.90 to 77.60`; `missing` if there is none."""
    return " to ".join(map(percent, interval)) if interval else missing


def plus_minus(fraction: float, interval: Sequence[float] | None) -> str:
    """Print a score in percent ± half of its interval, if it has one: `77.41 ± 0.35`."""
    return percent(fraction) + (
        f" ± {percent((interval[1] - interval[0]) / 2)}" if interval else ""
    )
