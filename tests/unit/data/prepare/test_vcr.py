"""Preparing a miniature VCR: tables, resuming, the report."""

import hashlib
import io
import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

from tests.miniature.vcr import (
    BOXES,
    MANY_OBJECTS,
    NO_OBJECTS,
    OBJECTS,
    OTHER_SIZE,
    OUTSIDE,
    change_line,
    stem,
    write_vcr,
)
from vle_bench.cli.app import app, main
from vle_bench.data import images as pictures
from vle_bench.data.prepare import shards, vcr
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.vcr import prepare_vcr
from vle_bench.data.prepare.vcr_summary import lines
from vle_bench.data.prepared import open_prepared
from vle_bench.data.vcr_text import encode_record
from vle_bench.errors import RequestError

SMALL_SHARDS = 2_500  # bytes: three or four of the miniature's images
TOKENIZER = Path("tests/golden/vcr_text/tokenizer")


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return write_vcr(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def prepared(official, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "out"
    prepare_vcr(official, folder, Choices(shard_bytes=SMALL_SHARDS))
    return folder


@pytest.fixture
def own(official, tmp_path):
    """A copy of the official files to damage."""
    return shutil.copytree(official, tmp_path / "own")


def content(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def rows_by_name(folder):
    return {row["file_name"]: row for row in open_prepared(folder).images}


def test_splits_and_manifest(official, prepared):
    data = open_prepared(prepared)
    counts = {
        name: (s["questions"], s["images"], s["labelled"])
        for name, s in data.manifest.splits.items()
    }
    assert counts == {"train": (16, 8, True), "val": (15, 6, True), "test": (8, 4, False)}
    assert data.labels == [] and data.manifest.labels is None and data.manifest.source == "vcr"
    ids = [f"val-{n}" for n in range(15)]
    assert (
        data.manifest.splits["val"]["ids_sha256"]
        == hashlib.sha256(json.dumps(ids).encode()).hexdigest()
    )
    assert {"manifest.json", *data.manifest.files} == {p.name for p in prepared.iterdir()}
    assert data.manifest.left_out == {"records": [], "images": []}
    assert len(data.manifest.images) > 3


def test_images_are_there_once_in_the_order_of_their_names_as_they_are(official, prepared):
    images = open_prepared(prepared).images
    names = [
        f"{stem(split, i)}.jpg"
        for split, number in (("train", 8), ("val", 6), ("test", 4))
        for i in range(number)
    ]
    assert list(images["file_name"]) == sorted(names) and "@" in names[0]
    for row in images:
        assert row["bytes"] == (official / "vcr1images" / row["file_name"]).read_bytes()
        assert (
            row["image_id"]
            == int(hashlib.sha256(row["file_name"].encode()).hexdigest()[:16], 16) // 2
        )
    assert images.features["boxes"].feature.feature.dtype == "float64"


def test_boxes_are_those_of_the_true_picture(prepared):
    rows = rows_by_name(prepared)
    usual = [box[:4] for box in BOXES]
    for split in ("train", "val", "test"):
        found = {i: rows[f"{stem(split, i)}.jpg"] for i in range(4)}
        assert (
            found[0]["boxes"] == usual == found[OTHER_SIZE]["boxes"]
        )  # there the metadata say twice as much of everything
        assert found[0]["class_names"] == OBJECTS and (
            found[OTHER_SIZE]["width"],
            found[OTHER_SIZE]["height"],
        ) == (60, 40)
        assert found[NO_OBJECTS]["boxes"] == [] == found[NO_OBJECTS]["class_names"]
        assert len(found[MANY_OBJECTS]["boxes"]) == 14 == len(found[MANY_OBJECTS]["class_names"])
    assert rows[f"{stem('val', OUTSIDE)}.jpg"]["boxes"][-1] == [70, 3, 90, 20]


def test_boxes_scale_with_the_picture_and_a_rounded_side_is_no_other_shape(own, tmp_path):
    path = own / "vcr1images" / f"{stem('val', 0)}.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(
        json.dumps({**metadata, "width": 31, "height": 20}), encoding="utf-8"
    )  # of 60 × 40
    prepare_vcr(own, tmp_path / "out")
    expected = [[60 / 31 * x1, 2 * y1, 60 / 31 * x2, 2 * y2] for x1, y1, x2, y2, _ in BOXES]
    np.testing.assert_allclose(
        rows_by_name(tmp_path / "out")[f"{stem('val', 0)}.jpg"]["boxes"], expected
    )
    assert open_prepared(tmp_path / "out").manifest.report["images"]["other_size"] == 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("scale", [1, 2])
def test_boxes_turn_with_the_picture(own, tmp_path, orientation, scale):
    """The metadata have the size of the picture as it is stored; the boxes must lie where Pillow puts the pixels."""
    x1, y1, x2, y2 = (round(v) for v in BOXES[0][:4])
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[y1:y2, x1:x2] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = own / "vcr1images" / f"{stem('val', 0)}.jpg"
    Image.fromarray(pixels).save(path, "PNG", exif=exif)
    metadata = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    boxes = [[scale * v for v in (x1, y1, x2, y2)] + [0.5], *metadata["boxes"][1:]]
    path.with_suffix(".json").write_text(
        json.dumps({**metadata, "width": 60 * scale, "height": 40 * scale, "boxes": boxes}),
        encoding="utf-8",
    )
    manifest = prepare_vcr(own, tmp_path / "out")
    assert manifest.turned == (orientation != 1)
    assert f"EXIF orientation says: {manifest.turned};" in "\n".join(lines(manifest))
    row = rows_by_name(tmp_path / "out")[f"{stem('val', 0)}.jpg"]
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))[:, :, 0] > 0
    rows, columns = upright.any(1).nonzero()[0], upright.any(0).nonzero()[0]
    assert (row["height"], row["width"]) == upright.shape
    assert row["boxes"][0] == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def damaged_exif(kind):
    """A JPEG of 60 × 40 or a PNG whose EXIF block is cut off."""
    exif = Image.Exif()
    exif[0x010F] = "x" * 20
    file = io.BytesIO()
    Image.new("RGB", (60, 40)).save(file, kind, exif=exif.tobytes()[:-12])
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_damaged_exif_block_is_one_line_with_the_name(own, tmp_path, caplog, kind):
    path = own / "vcr1images" / f"{stem('val', 0)}.jpg"
    path.write_bytes(damaged_exif(kind))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a library's warning would be an error
        prepare_vcr(own, tmp_path / "out")
    said = caplog.messages
    assert (
        len(said) == 1
        and "\n" not in said[0]
        and said[0].startswith(
            f"{path}: its EXIF block is damaged; the picture is turned only as far"
        )
    )
    assert rows_by_name(tmp_path / "out")[f"{stem('val', 0)}.jpg"]["boxes"][0] == BOXES[0][:4]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_damaged_exif_block_is_told_once_and_warns_of_nothing(caplog, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            assert pictures.decode_picture(damaged_exif(kind), f"{kind}.jpg").size == (60, 40)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [f"{kind}.jpg"]


def test_a_turned_picture_has_its_upright_size(own, tmp_path):
    path = own / "vcr1images" / f"{stem('val', 0)}.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 60)).save(path, exif=exif)
    prepare_vcr(own, tmp_path / "out")
    row = rows_by_name(tmp_path / "out")[f"{stem('val', 0)}.jpg"]
    assert (row["width"], row["height"]) == (60, 40) and row["boxes"][0] == BOXES[0][:4]


def test_metadata_without_names(own, prepared, tmp_path):
    path = own / "vcr1images" / f"{stem('val', 0)}.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    del metadata["names"]
    path.write_text(json.dumps(metadata), encoding="utf-8")
    prepare_vcr(own, tmp_path / "out")
    assert rows_by_name(tmp_path / "out") == rows_by_name(prepared)


def test_questions(official, prepared):
    data = open_prepared(prepared)
    for split in ("train", "val", "test"):
        given = [
            json.loads(line)
            for line in (official / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        rows = list(data.questions(split))
        assert [row["annot_id"] for row in rows] == [record["annot_id"] for record in given]
        for row, record in zip(rows, given, strict=True):
            kept = ["annot_id", "objects", "question", "answer_choices", "rationale_choices"]
            kept += ["answer_label", "rationale_label"] if split != "test" else []
            assert (
                json.loads(row["record"]) == {key: record[key] for key in kept}
                and " " not in row["record"][:40]
            )
            for key in ("answer_label", "rationale_label", "answer_likelihood"):
                assert row[key] == record.get(key)
            image = data.images[row["image_row"]]
            assert image["file_name"] == record["img_fn"] and image["image_id"] == row["image_id"]
            assert image["class_names"] == record["objects"]


def test_the_same_bytes_with_several_processes(official, prepared, tmp_path):
    prepare_vcr(official, tmp_path / "out", Choices(shard_bytes=SMALL_SHARDS, workers=2))
    assert content(tmp_path / "out") == content(prepared)


def test_image_ids_do_not_depend_on_the_splits(own, prepared, tmp_path):
    for name in ("train", "test"):
        (own / f"{name}.jsonl").unlink()
    manifest = prepare_vcr(own, tmp_path / "out")
    alone, whole = rows_by_name(tmp_path / "out"), rows_by_name(prepared)
    assert len(alone) == 6 and all(whole[name] == row for name, row in alone.items())
    assert list(manifest.splits) == ["val"] and manifest.report["missing_splits"] == [
        "train",
        "test",
    ]
    assert "train        not there: the folder has no train.jsonl" in "\n".join(lines(manifest))
    with pytest.raises(RequestError, match="has no split 'train'; it has val"):
        open_prepared(tmp_path / "out").questions("train")


def test_annotations_in_a_folder_of_their_own(own, prepared, tmp_path):
    (own / "vcr1annots").mkdir()
    for name in ("train", "val", "test"):
        (own / f"{name}.jsonl").rename(own / "vcr1annots" / f"{name}.jsonl")
    prepare_vcr(own, tmp_path / "out", Choices(shard_bytes=SMALL_SHARDS))
    assert content(tmp_path / "out") == content(prepared)
    shutil.copy(own / "vcr1annots" / "val.jsonl", own)
    with pytest.raises(
        RequestError, match=r"own/val.jsonl and .*vcr1annots/val.jsonl: both exist; remove one"
    ):
        prepare_vcr(own, tmp_path / "out")


@pytest.mark.parametrize(
    ("archive", "lacks"), [("vcr1annots.zip", "*.jsonl"), ("vcr1images.zip", "vcr1images")]
)
def test_archives_that_are_still_packed_are_named(own, tmp_path, archive, lacks):
    for path in own.glob(lacks):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    way_out = f"`vle-bench download vcr --output {own}` unpacks the archives"
    with pytest.raises(RequestError, match=f"^{own}: no [^;]* there; {way_out}$"):
        prepare_vcr(own, tmp_path / "out")
    (own / archive).write_bytes(b"PK")
    with pytest.raises(RequestError, match=f"{archive} lies there still packed; {way_out}$"):
        prepare_vcr(own, tmp_path / "out")


# Resuming


def test_stopped_and_started_again(own, prepared, tmp_path, monkeypatch):
    out, choices, written = tmp_path / "out", Choices(shard_bytes=SMALL_SHARDS), []
    write = shards.write_table

    def stopping(path, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, *rest)

    monkeypatch.setattr(shards, "write_table", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepare_vcr(own, out, choices)
    assert not out.exists() and (tmp_path / ".out.partial").is_dir()
    monkeypatch.setattr(
        shards, "write_table", lambda path, *rest: (written.append(path.name), write(path, *rest))
    )
    prepare_vcr(own, out, choices)
    assert len(written) == len(set(written)) == len(open_prepared(out).manifest.images)
    assert content(out) == content(prepared)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "own"]


def stopped_before_the_end(source, out, choices, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(vcr, "finish", killed)
        prepare_vcr(source, out, choices)


def rewritten(source, out, choices, monkeypatch):
    """Which shards a run writes; the others it took over."""
    written, write = [], shards.write_table
    with monkeypatch.context() as patch:
        patch.setattr(
            shards,
            "write_table",
            lambda path, *rest: (written.append(path.name), write(path, *rest)),
        )
        try:
            prepare_vcr(source, out, choices)
        except RequestError as error:
            return written, str(error)
    return written, None


def test_changed_metadata_are_noticed(own, tmp_path, monkeypatch):
    out, choices = tmp_path / "out", Choices(shard_bytes=SMALL_SHARDS)
    stopped_before_the_end(own, out, choices, monkeypatch)
    path = own / "vcr1images" / f"{stem('val', 0)}.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace("2.5, 1,", "1.25, 1,"), encoding="utf-8"
    )
    written, _ = rewritten(own, out, choices, monkeypatch)
    assert len(written) == 1 and rows_by_name(out)[f"{stem('val', 0)}.jpg"]["boxes"][0][0] == 1.25


def test_changed_records_are_noticed(own, tmp_path, monkeypatch):
    out, choices = tmp_path / "out", Choices(shard_bytes=SMALL_SHARDS)
    stopped_before_the_end(own, out, choices, monkeypatch)
    change_line(own / "val.jsonl", 4, lambda record: record["question"].append("Really"))
    written, _ = rewritten(own, out, choices, monkeypatch)
    assert written == [] and "Really" in open_prepared(out).questions("val")[4]["record"]


def damage_images(folder):
    broken, gone = (folder / "vcr1images" / f"{stem('val', i)}.jpg" for i in (0, 1))
    broken.write_bytes(broken.read_bytes()[:300])
    gone.unlink()
    return broken, gone


def test_a_shard_that_lacks_an_image_stands_only_while_that_is_allowed(own, tmp_path, monkeypatch):
    broken, _ = damage_images(own)
    shutil.copy(
        own / "vcr1images" / f"{stem('val', 2)}.jpg", own / "vcr1images" / f"{stem('val', 1)}.jpg"
    )
    (own / "vcr1images" / f"{stem('train', 0)}.json").write_text("{", encoding="utf-8")
    out, lenient = (
        tmp_path / "out",
        Choices(shard_bytes=SMALL_SHARDS, on_bad_image="skip", on_bad_record="skip"),
    )
    stopped_before_the_end(own, out, lenient, monkeypatch)
    images, records = (
        Choices(shard_bytes=SMALL_SHARDS, **{key: "skip"})
        for key in ("on_bad_image", "on_bad_record")
    )
    assert "train-0" in rewritten(own, out, images, monkeypatch)[1]
    assert str(broken) in rewritten(own, out, records, monkeypatch)[1]
    assert rewritten(own, out, lenient, monkeypatch) == ([], None)
    assert len(open_prepared(out).images) == 16


def test_two_at_once_are_refused(official, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / ".out.partial").mkdir()
    handle = os.open(tmp_path / ".out.partial", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(RequestError, match="another process is writing there"):
        prepare_vcr(official, tmp_path / "out")
    os.close(handle)


def test_nothing_else_is_replaced(official, tmp_path):
    out = tmp_path / "out"
    prepare_vcr(official, out)
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    prepare_vcr(official, out)
    (out / "questions-val.arrow").unlink()  # damaged, hence made again as a whole
    with pytest.raises(RequestError, match="holds 'notes.txt' beside the prepared data"):
        prepare_vcr(official, out)


# Report and command line


def test_report(official, prepared, tmp_path):
    report = open_prepared(prepared).manifest.report
    # of 18 images 3 have no object, 3 have 14 with three dogs, and 12 have 5 with one dog; each dog reaches beyond its picture
    assert report["images"] == {
        "images": 18,
        "objects": 12 * 5 + 3 * 14,
        "most_objects": 14,
        "partly_outside": 12 + 3 * 3,
        "wholly_outside": 2,
        "other_size": 3,
    }
    assert report["missing_splits"] == [] and report["tags_out_of_range"] == 0
    assert {name: split["private_use_tokens"] for name, split in report["splits"].items()} == {
        "train": 16,
        "val": 15,
        "test": 8,
    }
    shown = "\n".join(lines(open_prepared(prepared).manifest))
    assert "test                 8 questions         4 images  without labels" in shown
    assert "objects an image: 5.7 on average, 14 at most" in shown
    assert "boxes: 102, of which 21 reach beyond their picture and 2 lie wholly outside" in shown
    assert "images of another size than their metadata say: 3;" in shown
    assert (
        "tokens with private-use characters, which encoding drops: test 8, train 16, val 15"
        in shown
    )
    assert "only its tokenizer can tell: --tokenizer DIR" in shown


def test_report_of_shortened_choices(official, prepared, tmp_path):
    from transformers import AutoTokenizer

    manifest = prepare_vcr(
        official, tmp_path / "out", Choices(tokenizer=TOKENIZER, shard_bytes=SMALL_SHARDS)
    )
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    for name, answers in (("val", [None]), ("test", range(4))):
        records = [
            json.loads(line)
            for line in (official / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        q2a, qa2r = (
            [
                c["shortened"]
                for r in records
                for a in given
                for c in encode_record(r, tokenizer, task, 80, a)
            ]
            for task, given in (("q2a", [None]), ("qa2r", answers))
        )
        found = manifest.report["splits"][name]
        assert found["q2a"] == {"choices": len(q2a), "shortened": sum(q2a)}
        assert found["qa2r"] == {"choices": len(qa2r), "shortened": sum(qa2r)} and sum(qa2r) >= 2
    assert found["max_text_length"] == 80 and found["qa2r"]["choices"] == 8 * 16
    shown = "\n".join(lines(manifest))
    assert (
        f"test: choices that are shortened at 80 tokens: Q2A 0 of 32, QA2R {sum(qa2r)} of 128"
        in shown
    )
    assert manifest.hash == open_prepared(prepared).manifest.hash  # counting changes no data
    longer = prepare_vcr(
        official, tmp_path / "out", Choices(tokenizer=TOKENIZER, max_text_length=500, workers=2)
    )
    assert longer.report["splits"]["test"]["qa2r"] == {"choices": 128, "shortened": 0}


def test_a_tokenizer_that_cannot_be_loaded_is_said_first(tmp_path):
    write_vcr(tmp_path / "own", 1, 1, 1)
    with pytest.raises(RequestError, match="no tokenizer can be loaded from it"):
        prepare_vcr(tmp_path / "own", tmp_path / "out", Choices(tokenizer=tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["own"]


def test_command(official, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app,
        [
            "prepare",
            "vcr",
            "--source",
            str(official),
            "--output",
            str(out),
            "--tokenizer",
            str(TOKENIZER),
        ],
    )
    assert (
        done.exit_code == 0
        and "shortened at 80 tokens" in done.output
        and f"written: {out}" in done.output
    )
    for arguments, message in (
        (["--output", str(out)], "prepare vcr: --source names the folder of the official files"),
        (
            ["--output", str(out), "--source", str(official), "--published-targets"],
            "prepare vcr: --published-targets: not for this source",
        ),
        (["--output", str(out), "--source", str(tmp_path / "none")], "none: no train.jsonl"),
    ):
        monkeypatch.setattr("sys.argv", ["vle-bench", "prepare", "vcr", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2 and message in capsys.readouterr().err
