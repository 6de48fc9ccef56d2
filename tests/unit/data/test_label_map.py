"""Label maps of ours and of published checkpoints."""

import json

import pytest

from vle_bench.data.label_map import labels_digest, read_label_map
from vle_bench.errors import RequestError

ANSWERS = ["yes", "no", "2"]


def write(tmp_path, content):
    (tmp_path / "labels.json").write_text(json.dumps(content))
    return tmp_path / "labels.json"


@pytest.mark.parametrize(
    "content",
    [
        ANSWERS,
        {"answers": ANSWERS},
        {"answers": ANSWERS, "sha256": labels_digest(ANSWERS)},
        {"2": 2, "yes": 0, "no": 1},
        {"label2id": {"2": 2, "yes": 0, "no": 1}},
        {"id2label": {"2": "2", "0": "yes", "1": "no"}, "hidden_size": 768},
        {"id2label": {"2": "2", "0": "yes", "1": "no"}, "label2id": {"yes": 0, "no": 1, "2": 2}},
    ],
)
def test_forms(tmp_path, content):
    assert read_label_map(write(tmp_path, content)) == ANSWERS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"yes": 0, "no": 2}, "index 1 is missing, and 2 is there"),
        ({"yes": 1, "no": 2}, "index 0 is missing"),
        ({"yes": 0, "no": 0}, "index 0 stands for both 'yes' and 'no'"),
        ({"yes": 0, "no": -1}, "the index of 'no' is -1, not a whole number"),
        ({"yes": 0, "no": 1.0}, "the index of 'no' is 1.0"),
        ({"yes": False}, "the index of 'yes' is False"),
        ({"id2label": {"0": "yes", "1": "yes"}}, "the answer 'yes' stands there twice"),
        ({"id2label": {"0": "yes", "one": "no"}}, "the index of 'no' is 'one'"),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, "place holders"),
        ({"id2label": {"0": "yes"}, "label2id": {"no": 0}}, "id2label and label2id contradict"),
        ({"answers": ["yes", "yes"]}, "'yes' stands there twice"),
        ({"answers": ["yes", 2]}, "2 is not a string"),
        ({"answers": []}, "has no answer"),
        (
            {"answers": ["yes"], "sha256": labels_digest(["no"])},
            "not those that its sha256 was computed of",
        ),
        ({}, "no label map"),
        ([], "no label map"),
        (["yes", "no", "yes"], "'yes' stands there twice"),
        (["yes", 2], "2 is not a string"),
    ],
)
def test_refused(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(RequestError, match=message) as caught:
        read_label_map(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
