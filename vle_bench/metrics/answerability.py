"""Scores of detecting questions that cannot be answered (VizWiz, second task)."""

from collections.abc import Sequence

import numpy as np

THRESHOLD = 0.5  # above it a question counts as predicted to be unanswerable


def average_precision(truths: Sequence[bool], scores: Sequence[float]) -> float:
    """Return the sum of precision times the gain in recall, over the scores from high to low.

    Questions of the same score are taken together, as scikit-learn's `average_precision_score`
    does, which VizWiz's program calls.

    Args:
        truths: whether each question is unanswerable; at least one is.
        scores: how sure the model is that it is.
    """
    positive = np.asarray(truths, bool)
    order = np.argsort(-np.asarray(scores, float), kind="stable")
    ordered, hits = np.asarray(scores, float)[order], np.cumsum(positive[order])
    last = np.r_[np.flatnonzero(np.diff(ordered)), len(ordered) - 1]  # of each score
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float(np.sum(np.diff(np.r_[0.0, recall]) * precision))


def f1(truths: Sequence[bool], scores: Sequence[float]) -> float:
    """Return the F1 of the questions whose score is above THRESHOLD; 0 if none of them is right."""
    positive, chosen = np.asarray(truths, bool), np.asarray(scores, float) > THRESHOLD
    right = int(np.sum(positive & chosen))
    return 2 * right / (int(positive.sum()) + int(chosen.sum())) if right else 0.0
