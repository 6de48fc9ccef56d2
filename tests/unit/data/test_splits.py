"""Whether a model may have seen the pictures of a split, by the names of datasets and splits."""

import pytest

from vle_bench.data.splits import seen


@pytest.mark.parametrize(
    ("source", "split", "trained_on", "splits", "expected"),
    [
        ("vqav2", "minival", "vqav2", ["train", "val-minival"], False),
        ("vqav2", "val", "vqav2", ["train", "val-minival"], True),
        ("okvqa", "val", "vqav2", ["train"], False),
        ("okvqa", "val", "vqav2", ["train", "val-minival"], True),
        ("vqav2", "minival", "okvqa", ["train"], False),
        ("vqav2", "minival", "okvqa", ["val"], True),
        ("vqa-rephrasings", "val", "vqav2", ["minival"], True),
        ("advqa", "val", "vqa-cp-v2", ["train"], True),
        ("vqa-cp-v2", "test", "vqa-cp-v2", ["train"], False),
        ("gqa", "testdev", "vqav2", ["train", "val"], None),
        ("vqav2", "minival", "gqa", ["testdev"], None),
        ("gqa", "testdev", "gqa", ["train"], False),
        ("gqa", "testdev", "vizwiz", ["train"], False),
        ("gqa", "val", "vqav2", ["train"], True),
        ("vizwiz", "val", "vqav2", ["train", "val"], False),
        ("easy-vqa", "val", "own", ["val"], False),
        ("own", "val", "own", ["train"], False),
        ("own", "val", "own", ["val"], True),
        ("own", "val", "not known", ["val"], False),
    ],
)
def test_pictures_that_were_trained_on(source, split, trained_on, splits, expected):
    assert seen(source, split, trained_on, splits) is expected
