"""`prepare` asked for what it cannot do: one line that names what was asked for, before the work and with nothing left behind."""

import sys

import pytest

from tests.miniature.vqav2 import write_vqav2
from vle_bench.cli.app import main
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.vqa_summary import load_tokenizer
from vle_bench.data.prepare.vqav2 import prepare_vqav2
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
    assert (
        refused(monkeypatch, capsys, *command)
        == f"prepare {source}: --limit-images: not for this source"
    )


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
    message = refused(
        monkeypatch, capsys, "vqav2", "--source", tmp_path / "own", "--output", tmp_path / "out"
    )
    assert (
        message
        == f"{image}: cannot be read: Is a directory (image_id 2); --on-bad-image skip leaves such images out"
    )


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("", "no such folder"),
        ("v2_mscoco_val2014_annotations.json", "no such file"),
        ("val2014", "no such folder"),
        ("v2_OpenEnded_mscoco_test-dev2015_questions.json", "no such file"),
    ],
)
def test_what_is_missing_is_said_with_the_way_to_get_it(
    tmp_path, monkeypatch, capsys, name, missing
):
    """Also with skip: a folder that is not there is no bad image."""
    source = write_vqav2(tmp_path / "own")
    (source / name).rename(tmp_path / "away")
    command = (
        "vqav2",
        "--source",
        source,
        "--output",
        tmp_path / "out",
        "--on-bad-image",
        "skip",
        "--on-bad-record",
        "skip",
    )
    message = refused(monkeypatch, capsys, *command)
    assert (
        message
        == f"{source / name}: {missing}; `vle-bench download vqav2 --output {source}` brings the official files"
    )
    assert not (tmp_path / "out").exists()


def test_missing_files_of_visual_genome_are_said_first(official, tmp_path, monkeypatch, capsys):
    more = ("--visual-genome", tmp_path / "qa.json", "--vg-image-data", tmp_path)
    assert refused(
        monkeypatch, capsys, "vqav2", "--source", official, "--output", tmp_path / "out", *more
    ) == (f"{tmp_path / 'qa.json'}: no such file")


def test_a_split_of_which_nothing_is_left(tmp_path):
    source = write_vqav2(tmp_path / "own")
    for image in (source / "train2014").iterdir():
        image.unlink()
    with pytest.raises(
        RequestError,
        match="train2014_questions.json: no question is left for the split 'train': none of its",
    ):
        prepare_vqav2(source, tmp_path / "out", Choices(on_bad_image="skip"))
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_is_looked_at_first(official, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("nix", "no such folder"),
        ("empty", "no tokenizer can be loaded from it"),
    ):
        command = (
            "vqav2",
            "--source",
            official,
            "--output",
            tmp_path / "out",
            "--tokenizer",
            tmp_path / name,
        )
        assert refused(monkeypatch, capsys, *command).startswith(f"{tmp_path / name}: {message}; ")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_folders_without_a_tokenizer(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("{", encoding="utf-8")
    (tmp_path / "file").touch()
    for name, message in (
        ("nix", "no such folder; --tokenizer names one on this disk"),
        ("file", "not a folder; "),
        ("empty", "no tokenizer can be loaded from it; a folder with tokenizer.json, or "),
        ("broken", "no tokenizer can be loaded"),
    ):
        with pytest.raises(RequestError) as caught:
            load_tokenizer(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: {message}") and "\n" not in str(
            caught.value
        )
