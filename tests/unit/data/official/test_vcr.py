"""Records and metadata that are refused: one line with the annot_id."""

import copy

import pytest

from vle_bench.data.official.vcr import check_official, check_record
from vle_bench.errors import RequestError
from vle_bench.json_files import jsonl_records

RECORD = {
    "annot_id": "val-7",
    "objects": ["person", "cat"],
    "question": ["Why", "is", [0, 1], "?"],
    "answer_choices": [["a"], ["b", [1]], ["c"], ["d"]],
    "rationale_choices": [["e"], ["f"], ["g"], [[0], "h"]],
    "answer_label": 3,
    "rationale_label": 0,
}
METADATA = {
    "width": 100,
    "height": 50,
    "names": ["person", "cat"],
    "boxes": [[0, 0, 10, 10, 0.9], [5.5, 5, 5.5, 70]],
}


def put(content, path, value):
    """`content` with `value` at `path`; KeyError as the value takes the place out."""
    content = copy.deepcopy(content)
    place = content
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return content


def refused(message, check, *arguments):
    with pytest.raises(RequestError, match=f"^VCR record 'val-7': {message}") as caught:
        check(*arguments)
    assert (
        isinstance(caught.value, ValueError)
        and "\n" not in str(caught.value)
        and len(str(caught.value)) < 200
    )


def test_an_official_record_passes():
    check_official(RECORD, METADATA)
    unlabelled = {k: v for k, v in RECORD.items() if not k.endswith("_label")}
    check_official(unlabelled, METADATA)
    check_record({k: v for k, v in unlabelled.items() if k != "rationale_choices"}, "q2a")
    check_record(put(unlabelled, ["answer_choices"], [[], ["a"]]))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["objects"], KeyError, "has no 'objects'"),
        (["question"], KeyError, "has no 'question'"),
        (["answer_choices"], KeyError, "has no 'answer_choices'"),
        (["rationale_choices"], KeyError, "has no 'rationale_choices'"),
        (["objects"], "person", "objects: 'person' is not a list"),
        (["objects", 1], 5, r"objects\[1\]: 5 is not a class name"),
        (["question"], "Why\nis it?", r"question: 'Why\\nis it\?' is not a list"),
        (["question", 2], [0, 2], "question: the tag 2 names none of its 2 objects"),
        (["question", 2], [-1], "question: the tag -1 names none"),
        (["question", 2], [True], "question: the tag True names none"),
        (["question", 2], ["0"], "question: the tag '0' names none"),
        (["question", 2], [], r"question: \[\] is neither a word nor a list of tags"),
        (["question", 2], None, "question: None is neither a word"),
        (["answer_choices", 1, 1], [7], r"answer_choices\[1\]: the tag 7 names none"),
        (["rationale_choices", 3, 0], [7], r"rationale_choices\[3\]: the tag 7 names none"),
        (
            ["answer_choices", 2],
            "c" * 500,
            r"answer_choices\[2\]: 'c+\.\.\. is not a list of tokens",
        ),
        (["answer_choices"], [], "answer_choices: empty, there is nothing to choose from"),
        (["answer_label"], 4, "answer_label: 4 is not a number of 0 to 3"),
        (["answer_label"], -1, "answer_label: -1 is not"),
        (["answer_label"], True, "answer_label: True is not"),
        (["rationale_label"], "1", "rationale_label: '1' is not"),
    ],
)
def test_records_that_cannot_be_encoded(path, value, message):
    refused(message, check_record, put(RECORD, path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["question"], [], "question: empty"),
        (["answer_choices", 0], [], r"answer_choices\[0\]: empty"),
        (["answer_choices"], [["a"]] * 5, "answer_choices: 4 are expected, not 5"),
        (["rationale_choices"], [["a"]] * 3, "rationale_choices: 4 are expected, not 3"),
        (["question", 2], [2], "question: the tag 2"),
    ],
)
def test_records_that_are_not_official(path, value, message):
    refused(message, check_official, put(RECORD, path, value), METADATA)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["boxes"], KeyError, "has no 'boxes'"),
        (["width"], 0, "width: 0 is not a positive number"),
        (["height"], float("nan"), "height: nan is not"),
        (["names"], ["person", "dog"], "names: not the record's objects"),
        (["boxes"], [[0, 0, 1, 1]], "boxes: one for each of 2 objects is expected, not 1"),
        (["boxes"], [[0, 0, 1, 1]] * 3, "boxes: one for each of 2 objects is expected, not 3"),
        (["boxes", 1], [0, 0, 1], r"boxes\[1\]: \[0, 0, 1\] is not four or five finite numbers"),
        (["boxes", 1], [0, 0, 1, float("inf")], r"boxes\[1\]: .* is not four or five finite"),
        (["boxes", 0, 4], "0.9", r"boxes\[0\]: .* is not four or five finite"),
        (["boxes", 0], [9, 0, 8, 5], r"boxes\[0\]: \[9, 0, 8, 5\] is reversed"),
        (["boxes", 0], [0, 9, 8, 5], r"boxes\[0\]: \[0, 9, 8, 5\] is reversed"),
    ],
)
def test_metadata_that_is_not_the_records(path, value, message):
    refused(f"metadata: {message}", check_official, RECORD, put(METADATA, path, value))


def test_other_requests_that_are_wrong():
    refused(r"metadata: \[\] is not an object", check_official, RECORD, [])
    with pytest.raises(RequestError, match="task 'q2ar': q2a or qa2r is expected"):
        check_record(RECORD, "q2ar")
    with pytest.raises(RequestError, match=r"VCR record: \[1\] is not an object"):
        check_record([1])
    with pytest.raises(RequestError, match="VCR record 'without annot_id': has no 'objects'"):
        check_record({})


def test_json_lines(tmp_path):
    path = tmp_path / "val.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"annot_id": "a"}\n\n{"annot_id": "b"}')
    assert list(jsonl_records(path)) == [(1, {"annot_id": "a"}), (3, {"annot_id": "b"})]
    for content, message in (
        (b'{}\n{"a": \xff}', r"line 2: not UTF-8 text \(byte 6\)"),
        (b'{}\n{"a": [1,', "line 2: broken or cut-off"),
    ):
        path.write_bytes(content)
        with pytest.raises(RequestError, match=rf"val\.jsonl: {message}"):
            list(jsonl_records(path))
