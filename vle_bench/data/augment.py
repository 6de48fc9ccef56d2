"""Augmentations that keep the answer true, and the seeds of random choices.

RandAugment is done with Pillow alone, with METER's operations and ranges.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from vle_bench.json_files import JsonObject


@dataclass(frozen=True)
class Draws:
    """Seed and epoch of random choices that are made anew in each epoch."""

    seed: int
    epoch: int


def id_number(annot_id: str) -> int:
    """Return 64 bits of an annot_id for a seed, the same on every machine."""
    return int.from_bytes(hashlib.sha256(annot_id.encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training pictures, a pure function of (seed, epoch, ids).

    The ids are the image's, and the question's after it where each question gets a view of its own.

    Args:
        flip: mirror it left-right and top-bottom, each with probability one half.
        transpose: exchange the axes with probability one half.
        shift: move it by up to this many pixels each way; the border repeats the edge.
        randaugment: (operations, magnitude), after the others; see `rand_augment`.
    """

    flip: bool = False
    transpose: bool = False
    shift: int = 0
    randaugment: tuple[int, int] | None = None

    def __call__(self, image: Image.Image, *ids: int, seed: int, epoch: int) -> Image.Image:
        rng = np.random.default_rng((seed, epoch, *ids))
        turns = rng.random(3) < 0.5  # drawn in any case, so that RandAugment's numbers stay
        if self.flip or self.transpose or self.shift:
            info, moved = image.info, self.moved(np.asarray(image), turns, rng)
            image = Image.fromarray(np.ascontiguousarray(moved))
            image.info = info
        return image if self.randaugment is None else rand_augment(image, *self.randaugment, rng)

    def of_pixels(
        self, pixels: NDArray[np.uint8], *ids: int, seed: int, epoch: int
    ) -> NDArray[np.uint8]:
        """Return the view of pixels (H, W, 3) whose bytes `__call__` gives for their picture.

        RandAugment, which is Pillow's, is left out.
        """
        rng = np.random.default_rng((seed, epoch, *ids))
        return self.moved(pixels, rng.random(3) < 0.5, rng)

    def moved(
        self, pixels: NDArray[np.uint8], turns: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Mirror, turn and shift pixels (H, W, 3).

        Args:
            turns: (3,) whether to mirror left-right and top-bottom, and to exchange the axes.
            rng: draws the shift.

        Returns:
            An array that may share the memory of `pixels`.
        """
        mirror_x, mirror_y, swap = turns
        if self.flip and mirror_x:
            pixels = pixels[:, ::-1]
        if self.flip and mirror_y:
            pixels = pixels[::-1]
        if self.transpose and swap:
            pixels = pixels.transpose(1, 0, 2)
        if self.shift:
            dy, dx = rng.integers(-self.shift, self.shift + 1, 2).tolist()
            height, width, _ = pixels.shape
            # Beyond a border "clip" takes the edge.
            pixels = pixels.take(range(dy, dy + height), axis=0, mode="clip")
            pixels = pixels.take(range(dx, dx + width), axis=1, mode="clip")
        return pixels


@dataclass(frozen=True)
class Views:
    """Augmented views of the training pictures of one epoch.

    Args:
        one_a_question: each question of an image gets its own view, as in METER; else they share
            one.
    """

    change: Augmentation
    seed: int
    epoch: int
    one_a_question: bool = False

    @classmethod
    def of(cls, settings: JsonObject, seed: int, epoch: int) -> "Views | None":
        """Return the views that a recipe's `augment` asks for, or None if it changes nothing.

        Args:
            settings: the group `augment`, and `one_a_question`.
        """
        change = Augmentation(**{one.name: settings[one.name] for one in fields(Augmentation)})
        if change == Augmentation():
            return None
        return cls(change, seed, epoch, settings.get("one_a_question", False))

    def __call__(self, image: Image.Image, *ids: int) -> Image.Image:
        """Return a view; ids: the image's and, with `one_a_question`, the question's."""
        return self.change(image, *ids, seed=self.seed, epoch=self.epoch)

    def of_pixels(self, pixels: NDArray[np.uint8], *ids: int) -> NDArray[np.uint8]:
        """Return a view of pixels (H, W, 3), without RandAugment."""
        return self.change.of_pixels(pixels, *ids, seed=self.seed, epoch=self.epoch)


LARGEST_MAGNITUDE = 30

Operation = Callable[
    [Image.Image, float], Image.Image
]  # (RGB picture, value) → RGB picture of the same size


def autocontrast(image: Image.Image, value: float) -> Image.Image:
    return ImageOps.autocontrast(image)


def equalize(image: Image.Image, value: float) -> Image.Image:
    return ImageOps.equalize(image)


def rotate(image: Image.Image, value: float) -> Image.Image:
    """Rotate by `value` degrees around the centre; new areas are black, here and below."""
    return image.rotate(value)


def posterize(image: Image.Image, value: float) -> Image.Image:
    """Keep the upper int(value) bits of each channel, at least one."""
    return ImageOps.posterize(image, max(1, int(value)))


def solarize(image: Image.Image, value: float) -> Image.Image:
    """Invert levels from `value` on; 256 changes nothing."""
    return ImageOps.solarize(image, math.ceil(value))


def solarize_add(image: Image.Image, value: float) -> Image.Image:
    """Brighten the picture by `value`, then invert levels from 128 on."""
    brighter = image.point([min(255, int(level + value)) for level in range(256)] * 3)
    return ImageOps.solarize(brighter, 128)


def color(image: Image.Image, value: float) -> Image.Image:
    """Change the colour: 0 is grey, 1 the picture itself; so for the three below."""
    return ImageEnhance.Color(image).enhance(value)


def contrast(image: Image.Image, value: float) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(value)


def brightness(image: Image.Image, value: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(value)


def sharpness(image: Image.Image, value: float) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(value)


def shear_x(image: Image.Image, value: float) -> Image.Image:
    """Move each row by `value` pixels for each row above it."""
    return image.transform(image.size, Image.Transform.AFFINE, (1, value, 0, 0, 1, 0))


def shear_y(image: Image.Image, value: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0, value, 1, 0))


def translate_x(image: Image.Image, value: float) -> Image.Image:
    """Move by `value` pixels of the stored picture, whatever its width."""
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, value, 0, 1, 0))


def translate_y(image: Image.Image, value: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, value))


# METER, `meter/transforms/randaug.py`: the list of TensorFlow's EfficientNet (tensorflow/tpu,
# autoaugment.py) without Invert and CutoutAbs, which METER comments out. Each operation with its
# value at magnitude 0 and at 30, and whether the value is negated half of the time.
OPERATIONS: tuple[tuple[Operation, float, float, bool], ...] = (
    (autocontrast, 0, 1, False),
    (equalize, 0, 1, False),
    (rotate, 0, 30, True),
    (posterize, 0, 4, False),
    (solarize, 0, 256, False),
    (solarize_add, 0, 110, False),
    (color, 0.1, 1.9, False),
    (contrast, 0.1, 1.9, False),
    (brightness, 0.1, 1.9, False),
    (sharpness, 0.1, 1.9, False),
    (shear_x, 0, 0.3, True),
    (shear_y, 0, 0.3, True),
    (translate_x, 0, 100, True),
    (translate_y, 0, 100, True),
)


def rand_augment(
    image: Image.Image, operations: int, magnitude: int, rng: np.random.Generator
) -> Image.Image:
    """Apply `operations` randomly drawn operations, with replacement, each at `magnitude`.

    As METER does it: every operation's value goes linearly from its lowest (magnitude 0) to its
    highest (30), also if that is not from weak to strong. So the recipe's 9 keeps one bit of a
    posterized picture, and makes colour, contrast, brightness and sharpness 0.64 of what they were;
    15 leaves these four alone.

    Args:
        image: RGB, as it was stored, before it is resized for the model.
        magnitude: 0 to 30.
    """
    if not 0 <= magnitude <= LARGEST_MAGNITUDE:
        raise ValueError(f"magnitude: 0 to {LARGEST_MAGNITUDE} is expected, not {magnitude}")
    for index in rng.integers(len(OPERATIONS), size=operations):
        apply, low, high, either_way = OPERATIONS[index]
        negated = (
            rng.random() < 0.5
        )  # drawn for every operation, so that no draw depends on an earlier one
        value = low + magnitude / LARGEST_MAGNITUDE * (high - low)
        image = apply(image, -value if either_way and negated else value)
    return image
