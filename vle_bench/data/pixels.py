"""Pictures as squares for a model, and stores of them that are mapped into memory.

A store is a folder `pixels-<size>-<resize>` of prepared data, with `pixels.npy` (N, 3, H, W) and
`sizes.npy` (N, 2), width and height of the upright pictures; row i is row i of the images table.
`vle_bench.data.prepare.pixels` writes it. Its bytes are those that decoding and resizing give.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPImageProcessorPil

from vle_bench.data.images import UPRIGHT, decode
from vle_bench.data.prepared import PIXEL_STORE, Manifest, PreparedData
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, read_json

FACTS, PIXELS, SIZES = "store.json", "pixels.npy", "sizes.npy"
KEYS = ("transform", "images", "count", "as_decoded")
SAMPLES = 5  # pictures that are decoded again when a store is opened


@dataclass(frozen=True)
class Transform:
    """Resize and crop pictures as an image processor of transformers (Pillow backend) does."""

    image_processor: CLIPImageProcessorPil

    @classmethod
    def of_squares(cls, image_size: int, resize: str) -> "Transform":
        """Return the transform of a new processor: squares of `image_size` pixels a side."""
        return cls(CLIPImageProcessorPil(**square_settings(image_size, resize)))

    @property
    def settings(self) -> JsonObject:
        """The settings that decide the pixels."""
        own = self.image_processor
        resize, cut = bool(own.do_resize), bool(own.do_center_crop)
        return {
            "size": {k: v for k, v in dict(own.size).items() if v} if resize else None,
            "resample": int(own.resample) if resize else None,
            "crop_size": {k: v for k, v in dict(own.crop_size).items() if v} if cut else None,
        }

    def resized(self, width: int, height: int) -> tuple[int, int] | None:
        """Return the size to which a picture is resized, its longer side rounded down.

        None for settings other than a height and width, or the shortest edge.
        """
        own = self.image_processor
        if not own.do_resize:
            return width, height
        if own.size.get("width") and own.size.get("height"):
            return own.size["width"], own.size["height"]
        short = own.size.get("shortest_edge")
        if not short or own.size.get("longest_edge"):
            return None
        if width <= height:
            return short, int(short * height / width)
        return int(short * width / height), short

    def __call__(self, images: list[Image.Image]) -> torch.Tensor:
        """Turn upright RGB pictures into pixels (N, 3, H, W) of uint8."""
        squares = [self._square(image) for image in images]
        shapes = {None if square is None else square.shape for square in squares}
        if None in shapes or len(shapes) > 1:
            pixels: torch.Tensor = self.image_processor(
                images, do_rescale=False, do_normalize=False, return_tensors="pt"
            )["pixel_values"]
            return pixels
        stacked = np.stack([square for square in squares if square is not None])  # (N, H, W, 3)
        return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))

    def _square(self, image: Image.Image) -> NDArray[np.uint8] | None:
        """Resize and crop one picture to (H, W, 3): the bytes of the image processor, in less time.

        None for pictures that are left to it: unusual sizes, and crops beyond the picture.
        """
        own, size = self.image_processor, self.resized(*image.size)
        if size is None:
            return None
        resized = image if size == image.size else image.resize(size, own.resample)
        pixels: NDArray[np.uint8] = np.asarray(resized)
        if not own.do_center_crop:
            return pixels
        height, width = own.crop_size["height"], own.crop_size["width"]
        if width > size[0] or height > size[1]:
            return None
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        return pixels[top : top + height, left : left + width]


def square_settings(image_size: int, resize: str) -> JsonObject:
    """Return an image processor's settings for squares; `resize` as `VLEProcessor` names it."""
    square = {"height": image_size, "width": image_size}
    cut = resize != "squash"
    return {
        "do_resize": True,
        "size": {"shortest_edge": image_size} if cut else square,
        "do_center_crop": cut,
        "crop_size": square,
    }


@dataclass(frozen=True)
class Transformed:
    """Pictures that are resized and cropped already.

    Args:
        pixels: (N, 3, H, W) of uint8.
        sizes: width and height of each upright original, which its boxes refer to.
    """

    pixels: torch.Tensor
    sizes: list[tuple[int, int]]

    @classmethod
    def of_views(cls, views: Sequence[NDArray[np.uint8]]) -> "Transformed":
        """Stack pictures (H, W, 3) that need no resizing."""
        stacked = np.stack(views)
        height, width = stacked.shape[1:3]
        pixels = torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))
        return cls(pixels, [(width, height)] * len(views))


@dataclass(frozen=True)
class PixelStore:
    """An opened store; a process that loads data opens the file itself.

    Args:
        facts: content of `store.json`: `transform` and `images` (the transform and the digest of
            the pictures), `count`, and `as_decoded`, whether no picture was resized or cropped at
            all.
    """

    folder: Path
    facts: JsonObject

    def __reduce__(self) -> tuple[type["PixelStore"], tuple[Path, JsonObject]]:
        return type(self), (self.folder, self.facts)

    @property
    def as_decoded(self) -> bool:
        return bool(self.facts["as_decoded"])

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        array: NDArray[np.uint8] = np.load(self.folder / PIXELS, mmap_mode="r")
        return array

    @cached_property
    def sizes(self) -> NDArray[np.int32]:
        array: NDArray[np.int32] = np.load(self.folder / SIZES)
        return array

    def read(self, rows: NDArray[np.int64]) -> Transformed:
        """Return the pictures of rows (N,) of the images table."""
        sizes = [(int(width), int(height)) for width, height in self.sizes[rows]]
        return Transformed(torch.from_numpy(self.pixels[rows]), sizes)

    def decoded(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Yield (H, W, 3) of rows (N,), of a store that holds the pictures `as_decoded`."""
        for row in rows:
            yield np.asarray(self.pixels[row]).transpose(1, 2, 0)

    def pictures(self, rows: NDArray[np.int64]) -> list[Image.Image]:
        """Return the same as pictures."""
        pictures = []
        for pixels in self.decoded(rows):
            picture = Image.fromarray(np.ascontiguousarray(pixels))
            picture.info[UPRIGHT] = True
            pictures.append(picture)
        return pictures


def images_digest(manifest: Manifest) -> str:
    """Return a digest of the stored pictures of prepared data."""
    shards = [(name, manifest.files[name]["sha256"]) for name in manifest.images]
    return hashlib.sha256(json.dumps(shards).encode()).hexdigest()


def in_words(transform: JsonObject) -> str:
    """Describe a transform: size, way of resizing, resampling."""
    if transform["crop_size"] is not None:
        square, how = transform["crop_size"], "crop"
    else:
        square, how = transform["size"] or {}, "squash" if transform["size"] else "as they are"
    size = f"{square.get('width')} × {square.get('height')} pixels, {how}"
    return f"{size}, Pillow's resampling {transform['resample']}"


def way_out(transform: Transform) -> str:
    """Name the options of `prepare` that make the store of a transform; empty if none do."""
    cut = transform.settings["crop_size"]
    side = (cut or transform.settings["size"] or {}).get("width")
    resize = "crop" if cut else "squash"
    if side is None or transform.settings != Transform.of_squares(side, resize).settings:
        return ""
    options = f"--pixels {side} --pixels-resize {resize}"
    return f"; `vle-bench prepare ... {options}` makes a store of that"


def choose(
    data: PreparedData, processor: Any, wanted: str | None = None, *, changed: bool = False
) -> tuple[PixelStore | None, str]:
    """Choose the pixel store of prepared data that holds exactly what a model would read.

    Args:
        processor: the model's, a VLEProcessor or one with its `transform`; None as `transform`:
            it makes no squares, and no store fits.
        wanted: name of the folder; None: any that fits.
        changed: augmentation changes the pictures before they are resized.

    Returns:
        The store or None, and a line that says why stores are not used; empty if there are none.

    Raises:
        RequestError: the wanted store is missing, damaged or does not fit.
    """
    if processor.transform is None:
        if wanted is not None:
            raise RequestError(f"data.pixels: {wanted}: this model reads no squares; leave it out")
        return None, ""
    folders = sorted(path.parent for path in Path(data.root).glob(f"{PIXEL_STORE}*/{FACTS}"))
    if wanted is not None:
        folders = [Path(data.root) / wanted]
    refused = []
    for folder in folders:
        store, problem = opened(folder, data, processor.transform, changed)
        if store is not None:
            return store, ""
        refused.append(problem)
    if wanted is not None:
        raise RequestError(f"data.pixels: {refused[0]}")
    return None, "; ".join(f"not used: {problem}" for problem in refused)


def opened(
    folder: Path, data: PreparedData, transform: Transform, changed: bool
) -> tuple[PixelStore | None, str]:
    """Open a store if it fits; else return None and say what is wrong with it."""
    again = f"remove {folder} and prepare it again"
    if not (folder / FACTS).is_file():
        return None, f"{folder}: no pixel store there; `vle-bench prepare ... --pixels` writes one"
    try:
        facts = read_json(folder / FACTS)
        store = PixelStore(folder, {key: facts[key] for key in KEYS})
        shape, sizes = store.pixels.shape, store.sizes.shape
    except (RequestError, OSError, ValueError, KeyError, TypeError) as error:
        return None, f"{folder}: damaged ({error}); {again}"
    count = len(data.images)
    if (
        store.pixels.dtype != np.uint8
        or len(shape) != 4
        or (shape[0], sizes) != (count, (count, 2))
    ):
        return None, f"{folder}: damaged: its arrays are not those of {count:,} pictures; {again}"
    if store.facts["images"] != images_digest(data.manifest):
        return None, f"{folder}: made of other pictures than those of {data.root}; {again}"
    if store.facts["transform"] != transform.settings:
        made, needed = in_words(store.facts["transform"]), in_words(transform.settings)
        return None, f"{folder}: made for {made}; this model reads {needed}" + way_out(transform)
    if changed and not store.as_decoded:
        return None, (
            f"{folder}: augment changes the pictures before they are resized, so that training "
            "decodes them"
        )
    if (row := differs(store, data, transform)) is not None:
        return None, (
            f"{folder}: picture {row} has other pixels than this machine decodes, as with another "
            f"version of Pillow; {again}"
        )
    return store, ""


def differs(store: PixelStore, data: PreparedData, transform: Transform) -> int | None:
    """Decode a few pictures again; return the first row that the store has otherwise."""
    rows = np.unique(np.linspace(0, len(data.images) - 1, SAMPLES).astype(np.int64))
    for row in rows.tolist():
        image = data.images[row]
        picture = decode(image["bytes"], image["file_name"])
        same = tuple(store.sizes[row]) == picture.size
        fresh = transform([picture])[0].numpy()
        if not same or not np.array_equal(fresh, store.pixels[row]):
            return int(row)
    return None
