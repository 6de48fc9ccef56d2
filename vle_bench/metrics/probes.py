"""Scores of single examples in the probes of pre-training; `bootstrap` makes means of them.

Shapes: N examples, P patches.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Patches = NDArray[np.bool_]


def preferred(right: Scores, wrong: Scores) -> Scores:
    """Return 1 where the right text of a pair has the higher score, 0.5 for a tie: (N,)."""
    return np.where(right == wrong, 0.5, (right > wrong).astype(float))


def pointing(scores: Scores, truth: Patches) -> Scores:
    """Return 1 where the patch of the highest score is one of the truth: (N,).

    Of equal scores the first one counts.

    Args:
        scores, truth: (N, P).
    """
    hits: Scores = truth[np.arange(len(truth)), scores.argmax(1)].astype(float)
    return hits


def overlap(chosen: Patches, truth: Patches) -> Scores:
    """Return intersection over union of two sets of patches (N, P): (N,); 0 if both are empty."""
    shared, either = (chosen & truth).sum(1), (chosen | truth).sum(1)
    shares: Scores = shared / np.maximum(either, 1)
    return shares


def chance(truth: Patches) -> Scores:
    """Return how often a patch drawn at random is one of the truth (N, P): (N,)."""
    shares: Scores = truth.mean(1)
    return shares


def first_above(curve: Sequence[tuple[int, float]], target: float) -> int | None:
    """Return the first step at which a score reached the target; None if it never did.

    Args:
        curve: (step, score) of every evaluation, by step.
    """
    return next((step for step, score in curve if score >= target), None)
