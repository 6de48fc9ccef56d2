"""Bad records, metadata and images of a miniature VCR: named with file, line and annot_id, or left out and listed."""

import json
import shutil

import pytest

from tests.miniature.vcr import OBJECTS, change_line, stem, write_vcr
from vle_bench.data.prepare import vcr_records
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.vcr import prepare_vcr
from vle_bench.data.prepare.vcr_summary import lines
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError

SMALL_SHARDS = 2_500  # bytes: three or four of the miniature's images
SKIP = Choices(on_bad_record="skip")


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return write_vcr(tmp_path_factory.mktemp("official"))


@pytest.fixture
def own(official, tmp_path):
    """A copy of the official files to damage."""
    return shutil.copytree(official, tmp_path / "own")


def put(**values):
    return lambda record: record.update(values)


BAD = [
    (lambda r: r["question"].append([5]), "question: the tag 5 names none of its 5 objects"),
    (
        lambda r: r["answer_choices"][1].append([-1]),
        "answer_choices[1]: the tag -1 names none of its 5 objects",
    ),
    (
        lambda r: r["rationale_choices"][3].append([]),
        "rationale_choices[3]: [] is neither a word nor a list of tags",
    ),
    (lambda r: r["answer_choices"].pop(), "answer_label: 3 is not a number of 0 to 2"),
    (
        lambda r: (r["answer_choices"].pop(), r.update(answer_label=0)),
        "answer_choices: 4 are expected, not 3",
    ),
    (lambda r: r["rationale_choices"].append(["e"]), "rationale_choices: 4 are expected, not 5"),
    (lambda r: r["answer_choices"].__setitem__(2, []), "answer_choices[2]: empty"),
    (put(question=[]), "question: empty"),
    (put(answer_label=4), "answer_label: 4 is not a number of 0 to 3"),
    (put(rationale_label=True), "rationale_label: True is not a number of 0 to 3"),
    (lambda r: r.pop("answer_label"), "has no 'answer_label'"),
    (put(rationale_label=None), "has no 'rationale_label'"),
    (put(answer_likelihood=3), "answer_likelihood: not a string"),
    (put(objects=OBJECTS[:4]), "the tag 4 names none of its 4 objects"),
    (put(objects=[*OBJECTS, "cat"]), "objects: not as in val.jsonl, line 1, about the same image"),
    (
        put(metadata_fn=f"{stem('val', 1)}.json"),
        "metadata_fn: not as in val.jsonl, line 1, about the same image",
    ),
    (put(annot_id="train-2"), "annot_id: occurs in train.jsonl, line 3 already"),
    (put(annot_id="val-0"), "annot_id: occurs in val.jsonl, line 1 already"),
    (put(annot_id=""), "annot_id: a string is expected"),
    (lambda r: r.pop("img_fn"), "img_fn: a file name is expected"),
    (put(img_fn="a\0.jpg"), "img_fn: a file name is expected"),
    (put(img_fn="../../secret.jpg"), "img_fn: leads out of vcr1images"),
    (put(metadata_fn="/etc/a.json"), "metadata_fn: leads out of vcr1images"),
    (lambda r: r["question"].append("\udc00"), "half a surrogate pair"),
]


@pytest.mark.parametrize(("edit", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_record_is_named_or_left_out_and_listed(own, tmp_path, edit, message):
    line = 1  # the second question about the image that line 0 asks about
    change_line(own / "val.jsonl", line, lambda record: record.update(answer_label=3))
    change_line(own / "val.jsonl", line, edit)
    annot_id = json.loads((own / "val.jsonl").read_text(encoding="utf-8").splitlines()[line])[
        "annot_id"
    ]
    with pytest.raises(RequestError) as caught:
        prepare_vcr(own, tmp_path / "out")
    words = str(caught.value)
    assert (
        words.startswith(f"{own}/val.jsonl: line 2: VCR record {annot_id!r}: ")
        and message in words
        and "\n" not in words
    )
    assert words.endswith("; --on-bad-record skip leaves such records out")
    assert [p.name for p in tmp_path.iterdir()] == ["own"]
    manifest = prepare_vcr(own, tmp_path / "out", SKIP)
    (bad,) = manifest.left_out["records"]
    assert (bad["file"], bad["line"], bad["annot_id"]) == (
        "val.jsonl",
        2,
        annot_id,
    ) and message in bad["problem"]
    assert "VCR record" not in bad["problem"]
    assert manifest.splits["val"]["questions"] == 14 and manifest.splits["val"]["images"] == 6
    out_of_range = "names none" in message
    shown = "\n".join(lines(manifest))
    assert f"left out: 1 bad records, {int(out_of_range)} of them for a tag out of range" in shown
    assert f"  val.jsonl: line 2: {annot_id}: {bad['problem']}" in shown


@pytest.mark.parametrize(
    ("line", "annot_id", "message"),
    [
        (
            b'{"annot_id": "val-1", "question": ["Why',
            "val-1",
            "broken or cut-off JSON at column 40",
        ),
        (b'{"question": ["Why"', None, "broken or cut-off JSON"),
        (b'{"annot_id": "val-1", "movie": "\xff"}', "val-1", "not UTF-8 text"),
        (b'["val-1"]', None, "is not an object"),
        (b"[" * 100_000, None, "JSON nested too deep"),
    ],
)
def test_a_line_that_is_no_json(own, tmp_path, line, annot_id, message):
    path = own / "val.jsonl"
    found = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([found[0], line, *found[2:]]))
    with pytest.raises(
        RequestError, match=rf"val.jsonl: line 2: VCR record .*{message}.*; --on-bad-record skip"
    ) as caught:
        prepare_vcr(own, tmp_path / "out")
    assert (annot_id or "None") in str(caught.value) and "\n" not in str(caught.value)
    manifest = prepare_vcr(own, tmp_path / "out", SKIP)
    (bad,) = manifest.left_out["records"]
    assert (bad["line"], bad["annot_id"]) == (2, annot_id) and message in bad["problem"]
    assert list(open_prepared(tmp_path / "out").questions("val")["annot_id"]) == [
        "val-0",
        *(f"val-{n}" for n in range(2, 15)),
    ]


def test_a_cut_off_last_line(own, tmp_path):
    path = own / "train.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(
        RequestError, match="train.jsonl: line 16: VCR record 'train-15': broken or cut-off JSON"
    ):
        prepare_vcr(own, tmp_path / "out")


def test_labels_of_test_are_all_there_or_none(own, tmp_path):
    test, both = own / "test.jsonl", {"answer_label": 1, "rationale_label": 2}
    change_line(test, 2, put(**both))
    with pytest.raises(
        RequestError,
        match="line 3: VCR record 'test-2': has labels, and the records before it have none",
    ):
        prepare_vcr(own, tmp_path / "out")
    for n in (0, 1, *range(3, 7)):
        change_line(test, n, put(**both))
    with pytest.raises(RequestError, match="line 8: VCR record 'test-7': has no 'answer_label'"):
        prepare_vcr(own, tmp_path / "out")
    change_line(test, 7, put(**both))
    assert prepare_vcr(own, tmp_path / "out").splits["test"]["labelled"]
    assert set(open_prepared(tmp_path / "out").questions("test")["rationale_label"]) == {2}


def test_nothing_left_of_a_split(own, tmp_path):
    (own / "val.jsonl").write_text("\n\n", encoding="utf-8")
    with pytest.raises(RequestError, match="val.jsonl: empty, there is no record in it"):
        prepare_vcr(own, tmp_path / "out")
    (own / "val.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(RequestError, match="val.jsonl: no record is left for the split 'val'"):
        prepare_vcr(own, tmp_path / "out", SKIP)
    assert not (tmp_path / "out").exists()


def test_two_names_with_one_image_id(official, tmp_path, monkeypatch):
    monkeypatch.setattr(vcr_records, "image_id", lambda name: len(name))
    with pytest.raises(
        RequestError,
        match="line 5: VCR record 'train-4': img_fn: its image_id is that of .*@0.jpg too; rename",
    ):
        prepare_vcr(official, tmp_path / "out")


# Metadata and images


def box(k, *corners):
    return lambda m: m["boxes"].__setitem__(k, [*corners, 0.5])


METADATA = [
    (None, "no such file"),
    ("{", "broken or cut-off JSON at column 2"),
    ("[]", "[] is not an object"),
    (lambda m: m["boxes"].pop(), "boxes: one for each of 5 objects is expected, not 4"),
    (
        box(1, float("nan"), 0, 1, 1),
        "NaN is no JSON number",
    ),
    (box(1, 10**400, 0, 10**400, 1), "is not four or five finite numbers"),
    (
        box(1, 1e306, 0, 1e308, 1),
        "boxes: too large once they are scaled to the picture's true size",
    ),
    (box(1, 9, 0, 1, 1), "boxes[1]: [9, 0, 1, 1, 0.5] is reversed"),
    (
        lambda m: m["names"].__setitem__(0, "cat"),
        "names: not the record's objects; is it the metadata of another image?",
    ),
    (lambda m: m.update(width=0), "width: 0 is not a positive number"),
    (lambda m: m.pop("height"), "has no 'height'"),
    (
        lambda m: m.update(width=60, height=34),
        "60 × 34 is another shape than the picture's 60 × 40; is it the metadata of another",
    ),
]


@pytest.mark.parametrize(("edit", "message"), METADATA, ids=[message for _, message in METADATA])
def test_bad_metadata_are_named_with_the_record(own, tmp_path, edit, message):
    name = f"{stem('val', 0)}.json"
    path = own / "vcr1images" / name
    if edit is None:
        path.unlink()
    elif isinstance(edit, str):
        path.write_text(edit, encoding="utf-8")
    else:
        metadata = {
            **json.loads(path.read_text(encoding="utf-8")),
            "width": 0.5,
        }  # a scaled box may become infinite
        edit(metadata)
        path.write_text(json.dumps(metadata), encoding="utf-8")
    with pytest.raises(RequestError) as caught:
        prepare_vcr(own, tmp_path / "out")
    words = str(caught.value)
    assert (
        words.startswith(f"{own}/val.jsonl: line 1: VCR record 'val-0': vcr1images/{name}: ")
        and message in words
    )
    assert words.endswith("; --on-bad-record skip leaves such records out") and "\n" not in words
    for workers in (1, 2) if edit is None else (1,):
        manifest = prepare_vcr(
            own, tmp_path / "out", Choices(workers, on_bad_record="skip", shard_bytes=SMALL_SHARDS)
        )
        listed = manifest.left_out["records"]
        assert [(bad["line"], bad["annot_id"]) for bad in listed] == [
            (1, "val-0"),
            (2, "val-1"),
        ]  # both ask about the image
        assert all(
            bad["problem"].startswith(f"vcr1images/{name}: ") and message in bad["problem"]
            for bad in listed
        )
        assert manifest.left_out["images"] == [] and manifest.splits["val"]["images"] == 5
    data = open_prepared(tmp_path / "out")
    assert len(data.images) == 17
    for row in data.questions("train+val+test"):  # nothing took its place
        assert data.images[row["image_row"]]["image_id"] == row["image_id"]


def damage_images(folder):
    broken, gone = (folder / "vcr1images" / f"{stem('val', i)}.jpg" for i in (0, 1))
    broken.write_bytes(broken.read_bytes()[:300])
    gone.unlink()
    return broken, gone


def test_bad_images_are_named_or_left_out_and_listed(own, tmp_path):
    broken, gone = damage_images(own)
    where = rf"\({own}/val.jsonl: line 3: VCR record 'val-2'\); --on-bad-image skip leaves such images out"
    with pytest.raises(RequestError, match=f"^{gone}: no such image {where}$"):
        prepare_vcr(own, tmp_path / "out", SKIP)
    shutil.copy(own / "vcr1images" / f"{stem('val', 2)}.jpg", gone)
    where = where.replace("line 3", "line 1").replace("val-2", "val-0")
    with pytest.raises(
        RequestError, match=rf"^{broken}: cannot be read as an image \(.*\) {where}$"
    ) as caught:
        prepare_vcr(own, tmp_path / "out", SKIP)
    assert "\n" not in str(caught.value)
    gone.unlink()
    manifest = prepare_vcr(own, tmp_path / "out", Choices(on_bad_image="skip"))
    assert [(b["file"], b["asked_by"]) for b in manifest.left_out["images"]] == [
        (f"{stem('val', 0)}.jpg", "val.jsonl: line 1: annot_id val-0"),
        (f"{stem('val', 1)}.jpg", "val.jsonl: line 3: annot_id val-2"),
    ]
    assert str(own) not in json.dumps(manifest.as_json())
    assert (
        manifest.splits["val"]["questions"] == 10
        and manifest.report["splits"]["val"]["left_out_with_their_image"] == 5
    )
    data = open_prepared(tmp_path / "out")
    assert [data.images[row]["image_id"] for row in data.questions("val")["image_row"]] == list(
        data.questions("val")["image_id"]
    )
    shown = "\n".join(lines(manifest))
    assert "left out: 2 images that cannot be read, and with them 5 questions" in shown
    assert f"  {stem('val', 1)}.jpg (val.jsonl: line 3: annot_id val-2): no such image" in shown
