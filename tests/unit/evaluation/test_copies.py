"""Pictures that were trained on are found in other data, whatever they are called there."""

import json
from pathlib import Path

import pytest

from tests.miniature.own import easy_rows, write_lines
from vle_bench.data.prepare.easy_vqa import prepare_easy_vqa
from vle_bench.data.prepare.manifest import AS_USUAL
from vle_bench.data.prepare.own.prepare import prepare
from vle_bench.data.prepared import open_prepared
from vle_bench.evaluation.copies import contents, copies


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """One's own data of 12 pictures; others that have two of them under other names."""
    folder = tmp_path_factory.mktemp("copies")
    (folder / "again").mkdir()
    rows = easy_rows(16)
    pictures = sorted({row["image"] for row in rows})
    own(folder, "first", [row for row in rows if row["image"] in pictures[:12]])
    for number, picture in enumerate(pictures[10:]):
        (folder / f"copy-{number}.png").write_bytes(Path(picture).read_bytes())
    place = {picture: f"copy-{number}.png" for number, picture in enumerate(pictures[10:])}
    others = [row | {"image": place[row["image"]]} for row in rows if row["image"] in place]
    own(folder, "second", others)
    prepare_easy_vqa(folder / "easy-vqa", limit_images=20)
    (folder / "run" / "best").mkdir(parents=True)
    recipe = {"data": {"root": str(folder / "first")}}
    (folder / "run" / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    return folder, pictures


def own(folder, name, rows):
    write_lines(folder / f"{name}.jsonl", rows)
    spec = {"splits": {"train": str(folder / f"{name}.jsonl")}}
    (folder / f"{name}.yaml").write_text(json.dumps(spec), encoding="utf-8")
    prepare(str(folder / f"{name}.yaml"), folder / name, AS_USUAL, {})


def counted(folder, other, split="train", **changes):
    trained = open_prepared(folder / "first").manifest.identity | changes
    data = open_prepared(folder / other)
    return copies(folder / "run" / "best", trained, ["train"], data, split)


def test_the_same_bytes_are_found_under_another_name(work):
    folder, _ = work
    assert counted(folder, "second") == 2
    assert counted(folder, "first") == 0  # the splits of one's own data share no picture


def test_another_version_of_the_data_is_looked_through(work):
    """It has the name of the first, and a split of it may hold what the other's training split held."""
    folder, _ = work
    root = folder / "again" / "first"
    rows = [
        json.loads(line)
        for line in (folder / "first.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    shared = sorted({row["image"] for row in rows})[:3]
    own(root.parent, "first", [row for row in rows if row["image"] in shared])
    again, first = (open_prepared(place).manifest for place in (root, folder / "first"))
    assert again.name == first.name and again.hash != first.hash
    assert counted(folder, root) == 3


def test_a_dataset_by_name_is_read_for_its_pictures(work):
    folder, pictures = work
    data = open_prepared(folder / "easy-vqa")
    first = {row["image_id"] for row in open_prepared(folder / "first").questions("train")}
    bytes_of = {Path(picture).read_bytes() for picture in pictures[:12]}
    shared = sum(image["bytes"] in bytes_of for image in data.images)
    found = [len(contents(data, split) & first) for split in ("train", "val")]
    assert sum(found) == shared > 0
    assert [counted(folder, "easy-vqa", split) for split in ("train", "val")] == found


def test_training_data_that_are_gone_or_others_are_not_known(work):
    folder, _ = work
    assert counted(folder, "second", manifest_hash="0" * 64) is None
    trained = open_prepared(folder / "first").manifest.identity
    data = open_prepared(folder / "second")
    assert copies(folder / "nowhere" / "best", trained, ["train"], data, "train") is None
    # Of a dataset by name, only the names of its splits are compared.
    assert copies(folder / "run" / "best", {"source": "vqav2"}, ["train"], data, "train") == 0
