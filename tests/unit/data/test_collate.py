"""Order, augmentation, tokenizer and collation."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from vle_bench.data.augment import Augmentation, Views
from vle_bench.data.collate import QuestionCollator
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


class Table(dict):
    """A table whose rows are all read at once, as columns."""

    def __getitem__(self, rows):
        return {name: [column[row] for row in rows] for name, column in self.items()}


def encoded_picture(number):
    content = io.BytesIO()
    Image.new("RGB", (4, 4), (number, 0, 0)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def tables():
    questions = Table(
        question=["a", "b", "c", "d"],
        question_id=[10, 11, 12, 13],
        image_id=[5, 6, 5, 6],
        image_row=[0, 1, 0, 1],
        label_ids=[[2, 0, 4], [], [1], None],  # of a split to predict: none
        label_scores=[[0.3, 1.0, 0.6], [], [0.9], None],
    )
    images = Table(bytes=[encoded_picture(number) for number in range(2)], file_name=["5", "6"])
    return questions, images


def seen(images, **_):
    """Stand in for a processor: the pictures, and no texts."""
    return {"pixel_values": torch.tensor([np.asarray(image)[0, 0, 0] for image in images])}


def test_labels_and_pictures_are_those_of_each_question(tables):
    collate = QuestionCollator(*tables, seen, num_labels=5, max_text_length=8)
    batch = collate(np.array([2, 0, 3, 1]))
    assert batch["ids"] == [12, 10, 13, 11]
    labels = torch.tensor(
        [[0, 0.9, 0, 0, 0], [1.0, 0, 0.3, 0, 0.6], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    )
    assert torch.equal(batch["inputs"]["labels"], labels)
    pictures = batch["inputs"]["pixel_values"][batch["inputs"]["image_index"]]
    assert pictures.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("one_a_question", [True, False])
def test_a_view_is_of_the_picture_of_its_question(tables, one_a_question):
    views = Views(Augmentation(flip=True), seed=0, epoch=0, one_a_question=one_a_question)
    collate = QuestionCollator(*tables, seen, num_labels=0, max_text_length=8, augment=views)
    inputs = collate(np.array([1, 2, 3, 0]))["inputs"]
    assert "labels" not in inputs and len(inputs["pixel_values"]) == (4 if one_a_question else 2)
    assert inputs["pixel_values"][inputs["image_index"]].tolist() == [1, 0, 1, 0]


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
