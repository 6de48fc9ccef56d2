"""What the names of splits stand for."""

import pytest

from vle_bench.data.splits import atoms, names, overlap, tables, wrong_split

VQAV2 = {"train", "val-minival", "minival", "test-dev", "test", "vg", "vg-minival"}


def test_a_minus_is_part_of_a_name():
    assert names("train + val-minival") == ["train", "val-minival"]


@pytest.mark.parametrize(
    ("split", "there", "found"),
    [
        ("val", VQAV2, ["val-minival", "minival"]),
        ("trainval", VQAV2, ["train", "val-minival", "minival"]),
        ("train+val-minival", VQAV2, ["train", "val-minival"]),
        ("val+minival", VQAV2, ["val-minival", "minival", "minival"]),
        ("train+val", {"train", "val", "test"}, ["train", "val"]),
        ("trainval", {"train", "val", "test"}, ["train", "val"]),
        ("vall", VQAV2, ["vall"]),
    ],
)
def test_tables(split, there, found):
    assert tables(split, there) == found


def test_trainval_is_train_and_val():
    assert atoms("trainval") == atoms("train+val") == {"train", "val-minival", "minival"}
    assert atoms("val") == {"val-minival", "minival"}


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("train+val", "minival", True),
        ("trainval", "minival", True),
        ("train+val-minival", "minival", False),
        ("train+val-minival", "val", True),
        ("minival", "val", True),
        ("train", "val", False),
        ("train+test", "test", True),
        ("test-dev", "test", True),
        ("train+val-minival+vg", "minival", False),  # questions about other pictures only
        ("train+vg", "val", True),
        ("vg-minival", "minival", True),
    ],
)
def test_overlap(one, other, shared):
    assert overlap(one, other) is overlap(other, one) is shared


@pytest.mark.parametrize(
    ("split", "source", "message"),
    [
        ("train+val-minival", "vqav2", None),
        ("trainval+vg", "vqav2", None),
        ("test", "easy-vqa", None),
        ("test", "vcr", None),
        ("test", "vqav2", "test of vqav2 has no labels"),
        ("train+test-dev", "vqav2", "test-dev of vqav2 has no labels"),
        (
            "nix",
            "vqav2",
            "'nix' is no split of vqav2; there are train, val-minival, minival, val, trainval, vg",
        ),
        ("minival", "easy-vqa", "'minival' is no split of easy-vqa"),
        ("trainval", "vcr", "'trainval' is no split of vcr"),
        ("val+minival", "vqav2", "val+minival names a split twice"),
        ("trainval+train", "vqav2", "names a split twice"),
        ("train+train", "vcr", "names a split twice"),
        ("val+train", "easy-vqa", None),
    ],
)
def test_splits_that_a_recipe_may_name(split, source, message):
    found = wrong_split(split, source)
    assert found is None if message is None else message in found
