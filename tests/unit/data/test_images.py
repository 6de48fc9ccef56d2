"""Pictures that are damaged: refused where the format lets it be known, told where it does not matter."""

import io

import numpy as np
import pytest
from PIL import Image

from vle_bench.data.images import decode
from vle_bench.errors import RequestError


def test_a_png_whose_bytes_are_not_those_of_its_checksums_is_refused():
    """Decoding passes the checksums over, so that a flipped bit became other pixels without a word."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    whole = file.getvalue()
    assert np.array_equal(np.asarray(decode(whole, "a.png")), pixels)
    middle = whole.index(b"IDAT") + 100
    broken = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    with pytest.raises(RequestError, match="a.png: cannot be read as an image"):
        decode(broken, "a.png")
