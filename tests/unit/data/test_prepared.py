"""What a prepared folder must hold to be opened."""

import json

import pytest

from vle_bench.data.prepare.easy_vqa import prepare_easy_vqa
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "prepared"
    prepare_easy_vqa(folder, limit_images=20)
    return folder


@pytest.fixture
def copy(root, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in root.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_splits_can_be_joined(root):
    data = open_prepared(root)
    train, val, both = (data.questions(s)["question_id"] for s in ("train", "val", "train + val"))
    assert list(both) == [*train, *val] and train and val


@pytest.mark.parametrize("split", ["train+train", "val+train+val"])
def test_a_split_counts_once(root, split):
    with pytest.raises(RequestError, match="names a split twice"):
        open_prepared(root).questions(split)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "not a manifest"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"sch', "broken or cut-off JSON"),
        (b"", "broken or cut-off JSON"),
        (b'{"schema_version": 2}', "has no 'source'"),
        (b'{"schema_version": 99}', "schema_version 99, this version reads 2"),
    ],
)
def test_a_broken_manifest_is_named(copy, content, message):
    (copy / "manifest.json").write_bytes(content)
    with pytest.raises(RequestError, match=message) as error:
        open_prepared(copy)
    assert str(error.value).startswith(f"{copy / 'manifest.json'}: ") and "\n" not in str(
        error.value
    )


def test_a_missing_table_is_named(copy):
    (copy / "images-00000-of-00001.arrow").unlink()
    with pytest.raises(RequestError, match="images-00000-of-00001.arrow: missing"):
        open_prepared(copy)


def test_the_manifest_names_every_file(root):
    manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    assert {"manifest.json", *manifest["files"]} == {p.name for p in root.iterdir()}


def test_a_changed_byte_is_named(copy):
    path = copy / "questions-train.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RequestError, match="questions-train.arrow: not what was prepared"):
        open_prepared(copy)
