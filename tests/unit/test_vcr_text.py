"""VCR records → model inputs, against the published pipelines where those are right, and by the stated rules elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from vle_bench.data.vcr_text import encode_record

GOLDEN = Path(__file__).parents[1] / "golden" / "vcr_text"
EXAMPLES = json.loads((GOLDEN / "records.json").read_text())
ENCODED = [(example, task) for example in EXAMPLES for task in example["tasks"]]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(GOLDEN / "tokenizer")


def patch_mask(boxes, width, height, rows, cols):
    """The stated mapping, by the letter: floor(x / patch width), clipped."""
    mask = np.zeros((len(boxes), rows, cols), bool)
    for k, (x1, y1, x2, y2, *_) in enumerate(boxes):
        left, right = (int(np.clip(x // (width / cols), 0, cols - 1)) for x in (x1, x2))
        top, bottom = (int(np.clip(y // (height / rows), 0, rows - 1)) for y in (y1, y2))
        mask[k, top : bottom + 1, left : right + 1] = True
    return mask.reshape(len(boxes), rows * cols)


@pytest.mark.parametrize(("example", "task"), ENCODED, ids=[f"{e['name']}-{t}" for e, t in ENCODED])
def test_golden(tokenizer, example, task):
    expected = example["tasks"][task]["choices"]
    found = encode_record(example["record"], tokenizer, task)
    mask = patch_mask(example["boxes"], example["width"], example["height"], example["grid"], example["grid"])
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        for key in ("input_ids", "token_type_ids", "objects", "object_token_type_ids"):
            assert ours[key] == theirs[key], key
        assert [np.flatnonzero(row).tolist() for row in mask[ours["objects"]]] == theirs["object_patches"][0]
        assert not ours["shortened"]
