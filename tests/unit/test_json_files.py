"""Records of a large file, one by one."""

import json

import pytest

from vle_bench import json_files
from vle_bench.errors import RequestError
from vle_bench.json_files import stream

RECORDS = [{"id": i, "text": "é" * (i % 90), "list": [1, {"a": []}]} for i in range(300)]


@pytest.fixture(params=[1 << 22, 7], ids=["whole", "in pieces"])
def pieces(request, monkeypatch):
    monkeypatch.setattr(json_files, "CHUNK", request.param)
    monkeypatch.setattr(json_files, "LONGEST", 300 if request.param == 7 else 1 << 20)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("key", ["annotations", None])
def test_every_record_wherever_the_list_stands(tmp_path, pieces, indent, key):
    path = tmp_path / "a.json"
    content = (
        RECORDS
        if key is None
        else {"info": {"annotations": [0]}, "n": 1, key: RECORDS, "license": "[,]"}
    )
    path.write_text(
        json.dumps(content, indent=indent, ensure_ascii=False) + " \n", encoding="utf-8"
    )
    assert list(stream(path, key)) == RECORDS


def test_an_empty_list(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [ ]}', encoding="utf-8")
    assert list(stream(tmp_path / "a.json", "a")) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": [{"id": 1}, {"id"', "broken or cut-off JSON at character 23"),
        (
            b'{"a": [{"id": 1}',
            "broken or cut-off JSON at character 16: , or ] expected, the end found",
        ),
        (b'{"a": [1]', "broken or cut-off JSON at character 9: , or } expected, the end found"),
        (b'{"a": [1]} x', "more after the end"),
        (b'{"a": [1 2]}', ", or ] expected, 2 found"),
        (b'{"a": [1,]}', "broken or cut-off JSON at character 9"),
        (b"", "broken or cut-off JSON at character 0"),
        (b'{"a": 3}', "a is no list of records"),
        (b'{"b": [1]}', "has no key 'a'; is it the official file"),
        (b"{}", "has no key 'a'"),
        (b"[1]", "has no key 'a'"),
        (b'{"a": ["\xff"]}', "not UTF-8"),
        (b'{"a": ' + b"[" * 100_000, "nested too deep"),
        (b'{"a": [' + b"9" * 5000 + b"]}", "broken or cut-off JSON"),
    ],
)
def test_broken_files(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=message) as caught:
        list(stream(path, "a"))
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_paths_that_are_no_file(tmp_path):
    (tmp_path / "f").write_text("[]", encoding="utf-8")
    for path, message in (
        (tmp_path / "no", "no such file"),
        (tmp_path, "a folder"),
        (tmp_path / "f" / "below", "cannot be read"),
    ):
        with pytest.raises(RequestError, match=message):
            list(stream(path, None))
