"""Read pictures of any source as upright RGB."""

import base64
import functools
import http.client
import io
import logging
import re
import urllib.request
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vle_bench import __version__
from vle_bench.errors import RequestError

logger = logging.getLogger(__name__)
# COCO's largest pictures have 0.4 million; more is a mistake or an attack on memory.
MAX_PIXELS = 100_000_000
MAX_BYTES = 200_000_000  # of a picture from the network
TIMEOUT = 60.0  # seconds without a byte
ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")  # RFC 3986, 3.1
# Keys in `info` of a picture: the EXIF orientation of its file, 2 to 8, if the picture was turned;
# and that `decode` made it, so that a processor need not turn and convert it a second time.
TURNED = "turned"
UPRIGHT = "upright RGB"


def decode(content: bytes, name: str) -> Image.Image:
    """Decode a picture to upright RGB. A broken or huge file is a RequestError that names it."""
    try:
        return decode_picture(content, name)
    except ValueError as error:
        raise RequestError(str(error)) from error


def decode_picture(content: bytes, name: str) -> Image.Image:
    """Decode a picture to upright RGB.

    Raises:
        ValueError: a broken, empty or huge file; names the file. A huge one is not decoded.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            image = Image.open(io.BytesIO(content))
            if image.format == "PNG":  # the one format with checksums; decoding passes them over
                Image.open(io.BytesIO(content)).verify()
            if _of_exif(caught):  # Pillow reads the resolution from it, and keeps the content
                _say_damaged(name)
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{name}: cannot be read as an image ({len(content)} bytes of no known format)"
        ) from error
    except (
        Exception
    ) as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, ... by format
        raise ValueError(f"{name}: cannot be read as an image ({error})") from error
    upright = upright_rgb(image, name)
    upright.info[UPRIGHT] = True
    return upright


def read(source: object, name: str, timeout: float = TIMEOUT) -> Image.Image:
    """Read anything that a user may give as an image to upright RGB.

    Args:
        source: a Pillow image, a path, an address (http://, https://, data:image/), or an array
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or uint16.
        name: what errors call it; the file's name is added where there is one.
        timeout: seconds that a server may keep silent.
    """
    if isinstance(source, Image.Image):
        if source.mode == "RGB" and UPRIGHT in source.info:
            return source
        file = getattr(source, "filename", "")
        return upright_rgb(source, f"{name} ({file})" if file else name)
    if isinstance(source, str) and source.startswith("data:image/"):
        return decode(_inline(source, name), name)
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        name = f"{name} ({source})"
        return decode(_fetched(source, name, timeout), name)
    if isinstance(source, str | Path):
        name = f"{name} ({source})"
        if isinstance(source, str) and (scheme := ADDRESS.match(source)):
            raise ValueError(
                f"{name}: {scheme[0]} is not fetched; give http://, https://, data:image/ or a path"
            )
        try:
            content = Path(source).read_bytes()
        except OSError as error:
            raise ValueError(f"{name}: cannot be read ({error.strerror})") from error
        return decode_picture(content, name)
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    raise ValueError(
        f"{name}: a Pillow image, a path, an address or a numpy array is expected, "
        f"not {type(source).__name__}"
    )


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert any mode to RGB, turned as the EXIF orientation says; transparency is dropped.

    `info["turned"]` of the result is the orientation if there is one. A damaged EXIF block is
    reported in one line and used as far as it can be read.
    """
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"{name}: {image.width} × {image.height} pixels; at most {MAX_PIXELS} are read"
        )
    orientation, damaged = _orientation(image)
    if damaged:
        _say_damaged(name)
    try:
        if orientation != 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = ImageOps.exif_transpose(image)
            image.info[TURNED] = orientation
        if image.mode == "I" or image.mode.startswith("I;16"):
            image = Image.fromarray(
                _eight_bit(np.asarray(image))
            )  # Pillow itself would clip at 255
        image.load()  # convert() would copy a picture that is RGB already
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Palette images with Transparency")
            return image if image.mode == "RGB" else image.convert("RGB")
    except Exception as error:
        raise ValueError(f"{name}: cannot be read as an image ({error})") from error


def upright_size(path: Path) -> tuple[int, int] | None:
    """Read width and height of the upright picture from the head of a file, without decoding it.

    `decode_picture` reports damage.

    Returns:
        None if the head is damaged.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            width, height = image.size
            turned = _orientation(image)[0] >= 5  # the axes are exchanged
    except Exception:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, ... by format
        return None
    return (height, width) if turned else (width, height)


def _orientation(image: Image.Image) -> tuple[int, bool]:
    """Return the EXIF orientation, 1 to 8, and whether its block is damaged.

    The orientation is 1 if it is missing or invalid.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            damaged = _of_exif(caught)
        except Exception:  # Pillow raises SyntaxError, struct.error, ... by what is damaged
            orientation, damaged = 1, True
    valid = isinstance(orientation, int) and orientation in range(2, 9)
    return (orientation if valid else 1), damaged


def _of_exif(caught: list[warnings.WarningMessage]) -> bool:
    """Return whether Pillow warned of EXIF data that end early or contradict themselves."""
    words = ("EXIF data", "Truncated File Read", "Metadata Warning")
    return any(word in str(one.message) for one in caught for word in words)


@functools.lru_cache(maxsize=10_000)
def _say_damaged(name: str) -> None:
    """Log a damaged EXIF block once a picture, however often it is decoded."""
    logger.warning(
        "%s: its EXIF block is damaged; the picture is turned only as far as the block can be read",
        name or "a picture",
    )


def _fetched(url: str, name: str, timeout: float) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": f"vle-bench/{__version__}"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            content: bytes = response.read(MAX_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ValueError(f"{name}: cannot be fetched ({error})") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"{name}: larger than the {MAX_BYTES:,} bytes that are fetched")
    return content


def _inline(address: str, name: str) -> bytes:
    """Return the bytes of data:image/png;base64,..."""
    kind, _, content = address.partition(",")
    try:
        if not kind.endswith(";base64"):
            raise ValueError("not base64")
        return base64.b64decode(content, validate=True)
    except ValueError as error:
        raise ValueError(
            f"{name}: cannot be read as data:image/...;base64,... ({error})"
        ) from error


def _eight_bit(values: np.ndarray) -> np.ndarray:
    """Round 0..65535 to 0..255. Mode "I" is how Pillow opens some 16-bit files."""
    wide: np.ndarray = np.clip(values, 0, 65535).astype(np.uint32)
    rounded: np.ndarray = ((wide + 128) // 257).astype(np.uint8)
    return rounded


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{name}: an array of uint8 or uint16 is expected, not {array.dtype}")
    if (
        array.size == 0
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (1, 3, 4))
    ):
        raise ValueError(
            f"{name}: an array (H, W) or (H, W, 1, 3 or 4) is expected, not {array.shape}"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return upright_rgb(
        Image.fromarray(_eight_bit(array) if array.dtype == np.uint16 else array), name
    )
