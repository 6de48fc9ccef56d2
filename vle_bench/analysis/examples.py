"""The examples of a split for reports, of every task."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vle_bench.json_files import Row
from vle_bench.pages.html import Grid, GridCell, data_address

# Longest side of a picture on the page, in pixels; fifty photographs then take about 2 MB.
LONGEST_SIDE = 480
# Pixels. A drawn picture of at most this size is enlarged without blurring.
TINY = 200


@dataclass(frozen=True)
class Examples:
    """The examples of a split in the order of its questions, with predictions and scores.

    Args:
        image_rows: rows of the prepared images.
        images: (examples,) image ids, for the intervals.
        score: (examples,) the task's primary metric.
        confidence: (examples,) the model's probability of the answer that `score` judges.
        calibrated: title of a diagram -> confidence and score, (examples,) each.
        kinds: kind, besides the task's breakdown -> the group of each example.
        confidence_is: a sentence that defines the confidence.
        mistake_is: a sentence that defines a mistake.
        card: example, its picture, the picture's row -> values of `card_template`.
    """

    ids: list[Any]
    image_rows: list[int]
    images: NDArray[np.int64]
    score: NDArray[np.float64]
    confidence: NDArray[np.float64]
    calibrated: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    kinds: dict[str, Sequence[str]]
    confusion: list[Grid]
    confidence_is: str
    mistake_is: str
    card: Callable[[int, Image.Image, Row], object]
    card_template: str


@dataclass(frozen=True)
class Picture:
    """A picture as the page embeds it; `css` is the class that says how to enlarge it."""

    address: str
    css: str
    width: int
    height: int


def embedded(image: Image.Image, longest: int = LONGEST_SIDE) -> Picture:
    """Return a picture, made smaller if it is large; its width and height stay the original ones.

    Args:
        longest: longest side of the embedded picture, in pixels.
    """
    small = image.copy()
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    tiny = max(image.size) <= TINY
    content = io.BytesIO()
    small.save(content, "WEBP", quality=80, lossless=tiny)
    address = data_address(content.getvalue(), "webp")
    return Picture(address, "tiny" if tiny else "", image.width, image.height)


def shaded(count: int, share: float) -> GridCell:
    """Return a count whose background is the darker the larger `share` (0..1) is."""
    style = {"style": f"--shade: {share:.2f}"} if share else {}
    return GridCell(f"{count:,}", style)
