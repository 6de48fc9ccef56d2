"""RandAugment: the published list and ranges, each operation, and where the randomness comes from."""

import numpy as np
import pytest
from PIL import Image

from vle_bench.bench.synthetic import write_synthetic
from vle_bench.data.augment import OPERATIONS, Augmentation, rand_augment
from vle_bench.errors import RequestError
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.schema import AugmentGroup
from vle_bench.tasks import load_task
from vle_bench.training.feed import Feed

BY_NAME = {
    operation.__name__: (operation, low, high, either_way)
    for operation, low, high, either_way in OPERATIONS
}


def picture(width=60, height=40):
    """A smooth slope with soft noise, from dark to light but not to black or white."""
    rng = np.random.default_rng(0)
    slope = (
        np.linspace(30, 200, width)[None, :, None] * np.ones((height, 1, 3))
        + np.arange(height)[:, None, None] / 2
    )
    return Image.fromarray(
        (slope * [1, 0.8, 0.6] + rng.normal(0, 4, (height, width, 3))).clip(5, 250).astype(np.uint8)
    )


def array(image):
    return np.asarray(image).astype(float)


def plainly_moved(pixels, seed, shift):
    """The moves that Pillow and numpy's padding make of the same random numbers."""
    rng = np.random.default_rng((seed, 2, 7))
    image, (mirror_x, mirror_y, swap) = Image.fromarray(pixels), rng.random(3) < 0.5
    for asked, way in (
        (mirror_x, Image.Transpose.FLIP_LEFT_RIGHT),
        (mirror_y, Image.Transpose.FLIP_TOP_BOTTOM),
        (swap, Image.Transpose.TRANSPOSE),
    ):
        image = image.transpose(way) if asked else image
    dy, dx = rng.integers(-shift, shift + 1, 2)
    padded = np.pad(np.asarray(image), ((shift, shift), (shift, shift), (0, 0)), mode="edge")
    top, left = shift + dy, shift + dx
    return padded[top : top + image.height, left : left + image.width]


def test_pixels_and_pictures_are_moved_alike_and_borders_repeat_the_edge():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    before, change = pixels.copy(), Augmentation(flip=True, transpose=True, shift=3)
    shapes = set()
    for seed in range(40):
        expected = plainly_moved(pixels, seed, 3)
        view = change.of_pixels(pixels, 7, seed=seed, epoch=2)
        assert np.array_equal(view, expected)
        image = change(Image.fromarray(pixels), 7, seed=seed, epoch=2)
        assert np.array_equal(np.asarray(image), expected)
        shapes.add(view.shape)
    assert shapes == {(6, 9, 3), (9, 6, 3)} and np.array_equal(pixels, before)


def test_a_picture_keeps_what_is_known_of_it_and_is_not_copied_for_nothing():
    image = picture()
    image.info["upright"] = True
    moved = Augmentation(flip=True, shift=2)(image, 1, seed=0, epoch=0)
    assert moved is not image and moved.info == {"upright": True}
    assert Augmentation()(image, 1, seed=0, epoch=0) is image


def changed_by(name, value):
    """Mean absolute change of a channel, 0..255."""
    return np.abs(array(BY_NAME[name][0](picture(), value)) - array(picture())).mean()


def test_the_list_is_meters():
    assert {name: (low, high) for name, (_, low, high, _) in BY_NAME.items()} == {
        "autocontrast": (0, 1),
        "equalize": (0, 1),
        "rotate": (0, 30),
        "posterize": (0, 4),
        "solarize": (0, 256),
        "solarize_add": (0, 110),
        "color": (0.1, 1.9),
        "contrast": (0.1, 1.9),
        "brightness": (0.1, 1.9),
        "sharpness": (0.1, 1.9),
        "shear_x": (0, 0.3),
        "shear_y": (0, 0.3),
        "translate_x": (0, 100),
        "translate_y": (0, 100),
    }
    assert {n for n, o in BY_NAME.items() if o[3]} == {
        "rotate",
        "shear_x",
        "shear_y",
        "translate_x",
        "translate_y",
    }


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("rotate", 0),
        ("shear_x", 0),
        ("shear_y", 0),
        ("translate_x", 0),
        ("translate_y", 0),
        ("color", 1),
        ("contrast", 1),
        ("brightness", 1),
        ("sharpness", 1),
        ("solarize", 256),
        ("posterize", 8),
    ],
)
def test_identity_where_there_is_one(name, identity):
    assert BY_NAME[name][0](picture(), identity).tobytes() == picture().tobytes()


@pytest.mark.parametrize(
    ("name", "values"),  # from weak to strong, over the whole range
    [
        ("rotate", [1, 5, 10, 20, 30]),
        ("shear_x", [0.03, 0.09, 0.2, 0.3]),
        ("shear_y", [0.03, 0.09, 0.2, 0.3]),
        ("translate_x", [2, 10, 20, 30]),
        ("translate_y", [2, 10, 20, 30]),
        ("posterize", [4, 3, 2, 1]),
        ("solarize", [200, 150, 100, 50]),
        ("color", [0.9, 0.64, 0.3, 0.1]),
        ("color", [1.1, 1.5, 1.9]),
        ("contrast", [0.9, 0.64, 0.3, 0.1]),
        ("contrast", [1.1, 1.5, 1.9]),
        ("brightness", [0.9, 0.64, 0.3, 0.1]),
        ("brightness", [1.1, 1.5, 1.9]),
        ("sharpness", [0.9, 0.64, 0.3, 0.1]),
        ("sharpness", [1.1, 1.5, 1.9]),
    ],
)
def test_stronger_values_change_more(name, values):
    changes = [changed_by(name, value) for value in values]
    assert changes == sorted(changes) and changes[0] < changes[-1]


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("size", [(60, 40), (1, 1), (300, 2)])
def test_size_and_mode_are_kept_over_the_whole_range(name, size):
    operation, low, high, either_way = BY_NAME[name]
    image = picture(*size)
    before = image.tobytes()
    for value in {low, (low + high) / 2, high, *([-low, -high] if either_way else [])}:
        result = operation(image, value)
        assert result.size == size and result.mode == "RGB"
    assert image.tobytes() == before


def test_what_single_operations_do():
    pixels = array(picture())
    solarized = array(BY_NAME["solarize"][0](picture(), 100))
    assert np.array_equal(solarized, np.where(pixels < 100, pixels, 255 - pixels))
    brighter = np.minimum(pixels + 33, 255)
    assert np.array_equal(
        array(BY_NAME["solarize_add"][0](picture(), 33)),
        np.where(brighter < 128, brighter, 255 - brighter),
    )
    assert np.array_equal(array(BY_NAME["posterize"][0](picture(), 1.2)), pixels // 128 * 128)
    assert np.array_equal(array(BY_NAME["posterize"][0](picture(), 0)), pixels // 128 * 128)
    moved = array(BY_NAME["translate_x"][0](picture(), 7))
    assert (
        np.array_equal(moved[:, :-7], pixels[:, 7:]) and not moved[:, -7:].any()
    )  # black from outside
    moved = array(BY_NAME["translate_y"][0](picture(), -7))
    assert np.array_equal(moved[7:], pixels[:-7]) and not moved[:7].any()
    assert np.ptp(array(BY_NAME["color"][0](picture(), 0)), axis=2).max() == 0
    stretched = array(BY_NAME["autocontrast"][0](picture(), 0))
    assert stretched.min((0, 1)).tolist() == [0, 0, 0] and stretched.max((0, 1)).tolist() == [
        255,
        255,
        255,
    ]
    levels = np.bincount(
        array(BY_NAME["equalize"][0](picture(), 0)).astype(int)[:, :, 0].ravel(), minlength=256
    )
    assert abs(levels[:128].sum() / levels.sum() - 0.5) < 0.05


def test_magnitude_goes_in_a_straight_line_from_low_to_high(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "vle_bench.data.augment.OPERATIONS",
        ((lambda i, v: seen.append(round(v, 6)) or i, 0.1, 1.9, False),),
    )
    for magnitude in (0, 9, 15, 30):
        rand_augment(picture(), 1, magnitude, np.random.default_rng(0))
    assert seen == [0.1, 0.64, 1.0, 1.9]
    seen.clear()
    monkeypatch.setattr(
        "vle_bench.data.augment.OPERATIONS",
        ((lambda i, v: seen.append(round(v, 6)) or i, 0, 30, True),),
    )
    for seed in range(200):
        rand_augment(picture(), 2, 9, np.random.default_rng(seed))
    assert set(seen) == {9.0, -9.0} and len(seen) == 400 and 150 < seen.count(9.0) < 250
    with pytest.raises(ValueError, match="0 to 30 is expected, not 31"):
        rand_augment(picture(), 1, 31, np.random.default_rng(0))


def test_every_operation_is_drawn_as_often(monkeypatch):
    seen = []
    names = [(lambda i, v, n=n: seen.append(n) or i, 0, 1, False) for n in range(14)]
    monkeypatch.setattr("vle_bench.data.augment.OPERATIONS", tuple(names))
    rng = np.random.default_rng(0)
    for _ in range(2800):
        rand_augment(picture(2, 2), 2, 9, rng)
    counts = np.bincount(seen, minlength=14)
    assert counts.sum() == 5600 and counts.min() > 330 and counts.max() < 470
    pairs = np.array(seen).reshape(-1, 2)
    assert (pairs[:, 0] == pairs[:, 1]).any()  # the same twice, as METER draws them


def test_a_pure_function_of_seed_epoch_and_image():
    change = Augmentation(randaugment=(2, 9))
    first = change(picture(), 7, seed=0, epoch=1).tobytes()
    np.random.seed(5)  # nothing of the global state
    assert change(picture(), 7, seed=0, epoch=1).tobytes() == first
    others = [change(picture(), 7, seed=0, epoch=e) for e in range(40)] + [
        change(picture(), i, seed=1, epoch=0) for i in range(40)
    ]
    assert len({image.tobytes() for image in others}) > 60
    assert all(image.size == (60, 40) for image in others)


def test_it_leaves_the_other_augmentations_as_they_were():
    plain, both = (
        Augmentation(flip=True, shift=2),
        Augmentation(flip=True, shift=2, randaugment=(1, 9)),
    )
    rng = np.random.default_rng((0, 3, 7))
    rng.random(3), rng.integers(-2, 3, 2)  # as Augmentation draws them
    expected = rand_augment(plain(picture(), 7, seed=0, epoch=3), 1, 9, rng)
    assert both(picture(), 7, seed=0, epoch=3).tobytes() == expected.tobytes()


def views(tmp_path, grouping, epochs):
    """The pictures that an image's questions see in so many epochs of a recipe, by the image's name."""
    write_synthetic(
        tmp_path / grouping, "easy-vqa", {"train": 19}, seed=0
    )  # two images, of 9 and 10 questions
    overrides = [
        f"data.grouping={grouping}",
        "train.batch_size=4",
        "train.per_device_batch_size=4",
        "train.num_workers=0",
    ]
    data, recipe = (
        load_task("vqa").open(tmp_path / grouping),
        load_recipe("vqa/meter-base", overrides),
    )
    names = data.images["image_id"]
    seen = {name: [] for name in names}
    held = []

    def processor(images, text, max_length):
        held[:] = images
        return {}

    questions = data.questions("train")
    settings = {"max_text_length": 50}
    feed = Feed(recipe, load_task("vqa"), data, questions, processor, settings)
    image_of = dict(zip(questions["question_id"], questions["image_id"], strict=True))
    for epoch, _, micro_batches in feed.load_steps(accumulation=1, stage_steps=0):
        if epoch == epochs:
            return seen
        for batch in micro_batches:
            for question, place in zip(batch["ids"], batch["inputs"]["image_index"], strict=True):
                seen[image_of[question]].append(held[int(place)].tobytes())


def test_each_question_has_a_view_of_its_own_where_questions_are_shuffled(tmp_path):
    """METER draws a view whenever it reads a question; one a picture and epoch would be 10 in ten epochs."""
    for seen, questions in zip(views(tmp_path, "question", 10).values(), (9, 10), strict=True):
        assert (
            len(seen) == 10 * questions and len(set(seen)) > 7 * questions
        )  # draws may do nothing
    for seen, questions in zip(views(tmp_path, "image", 10).values(), (9, 10), strict=True):
        assert len(seen) == 10 * questions and 8 <= len(set(seen)) <= 10


def test_the_recipe_reaches_the_pictures():
    meter = load_recipe("vqa/meter-base", [])
    augment = load_task("vqa").augmentation(meter.augment.model_dump(), 3, 5)
    assert (
        augment(picture(), 7).tobytes()
        == Augmentation(randaugment=(2, 9))(picture(), 7, seed=3, epoch=5).tobytes()
    )
    assert load_task("vqa").augmentation(AugmentGroup().model_dump(), 3, 5) is None
    with pytest.raises(RequestError, match="augment.randaugment"):
        load_recipe("vqa/meter-base", ["augment.randaugment=[2, 31]"])
