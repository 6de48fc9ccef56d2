"""Records of a large file, one by one."""

import codecs
import gzip
import json

import pytest

from vle_bench import json_files
from vle_bench.data.official.vcr import read_metadata
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError, RunFailed
from vle_bench.evaluation.record import load_record
from vle_bench.evaluation.server_result import read_result
from vle_bench.json_files import jsonl_records, read_json, stream
from vle_bench.models import pretrained
from vle_bench.models.pretrained import read_config
from vle_bench.training.launch import deepspeed_problems

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
        (b'{"a": [NaN]}', "NaN is no JSON number"),
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


TWICE = '{"a": 1, "b": [2], "a": 3}'


@pytest.mark.parametrize(
    "read",
    [
        json_files.read_json,
        pretrained.read_json,
        read_config,
        load_record,
        lambda path: list(json_files.jsonl_records(path)),
        lambda path: list(stream(path, "b")),
        lambda path: read_result(path, "test-dev", path.read_bytes()),
        lambda path: deepspeed_problems(str(path)),
        read_metadata,
    ],
)
def test_a_key_that_stands_twice_is_refused_by_every_reader(tmp_path, read):
    """Python's own reader keeps the last value without a word, and a score would follow from it."""
    path = tmp_path / "file.json"
    path.write_text(TWICE, encoding="utf-8")
    with pytest.raises(RequestError, match=r"file\.json.*the key 'a' occurs twice") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_key_twice_within_a_record(tmp_path, pieces):
    path = tmp_path / "a.json"
    path.write_text('{"x": [{"id": 1}, {"id": 2, "id": 3}]}', encoding="utf-8")
    with pytest.raises(RequestError, match="the key 'id' occurs twice"):
        list(stream(path, "x"))


def test_a_manifest_with_a_key_twice_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text(TWICE, encoding="utf-8")
    with pytest.raises(RequestError, match=r"manifest\.json: the key 'a' occurs twice"):
        open_prepared(tmp_path)


@pytest.mark.parametrize("kind", [RequestError, RunFailed])
def test_a_message_is_not_longer_than_can_be_read(kind):
    message = str(kind(f"file.json: key: {'x' * 100_000!r} is no number; write one"))
    assert len(message) < 2000
    assert message.startswith("file.json: key: 'xxx") and message.endswith("; write one")
    assert str(kind("file.json: short")) == "file.json: short"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"id": 1,\n"x"', "broken or cut-off JSON at line 2, column 4: Expecting ':' delimiter"),
        (b'{"id"', "broken or cut-off JSON at line 1, column 6: Expecting"),
        (b'{"id": "\xff"}', "not UTF-8 text (byte 8); if it is Latin-1 or Windows-1252, `iconv"),
        (b"[" * 100_000, "JSON nested too deep"),
        (b'{"id": {"a": 1, "a": 1}}', "the key 'a' occurs twice in one object"),
        (b'{"id": -Infinity}', "-Infinity is no JSON number"),
        (b'{"id": ' + b"9" * 5000 + b"}", "Exceeds the limit (4300 digits)"),
    ],
)
def test_every_reader_refuses_it_in_the_same_words(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    line = b'{"id": 0}\n' + content.replace(b"\n", b" ")
    path.write_bytes(line)
    with pytest.raises(RequestError) as caught:
        list(jsonl_records(path))
    words = message.replace("line 2, column 4", "column 14").replace("line 1, ", "")
    assert str(caught.value).startswith(f"{path}: line 2: {words}")


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf[{"id": 1}]')
    assert read_json(path) == [{"id": 1}] == list(stream(path, None))
    path.write_bytes(b'\xef\xbb\xbf{"id": 1}\n\n{"id": 2}')
    assert list(jsonl_records(path)) == [(1, {"id": 1}), (3, {"id": 2})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"id": 1}]'.encode("utf-16"), "UTF-16; `iconv -f UTF-16 -t UTF-8` converts it"),
        (codecs.BOM_UTF16_BE + "[]".encode("utf-16-be"), "the byte order mark of UTF-16; "),
        ('[{"id": 1}]'.encode("utf-32"), "UTF-32; `iconv -f UTF-32 -t UTF-8` converts it"),
        (codecs.BOM_UTF32_BE + "[]".encode("utf-32-be"), "the byte order mark of UTF-32; "),
        (gzip.compress(b"[]", mtime=0), "compressed by gzip; decompress it first, with `gunzip`"),
    ],
)
def test_what_is_no_text_is_named_with_the_way_out(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    for read in (read_json, lambda path: list(stream(path, None))):
        with pytest.raises(RequestError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: not UTF-8 text (byte ")
        assert message in str(caught.value)
    with pytest.raises(RequestError) as caught:
        list(jsonl_records(path))
    assert message in str(caught.value)
