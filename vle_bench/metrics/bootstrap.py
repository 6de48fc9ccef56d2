"""Intervals by resampling."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def figure(scores: NDArray[np.floating], groups: NDArray[np.integer]) -> dict[str, Any]:
    """The mean of scores (examples,) with its interval and their number, as a record holds it."""
    return {
        "value": float(scores.mean()),
        "interval": list(interval(scores, groups)),
        "n": len(scores),
    }


def figures(
    scores: NDArray[np.floating], groups: NDArray[np.integer], kinds: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """`figure` of the examples of each kind; kinds: (examples,)."""
    names = np.array(kinds)
    return {
        name: figure(scores[names == name], groups[names == name])
        for name in np.unique(names).tolist()
    }


def interval(
    scores: NDArray[np.floating], groups: NDArray[np.integer], seed: int = 0, resamples: int = 1000
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean score; whole groups (images) are drawn, with replacement.

    Questions of one image are not independent, so drawing questions would make the interval too narrow.

    Args:
        scores: (examples,) in 0..1.
        groups: (examples,) the image of each.
    """
    _, index = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(index, scores), np.bincount(index).astype(float)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for i in range(
        resamples
    ):  # one row at a time: a matrix of resamples × images would not fit for VQA v2
        weights = np.bincount(rng.integers(0, len(sums), len(sums)), minlength=len(sums))
        means[i] = weights @ sums / (weights @ counts)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
