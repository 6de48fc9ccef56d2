"""The consensus score of questions that were asked in several ways (VQA-Rephrasings)."""

from collections.abc import Iterable, Sequence
from math import comb

from vle_bench.metrics.sums import mean

LARGEST = 4  # an original question and its three rephrasings


def consensus_scores(groups: Iterable[Sequence[float]], largest: int = LARGEST) -> dict[int, float]:
    """Return CS(k) for k = 1 to `largest`, fractions in 0..1.

    CS(k) of a group is the share of its subsets of k questions in which every question has an
    accuracy above 0; CS(k) of a dataset is the mean over the groups (Shah et al., Cycle-Consistency
    for Robust Visual Question Answering, 2019, section 3.2). Groups of fewer than `largest`
    questions do not count. Empty if no group is large enough.

    Args:
        groups: the accuracies of the questions of each group.
    """
    counts = [
        (len(scores), sum(score > 0 for score in scores))
        for scores in groups
        if len(scores) >= largest
    ]
    if not counts:
        return {}
    return {
        k: mean([comb(right, k) / comb(asked, k) for asked, right in counts])
        for k in range(1, largest + 1)
    }
