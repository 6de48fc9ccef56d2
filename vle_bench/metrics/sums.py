"""Sums of floats that have the same bits on every Python, numpy and processor.

`sum` compensates for rounding since Python 3.12 and did not before, and numpy adds in pairs. One
question's accuracy was 0.8999999999999998 on one Python and 0.9 on the next. A score must not
depend on the interpreter.
"""

from collections.abc import Iterable, Sequence


def add(values: Iterable[float]) -> float:
    """Add from left to right, rounding after each addition, as `sum` did before Python 3.12."""
    total = 0.0
    for value in values:
        total += value
    return total


def mean(values: Sequence[float]) -> float:
    """Return `add` divided by the number of values, at least one."""
    return add(values) / len(values)
