"""What a report shows of each example of a split, whatever the task."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vle_bench.analysis.html import Html, data_address

LONGEST_SIDE = 480  # pixels of a picture on the page; fifty photographs are some 2 MB of it
TINY = 200  # pixels; a drawn picture this small is enlarged without being blurred


@dataclass(frozen=True)
class Examples:
    """The examples of a split in the order of its questions, each with what it was answered and what that was worth."""

    ids: list[Any]
    image_rows: list[int]  # of the prepared images
    images: NDArray[np.int64]  # (examples,) image ids, which intervals are drawn from
    score: NDArray[np.float64]  # (examples,) the task's primary metric
    confidence: NDArray[
        np.float64
    ]  # (examples,) what the model gives the answer that `score` judges
    calibrated: dict[
        str, tuple[NDArray[np.float64], NDArray[np.float64]]
    ]  # a diagram's title → (examples,) confidence and score
    kinds: dict[
        str, Sequence[str]
    ]  # beside the task's breakdown: kind → (examples,) the group of each
    confusion: list[Html]
    confidence_is: str  # a sentence
    mistake_is: str  # a sentence
    card: Callable[
        [int, Image.Image, dict[str, Any]], Html
    ]  # example, its picture, the picture's row → what a mistake looks like


def shrunk(image: Image.Image) -> tuple[str, str]:
    """A picture → its address, and the class that says how to enlarge it."""
    small = image.copy()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, "WEBP", quality=80, lossless=max(image.size) <= TINY)
    return data_address(content.getvalue(), "webp"), "tiny" if max(image.size) <= TINY else ""
