"""Pixel stores: the same bytes as decoding, resumed, and refused where they do not fit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from tests.miniature.in_process import run
from vle_bench.bench.synthetic import write_synthetic
from vle_bench.cli.data import default_resize
from vle_bench.data.pixels import FACTS, PIXELS, Transform, Transformed, choose, square_settings
from vle_bench.data.prepare import pixels as writing
from vle_bench.data.prepare.pixels import store_name, write_store
from vle_bench.errors import RequestError
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks import load_task
from vle_bench.training import feed
from vle_bench.training.run import build
from vle_bench.training.train import train

SMALL = ["train.batch_size=8", "train.per_device_batch_size=4", "train.num_workers=0"]
SMALL += ["data.first_stage=null", "train.max_steps=3", "train.evaluate_every=2"]
PLAIN = ["augment.flip=false", "augment.transpose=false", "augment.shift=0"]
SPLITS = {"train": 24, "val": 6, "test": 6}


def test_views_are_stacked_channels_first_with_their_sizes():
    views = [np.random.default_rng(i).integers(0, 256, (4, 6, 3), np.uint8) for i in range(2)]
    stacked = Transformed.of_views([views[0], views[1][::-1]])
    assert stacked.sizes == [(6, 4), (6, 4)] and stacked.pixels.shape == (2, 3, 4, 6)
    assert np.array_equal(stacked.pixels[1, 2].numpy(), views[1][::-1, :, 2])


def data_of(tmp_path, source="shapes-vcr"):
    root = tmp_path / source
    write_synthetic(root, source, SPLITS, seed=0)
    return root


def recipe_of(root, name="demo/vcr-q2a-tiny", *more):
    return load_recipe(name, [*SMALL, f"data.root={root}", *more])


def read_of(recipe):
    task = load_task(recipe.task)
    return feed.of_recipe(recipe, task, feed.open_data(recipe, task))


def batches_of(read, count=4):
    steps = read.load_steps(accumulation=2, stage_steps=0)
    return [batch for _ in range(count) for batch in next(steps)[2]]


def same(left, right):
    assert [batch["ids"] for batch in left] == [batch["ids"] for batch in right]
    for one, other in zip(left, right, strict=True):
        assert one["inputs"].keys() == other["inputs"].keys()
        for name, value in one["inputs"].items():
            assert torch.equal(value, other["inputs"][name]), name


@pytest.mark.parametrize(
    ("name", "source", "resize", "more"),
    [
        ("demo/vcr-q2a-tiny", "shapes-vcr", "squash", []),
        ("demo/vcr-qa2r-tiny", "shapes-vcr", "crop", ["model.resize=crop"]),
        ("demo/vcr-q2a-tiny", "shapes-vcr", "published-vcr", ["model.resize=published-vcr"]),
        ("demo/vqa-tiny", "easy-vqa", "crop", ["model.resize=crop", "model.image_size=48", *PLAIN]),
        ("demo/vqa-tiny", "easy-vqa", "squash", []),  # augmented pictures of their own size
    ],
)
def test_training_has_the_same_bytes_with_a_store(tmp_path, name, source, resize, more):
    root = data_of(tmp_path, source)
    recipe = recipe_of(root, name, *more)
    train(recipe, tmp_path / "decoded")
    decoded = batches_of(read_of(recipe))
    size = recipe.model.image_size
    assert write_store(root, store_name(size, resize), Transform.of_squares(size, resize))
    assert build(recipe, tmp_path / "built").pixels is not None
    same(batches_of(read_of(recipe)), decoded)
    train(recipe, tmp_path / "stored")
    weights = [
        (tmp_path / way / "last/model.safetensors").read_bytes() for way in ("decoded", "stored")
    ]
    assert weights[0] == weights[1]
    records = [
        json.loads(
            (tmp_path / way / f"results/{recipe.task}.{recipe.data.report}.json").read_text(
                encoding="utf-8"
            )
        )
        for way in ("decoded", "stored")
    ]
    assert records[0]["metrics"] == records[1]["metrics"]


def test_nothing_is_decoded_but_the_pictures_that_are_compared(tmp_path, monkeypatch):
    root = data_of(tmp_path)
    recipe = recipe_of(root)
    write_store(root, "96-squash", Transform.of_squares(96, "squash"))
    read = read_of(recipe)
    monkeypatch.setattr("vle_bench.data.collate.decode", None)  # a call would fail
    assert batches_of(read)


def test_augmentation_takes_only_pictures_that_were_not_resized(tmp_path):
    root = data_of(tmp_path, "easy-vqa")
    recipe = recipe_of(root, "demo/vqa-tiny", "model.image_size=32")
    decoded = batches_of(read_of(recipe))
    write_store(root, "32-squash", Transform.of_squares(32, "squash"))
    read = read_of(recipe)
    assert read.pixels is None
    same(batches_of(read), decoded)
    _, note = feed.pixels_of(recipe, read.data, read.processor)
    assert "pixels-32-squash: augment changes the pictures before they are resized" in note
    store, note = choose(read.data, read.processor)  # an evaluation does not augment
    assert store is not None and note == ""
    named = recipe_of(root, "demo/vqa-tiny", "model.image_size=32", "data.pixels=pixels-32-squash")
    with pytest.raises(RequestError, match="data.pixels: .*pixels-32-squash: augment changes"):
        read_of(named)


def test_a_store_of_another_transform_is_refused_by_name(tmp_path):
    root = data_of(tmp_path)
    write_store(root, "64-squash", Transform.of_squares(64, "squash"))
    write_store(root, "96-crop", Transform.of_squares(96, "crop"))
    read = read_of(recipe_of(root))
    assert read.pixels is None
    _, note = choose(read.data, read.processor)
    assert "pixels-64-squash: made for 64 × 64 pixels, squash" in note
    assert "pixels-96-crop: made for 96 × 96 pixels, crop" in note
    assert "reads 96 × 96 pixels, squash" in note
    with pytest.raises(RequestError, match=r"data.pixels: .*pixels-96-crop: made for .* crop"):
        read_of(recipe_of(root, "demo/vcr-q2a-tiny", "data.pixels=pixels-96-crop"))
    with pytest.raises(RequestError, match="pixels-7-crop: no pixel store there"):
        read_of(recipe_of(root, "demo/vcr-q2a-tiny", "data.pixels=pixels-7-crop"))


def test_a_store_of_other_or_damaged_pixels_is_refused(tmp_path):
    root = data_of(tmp_path)
    transform = Transform.of_squares(96, "squash")
    write_store(root, "96-squash", transform)
    folder, read = root / "pixels-96-squash", read_of(recipe_of(root))
    array = np.load(folder / PIXELS, mmap_mode="r+")
    array[-1, 0, 5, 5] ^= 1
    array.flush()
    assert f"picture {len(array) - 1} has other pixels" in choose(read.data, read.processor)[1]
    array[-1, 0, 5, 5] ^= 1
    array.flush()
    assert choose(read.data, read.processor)[0] is not None
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    (folder / FACTS).write_text(json.dumps({**facts, "images": "0" * 64}), encoding="utf-8")
    assert "made of other pictures" in choose(read.data, read.processor)[1]
    with pytest.raises(RequestError, match="pixels-96-squash: was made of other pictures"):
        write_store(root, "96-squash", transform)
    (folder / FACTS).write_text(json.dumps({"count": 3}), encoding="utf-8")
    assert "pixels-96-squash: damaged" in choose(read.data, read.processor)[1]
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    (folder / PIXELS).write_bytes((folder / PIXELS).read_bytes()[:-1])
    assert "pixels-96-squash: damaged" in choose(read.data, read.processor)[1]


def test_an_interrupted_store_goes_on_and_any_workers_write_the_same(tmp_path, monkeypatch):
    root = data_of(tmp_path)
    transform = Transform.of_squares(32, "crop")
    monkeypatch.setattr(writing, "PICTURES", 4)
    assert write_store(root, "32-crop", transform)
    folder = root / "pixels-32-crop"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(files) == ["pixels.npy", "sizes.npy", "store.json"]
    assert not write_store(root, "32-crop", transform)  # it is complete
    folder.rename(tmp_path / "first")
    decode, calls = writing.decode, []

    def interrupted(content, name):
        calls.append(name)
        if len(calls) == 7:  # of the second part; one call was for the shape
            raise RequestError("interrupted")
        return decode(content, name)

    monkeypatch.setattr(writing, "decode", interrupted)
    with pytest.raises(RequestError, match="interrupted"):
        write_store(root, "32-crop", transform)
    assert not folder.exists()
    assert choose_nothing(root)
    before = len(calls)
    assert write_store(root, "32-crop", transform, workers=1)
    count = len(np.load(folder / PIXELS))
    assert len(calls) - before == count - 4  # the first part was kept
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    folder.rename(tmp_path / "second")
    monkeypatch.undo()
    assert write_store(root, "32-crop", transform, workers=2)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def choose_nothing(root):
    return not list(root.glob("pixels-*/store.json"))


def test_a_full_disk_is_named_before_anything_is_written(tmp_path, monkeypatch):
    root = data_of(tmp_path)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(RequestError, match="take 0.0 GB, and 0.0 GB of the disk are free"):
        write_store(root, "96-squash", Transform.of_squares(96, "squash"))
    assert choose_nothing(root) and not (root / "pixels-96-squash").exists()


def test_a_process_opens_the_file_itself(tmp_path):
    import pickle

    root = data_of(tmp_path)
    write_store(root, "96-squash", Transform.of_squares(96, "squash"))
    read = read_of(recipe_of(root))
    assert read.pixels is not None and len(read.pixels.pixels) > 0
    sent = pickle.dumps(read.pixels)
    assert len(sent) < 2000  # the path, not the pixels
    rows = np.array([2, 0])
    assert torch.equal(pickle.loads(sent).read(rows).pixels, read.pixels.read(rows).pixels)


def command(*arguments, status=0):
    shown, errors = run(*arguments, cwd=Path.cwd(), code=status)
    return errors if status else shown


def test_the_command_writes_a_store_and_training_says_so(tmp_path):
    root = tmp_path / "easy"
    prepare = ["prepare", "easy-vqa", "--output", root, "--limit-images", 12]
    squash = [*prepare, "--pixels", 64, "--pixels-resize", "squash"]
    assert f"written: {root}/pixels-64-squash" in command(*squash)
    assert f"{root}/pixels-64-squash: already complete, nothing to do" in command(*squash)
    assert f"written: {root}/pixels-32-crop" in command(*prepare, "--pixels", 32)
    train = ["train", "demo/vqa-tiny", *SMALL, f"data.root={root}", "train.max_steps=1"]
    other = [*train, "--output-dir", tmp_path / "other"]
    train += ["--output-dir", tmp_path / "run"]
    assert f"pixels: from {root}/pixels-64-squash" in command(*train)
    wrong = command(*other, "data.pixels=pixels-32-crop", status=2)
    assert "data.pixels: " in wrong and "made for 32 × 32 pixels, crop" in wrong
    way_out = "; `vle-bench prepare ... --pixels 64 --pixels-resize squash` makes a store of that"
    assert (
        "reads 64 × 64 pixels, squash" in wrong
        and way_out in wrong
        and len(wrong.splitlines()) == 1
    )
    shutil.rmtree(root / "pixels-64-squash")
    evaluated = run("evaluate", tmp_path / "run", "--split", "val", cwd=Path.cwd())
    assert "pixels: not used: " in evaluated[1] and "pixels-32-crop: made for" in evaluated[1]
    assert "goes with --pixels" in command(*prepare, "--pixels-resize", "crop", status=2)


@pytest.mark.parametrize("resize", ["crop", "squash"])
@pytest.mark.parametrize("resample", [2, 3])
def test_a_transform_gives_the_bytes_of_the_image_processor(resize, resample):
    rng = np.random.default_rng(0)
    settings = {**square_settings(48, resize), "resample": resample}
    processor = CLIPImageProcessorPil(**settings)
    sizes = [(48, 48), (47, 48), (300, 20), (20, 300), *rng.integers(20, 200, (30, 2)).tolist()]
    pictures = [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in sizes
    ]
    expected = processor(pictures, do_rescale=False, do_normalize=False, return_tensors="pt")
    assert torch.equal(Transform(processor)(pictures), expected["pixel_values"])


def test_a_crop_beyond_the_picture_is_left_to_the_image_processor():
    settings = square_settings(48, "crop") | {"crop_size": {"height": 64, "width": 64}}
    processor = CLIPImageProcessorPil(**settings)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8))
    pixels = Transform(processor)([picture])
    expected = processor([picture], do_rescale=False, do_normalize=False, return_tensors="pt")
    assert pixels.shape == (1, 3, 64, 64)
    assert torch.equal(pixels, expected["pixel_values"])


@pytest.mark.parametrize("name", ["vqa/vle-base", "vqa/meter-base", "vcr/vle-base-q2a"])
def test_a_store_has_the_resize_of_the_shipped_recipes_unless_another_is_named(name):
    recipe = load_recipe(name)
    assert default_resize(recipe.data.source).value == recipe.model.resize
