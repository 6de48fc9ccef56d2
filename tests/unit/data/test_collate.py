"""Order, augmentation, tokenizer and collation."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vle_bench.data.augment import Augmentation
from vle_bench.data.images import decode
from vle_bench.data.loader import grouped_order
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.errors import RequestError

ROWS = np.random.default_rng(0).integers(0, 50, 500)


@pytest.mark.parametrize("per_image", [1, 2, 100])
def test_every_question_once_and_a_function_of_seed_and_epoch(per_image):
    order = grouped_order(ROWS, 0, 3, per_image)
    assert sorted(order) == list(range(500))
    assert np.array_equal(order, grouped_order(ROWS, 0, 3, per_image))
    assert not np.array_equal(order, grouped_order(ROWS, 0, 4, per_image))
    assert not np.array_equal(order, grouped_order(ROWS, 1, 3, per_image))


def test_questions_of_an_image_stand_together():
    rows = ROWS[grouped_order(ROWS, 0, 0, 100)]
    assert (rows[1:] != rows[:-1]).sum() == len(set(ROWS)) - 1
    pairs = ROWS[grouped_order(ROWS, 0, 0, 2)]
    assert len(set(map(tuple, pairs[:20].reshape(10, 2)))) > 5  # of many images, not all of one


def picture():
    return Image.fromarray(np.random.default_rng(1).integers(0, 255, (8, 8, 3), dtype=np.uint8))


def test_augmentation_is_a_function_of_seed_epoch_and_image():
    change = Augmentation(flip=True, transpose=True, shift=2)
    seen = {change(picture(), 7, seed=0, epoch=e).tobytes() for e in range(40)}
    assert (
        change(picture(), 7, seed=0, epoch=1).tobytes()
        == change(picture(), 7, seed=0, epoch=1).tobytes()
    )
    assert len(seen) > 30
    assert Augmentation()(picture(), 7, seed=0, epoch=1).tobytes() == picture().tobytes()
    flipped = {Augmentation(flip=True)(picture(), i, seed=0, epoch=0).tobytes() for i in range(40)}
    assert len(flipped) == 4


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_any_mode_becomes_rgb(mode):
    content = io.BytesIO()
    image = Image.new(mode, (5, 4))
    image.save(content, "TIFF" if mode in ("CMYK", "I;16") else "PNG")
    assert decode(content.getvalue(), "x").mode == "RGB"


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"0" * 40])
def test_a_broken_image_is_named(content):
    with pytest.raises(RequestError, match="cat.jpg: cannot be read as an image"):
        decode(content, "cat.jpg")


def test_a_huge_image_is_refused_before_it_is_decoded():
    """By its header: there are no such many pixels in the file."""
    file = io.BytesIO()
    Image.new("1", (8, 8)).save(file, "PNG")
    content = file.getvalue()
    header = content[12:16] + struct.pack(">II", 40_000, 40_000) + content[24:29]
    content = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    with pytest.raises(RequestError, match="bomb.png: .*pixels"):
        decode(content, "bomb.png")


def test_tokenizer(tmp_path):
    texts = ["what is the blue shape?", "is there a circle?", "is there a circle?"]
    tokenizer = train_tokenizer(texts, 128)
    assert tokenizer.tokenize("is there a shape?") == ["▁is", "▁there", "▁a", "▁shape", "?"]
    assert tokenizer("is?").input_ids[0] == tokenizer.cls_token_id and tokenizer.pad_token_id == 0
    assert tokenizer.unk_token_id in tokenizer("ж").input_ids
    assert train_tokenizer(texts[::-1], 128).get_vocab() == tokenizer.get_vocab()
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(str(tmp_path))
    assert all(again(t).input_ids == tokenizer(t).input_ids for t in [*texts, "a tree"])
