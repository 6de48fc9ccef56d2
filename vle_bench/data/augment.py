"""Changes of training pictures that keep the answer true, and the seeds of random choices."""

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vle_bench.data.randaugment import rand_augment


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
        mirror_x, mirror_y, swap = rng.random(3) < 0.5
        if self.flip and mirror_x:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.flip and mirror_y:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        if self.transpose and swap:
            image = image.transpose(Image.Transpose.TRANSPOSE)
        if self.shift:
            pixels = np.asarray(image)
            dy, dx = rng.integers(-self.shift, self.shift + 1, 2)
            rows = np.clip(np.arange(image.height) + dy, 0, image.height - 1)
            columns = np.clip(np.arange(image.width) + dx, 0, image.width - 1)
            moved = Image.fromarray(pixels.take(rows, axis=0).take(columns, axis=1))
            moved.info = image.info
            image = moved
        if self.randaugment is not None:
            image = rand_augment(image, *self.randaugment, rng)
        return image
