"""Broken official files: one line that names the file and the record."""

import json

import pytest

from vle_bench.data.official.vqa import QUESTION, annotation_records, records
from vle_bench.errors import RequestError
from vle_bench.json_files import read_json


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"questions": [{"question_id": 1,', "cut-off JSON at line 1"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 100_000, "nested too deep"),
        (b"9" * 5000, "4300 digits"),
    ],
)
def test_files_that_are_no_json(tmp_path, content, message):
    path = tmp_path / "q.json"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=rf"q\.json: .*{message}") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_file(tmp_path):
    (tmp_path / "f").write_text("{}", encoding="utf-8")
    for path, message in (
        (tmp_path / "no", "no such file"),
        (tmp_path, "a folder"),
        (tmp_path / "f" / "below", "cannot be read"),
    ):
        with pytest.raises(RequestError, match=message):
            read_json(path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"question_id": 1, "image_id": 2}, r"record 0 \(question_id 1\): has no 'question'"),
        (
            {"question_id": "x\ny", "image_id": 2, "question": ""},
            r"question_id 'x\\ny'\): question_id: 'x\\ny' is not a whole number",
        ),
        ({"question_id": True, "image_id": 2, "question": ""}, "True is not a whole number"),
        ([], "record 0: not an object"),
    ],
)
def test_records(tmp_path, record, message):
    path = tmp_path / "q.json"
    path.write_text(json.dumps({"questions": [record]}), encoding="utf-8")
    with pytest.raises(RequestError, match=message):
        records(path, "questions", dict(QUESTION))
    with pytest.raises(RequestError, match="has no key 'annotations'"):
        annotation_records(path)


def test_whole_files_are_read(tmp_path):
    found = [{"question_id": 1, "image_id": 2, "question": "Is it?"}]
    (tmp_path / "q.json").write_text(json.dumps({"questions": found}), encoding="utf-8")
    assert records(tmp_path / "q.json", "questions", dict(QUESTION)) == found
