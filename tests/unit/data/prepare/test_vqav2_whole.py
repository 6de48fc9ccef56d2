"""Preparing a miniature VQA v2: splits, targets, shards, resuming, what is left out and how it is said."""

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.miniature.vqav2 import change, write_visual_genome, write_vqav2
from vle_bench.data.official import vqa as official_vqa
from vle_bench.data.official.visual_genome import ID_OFFSET
from vle_bench.data.prepare import questions, shards
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.vqa_summary import lines
from vle_bench.data.prepare.vqav2 import minival, prepare_vqav2
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError
from vle_bench.tasks import load_task

SMALL_SHARDS = 2_000  # bytes: two or three of the miniature's images
Q, A = "v2_OpenEnded_mscoco_train2014_questions.json", "v2_mscoco_train2014_annotations.json"


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return write_vqav2(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def prepared(official, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "out"
    prepare_vqav2(official, folder, Choices(shard_bytes=SMALL_SHARDS))
    return folder


@pytest.fixture
def own(official, tmp_path):
    """A copy of the official files to damage."""
    return shutil.copytree(official, tmp_path / "own")


def content(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_splits(prepared):
    data = open_prepared(prepared)
    counts = {
        name: (s["questions"], s["images"], s["answerable"])
        for name, s in data.manifest.splits.items()
    }
    held = minival(range(1001, 1013))  # 12 validation images: a tenth is one
    assert held == [
        min(range(1001, 1013), key=lambda i: hashlib.sha256(str(i).encode()).hexdigest())
    ] and held != [1001]
    assert counts == {
        "train": (27, 6, 18),
        "val-minival": (42, 11, 28),
        "minival": (3, 1, 2),
        "test-dev": (15, 2, 0),
        "test": (21, 4, 0),
    }
    assert set(data.questions("minival")["image_id"]) == set(held)
    assert len(data.questions("train+val-minival")) == 69 and len(data.questions("trainval")) == 72
    with pytest.raises(RequestError, match="names a split twice"):
        data.questions("val+minival")


def test_minival_is_a_thousand_of_the_real_number():
    ids = range(1, 40_505)
    chosen = minival(ids)
    assert len(chosen) == len(set(chosen)) == 1_000
    limit = max(hashlib.sha256(str(i).encode()).hexdigest() for i in chosen)
    assert sum(hashlib.sha256(str(i).encode()).hexdigest() <= limit for i in ids) == 1_000
    assert minival([7]) == [7]


def test_odd_images(prepared):
    data = open_prepared(prepared)
    sizes = {
        row["image_id"]: (row["width"], row["height"])
        for row in data.images.select_columns(["image_id", "width", "height"])
    }
    assert [sizes[i] for i in range(1, 7)] == [
        (60, 40),
        (60, 40),
        (40, 60),
        (1, 1),
        (900, 3),
        (60, 40),
    ]  # the third is upright
    assert len(data.manifest.images) > 3 and len(data.images) == 22
    assert data.manifest.images[1] == f"images-00001-of-{len(data.manifest.images):05d}.arrow"
    for split in ("train", "val", "test"):
        rows = data.questions(split)
        assert [data.images[row]["image_id"] for row in rows["image_row"]] == list(rows["image_id"])


def test_images_with_an_exif_orientation_are_counted(official, prepared):
    """One a folder of images has a mark; Pillow counts them, in files that several shards hold."""
    pictures = [Image.open(path) for path in sorted(official.rglob("*.jpg"))]
    turned = sum(picture.getexif().get(0x0112, 1) != 1 for picture in pictures)
    manifest = open_prepared(prepared).manifest
    assert manifest.turned == turned == 3 and len(manifest.images) > 3
    line = (
        "images turned as their EXIF orientation says: 3; the published programs leave such images"
    )
    assert line in "\n".join(lines(manifest))
    earlier = replace(manifest, turned=None)  # of a version that did not count
    assert "EXIF" not in "\n".join(lines(earlier))


def test_targets_of_both_kinds(official, prepared, tmp_path):
    def targets(folder, k):
        data = open_prepared(folder)
        row = data.questions("train")[k]
        return {
            data.labels[i]: round(s, 2)
            for i, s in zip(row["label_ids"], row["label_scores"], strict=True)
        }

    assert open_prepared(prepared).labels == ["2", "red"]  # equally often, hence by the alphabet
    assert (
        targets(prepared, 0) == {"2": 1.0}
        and targets(prepared, 1) == {"red": 1.0}
        and targets(prepared, 2) == {}
    )
    published = prepare_vqav2(official, tmp_path / "out", Choices(published_targets=True))
    assert published.targets == "published"
    assert targets(tmp_path / "out", 0) == {
        "2": 0.9
    }  # as given: "2" three times, "two" is another answer
    assert published.hash != open_prepared(prepared).manifest.hash


def test_questions_without_a_target_are_left_out_of_training_alone(prepared):
    questions = open_prepared(prepared).questions("train")
    task = load_task("vqa")
    order = task.training_order(questions, 0, 0, 2)
    assert len(set(order.tolist())) == 18 and all(questions[int(i)]["label_ids"] for i in order)
    assert sorted(np.concatenate(task.evaluation_batches(questions, 4))) == list(range(27))


def test_the_same_bytes_with_several_processes(official, prepared, tmp_path):
    prepare_vqav2(official, tmp_path / "out", Choices(shard_bytes=SMALL_SHARDS, workers=2))
    assert content(tmp_path / "out") == content(prepared)


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
        prepare_vqav2(own, out, choices)
    assert not out.exists() and (tmp_path / ".out.partial").is_dir()
    monkeypatch.setattr(
        shards, "write_table", lambda path, *rest: (written.append(path.name), write(path, *rest))
    )
    # The tables of the official files are there.
    monkeypatch.setattr(official_vqa, "questions_of", None)
    prepare_vqav2(own, out, choices)
    assert len(written) == len(set(written)) == len(open_prepared(out).manifest.images)
    assert content(out) == content(prepared)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "own"]


def test_a_changed_image_or_file_is_read_again(own, tmp_path, monkeypatch):
    out, choices = tmp_path / "out", Choices(shard_bytes=SMALL_SHARDS)
    manifest = prepare_vqav2(own, out, choices)
    shutil.rmtree(out)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(questions, "count", killed)  # all shards are finished by then
        prepare_vqav2(own, out, choices)
    os.utime(own / "train2014" / "COCO_train2014_000000000001.jpg", ns=(1, 1))
    written = []
    write = shards.write_table
    monkeypatch.setattr(
        shards, "write_table", lambda path, *rest: (written.append(path.name), write(path, *rest))
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(questions, "count", killed)
        prepare_vqav2(own, out, choices)
    assert [name.split("-of")[0] for name in written] == ["images-00000"]
    change(own / Q, lambda c: c["questions"][0].update(question="Another?"))
    again = prepare_vqav2(own, out, choices)
    assert "Another?" in open_prepared(out).questions("train")["question"]
    assert again.hash != manifest.hash and again.splits == manifest.splits


def test_two_at_once_are_refused(official, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / ".out.partial").mkdir()
    handle = os.open(tmp_path / ".out.partial", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(RequestError, match="another process is writing there"):
        prepare_vqav2(official, tmp_path / "out")
    os.close(handle)
    prepare_vqav2(official, tmp_path / "out")


def damage_images(folder):
    names = [folder / "train2014" / f"COCO_train2014_{i:012d}.jpg" for i in (2, 6)]
    names[0].write_bytes(names[0].read_bytes()[:300])
    names[1].unlink()
    return names


def test_bad_images_stop_or_are_left_out_and_listed(own, prepared, tmp_path):
    broken, gone = damage_images(own)
    with pytest.raises(
        RequestError, match=rf"{gone}: no such image \(image_id 6\); --on-bad-image skip"
    ) as caught:
        prepare_vqav2(own, tmp_path / "out")
    assert "\n" not in str(caught.value)
    manifest = prepare_vqav2(own, tmp_path / "out", Choices(on_bad_image="skip"))
    assert [(bad["file"], bad["image_id"]) for bad in manifest.left_out["images"]] == [
        (broken.name, 2),
        (gone.name, 6),
    ]
    assert (
        manifest.splits["train"]["questions"] == 27 - 6
        and manifest.splits["val-minival"]["questions"] == 42
    )
    assert manifest.report["train"]["left_out_with_their_image"] == 6
    data = open_prepared(tmp_path / "out")
    rows = data.questions("train+val+test")
    assert [data.images[row]["image_id"] for row in rows["image_row"]] == list(
        rows["image_id"]
    )  # nothing took their place
    assert not {2, 6} & set(rows["image_id"]) and len(data.images) == 20
    shown = "\n".join(lines(manifest))
    assert (
        "left out: 2 images that cannot be read, and with them 6 questions" in shown
        and f"{gone.name} (image_id 6): no" in shown
    )


def test_a_broken_image_keeps_what_is_finished(own, tmp_path, monkeypatch):
    choices = {"shard_bytes": SMALL_SHARDS}
    last = own / "test2015" / "COCO_test2015_000000002004.jpg"
    last.write_bytes(last.read_bytes()[:300])
    for workers in (1, 2):
        with pytest.raises(RequestError, match="2004.jpg: cannot be read as an image"):
            prepare_vqav2(own, tmp_path / "out", Choices(workers=workers, **choices))
    written = []
    write = shards.write_table
    monkeypatch.setattr(
        shards, "write_table", lambda path, *rest: (written.append(path.name), write(path, *rest))
    )
    manifest = prepare_vqav2(own, tmp_path / "out", Choices(on_bad_image="skip", **choices))
    assert len(written) == 1 and len(manifest.left_out["images"]) == 1


def first(kind, **values):
    return lambda c: c[kind][0].update(values)


BAD = [
    (
        Q,
        lambda c: c["questions"].append(c["questions"][0]),
        "question_id 6000",
        "occurs twice",
        0,
    ),
    (Q, lambda c: c["questions"].pop(0), "question_id 6000", "annotation without a question", 1),
    (
        Q,
        first("questions", question=3),
        "record 0 (question_id 6000)",
        "question: 3 is not a string",
        1,
    ),
    (Q, first("questions", image_id=1), "question_id 6000", f"image_id 6, but 1 in {Q}", 1),
    (Q, first("questions", question="\udc00"), "question_id 6000", "cannot be stored", 1),
    (Q, first("questions", image_id=2**70), "question_id 6000", "cannot be stored", 1),
    (Q, lambda c: c["questions"][0].pop("question_id"), "record 0", "has no 'question_id'", 1),
    (
        A,
        lambda c: c["annotations"].append(c["annotations"][0]),
        "question_id 1011",
        "occurs twice",
        0,
    ),
    (A, lambda c: c["annotations"].pop(0), "question_id 1011", "question without an annotation", 1),
    (
        A,
        lambda c: c["annotations"][0]["answers"].pop(),
        "record 0 (question_id 1011)",
        "answers: 9 of them, not 10",
        1,
    ),
    (
        A,
        lambda c: c["annotations"][0]["answers"][3].update(answer=4),
        "record 0 (question_id 1011)",
        "answers: number 4 of 10: answer: 4 is not a string",
        1,
    ),
    (
        A,
        first("annotations", answers=["x"]),
        "record 0 (question_id 1011)",
        "answers: number 1 of 1: 'x' is not an object",
        1,
    ),
    (
        A,
        first("annotations", answers=[]),
        "record 0 (question_id 1011)",
        "answers: an empty list",
        1,
    ),
    (A, first("annotations", image_id=2), "question_id 1011", "image_id 2, but 1 in", 1),
]


@pytest.mark.parametrize(("name", "edit", "record", "message", "fewer"), BAD)
def test_bad_records_stop_or_are_left_out_and_listed(
    own, prepared, tmp_path, name, edit, record, message, fewer
):
    change(own / name, edit)
    with pytest.raises(RequestError) as caught:
        prepare_vqav2(own, tmp_path / "out")
    words = str(caught.value)
    assert (
        "2014_" in words
        and "\n" not in words
        and any(i in words for i in ("6000", "1011", "record 0"))
    )
    manifest = prepare_vqav2(own, tmp_path / "out", Choices(on_bad_record="skip"))
    listed = manifest.left_out["records"]
    assert any(bad["record"] == record and message in bad["problem"] for bad in listed), listed
    assert manifest.splits["train"]["questions"] == 27 - fewer
    before, after = (
        set(open_prepared(f).questions("train")["question_id"])
        for f in (prepared, tmp_path / "out")
    )
    assert after <= before
    assert f"left out: {len(listed)} bad records" in "\n".join(lines(manifest))


def test_a_cut_off_file_is_an_error_whatever_is_skipped(own, tmp_path):
    (own / A).write_text((own / A).read_text(encoding="utf-8")[:-200], encoding="utf-8")
    with pytest.raises(RequestError, match=f"{A}: broken or cut-off JSON"):
        prepare_vqav2(own, tmp_path / "out", Choices(on_bad_record="skip", on_bad_image="skip"))
    assert [p.name for p in tmp_path.iterdir()] == ["own"]


def test_visual_genome(official, tmp_path):
    (held,) = minival(range(1001, 1013))
    other = next(i for i in range(1001, 1013) if i != held)
    files = write_visual_genome(tmp_path, [1, held, other, 2001, 99_999])  # 2001 is a test image
    manifest = prepare_vqav2(official, tmp_path / "out", visual_genome=files)
    data = open_prepared(tmp_path / "out")
    vg = data.questions("vg")
    assert list(vg["question_id"]) == [
        ID_OFFSET + 500,
        ID_OFFSET + 501,
        ID_OFFSET + 520,
        ID_OFFSET + 521,
    ]
    assert list(vg["image_id"]) == [1, 1, other, other]
    assert [data.images[row]["image_id"] for row in vg["image_row"]] == list(vg["image_id"])
    assert [data.labels[i] for (i,) in vg["label_ids"]] == ["red", "2"] * 2 and list(
        vg["label_scores"]
    ) == [[1.0]] * 4
    assert set(data.questions("vg-minival")["image_id"]) == {held}
    assert len(data.questions("train+val-minival+vg")) == 69 + 4
    assert not set(data.questions("trainval+test")["question_id"]) & set(vg["question_id"])
    assert manifest.splits["vg"]["answerable"] == 4
    assert manifest.left_out["visual_genome"] == {
        "outside_coco": 3,
        "of_other_splits": 6,
        "outside_vocabulary": 3,
    }
    assert (
        "left out of Visual Genome: 3 questions about images that COCO has not, 6 about images outside train and val, "
        "3 with answers outside the vocabulary"
    ) in lines(manifest)
    assert len(load_task("vqa").training_order(vg, 0, 0, 1)) == 4


def test_visual_genome_without_a_picture_of_minival(official, tmp_path):
    prepare_vqav2(official, tmp_path / "out", visual_genome=write_visual_genome(tmp_path, [1]))
    data = open_prepared(tmp_path / "out")
    assert len(data.questions("vg-minival")) == 0 and len(data.questions("vg+vg-minival")) == 2


@pytest.mark.parametrize(
    ("number", "edit", "message"),
    [
        (
            0,
            lambda c: c[1]["qas"][0].pop("answer"),
            r"question_answers.json: record 1 \(image 50\): has no 'answer'",
        ),
        (
            0,
            lambda c: c[1]["qas"].append(c[1]["qas"][0]),
            "question_answers.json: question_id 10000000500 occurs twice",
        ),
        (0, lambda c: c[0].pop("id"), "question_answers.json: record 0: has no 'id'"),
        (
            1,
            lambda c: c[0].update(coco_id="1"),
            "image_data.json: record 0: coco_id: '1' is not a whole number",
        ),
    ],
)
def test_bad_visual_genome(official, tmp_path, number, edit, message):
    files = write_visual_genome(tmp_path, [1])
    change(files[number], edit)
    with pytest.raises(RequestError, match=message):
        prepare_vqav2(official, tmp_path / "out", visual_genome=files)


@pytest.mark.parametrize("number", [ID_OFFSET, 2**63 - 1])
def test_ids_do_not_collide_with_visual_genome(own, tmp_path, number):
    """Where it is mixed in; otherwise an id may have 64 bits."""
    for name, kind in ((Q, "questions"), (A, "annotations")):
        change(
            own / name,
            lambda c, kind=kind: next(r for r in c[kind] if r["question_id"] == 6000).update(
                question_id=number
            ),
        )
    files = write_visual_genome(tmp_path, [1])
    message = (
        f"question_id {number}: with --visual-genome, ids from 10000000000 on are Visual Genome's"
    )
    with pytest.raises(RequestError, match=message):
        prepare_vqav2(own, tmp_path / "out", visual_genome=files)
    prepare_vqav2(own, tmp_path / "out")
    ids = open_prepared(tmp_path / "out").questions("train")["question_id"]
    assert max(ids) == number and 6000 not in ids


def test_answers_of_a_label_map_that_nobody_can_give_are_named(official, tmp_path):
    labels = ["2", "red", "Two", "t-shirt", "the cat", "isnt", "<unk>", "p.m.", "3"]
    (tmp_path / "answers.txt").write_text("\n".join(labels), encoding="utf-8")
    choices = Choices(label_map=tmp_path / "answers.txt")
    manifest = prepare_vqav2(official, tmp_path / "out", choices)
    (said,) = [line for line in lines(manifest) if "label map" in line]
    assert said == (
        "label map: 6 answers are never a target, as no normalised answer equals them: 'Two', 't-shirt', 'the cat', 'isnt', "
        "'<unk>', ...; --published-targets looks answers up as they were given"
    )
    assert said in list(lines(prepare_vqav2(official, tmp_path / "out", choices)))
    as_given = prepare_vqav2(
        official,
        tmp_path / "given",
        Choices(label_map=tmp_path / "answers.txt", published_targets=True),
    )
    assert not [line for line in lines(as_given) if "label map" in line]
    own = prepare_vqav2(official, tmp_path / "own")
    assert own.notes is None


def test_a_published_label_map(official, tmp_path):
    (tmp_path / "config.json").write_text(
        '{"id2label": {"1": "2", "0": "lots", "2": "maroon"}, "model_type": "vle"}',
        encoding="utf-8",
    )
    manifest = prepare_vqav2(
        official, tmp_path / "out", Choices(label_map=tmp_path / "config.json")
    )
    data = open_prepared(tmp_path / "out")
    assert data.labels == ["lots", "2", "maroon"] and manifest.labels["file"] == "config.json"
    assert data.questions("train")[0]["label_ids"] == [0, 1] and data.questions("train")[1][
        "label_ids"
    ] == [2]
    assert np.allclose(data.questions("train")[0]["label_scores"], [0.3, 1.0])


def test_report(official, prepared, tmp_path):
    report = open_prepared(prepared).manifest.report
    assert report["train"]["coverage"] == 18 / 27 and "coverage" not in report["test"]
    assert report["train"]["longest"][0] == {"question_id": 2000, "words": 66}
    shown = "\n".join(lines(open_prepared(prepared).manifest))
    assert (
        "66.67 % have an answer in the vocabulary, 9 have none" in shown
        and "never where it is scored" in shown
    )
    assert (
        "66 words (test 2002000), 66 words (train 2000), 66 words (val-minival 1002000)" in shown
    )  # not test-dev's as well
    assert "only its tokenizer can tell" in shown
    choices = Choices(
        tokenizer=Path("tests/golden/vcr_text/tokenizer"),
        max_text_length=50,
        shard_bytes=SMALL_SHARDS,
    )
    manifest = prepare_vqav2(official, tmp_path / "out", choices)
    assert {name: split["shortened"] for name, split in manifest.report.items()} == {
        "train": 1,
        "val-minival": 1,
        "minival": 0,
        "test-dev": 1,
        "test": 1,
    }
    assert "train: 1 questions are longer than 50 tokens" in "\n".join(lines(manifest))
    assert manifest.hash == open_prepared(prepared).manifest.hash  # counting changes no data
