"""`prepare` asked for what it cannot do: one line that names what was asked for, before the work and with nothing left behind."""

import sys

import pytest

from tests.miniature import write_vqav2
from vle_bench.cli import main
from vle_bench.data.report import load_tokenizer
from vle_bench.errors import RequestError


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return write_vqav2(tmp_path_factory.mktemp("official"))


def refused(monkeypatch, capsys, *arguments):
    """The one line on stderr."""
    monkeypatch.setattr(sys, "argv", ["vle-bench", "prepare", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    shown = capsys.readouterr()
    assert stop.value.code == 2 and shown.out == "" and shown.err.count("\n") == 1
    return shown.err.removeprefix("vle-bench: ").rstrip("\n")


@pytest.mark.parametrize("source", ["vqav2", "vcr", "shapes-vcr"])
def test_limit_images_is_for_easy_vqa(official, tmp_path, monkeypatch, capsys, source):
    command = (source, "--source", official, "--output", tmp_path / "out", "--limit-images", 20)
    assert refused(monkeypatch, capsys, *command) == f"prepare {source}: --limit-images: not for this source"


def test_an_output_that_cannot_be_is_named_as_it_was_given(official, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    for output in (tmp_path / "file" / "out", tmp_path / "file" / "below" / "out"):
        message = refused(monkeypatch, capsys, "vqav2", "--source", official, "--output", output)
        assert message == f"{output}: cannot be created: a file is in the way"
    output = tmp_path / ("x" * 250)  # its hidden neighbour's name is too long
    message = refused(monkeypatch, capsys, "vqav2", "--source", official, "--output", output)
    assert message == f"{output}: cannot be created: File name too long"


def test_a_folder_in_the_place_of_an_image(tmp_path, monkeypatch, capsys):
    image = write_vqav2(tmp_path / "own") / "train2014" / "COCO_train2014_000000000002.jpg"
    image.unlink()
    image.mkdir()
    message = refused(monkeypatch, capsys, "vqav2", "--source", tmp_path / "own", "--output", tmp_path / "out")
    assert message == f"{image}: cannot be read: Is a directory (image_id 2); --on-bad-image skip leaves such images out"


def test_folders_without_a_tokenizer(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("{")
    (tmp_path / "file").touch()
    for name, message in (
        ("nix", "no such folder; --tokenizer names one on this disk"), ("file", "not a folder; "),
        ("empty", "no tokenizer can be loaded from it; a folder with tokenizer.json, or "),
        ("broken", "no tokenizer can be loaded"),
    ):  # fmt: skip
        with pytest.raises(RequestError) as caught:
            load_tokenizer(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: {message}") and "\n" not in str(caught.value)
