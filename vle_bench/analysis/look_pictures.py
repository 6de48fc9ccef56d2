"""Pictures of an example as they are stored and as a model gets them, with its objects' patches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from vle_bench.analysis.examples import Picture, embedded
from vle_bench.analysis.vcr import TAG_COLORS, Scene, scene
from vle_bench.data.boxes import box_array, outside
from vle_bench.data.images import TURNED, decode
from vle_bench.json_files import Row
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.tasks.base import Collate

# Longest sides on the page, in pixels, for up to FULL_SIZE examples: a page of photographs is then
# about 3 MB. More examples get smaller pictures.
STORED_SIDE, MODEL_SIDE, VIEW_SIDE = 360, 384, 150
FULL_SIZE = 24

Tensors = dict[str, torch.Tensor]  # the `inputs` of a batch


class Normalising(Protocol):
    """The settings by which an image processor of transformers normalises."""

    do_normalize: bool
    do_rescale: bool
    image_mean: Sequence[float]
    image_std: Sequence[float]
    rescale_factor: float


@dataclass(frozen=True)
class Object:
    """An object that a text names: the patches that it pools, as an SVG path.

    Args:
        hidden: its box lies outside of what the model sees, and the nearest patches stand for it.
    """

    name: str
    css: str
    path: str
    patches: int
    hidden: bool


@dataclass(frozen=True)
class Stored:
    """The picture as it is stored; `unseen` is an SVG path over what the transform leaves out."""

    scene: Scene
    view: str
    unseen: str
    caption: str


@dataclass(frozen=True)
class Given:
    """The picture as the model gets it, with its grid of patches as an SVG path."""

    picture: Picture
    grid: str
    caption: str


def side(longest: int, examples: int) -> int:
    """Shrink the pictures of a page of many examples, so that it does not grow with them."""
    return max(64, int(longest * min(1.0, math.sqrt(FULL_SIZE / max(examples, 1)))))


def denormalised(pixels: torch.Tensor, image_processor: Normalising) -> Image.Image:
    """Turn pixel_values (3, H, W) back into the picture that was normalised."""
    values = pixels.float()
    if image_processor.do_normalize:
        mean = torch.tensor(image_processor.image_mean)[:, None, None]
        std = torch.tensor(image_processor.image_std)[:, None, None]
        values = values * std + mean
    if image_processor.do_rescale:
        values = values / image_processor.rescale_factor
    levels = values.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(levels)


def stored_picture(
    row: Row,
    where: str,
    names: Sequence[str],
    tags: list[int],
    processor: VLEProcessor | None,
    longest: int,
) -> Stored:
    """Return the picture of a row of prepared images, with what the transform leaves out of it.

    Args:
        names, tags: of all its objects, and the objects that the texts name.
        processor: None: no transform is known.
    """
    image = decode(row["bytes"], f"{where}: {row['file_name']}")
    width, height = image.size
    with_boxes = {"boxes": [], **row}
    drawn = scene(image, with_boxes, names, tags, longest)
    parts = [f"{width} × {height}"]
    if TURNED in image.info:
        parts.append(f"turned by its EXIF orientation {image.info[TURNED]}")
    if processor is None:
        return Stored(drawn, f"0 0 {width} {height}", "", ", ".join(parts))
    x, y, w, h = processor.window(width, height)
    left, top = min(x, 0), min(y, 0)
    right, bottom = max(x + w, width), max(y + h, height)
    view = f"{left:.1f} {top:.1f} {right - left:.1f} {bottom - top:.1f}"
    unseen = ""
    if processor.image_processor.do_center_crop:
        seen = max(0.0, min(x + w, width) - max(x, 0)) * max(0.0, min(y + h, height) - max(y, 0))
        parts.append(f"the crop keeps {100 * seen / (width * height):.0f} %")
        unseen = f"M0 0h{width}v{height}h{-width}zM{x:.1f} {y:.1f}h{w:.1f}v{h:.1f}h{-w:.1f}z"
    elif width != height:
        longer = "width" if width > height else "height"
        ratio = max(width, height) / min(width, height)
        parts.append(f"squashed: its {longer} shrinks {ratio:.2f} times as much")
    return Stored(drawn, view, unseen, ", ".join(parts))


def given_picture(image: Image.Image, patch_size: int | None, longest: int) -> Given:
    """Return the picture as the model gets it."""
    width, height = image.size
    grid = ""
    if patch_size:
        columns = [f"M{x} 0V{height}" for x in range(patch_size, width, patch_size)]
        rows = [f"M0 {y}H{width}" for y in range(patch_size, height, patch_size)]
        grid = "".join(columns + rows)
    return Given(embedded(image, longest), grid, f"{width} × {height}, as the model gets it")


def mask_path(mask: NDArray[np.bool_], columns: int, patch_size: int) -> str:
    """Draw the patches of a mask (P,), row-major, as an SVG path: a rectangle for each area."""
    rows = mask.reshape(-1, columns)
    starts = np.flatnonzero(np.r_[True, (rows[1:] != rows[:-1]).any(1)])  # of equal rows
    parts = []
    for start, end in zip(starts, np.r_[starts[1:], len(rows)], strict=True):
        edges = np.flatnonzero(np.diff(np.r_[False, rows[start], False]))
        for left, right in edges.reshape(-1, 2).tolist():
            width, height = (right - left) * patch_size, (end - start) * patch_size
            x, y = left * patch_size, start * patch_size
            parts.append(f"M{x} {y}h{width}v{height}h{-width}z")
    return "".join(parts)


def pooled_objects(
    inputs: Tensors,
    tagged: Sequence[Sequence[int]],
    names: Sequence[str],
    hidden: NDArray[np.bool_],
    patch_size: int,
) -> list[Object]:
    """Return every object that a text of an example names, with the patches that it pools.

    Args:
        inputs: tensors of one example.
        tagged: for each text the objects that have a token, in the order of their tokens.
        names, hidden: of all objects: what the page calls them, and whether their boxes lie
            outside of what the model sees.
    """
    masks = inputs["object_patch_mask"].flatten(0, -3)  # (C, K, P)
    real = inputs["object_mask"].flatten(0, -2).sum(-1).tolist()
    if [len(one) for one in tagged] != real:
        raise ValueError(f"objects {tagged} are named, and the batch has {real}")
    pooled: dict[int, NDArray[np.bool_]] = {}
    for text, indices in enumerate(tagged):
        for slot, index in enumerate(indices):
            pooled[index] = masks[text, slot].numpy()
    columns = inputs["pixel_values"].shape[-1] // patch_size
    return [
        Object(
            names[index],
            color(place),
            mask_path(mask, columns, patch_size),
            int(mask.sum()),
            bool(hidden[index]),
        )
        for place, (index, mask) in enumerate(sorted(pooled.items()))
    ]


def hidden_boxes(
    corners: ArrayLike, width: int, height: int, processor: VLEProcessor | None
) -> NDArray[np.bool_]:
    """Tell which boxes (K,) of a picture lie outside of what the model sees.

    Args:
        corners: (K, 4), x1, y1, x2, y2 in pixels of the stored picture.
        processor: None: what the model sees is not known, so the whole picture counts.
    """
    x, y, w, h = 0.0, 0.0, float(width), float(height)
    if processor is not None and not processor.boxes_as_squashed:
        x, y, w, h = processor.window(width, height)
    return outside(box_array(corners) - np.array([x, y, x, y]), w, h)


def color(place: int) -> str:
    """Return the class of the place-th object that the texts of an example name."""
    return f"o{place % TAG_COLORS}"


def seen_picture(inputs: Tensors) -> int:
    """Return the row of pixel_values that the last text of an example looks at."""
    return int(inputs["image_index"].flatten()[-1])


def view_pictures(
    collators: Sequence[Collate], index: int, image_processor: Normalising, longest: int
) -> list[tuple[str, Picture]]:
    """Return the picture that an example sees in each of the first epochs."""
    views = []
    for epoch, collate in enumerate(collators):
        inputs = collate(np.array([index]))["inputs"]
        image = denormalised(inputs["pixel_values"][seen_picture(inputs)], image_processor)
        views.append((f"epoch {epoch}", embedded(image, longest)))
    return views
