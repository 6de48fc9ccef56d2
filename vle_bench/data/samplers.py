"""The examples of each step, as functions of (seed, epoch) alone, never of the machine."""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def questions_together(grouping: str, questions_per_image: int | None) -> int | None:
    """Return how many questions of an image stay together at most; None: all of them.

    The arguments are keys of a recipe's group `data`.
    """
    return 1 if grouping == "question" else questions_per_image


def grouped_order(image_rows: Indices, seed: int, epoch: int, questions_per_image: int) -> Indices:
    """Shuffle questions so that those of one image stand together.

    The questions of an image are shuffled and cut into groups of at most `questions_per_image`; the
    groups are shuffled.
    With 1 this is a plain shuffle of the questions (the published way).

    Args:
        image_rows: (questions,) the image of each.
    """
    rng = np.random.default_rng((seed, epoch))
    shuffled = rng.permutation(len(image_rows))
    by_image = shuffled[np.argsort(image_rows[shuffled], kind="stable")]
    rows = image_rows[by_image]
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    place = np.arange(len(rows)) - np.repeat(
        starts, np.diff(np.r_[starts, len(rows)])
    )  # place within its image
    group = np.cumsum(place % questions_per_image == 0) - 1
    key = rng.permutation(group[-1] + 1 if len(group) else 0)[group]
    return by_image[np.argsort(key, kind="stable")]


def image_batches(image_rows: Indices, batch_size: int) -> list[Indices]:
    """Return every question once, in order, in batches of whole images: each image is encoded once.

    A batch has at most `batch_size` questions, unless a single image has more.

    Args:
        image_rows: (questions,) the image of each.
    """
    order = np.argsort(image_rows, kind="stable")
    rows = image_rows[order]
    ends = np.r_[
        0, np.flatnonzero(rows[1:] != rows[:-1]) + 1, len(rows)
    ]  # of nothing, then of each image
    batches, start = [], 0
    while start < len(rows):
        fitting = ends[np.searchsorted(ends, start + batch_size, side="right") - 1]
        end = fitting if fitting > start else ends[np.searchsorted(ends, start, side="right")]
        batches.append(order[start:end])
        start = end
    return batches
