"""Errors of a model: calibration of its confidence, confusions, and its most confident mistakes."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from vle_bench.metrics.numbers import add

BINS = 10
Id = TypeVar("Id", int, str)


class Bin(TypedDict):
    """A bin of confidence; the means of an empty one are None."""

    low: float
    high: float
    n: int
    confidence: float | None
    score: float | None


def calibration(
    confidence: NDArray[np.floating], score: NDArray[np.floating], bins: int = BINS
) -> tuple[float, list[Bin]]:
    """Compare confidence with score in bins of equal width.

    A bin includes its lower end, the last one also 1. The expected calibration error is the mean
    over examples of |mean confidence − mean score| of their bin (Guo et al., "On Calibration of
    Modern Neural Networks", 2017).

    Args:
        confidence: (examples,) in 0..1, how probable the model says its own answer is.
        score: (examples,) in 0..1, what the answer was worth.

    Returns:
        The error and the bins.

    Raises:
        ValueError: no example, or a figure outside 0..1.
    """
    for name, values in (("confidence", confidence), ("score", score)):
        if not len(values) or not ((values >= 0) & (values <= 1)).all():  # a NaN is neither
            raise ValueError(f"{name}: one or more figures in 0..1 are expected")
    edges = np.arange(bins + 1) / bins
    index = np.searchsorted(edges[1:-1], confidence, side="right")
    counts = np.bincount(index, minlength=bins)
    confidences = np.bincount(index, confidence, minlength=bins)
    scores = np.bincount(index, score, minlength=bins)
    filled: list[Bin] = [
        {
            "low": float(edges[k]),
            "high": float(edges[k + 1]),
            "n": int(n),
            "confidence": float(confidences[k] / n) if n else None,
            "score": float(scores[k] / n) if n else None,
        }
        for k, n in enumerate(counts)
    ]
    return add(np.abs(confidences - scores).tolist()) / len(score), filled


def most_frequent(values: Sequence[str], most: int) -> list[str]:
    """Return the most frequent values in that order; equally frequent ones alphabetically."""
    counts = Counter(values)
    return sorted(counts, key=lambda value: (-counts[value], value))[:most]


def confusion(
    truths: Sequence[Hashable], predictions: Sequence[Hashable], names: Sequence[Hashable]
) -> NDArray[np.int64]:
    """Count how often each truth (row) was given each prediction (column).

    The result has the shape (names + 1, names + 1); the last row and column are all other values.
    """
    place = {name: k for k, name in enumerate(names)}
    counts = np.zeros((len(names) + 1, len(names) + 1), np.int64)
    rows, columns = (
        [place.get(value, len(names)) for value in values] for values in (truths, predictions)
    )
    np.add.at(counts, (rows, columns), 1)
    return counts


def confident_mistakes(
    ids: Sequence[Id], confidence: NDArray[np.floating], score: NDArray[np.floating], most: int
) -> tuple[list[int], int]:
    """Find the examples with a score of 0: indices of the most confident ones, and their number.

    Equally confident ones are in the order of their ids.
    """
    wrong = np.flatnonzero(score == 0).tolist()
    return sorted(wrong, key=lambda k: (-float(confidence[k]), ids[k]))[:most], len(wrong)
