"""`prepare visual-genome`: phrases, objects, classes and captions, and pictures that must not be trained on."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tests.miniature import in_process
from tests.miniature.by_name import write_gqa
from tests.miniature.pairs import change, scene, write, write_captions, write_visual_genome
from tests.miniature.vqav2 import write_vqav2
from vle_bench.data.label_map import labels_digest
from vle_bench.data.picture_ids import coco_id_of
from vle_bench.data.prepare import captions
from vle_bench.data.prepare.by_name import prepare_named
from vle_bench.data.prepare.leave_out import coco_pictures
from vle_bench.data.prepare.manifest import AS_USUAL, Choices
from vle_bench.data.prepare.pairs import summary
from vle_bench.data.prepare.visual_genome import prepare_visual_genome, share_inside
from vle_bench.data.prepare.vqav2 import prepare_vqav2
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError

NOTHING = coco_pictures(["nothing"])
SKIP = Choices(on_bad_image="skip", on_bad_record="skip")


def prepare(official, output, choices=AS_USUAL, leave_out=NOTHING, **more):
    manifest = prepare_visual_genome(official, output, choices, leave_out=leave_out, **more)
    return manifest, open_prepared(output)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return write_visual_genome(tmp_path_factory.mktemp("vg"))


@pytest.fixture
def own(tmp_path):
    """Official files that a test may change."""
    return write_visual_genome(tmp_path / "own", 6)


def boxes_of(figures):
    return [(x, y, x + w, y + h) for x, y, w, h in (figure["box"] for figure in figures)]


def test_phrases_objects_and_captions(official, tmp_path):
    """Every row against the scene that the files were written from."""
    manifest, data = prepare(official, tmp_path / "data")
    names = Counter(figure["name"] for n in range(1, 25) for figure in scene(n)[1])
    assert data.labels == [name for name, _ in sorted(names.items(), key=lambda i: (-i[1], i[0]))]
    assert manifest.labels["sha256"] == labels_digest(data.labels)
    rows = data.questions("train+val").to_list()
    assert len(rows) == 3 * 24
    for number in range(1, 25):
        figures = scene(number)[1]
        boxes, classes = boxes_of(figures), [data.labels.index(f["name"]) for f in figures]
        of_picture = sorted(
            (r for r in rows if r["image_id"] == number), key=lambda r: r["pair_id"]
        )
        for row, figure, box, label in zip(of_picture, figures, boxes, classes, strict=False):
            assert (row["caption"], tuple(row["box"])) == (figure["phrase"], box)
            assert row["object_classes"] == [label]
            assert [tuple(b) for b in row["object_boxes"]] == [box]
        last = of_picture[-1]
        assert last["box"] is None and last["object_classes"] == classes
        assert last["caption"] == " and ".join(figure["phrase"] for figure in figures)
        stored = data.images[last["image_row"]]
        assert (stored["image_id"], stored["file_name"]) == (number, f"{number}.png")
    split = manifest.splits["val"]
    assert (split["questions"], split["phrases"], split["with_objects"]) == (6, 4, 6)
    shown = "\n".join(summary(manifest))
    assert "val: 6 pairs of 2 pictures, 4 phrases with boxes, 6 with objects" in shown
    assert f"classes of objects: 2, SHA-256 {labels_digest(data.labels)[:16]}" in shown


def test_splits_are_folders_or_hashes(tmp_path):
    write_visual_genome(tmp_path / "all" / "train", 8)
    write_visual_genome(tmp_path / "all" / "val", 4, first=9)
    manifest, data = prepare(tmp_path / "all", tmp_path / "data", source="visual-genome")
    assert {name: s["images"] for name, s in manifest.splits.items()} == {"train": 8, "val": 4}
    assert sorted(set(data.questions("val")["image_id"])) == [9, 10, 11, 12]
    write_visual_genome(tmp_path / "all" / "val", 4, first=8)
    with pytest.raises(RequestError, match="splits train and val share 1 pictures.*image_id 8"):
        prepare(tmp_path / "all", tmp_path / "other")


def test_the_split_by_hash_moves_with_no_other_picture(official, tmp_path):
    _, data = prepare(official, tmp_path / "data")
    more = write_visual_genome(tmp_path / "more", 26)
    _, larger = prepare(more, tmp_path / "larger")
    before, after = (set(d.questions("val")["image_id"]) for d in (data, larger))
    assert len(before) == len(after) == 2 and after <= before | {25, 26}


def test_classes_by_number_and_by_a_list(official, tmp_path):
    _, data = prepare(official, tmp_path / "one", classes=1)
    assert len(data.labels) == 1
    with_one = [row["object_classes"] for row in data.questions("train").to_list()]
    assert {label for labels in with_one for label in labels} == {0}
    assert [] in with_one  # phrases about the other class have no object
    given = write(tmp_path / "classes.json", ["square", "disc", "cup"])
    _, data = prepare(official, tmp_path / "two", Choices(label_map=given))
    assert data.labels == ["square", "disc", "cup"]


def test_a_map_of_frequent_names_leaves_the_other_objects_out(official, tmp_path):
    """As the most frequent names themselves do: the same rows, with the number of the others."""
    chosen, one = prepare(official, tmp_path / "one", classes=1)
    of_map = Choices(label_map=tmp_path / "one" / "label_map.json")
    manifest, data = prepare(official, tmp_path / "two", of_map)
    rows = [d.questions("train+val").to_list() for d in (one, data)]
    assert rows[0] == rows[1] and data.labels == one.labels
    others = sum(f["name"] != one.labels[0] for n in range(1, 25) for f in scene(n)[1])
    for made in (chosen, manifest):
        assert made.left_out["objects_of_other_classes"] == others
        assert not made.left_out["records"]
        line = f"left out: {others} objects whose names are none of the classes"
        assert line in list(summary(made))
    given = write(tmp_path / "classes.json", ["Disc", "cup"])
    with pytest.raises(RequestError, match=r"none of its 48 objects has a name of .*classes\.json"):
        prepare(official, tmp_path / "three", Choices(label_map=given))


def test_objects_of_a_phrase_are_half_inside():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [6, 0, 16, 10], [3, 3, 3, 3], [20, 0, 20, 5]])
    shares = share_inside(boxes.astype(np.float32), (0, 0, 10, 10))
    assert shares.tolist() == pytest.approx([1, 0.5, 0.4, 1, 0])


def test_coco_pictures_ask_for_those_to_leave_out(official, tmp_path):
    with pytest.raises(RequestError, match="12 of its pictures are COCO's.*--leave-out"):
        prepare_visual_genome(official, tmp_path / "data")
    ids = tmp_path / "ids.txt"
    ids.write_text("1002\n1004\n7\n", encoding="utf-8")
    manifest, data = prepare(official, tmp_path / "data", leave_out=coco_pictures([str(ids)]))
    left = set(data.questions("train+val")["image_id"])
    assert left == set(range(1, 25)) - {2, 4}
    assert manifest.left_out["evaluation_pictures"] == {
        "with_coco_id": 12,
        "pictures": 2,
        "pairs": 6,
        "of": str(ids),
    }
    assert "left out, since they are evaluated on: 2 pictures with 6 pairs" in "\n".join(
        summary(manifest)
    )
    assert len(data.images) == 22  # they are not even stored


def test_ids_to_leave_out_come_from_prepared_data_and_official_files(tmp_path):
    prepare_vqav2(write_vqav2(tmp_path / "official"), tmp_path / "vqa")
    data = open_prepared(tmp_path / "vqa")
    every = {name: set(data.questions(name)["image_id"]) for name in data.manifest.splits}
    assert set(coco_pictures([f"{tmp_path / 'vqa'}:minival"]).ids) == every["minival"]
    others = set().union(*(ids for name, ids in every.items() if name != "train"))
    assert set(coco_pictures([str(tmp_path / "vqa")]).ids) == others
    questions = tmp_path / "official" / "v2_OpenEnded_mscoco_val2014_questions.json"
    official = {
        q["image_id"] for q in json.loads(questions.read_text(encoding="utf-8"))["questions"]
    }
    assert set(coco_pictures([str(questions)]).ids) == official
    images = [{"split": s, "cocoid": n} for n, s in enumerate(["train", "restval", "val", "test"])]
    karpathy = write(tmp_path / "dataset_coco.json", {"images": images})
    instances = write(tmp_path / "instances.json", {"images": [{"id": 5, "file_name": "x"}]})
    assert coco_pictures([str(karpathy), str(instances)]).ids.tolist() == [2, 3, 5]


def test_gqa_names_pictures_by_their_genome_ids(tmp_path):
    """Those of its evaluation splits whose names are numbers: not 2300 of train, nor n11 of val."""
    write_gqa(tmp_path / "official")
    prepare_named("gqa", tmp_path / "official", tmp_path / "gqa", AS_USUAL, {})
    leave_out = coco_pictures([str(tmp_path / "gqa"), str(write_ids(tmp_path, [1000 + 2308]))])
    assert leave_out.genome_ids.tolist() == [2310, 2320, 2330, 2340]
    assert leave_out.ids.tolist() == [3308]
    assert coco_pictures([f"{tmp_path / 'gqa'}:val"]).genome_ids.tolist() == [2310]
    official = write_visual_genome(tmp_path / "vg", 24, first=2299)
    manifest, data = prepare(official, tmp_path / "data", leave_out=leave_out)
    left = set(data.questions("train+val")["image_id"])
    assert left == set(range(2299, 2323)) - {2308, 2310, 2320}
    counts = manifest.left_out["evaluation_pictures"]
    assert (counts["pictures"], counts["pairs"], counts["by_genome_id"]) == (3, 9, 2)
    lines = "\n".join(summary(manifest))
    assert "3 pictures with 9 pairs" in lines
    assert "2 of these are known by their Visual Genome ids" in lines
    pairs = write_captions(tmp_path / "files")
    with pytest.raises(RequestError, match="by Visual Genome's ids, which those of .* do not have"):
        captions.prepare(
            str(pairs),
            tmp_path / "captions",
            AS_USUAL,
            {"--images": None, "--leave-out": [str(tmp_path / "gqa")]},
        )


def test_gqa_without_a_genome_id_is_refused(tmp_path):
    official = write_gqa(tmp_path / "official")
    for name in ("2310", "2320"):
        (official / "images" / f"{name}.jpg").rename(official / "images" / f"m{name}.jpg")
    for split in ("val", "testdev"):
        file = official / f"{split}_balanced_questions.json"
        file.write_text(file.read_text(encoding="utf-8").replace('"23', '"m23'), encoding="utf-8")
    prepare_named("gqa", official, tmp_path / "gqa", AS_USUAL, {})
    with pytest.raises(RequestError, match="no picture of val.* has an id of Visual Genome"):
        coco_pictures([f"{tmp_path / 'gqa'}:val+testdev"])


def write_ids(folder, ids):
    path = folder / "ids.txt"
    path.write_text("\n".join(map(str, ids)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"images": [{"split": "train", "cocoid": 3}]}, "holds no COCO ids"),
        ({"images": [{"file_name": "a"}]}, "a record has no COCO id"),
        ({"a": 1}, "has no key 'questions'"),
        ([1], "has no key"),
    ],
)
def test_wrong_files_of_ids(tmp_path, content, problem):
    with pytest.raises(RequestError, match=problem):
        coco_pictures([str(write(tmp_path / "ids.json", content))])


def test_wrong_names_of_what_to_leave_out(official, tmp_path):
    (tmp_path / "ids.txt").write_text("12\nab\n", encoding="utf-8")
    with pytest.raises(RequestError, match="'ab' is no COCO id"):
        coco_pictures([str(tmp_path / "ids.txt")])
    with pytest.raises(RequestError, match="goes alone"):
        coco_pictures(["nothing", str(tmp_path / "ids.txt")])
    with pytest.raises(RequestError, match="no such file"):
        coco_pictures([str(tmp_path / "none.txt")])
    _, data = prepare(official, tmp_path / "vg")
    held_out = sorted(set(data.questions("val")["image_id"]))
    assert coco_pictures([str(tmp_path / "vg")]).genome_ids.tolist() == held_out
    options = {"--images": None, "--leave-out": None}
    captions.prepare(str(write_captions(tmp_path / "f")), tmp_path / "c", AS_USUAL, options)
    with pytest.raises(RequestError, match="have no COCO id in their names, such as"):
        coco_pictures([str(tmp_path / "c")])


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("val2014/COCO_val2014_000000000042.jpg", 42),
        ("COCO_test2015_000000000007.jpg", 7),
        ("train2017/000000391895.jpg", 391895),
        ("000000391895.jpg", 391895),
        ("VG_100K/2370799.jpg", None),
        ("x000000391895.jpg", None),
    ],
)
def test_coco_ids_of_names(name, number):
    assert coco_id_of(name) == number


@pytest.mark.parametrize(
    ("file", "edit", "problem"),
    [
        ("region_descriptions", lambda r: r[1]["regions"][0].update(x=500), "region 20: its box"),
        ("region_descriptions", lambda r: r[1]["regions"][0].update(width=0), "width 0, .* empty"),
        (
            "region_descriptions",
            lambda r: r[1]["regions"][0].update(width=-1),
            "width -1, .* empty",
        ),
        ("region_descriptions", lambda r: r[1]["regions"][0].update(phrase=" "), "no caption"),
        ("region_descriptions", lambda r: r[1].update(id=99), "image 99 is not in image_data.json"),
        ("objects", lambda r: r[1]["objects"][0].update(y=-90), "object 20: its box .* is outside"),
        ("objects", lambda r: r[1]["objects"][0].update(h=0), r"object 20: its box \(x .*h 0\)"),
        ("objects", lambda r: r[1]["objects"][0].update(w="a"), "numbers are expected"),
        ("objects", lambda r: r[1]["objects"][0].update(names=[]), "names: a class is expected"),
        ("image_data", lambda r: r[1].update(image_id=1), "image_id 1 is named twice"),
        ("image_data", lambda r: r[1].pop("width"), "has no 'width'"),
        ("captions", lambda r: r[1].update(image=99), "a caption without a picture: 99"),
        ("captions", lambda r: r[1].pop("caption"), "no caption"),
    ],
)
def test_wrong_records_are_one_line(own, tmp_path, file, edit, problem):
    change(own / f"{file}.json", edit)
    with pytest.raises(RequestError, match=problem) as error:
        prepare(own, tmp_path / "data")
    assert f"{file}.json: record 1" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()
    manifest, _ = prepare(own, tmp_path / "data", SKIP)
    assert manifest.left_out["records"]


def test_boxes_are_named_in_the_numbers_of_the_file_and_kept_partly_outside(own, tmp_path):
    file = own / "region_descriptions.json"
    change(file, lambda r: r[1]["regions"][0].update(x=-5, y=40, width=30, height=30))
    _, data = prepare(own, tmp_path / "data")
    boxes = [row["box"] for row in data.questions("train+val") if row["image_id"] == 2]
    assert [-5, 40, 25, 70] in boxes
    change(file, lambda r: r[1]["regions"][0].update(x=500.5))
    with pytest.raises(RequestError) as error:
        prepare(own, tmp_path / "other")
    assert (
        "record 1 (image 2): region 20: its box (x 500.5, y 40, width 30, height 30) is outside "
        "of the picture of 48 × 48"
    ) in str(error.value)


def test_a_picture_of_another_size_has_other_boxes(own, tmp_path):
    Image.new("RGB", (50, 48)).save(own / "VG_100K" / "3.png")
    with pytest.raises(RequestError, match="has 50 × 48 pixels, and its boxes are of 48 × 48"):
        prepare(own, tmp_path / "data")
    manifest, data = prepare(own, tmp_path / "data", SKIP)
    assert 3 not in data.questions("train+val")["image_id"]
    assert manifest.left_out["pairs_of_images"] == 3


def test_missing_files_and_pictures(own, tmp_path):
    (own / "VG_100K" / "3.png").unlink()
    with pytest.raises(RequestError, match=r"VG_100K/3\.jpg: no such image"):
        prepare(own, tmp_path / "data")
    (own / "objects.json").unlink()
    with pytest.raises(RequestError, match=r"objects\.json: no such file; the official files"):
        prepare(own, tmp_path / "data")


def test_the_command(official, tmp_path):
    arguments = ("prepare", "visual-genome", "--source", official, "--output", tmp_path / "data")
    _, errors = in_process.run(*arguments, cwd=tmp_path, code=2)
    assert "--leave-out nothing" in errors
    shown, _ = in_process.run(*arguments, "--leave-out", "nothing", "--classes", "1", cwd=tmp_path)
    assert "classes of objects: 1," in shown
    _, errors = in_process.run(
        "prepare", "captions", "x.json", "--output", "y", "--classes", "1", cwd=tmp_path, code=2
    )
    assert "prepare captions: --classes: not for this source" in errors
