"""ViLT: the logits of transformers, whatever else is in the batch."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers.models.vilt.image_processing_pil_vilt import (
    ViltImageProcessorPil,
    get_resize_output_image_size,
)

from tests.miniature.vilt import transformers_logits, write_vilt
from vle_bench.errors import RequestError
from vle_bench.models.base import Way
from vle_bench.models.vilt import checkpoint as vilt

ANSWERS = ["red", "blue", "circle", "2", "yes"]
QUESTIONS = ["what colour is the shape?", "is it a red circle?", "how many?"]
WAY = Way("classification")
# Width and height: square, wide, tall, beyond the longest side, of one patch's height, small
SHAPES = [(64, 64), (100, 70), (70, 130), (300, 64), (33, 40), (500, 20)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_vilt(tmp_path_factory.mktemp("vilt") / "vilt-tiny", ANSWERS, QUESTIONS)


@pytest.fixture(scope="module")
def loaded(folder):
    reader = vilt.read(folder, WAY)
    return reader, vilt.load(folder, reader, ANSWERS).eval()


@pytest.fixture(scope="module")
def pictures():
    drawn = np.random.default_rng(0)
    return [
        Image.fromarray(drawn.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in SHAPES
    ]


@torch.no_grad()
def logits(loaded, pictures, questions, **inputs):
    reader, model = loaded
    return model(**reader(pictures, questions, 40), **inputs).logits


def alone(loaded, pictures, questions):
    return torch.cat(
        [
            logits(loaded, [picture], [question])
            for picture, question in zip(pictures, questions, strict=True)
        ]
    )


def test_logits_are_those_of_transformers(folder, loaded, pictures):
    for picture in pictures[:-1]:
        expected = transformers_logits(folder, picture, QUESTIONS[0])
        assert torch.allclose(logits(loaded, [picture], [QUESTIONS[0]])[0], expected, atol=1e-5)
        assert expected.std() > 0.1  # else the comparison says nothing


def test_a_batch_of_all_shapes_gives_the_logits_of_each_alone(loaded, pictures):
    questions = [QUESTIONS[i % 3] for i in range(len(pictures))]
    together = logits(loaded, pictures, questions)
    assert torch.allclose(together, alone(loaded, pictures, questions), atol=1e-5)


def test_padding_is_not_looked_at(loaded, pictures):
    reader, model = loaded
    features = reader(pictures[:2], QUESTIONS[:2], 40)
    with torch.no_grad():
        before = model(**features).logits
        rows, columns = features["patches"][0].tolist()
        size = reader.patch_size
        features["pixel_values"][0, :, rows * size :] = 9
        features["pixel_values"][0, :, :, columns * size :] = 9
        assert torch.equal(model(**features).logits, before)


def test_questions_share_a_picture(loaded, pictures):
    index = torch.tensor([1, 0, 1])
    shared = logits(loaded, pictures[:2], QUESTIONS, image_index=index)
    each = alone(loaded, [pictures[i] for i in index], QUESTIONS)
    assert torch.allclose(shared, each, atol=1e-5)


def test_every_patch_counts_where_transformers_would_draw_some(folder, tmp_path, pictures):
    """`max_image_length` makes transformers leave out patches at random: two calls differ."""
    copy = shutil.copytree(folder, tmp_path / "vilt")
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps(config | {"max_image_length": 4}), "utf-8")
    torch.manual_seed(0)
    drawn = [transformers_logits(copy, pictures[1], QUESTIONS[0]) for _ in range(2)]
    assert not torch.allclose(*drawn, atol=1e-3)
    reader = vilt.read(copy, WAY)
    model = vilt.load(copy, reader, ANSWERS).eval()
    ours = logits((reader, model), pictures[1:2], QUESTIONS[:1])[0]
    assert torch.allclose(ours, transformers_logits(folder, pictures[1], QUESTIONS[0]), atol=1e-5)


def test_sizes_are_those_of_transformers(loaded):
    reader, drawn = loaded[0], np.random.default_rng(1)
    for width, height in drawn.integers(70, 400, (300, 2)).tolist():
        expected = get_resize_output_image_size(
            np.zeros((3, height, width), np.uint8), 64, 106, 16, "channels_first"
        )
        assert reader.resized(width, height)[::-1] == expected, (width, height)
    assert reader.resized(2000, 10) == (96, 16)  # nothing of it would be left


def test_pixels_are_those_of_transformers(folder, loaded, pictures):
    settings = ViltImageProcessorPil.from_pretrained(folder)
    for picture in pictures[:-1]:
        expected = settings(picture, return_tensors="pt")
        ours = loaded[0]([picture])
        assert torch.allclose(ours["pixel_values"], expected["pixel_values"], atol=1e-6)
        rows, columns = ours["patches"][0].tolist()
        assert expected["pixel_mask"].sum() == rows * columns * 16 * 16


def test_loss_and_gradients_are_those_of_transformers(folder, loaded, pictures):
    """A square of the trained size: transformers too takes each patch once, in another order."""
    reader, model = loaded
    labels = torch.tensor([[0.3, 0, 1, 0.6, 0], [0, 0.9, 0, 0, 1.0]])
    features = reader([pictures[0]] * 2, QUESTIONS[:2], 40)
    model.zero_grad()
    loss = model(**features, labels=labels).loss
    loss.backward()
    other = transformers.ViltForQuestionAnswering.from_pretrained(folder).eval()
    theirs = other(
        input_ids=features["input_ids"],
        attention_mask=features["attention_mask"],
        pixel_values=features["pixel_values"],
        pixel_mask=torch.ones(2, 64, 64, dtype=torch.long),
        labels=labels,
    ).loss
    theirs.backward()
    assert torch.allclose(loss, theirs, rtol=1e-5)
    gradients = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, gradients[name].grad, rtol=1e-3, atol=1e-4), name


def test_a_saved_folder_is_again_in_the_published_layout(folder, loaded, tmp_path):
    reader, model = loaded
    model.save_pretrained(tmp_path)
    reader.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["ViltForQuestionAnswering"]
    transformers.ViltForQuestionAnswering.from_pretrained(tmp_path)
    processor = transformers.AutoProcessor.from_pretrained(tmp_path)
    assert type(processor).__module__.startswith("transformers.")
    assert vilt.read(tmp_path, WAY).facts == reader.facts


def changed(folder, tmp_path, name, **values):
    copy = shutil.copytree(folder, tmp_path / "copy")
    content = json.loads((copy / name).read_text(encoding="utf-8"))
    (copy / name).write_text(json.dumps(content | values), encoding="utf-8")
    return copy


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"size_divisor": 24}, "size_divisor: 24 is no multiple of the model's patch_size 16"),
        ({"do_resize": False}, "do_resize, do_rescale and do_normalize"),
        ({"size": {"shortest_edge": 8}}, "size: shortest_edge, 16 to 4096 pixels, is expected"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(folder, tmp_path, values, line):
    copy = changed(folder, tmp_path, "preprocessor_config.json", **values)
    with pytest.raises(RequestError, match=line):
        vilt.read(copy, WAY)


def test_files_that_are_missing_or_do_not_fit_are_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "a")
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(RequestError, match=r"a: has no preprocessor_config\.json"):
        vilt.read(copy, WAY)
    copy = shutil.copytree(folder, tmp_path / "b")
    for name in ("tokenizer.json", "vocab.txt"):
        (copy / name).unlink()
    with pytest.raises(RequestError, match="no processor can be loaded"):
        vilt.read(copy, WAY)
    with pytest.raises(RequestError, match="positions for 40 tokens"):
        vilt.read(folder, Way("classification", max_text_length=41))
    reader = vilt.read(folder, WAY)
    with pytest.raises(RequestError, match="4 answers, and its head 5 classes"):
        vilt.load(folder, reader, ANSWERS[:4])
    copy = shutil.copytree(folder, tmp_path / "c")
    (copy / "model.safetensors").write_bytes(b"\x08\x00\x00\x00")
    with pytest.raises(RequestError, match="weights cannot be loaded"):
        vilt.load(copy, reader, ANSWERS)


def test_a_model_without_its_head_is_refused(tmp_path):
    folder = write_vilt(tmp_path / "mlm", ANSWERS, QUESTIONS, head=False)
    with pytest.raises(RequestError, match="weights that are missing for ViltForQuestionAnswering"):
        vilt.load(folder, vilt.read(folder, WAY), ANSWERS)
