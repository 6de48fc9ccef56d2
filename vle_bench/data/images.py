"""Picture bytes → RGB, and the augmentations that keep an answer true."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from vle_bench import pictures
from vle_bench.data.randaugment import rand_augment
from vle_bench.errors import RequestError


def decode(content: bytes, name: str) -> Image.Image:
    """Encoded bytes → an RGB picture, upright. A broken, empty or huge file is a RequestError that names it."""
    try:
        return pictures.decode(content, name)
    except ValueError as error:
        raise RequestError(str(error)) from error


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training picture; a pure function of (seed, epoch, ids).

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
            image = Image.fromarray(pixels[rows[:, None], columns])
        if self.randaugment is not None:
            image = rand_augment(image, *self.randaugment, rng)
        return image


@dataclass(frozen=True)
class Views:
    """What happens to the training pictures of one epoch.

    Args:
        one_a_question: each question of an image looks at a view of its own, as in METER; else all of them share one.
    """

    change: Augmentation
    seed: int
    epoch: int
    one_a_question: bool = False

    def __call__(self, image: Image.Image, *ids: int) -> Image.Image:
        """Args: ids: the image's; with `one_a_question` also the question's."""
        return self.change(image, *ids, seed=self.seed, epoch=self.epoch)
