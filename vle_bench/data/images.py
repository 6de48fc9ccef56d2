"""Picture bytes → RGB, and the augmentations that keep an answer true."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vle_bench.errors import RequestError


def decode(content: bytes, name: str) -> Image.Image:
    """Encoded bytes → an RGB picture, upright. A broken, empty or huge file is a RequestError that names it."""
    try:
        return decode_picture(content, name)
    except ValueError as error:
        raise RequestError(str(error)) from error


MAX_PIXELS = 100_000_000  # COCO's largest are 0.4 million; a picture beyond this is a mistake or an attack on memory


def decode_picture(content: bytes, name: str) -> Image.Image:
    """Encoded bytes → an RGB picture, upright.

    Raises:
        ValueError: a broken, empty or huge file; it names the file. A huge one is refused before it is decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{name}: cannot be read as an image ({len(content)} bytes of no known format)"
        ) from error
    except (
        Exception
    ) as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, ... by format
        raise ValueError(f"{name}: cannot be read as an image ({error})") from error
    return upright_rgb(image, name)


def read(source: Any, name: str) -> Image.Image:
    """What a user calls an image → an RGB picture, upright.

    Args:
        source: a Pillow image, a path, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or uint16.
        name: what errors call it; the file's name is added where there is one.
    """
    if isinstance(source, Image.Image):
        file = getattr(source, "filename", "")
        return upright_rgb(source, f"{name} ({file})" if file else name)
    if isinstance(source, str | Path):
        name = f"{name} ({source})"
        try:
            content = Path(source).read_bytes()
        except OSError as error:
            raise ValueError(f"{name}: cannot be read ({error.strerror})") from error
        return decode_picture(content, name)
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    raise ValueError(
        f"{name}: a Pillow image, a path or a numpy array is expected, {type(source).__name__} came"
    )


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """Any mode → RGB, turned as its EXIF orientation says. Transparency is dropped, as `Image.convert` does it."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"{name}: {image.width} × {image.height} pixels; at most {MAX_PIXELS} are read"
        )
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        if image.mode == "I" or image.mode.startswith("I;16"):
            image = Image.fromarray(
                _eight_bit(np.asarray(image))
            )  # Pillow itself would clip at 255
        image.load()  # convert() would copy what is RGB already
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Palette images with Transparency")
            return image if image.mode == "RGB" else image.convert("RGB")
    except Exception as error:
        raise ValueError(f"{name}: cannot be read as an image ({error})") from error


def _eight_bit(values: np.ndarray) -> np.ndarray:
    """0..65535 → 0..255, rounded. Mode "I" is how Pillow opens some 16-bit files."""
    return ((np.clip(values, 0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{name}: an array of uint8 or uint16 is expected, {array.dtype} came")
    if (
        array.size == 0
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (1, 3, 4))
    ):
        raise ValueError(
            f"{name}: an array (H, W) or (H, W, 1, 3 or 4) is expected, {array.shape} came"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return upright_rgb(
        Image.fromarray(_eight_bit(array) if array.dtype == np.uint16 else array), name
    )
