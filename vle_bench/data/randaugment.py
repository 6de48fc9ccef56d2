"""RandAugment with Pillow alone, with METER's operations and ranges."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

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
