"""The consensus score of questions that were asked in several ways (VQA-Rephrasings).

CS(k) of a group of rephrasings is the share of its subsets of k questions in which every question
has an accuracy above 0; CS(k) of a dataset is the mean over the groups (Shah et al., Cycle-
Consistency for Robust Visual Question Answering, 2019, section 3.2).
"""

from collections.abc import Iterable, Sequence
from math import comb

from vle_bench.metrics.numbers import mean

LARGEST = 4  # an original question and its three rephrasings


def group_consensus(scores: Sequence[float], largest: int = LARGEST) -> dict[int, float]:
    """Return CS(k) of one group of at least `largest` questions, k = 1 to `largest`.

    Args:
        scores: the accuracy of each question, 0..1.
    """
    right = sum(score > 0 for score in scores)
    return {k: comb(right, k) / comb(len(scores), k) for k in range(1, largest + 1)}


def consensus_scores(groups: Iterable[Sequence[float]], largest: int = LARGEST) -> dict[int, float]:
    """Return CS(k) of a dataset; groups of fewer than `largest` questions do not count.

    Empty if no group is large enough.
    """
    whole = [group_consensus(scores, largest) for scores in groups if len(scores) >= largest]
    if not whole:
        return {}
    return {k: mean([scores[k] for scores in whole]) for k in range(1, largest + 1)}
