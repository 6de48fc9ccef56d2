"""Text files are UTF-8 wherever they are opened, and a byte order mark before them is read by every reader."""

import ast
import json
import os
import re
import threading
from pathlib import Path

import pytest
import yaml

from tests.unit.leaderboard.test_records import folder, record
from vle_bench import strict_yaml
from vle_bench.data.official.vcr import read_metadata
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import load_record
from vle_bench.evaluation.server_result import read_result
from vle_bench.json_files import jsonl_records, stream
from vle_bench.leaderboard.records import add_record
from vle_bench.models import pretrained
from vle_bench.models.pretrained import read_config
from vle_bench.recipe.load import load_recipe

ROOT = Path(__file__).parents[2]
BOM = b"\xef\xbb\xbf"
SOURCES = sorted([*(ROOT / "vle_bench").rglob("*.py"), *(ROOT / "tests").rglob("*.py")])
# Methods of that name that open no text file, or always UTF-8.
OTHER = ("Image", "os", "atomic", "task", "TASK", "load_task", "content", "tarfile")


def without_encoding(source: str) -> list[str]:
    """Calls that open a text file, or read a program's output as text, in whatever encoding the locale has.

    The linter's PLW1514 sees only those whose receiver it knows to be a path.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or {"encoding", None} & {
            keyword.arg for keyword in node.keywords
        }:
            continue
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        method = isinstance(node.func, ast.Attribute)
        receiver = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        if method and re.split(r"[.\[(]", receiver)[0] in OTHER:
            continue
        arguments = len(node.args)
        place = 0 if method else 1
        mode = named.get("mode", node.args[place] if arguments > place else None)
        if (
            (name == "open" and (mode is None or "b" not in ast.unparse(mode)))
            or (name == "read_text" and method and arguments < 1)
            or (name == "write_text" and method and arguments < 2)
            or (receiver == "subprocess" and {"text", "universal_newlines"} & named.keys())
        ):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("file", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_text_file_is_opened_as_utf8(file: Path) -> None:
    assert without_encoding(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "open(p)",
        "open(p, 'w')",
        "path.open()",
        "path.open('a')",
        "path.read_text()",
        "(a / 'b').write_text(text)",
        "subprocess.run(c, text=True)",
        "open(p, mode='r')",
    ],
)
def test_the_check_refuses(source: str) -> None:
    assert without_encoding(source)
    assert not without_encoding(
        "Image.open(p); os.open(p, 0); open(p, 'rb'); path.open('rb'); subprocess.run(c)"
    )


def marked(path: Path, content: object) -> Path:
    path.write_bytes(BOM + (content if isinstance(content, str) else json.dumps(content)).encode())
    return path


def test_json_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert pretrained.read_json(marked(tmp_path / "training.json", {"é": 1})) == {"é": 1}
    assert list(stream(marked(tmp_path / "q.json", {"questions": [1, "é"]}), "questions")) == [
        1,
        "é",
    ]
    assert read_metadata(marked(tmp_path / "m.json", {"boxes": []})) == {"boxes": []}
    assert read_config(marked(tmp_path / "config.json", {"model_type": "vle"})).model_type == "vle"
    path = marked(tmp_path / "s.json", [{"test-dev": {"overall": 71.32}}])
    assert read_result(path, "test-dev", path.read_bytes()) == {"overall": 0.7132}
    assert (
        load_record(marked(tmp_path / "r.json", record("vqav2", "minival", 0.77)))
        .metrics["accuracy"]
        .value
        == 0.77
    )


def test_json_lines_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(BOM + b'{"a": 1}\n' + BOM + b'{"a": 2}\n')  # as `cat` joins two files
    assert [row for _, row in jsonl_records(path)] == [{"a": 1}, {"a": 2}]


def test_yaml_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert strict_yaml.read_group(marked(tmp_path / "a.yaml", "name: é\n")) == {"name": "é"}
    text = yaml.safe_dump({"extends": "demo/vqa-tiny", "name": "mine"})
    assert load_recipe(str(marked(tmp_path / "mine.yaml", text))).name == "mine"


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "file"
    path.write_bytes('{"é": [1]}'.encode(encoding))
    readers = [
        pretrained.read_json,
        lambda p: list(stream(p, "é")),
        read_metadata,
        load_record,
        strict_yaml.read_group,
        lambda p: read_result(p, "test-dev", p.read_bytes()),
        lambda p: list(jsonl_records(p)),
    ]
    for read in readers:
        with pytest.raises(RequestError) as caught:
            read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "manifest.json").write_bytes(path.read_bytes())
    with pytest.raises(RequestError, match=r"manifest.json: not UTF-8"):
        open_prepared(tmp_path)


def test_a_record_is_taken_in_from_a_pipe(tmp_path: Path) -> None:
    root = folder(tmp_path / "leaderboards", record("vqav2", "minival", 0.77, n=5000))
    content = json.dumps(record("vqav2", "minival", 0.78, n=5000, seed=3)).encode()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
    taken: list[Path] = []
    reader = threading.Thread(target=lambda: taken.append(add_record(pipe, root)[0]), daemon=True)
    for thread in (writer, reader):
        thread.start()
    reader.join(timeout=20)
    assert taken and taken[0].read_bytes() == content
