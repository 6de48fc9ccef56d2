"""Ids of pictures: which two splits share, and where the ids do not tell."""

import pytest

from tests.miniature.pairs import write, write_captions, write_visual_genome
from tests.miniature.vqav2 import write_vqav2
from vle_bench.data.picture_ids import COCO_IDS, PictureIds, genome_id_of, in_both, picture_ids
from vle_bench.data.prepare import captions
from vle_bench.data.prepare.leave_out import coco_pictures
from vle_bench.data.prepare.manifest import AS_USUAL
from vle_bench.data.prepare.visual_genome import prepare_visual_genome
from vle_bench.data.prepare.vqav2 import prepare_vqav2
from vle_bench.data.prepared import open_prepared


def ids(coco=(), genome=()):
    return PictureIds(None if coco is None else frozenset(coco), frozenset(genome))


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        (ids([1, 2, 3]), ids([2, 3, 9]), 2),
        (ids([1], [7, 8]), ids([], [8]), 1),
        (ids([1], [7]), ids([], [8]), 0),
        (ids([1], [7]), ids([2]), 0),
        (ids(None, [7]), ids([2]), None),
        (ids(None, [7]), ids([], [7]), 1),
        (ids([], [7]), ids([2]), None),  # it may be one of COCO's
        (ids(), ids([2]), 0),
    ],
)
def test_shared_pictures(one, other, count):
    assert one.shared(other) == other.shared(one) == count


def test_genome_ids_of_names():
    assert genome_id_of("VG_100K/2354786.jpg") == genome_id_of("2354786.png") == 2354786
    assert genome_id_of("n161313.jpg") is None


def test_ids_of_prepared_data(tmp_path):
    prepare_vqav2(write_vqav2(tmp_path / "official"), tmp_path / "vqa")
    vqa = open_prepared(tmp_path / "vqa")
    found = picture_ids(vqa, "minival")
    assert found == ids(vqa.questions("minival")["image_id"])
    leave_out = coco_pictures([f"{tmp_path / 'vqa'}:minival"])
    official = write_visual_genome(tmp_path / "vg", 12)
    manifests = []
    for name, given in (("out", leave_out), ("in", coco_pictures(["nothing"]))):
        manifests.append(prepare_visual_genome(official, tmp_path / name, leave_out=given))
        data = open_prepared(tmp_path / name)
        kept = {i for split in ("train", "val") for i in data.questions(split)["image_id"]}
        every = picture_ids(data, "train+val")
        assert every == ids({1000 + i for i in kept if i % 2 == 0}, kept)
        assert (every.shared(found) == 0) == (name == "out")
    (tmp_path / "in" / COCO_IDS).unlink()  # as an earlier version wrote it
    data = open_prepared(tmp_path / "in")
    assert data.manifest.hash == manifests[1].hash
    assert picture_ids(data, "train").coco is None
    options = {"--images": None, "--leave-out": None}
    captions.prepare(str(write_captions(tmp_path / "f")), tmp_path / "c", AS_USUAL, options)
    assert picture_ids(open_prepared(tmp_path / "c"), "train") == ids()


def test_the_same_bytes_are_found_under_other_names(tmp_path):
    """Pictures 20 to 23 are in both, and have no ids."""
    options = {"--images": None, "--leave-out": None}
    for name, numbers in (("one", range(24)), ("other", range(20, 40))):
        write_captions(tmp_path / name, 40)
        rows = [{"image": f"pictures/{n}.png", "caption": "a text"} for n in numbers]
        for row, n in zip(rows, numbers, strict=True):
            if name == "other":
                row["image"] = f"pictures/x{n}.png"
                (tmp_path / name / f"pictures/{n}.png").rename(tmp_path / name / row["image"])
        write(tmp_path / name / "pairs.json", rows)
        captions.prepare(
            str(tmp_path / name / "pairs.json"), tmp_path / f"{name}-data", AS_USUAL, options
        )
    one, other = (open_prepared(tmp_path / f"{name}-data") for name in ("one", "other"))

    def pictures(data, split):
        return [data.images[row]["bytes"] for row in set(data.questions(split)["image_row"])]

    for data, others, split in (
        (one, other, "train+val"),
        (other, one, "train"),
        (one, other, "val"),
        (one, one, "val"),
    ):
        seen = set(pictures(data, "train"))
        expected = sum(content in seen for content in pictures(others, split))
        assert in_both(data, "train", others, split) == expected
    assert in_both(one, "train+val", other, "train+val") >= 4
