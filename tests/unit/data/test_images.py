"""Pictures from files to the processor: made upright RGB once, to the same pixels."""

import io

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from tests.miniature.published import word_tokenizer
from vle_bench.data import images
from vle_bench.data.collate import QuestionCollator
from vle_bench.data.images import UPRIGHT, decode, read, upright_rgb
from vle_bench.errors import RequestError
from vle_bench.models.vle.processing import VLEProcessor


def encoded(mode: str, orientation: int) -> bytes:
    pixels = np.random.default_rng(orientation).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG", exif=exif)
    return file.getvalue()


@pytest.fixture
def made_upright(monkeypatch) -> list[str]:
    """The names of the pictures that were made upright RGB."""
    names: list[str] = []

    def recorded(image: Image.Image, name: str) -> Image.Image:
        names.append(name)
        return upright_rgb(image, name)

    monkeypatch.setattr(images, "upright_rgb", recorded)
    return names


def test_a_batch_makes_each_picture_upright_once(made_upright):
    contents = [encoded("RGB", 6), encoded("RGB", 1), encoded("L", 3)]
    names = [f"{i}.png" for i in range(3)]
    tables = {
        "questions": {
            "image_row": [0, 1, 2, 0],
            "question_id": [1, 2, 3, 4],
            "question": ["a"] * 4,
        },
        "images": {"bytes": contents, "file_name": names},
    }
    questions, pictures = (datasets.Dataset.from_dict(tables[name]) for name in tables)
    processor = VLEProcessor(CLIPImageProcessorPil(), word_tokenizer(), 4)
    processor.set_size(8, "crop")
    batch = QuestionCollator(questions, pictures, processor, 0, 8)(np.arange(4))
    assert made_upright == names
    plain = [decode(content, name) for content, name in zip(contents, names, strict=True)]
    for picture in plain:
        del picture.info[UPRIGHT]
    again = processor(images=plain, text="a")
    assert torch.equal(batch["inputs"]["pixel_values"], again["pixel_values"])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_decoded_picture_would_not_change(made_upright, orientation):
    picture = decode(encoded("RGB", orientation), "a.png")
    before = np.asarray(picture)
    assert read(picture, "images[0]") is picture
    del picture.info[UPRIGHT]
    assert np.array_equal(np.asarray(read(picture, "images[0]")), before)
    assert made_upright == ["a.png", "images[0]"]


def test_pictures_of_users_and_of_other_modes_are_converted(made_upright):
    decoded = decode(encoded("RGB", 6), "a.png")
    assert read(decoded.convert("L"), "grey").mode == "RGB"
    theirs = Image.open(io.BytesIO(encoded("RGB", 6)))
    assert read(theirs, "theirs").size == (6, 9) and UPRIGHT not in theirs.info
    assert made_upright == ["a.png", "grey", "theirs"]


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
