"""Boxes → patches, against what the published program gives (tests/golden/vle) and at the edges."""

import json
from pathlib import Path

import numpy as np
import pytest

from vle_bench.data.boxes import outside, patch_mask

GOLDEN = Path(__file__).parents[2] / "golden" / "vle"


def touched(box, width=100, height=80, rows=4, cols=5):
    """The patches of one box; by default patches of 20 × 20 pixels."""
    return np.flatnonzero(patch_mask([box], width, height, rows, cols)[0]).tolist()


@pytest.mark.parametrize("seed", [11, 12])
def test_published_boxes(seed):
    golden = json.loads((GOLDEN / f"seed{seed}" / "boxes.json").read_text(encoding="utf-8"))
    grid = golden["grid"]
    for boxes, (width, height), patches in zip(
        golden["boxes_xyxy_score"], golden["image_sizes_wh"], golden["patches"], strict=True
    ):
        for columns in (4, 5):  # with and without the score
            mask = patch_mask(np.array(boxes)[:, :columns], width, height, grid, grid)
            assert mask.shape == (len(boxes), grid * grid) and mask.dtype == bool
            assert [np.flatnonzero(row).tolist() for row in mask] == patches


@pytest.mark.parametrize(
    ("box", "patches"),
    [
        ((0, 0, 100, 80), list(range(20))),
        ((21, 41, 39, 59), [11]),
        (
            (19.9, 0, 20, 1),
            [0, 1],
        ),  # the last patch is floor(x2 / patch width), so a box that ends at 20 touches it
        ((20, 20, 20, 20), [6]),  # no area: one patch
        ((100, 80, 100, 80), [19]),
        ((-50, -50, 10, 10), [0]),  # clipped
        ((90, 70, 1e300, 1e300), [19]),
        ((-50, 30, -10, 30), [5]),  # outside: the nearest
        ((300, 300, 310, 310), [19]),
        ((45, -9, 45, -3), [2]),
    ],
)
def test_edges(box, patches):
    assert touched(box) == patches


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), np.zeros((0, 5))])
def test_no_box(boxes):
    assert patch_mask(boxes, 100, 80, 4, 5).shape == (0, 20)
    assert outside(boxes, 100, 80).shape == (0,)


def test_what_lies_outside():
    boxes = [
        (0, 0, 0, 0),
        (-5, 0, 0, 9),
        (-5, 0, 1, 9),
        (99, 0, 200, 9),
        (100, 0, 200, 9),
        (5, -9, 6, -1),
        (5, 80, 6, 90),
    ]
    assert outside(boxes, 100, 80).tolist() == [False, True, False, False, True, True, True]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([(0, 0, 1, 1), (5, 0, 4, 1)], r"boxes\[1\]: x2 is less than x1 .*5\.0, 0\.0, 4\.0, 1\.0"),
        ([(0, 2, 1, 1)], r"boxes\[0\]: y2 is less than y1"),
        (
            [(0, 0, 1, 1), (0, 0, 1, 1), (0, float("nan"), 1, 1)],
            r"boxes\[2\]: a coordinate is not finite",
        ),
        ([(0, 0, float("inf"), 1)], r"boxes\[0\]: a coordinate is not finite"),
        ([(0, 0, 1)], r"boxes: the shape \(K, 4\) is expected, not \(1, 3\)"),
        ((0, 0, 1, 1), r"boxes: the shape \(K, 4\) is expected, not \(4,\)"),
    ],
)
def test_refused_boxes(boxes, message):
    with pytest.raises(ValueError, match=message):
        patch_mask(boxes, 100, 80, 4, 5)


def test_a_score_that_is_not_a_number_does_not_matter():
    assert patch_mask([(0, 0, 1, 1, float("nan"))], 100, 80, 4, 5)[0].nonzero()[0].tolist() == [0]


@pytest.mark.parametrize("size", [(0, 80, 4, 5), (100, -1, 4, 5), (100, 80, 0, 5)])
def test_refused_pictures(size):
    with pytest.raises(ValueError, match="must be positive"):
        patch_mask([(0, 0, 1, 1)], *size)
