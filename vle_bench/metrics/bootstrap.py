"""Intervals by resampling."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vle_bench.metrics.numbers import Figure, mean


def figure(scores: NDArray[np.floating], groups: NDArray[np.integer]) -> Figure:
    """Return the figure of scores (examples,)."""
    return {
        "value": mean(scores.tolist()),
        "interval": list(interval(scores, groups)),
        "n": len(scores),
    }


def figures(
    scores: NDArray[np.floating], groups: NDArray[np.integer], kinds: Sequence[str]
) -> dict[str, Figure]:
    """Return `figure` of the examples of each kind; kinds: (examples,)."""
    names = np.array(kinds)
    return {
        name: figure(scores[names == name], groups[names == name])
        for name in np.unique(names).tolist()
    }


def interval(
    scores: NDArray[np.floating], groups: NDArray[np.integer], seed: int = 0, resamples: int = 1000
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean score.

    Whole groups (images) are drawn with replacement: questions of one image are not independent, so
    drawing questions would make the interval too narrow.

    Args:
        scores: (examples,) in 0..1.
        groups: (examples,) the image of each.
    """
    _, index = np.unique(groups, return_inverse=True)
    counts = np.bincount(index).astype(float)
    sums = on_grid(np.bincount(index, scores), len(counts))  # as many images are drawn as there are
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for i in range(resamples):  # a matrix of resamples × images would not fit for VQA v2
        weights = np.bincount(rng.integers(0, len(sums), len(sums)), minlength=len(sums))
        means[i] = weights @ sums / (weights @ counts)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def on_grid(values: NDArray[np.number], terms: int) -> NDArray[np.float64]:
    """Round values to multiples of a power of two, so that sums of up to `terms` of them are exact.

    BLAS adds in the order that the processor's kernel prefers. A sum without rounding has the same
    bits in every order, and so have matrix products with small whole numbers. The grid is the
    finest that float64's 53 bits allow: 2⁻³⁴ for the scores in 0..1 of VQA v2's 214,354 validation
    questions.

    Args:
        values: any shape.
        terms: how many values are added up at most, each counted as often as it is added.
    """
    most = float(np.abs(values).max(initial=0.0)) * terms
    if most == 0:
        return np.asarray(values, np.float64)
    step = 2.0 ** (math.ceil(math.log2(most)) - 52)
    rounded: NDArray[np.float64] = np.rint(values / step) * step
    return rounded
