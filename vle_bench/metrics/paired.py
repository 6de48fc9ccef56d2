"""Test whether two runs differ on the same examples: bootstrap over images, McNemar's test."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from vle_bench.metrics.bootstrap import on_grid
from vle_bench.metrics.numbers import mean

RESAMPLES, SEED = 10_000, 0
# Cells of the matrix of resamples × images in memory; VQA v2's validation has 40,504 images.
CELLS = 1 << 22

METHOD = (
    "95 % percentile interval of a paired bootstrap: whole images drawn with replacement, the "
    f"same for both runs, {RESAMPLES:,} times (seed {SEED}); p: twice the smaller share of the "
    "draws on either side of no difference, those at none counted on both"
)


@dataclass(frozen=True)
class Difference:
    """Fractions: the mean scores of the two runs and B minus A.

    `interval` and `p` are None where all examples lie on one image: then there is nothing to draw.
    """

    n: int
    a: float
    b: float
    interval: tuple[float, float] | None
    p: float | None

    @property
    def value(self) -> float:
        return self.b - self.a

    def as_json(self) -> dict[str, object]:
        return {
            "n": self.n,
            "a": self.a,
            "b": self.b,
            "difference": self.value,
            "interval": self.interval,
            "p": self.p,
        }


def differences(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    images: NDArray[np.generic],
    groups: Sequence[NDArray[np.bool_]],
    seed: int = SEED,
    resamples: int = RESAMPLES,
    advance: Callable[[int], object] = lambda drawn: None,
) -> list[Difference]:
    """Return B minus A in each group of examples; all groups use the same draws of images.

    A draw in which a group has no example is left out for this group. This cannot happen to the
    group of all examples.

    Args:
        a, b: (examples,) scores of the same examples in 0..1.
        images: (examples,) the image of each. Whole images are drawn, since questions of one image
            are not independent.
        groups: a mask (examples,) for each group, true somewhere; `np.ones(len(a), bool)` for all.
        advance: called with the number of draws that were made since the last call.
    """
    _, image = np.unique(images, return_inverse=True)
    count = int(image.max()) + 1
    totals = np.stack(
        [np.bincount(image[mask], (b - a)[mask], count) for mask in groups], 1
    )  # (images, groups)
    sums = on_grid(totals, count)  # as many images are drawn as there are
    sizes = np.stack([np.bincount(image[mask], minlength=count) for mask in groups], 1).astype(
        float
    )
    columns, parts = np.hstack([sums, sizes]), []
    for weights in draws(count, seed, resamples):
        parts.append(weights @ columns)
        advance(len(weights))
    drawn, results = np.concatenate(parts), []
    for g, mask in enumerate(groups):
        present = drawn[:, len(groups) + g] > 0
        means = drawn[present, g] / drawn[present, len(groups) + g]
        several = np.count_nonzero(sizes[:, g]) > 1
        low, high = np.quantile(means, (0.025, 0.975)).tolist()
        results.append(
            Difference(
                int(mask.sum()),
                mean(a[mask].tolist()),
                mean(b[mask].tolist()),
                (low, high) if several else None,
                p_value(means) if several else None,
            )
        )
    return results


def draws(count: int, seed: int, resamples: int) -> Iterator[NDArray[np.float64]]:
    """Yield matrices (resamples of this part, images) of how often each image was drawn.

    Every row adds up to `count`.
    """
    rng = np.random.default_rng(seed)
    part = max(1, CELLS // count)
    for start in range(0, resamples, part):
        rows = min(part, resamples - start)
        places = rng.integers(0, count, (rows, count), np.int32) + count * np.arange(rows)[:, None]
        yield np.bincount(places.ravel(), minlength=rows * count).reshape(rows, count).astype(float)


ROUNDING = 1e-12  # of a mean that is 0 in exact figures


def p_value(means: NDArray[np.float64]) -> float:
    """Return the two-sided p of the hypothesis of no difference.

    The run itself counts as one more draw, so that p is never 0.

    Args:
        means: (draws,) the difference in each.
    """
    side = min(int((means <= ROUNDING).sum()), int((means >= -ROUNDING).sum()))
    return min(1.0, 2 * (side + 1) / (len(means) + 1))


@dataclass(frozen=True)
class McNemar:
    """Numbers of examples that only A or only B has right, and the exact two-sided p."""

    only_a: int
    only_b: int
    p: float


def mcnemar(a: NDArray[np.float64], b: NDArray[np.float64]) -> McNemar:
    """Apply McNemar's exact test, which takes examples as independent, also those of one image.

    Args:
        a, b: (examples,) 1.0 where right, else 0.0.
    """
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    return McNemar(only_a, only_b, binomial_p(min(only_a, only_b), only_a + only_b))


def binomial_p(fewer: int, n: int) -> float:
    """Return twice P(X <= fewer) of X ~ Binomial(n, 1/2), at most 1.

    Whole numbers keep the tail from underflowing.
    """
    total, term = 0, comb(n, 0)
    for k in range(fewer + 1):
        total += term
        term = term * (n - k) // (k + 1)
    return min(1.0, 2 * total / 2**n) if n else 1.0
