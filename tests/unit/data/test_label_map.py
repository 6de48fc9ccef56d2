"""Label maps of ours and of published checkpoints."""

import json

import pytest

from vle_bench.data.label_map import labels_digest, read_label_map
from vle_bench.errors import RequestError

ANSWERS = ["yes", "no", "2"]


def write(tmp_path, content):
    (tmp_path / "labels.json").write_text(json.dumps(content), encoding="utf-8")
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
        {"ans2label": {"2": 2, "yes": 0, "no": 1}, "label2ans": ANSWERS},
        {"ans2label": {"2": 2, "yes": 0, "no": 1}, "label2ans": {"0": "yes", "2": "2", "1": "no"}},
        {"answer2idx": {"2": 2, "yes": 0, "no": 1}},
        {"label2ans": ANSWERS},
        {"2": "2", "0": "yes", "1": "no"},
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
        ({"id2label": {"0": "yes", "1": "yes"}}, "the answer 'yes' occurs twice"),
        ({"id2label": {"0": "yes", "one": "no"}}, "the index of 'no' is 'one'"),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, "placeholders"),
        ({"id2label": {"0": "yes"}, "label2id": {"no": 0}}, "id2label and label2id contradict"),
        (
            {"ans2label": {"yes": 0, "no": 1}, "label2ans": ["no", "yes"]},
            "label2ans and ans2label contradict",
        ),
        ({"0": "1", "1": "2", "2": "0"}, "which are the answers and which the indices"),
        ({"0": "yes", "2": "no"}, "index 1 is missing"),
        ({"answers": ["yes", "yes"]}, "'yes' occurs twice"),
        ({"answers": ["yes", 2]}, "2 is not a string"),
        ({"answers": []}, "has no answer"),
        ({"answers": ["yes", "\ud83e"]}, r"the answer '\\ud83e' has half of a surrogate pair"),
        (["yes", "\ud83e"], "half of a surrogate pair"),
        ({"yes": 0, "\ud83e": 1}, "half of a surrogate pair"),
        (
            {"answers": ["yes"], "sha256": labels_digest(["no"])},
            "not those that its sha256 was computed of",
        ),
        ({}, "no label map"),
        ([], "no label map"),
        (["yes", "no", "yes"], "'yes' occurs twice"),
        (["yes", 2], "2 is not a string"),
        (["yes", "\ud800"], "half of a surrogate pair"),
    ],
)
def test_refused(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(RequestError, match=message) as caught:
        read_label_map(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


LINES = "".join(
    json.dumps({"answer": answer, "label": label}) + "\n" for label, answer in enumerate(ANSWERS)
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("answers_vqa.txt", "yes\nno\n2\n"),
        ("answers_vqa.txt", "\ufeffyes\r\nno\r\n2"),
        ("answer2label.txt", LINES),
        ("answer2label.jsonl", LINES),
        ("other_order.jsonl", "\n".join(LINES.splitlines()[::-1])),
        ("strings.jsonl", '"yes"\n"no"\n\n"2"\n'),
        ("without_labels.jsonl", '{"answer": "yes"}\n{"answer": "no"}\n{"answer": "2"}\n'),
        ("json.txt", json.dumps(ANSWERS, indent=1)),
        ("json.txt", json.dumps({"ans2label": {"yes": 0, "no": 1, "2": 2}})),
        ("bom.json", "\ufeff" + json.dumps(ANSWERS)),
    ],
)
def test_a_line_an_answer(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert read_label_map(tmp_path / name) == ANSWERS


def test_an_answer_may_hold_what_parts_lines_elsewhere(tmp_path):
    (tmp_path / "a.txt").write_bytes("un\u2028deux\ncaf\u00e9\x85\x0bnoir\n".encode())
    assert read_label_map(tmp_path / "a.txt") == ["un\u2028deux", "caf\u00e9\x85\x0bnoir"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", b"yes\n\nno\n", "line 2: empty"),
        ("a.txt", b"yes\nno\nyes\n", "'yes' occurs twice"),
        ("a.txt", b"", "line 1: empty"),
        ("a.txt", b"caf\xe9\n", "not UTF-8 text"),
        ("a.txt", LINES[:-5].encode(), "line 3: broken or cut-off JSON"),
        ("a.jsonl", b"yes\nno\n", "line 1: broken or cut-off JSON"),
        ("a.jsonl", b'"yes"\n3\n', "line 2: 3: an answer, or .* is expected on every line"),
        (
            "a.jsonl",
            b'{"answer": "yes", "label": 0}\n{"answer": "no"}\n',
            "line 1: .* is expected on every line",
        ),
        (
            "a.jsonl",
            b'{"answer": "yes", "label": 0}\n{"answer": "no", "label": 2}\n',
            "index 1 is missing",
        ),
        (
            "a.jsonl",
            b'{"answer": "yes", "label": 0}\n{"answer": 2, "label": 1}\n',
            "2 is not a string",
        ),
        ("a.jsonl", b"", "line 1: empty|has no answer"),
    ],
)
def test_lines_that_are_refused(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_bytes(text)
    with pytest.raises(RequestError, match=message) as caught:
        read_label_map(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_other_forms_are_named_with_the_way_out(tmp_path):
    path = tmp_path / "header.csv"
    path.write_text("answer\nred\n2\n", encoding="utf-8")
    message = (
        r"header\.csv: .*JSON.*; a label map is JSON, or an answer a line in a file that ends in"
    )
    with pytest.raises(RequestError, match=message):
        read_label_map(path)
    two = {f"answer {i}": i for i in range(3000)}
    path = tmp_path / "two.json"
    path.write_text(json.dumps([two, {i: a for a, i in two.items()}]), encoding="utf-8")
    with pytest.raises(RequestError, match="of two dictionaries, .*, give one") as caught:
        read_label_map(path)
    assert len(str(caught.value)) < len(str(path)) + 200


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '{"yes": 0, "no": 1, "yes": 2}'),
        ("a.json", '{"answers": ["yes"], "answers": ["no"]}'),
        ("a.txt", '{\n "yes": 0,\n "no": 1,\n "yes": 2}\n'),
        ("a.jsonl", '{"answer": "a", "label": 0}\n{"answer": "yes", "answer": "b", "label": 1}\n'),
    ],
)
def test_a_key_that_stands_twice_is_named(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(RequestError, match=f"{name}: .*the key '(yes|answers?)' occurs twice"):
        read_label_map(tmp_path / name)
