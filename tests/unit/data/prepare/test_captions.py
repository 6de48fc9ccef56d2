"""`prepare captions`: every form of file, the same prepared form, and what is refused in one line."""

import csv
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from tests.miniature import in_process
from tests.miniature.pairs import caption, change, scene, write, write_captions, write_visual_genome
from vle_bench.data.prepare import captions, pairs
from vle_bench.data.prepare.fingerprint import Standing
from vle_bench.data.prepare.manifest import AS_USUAL, Choices
from vle_bench.data.prepared import open_prepared
from vle_bench.data.tables import PAIRS
from vle_bench.errors import RequestError

SKIP = Choices(on_bad_image="skip", on_bad_record="skip")


def prepare(given, output, choices=AS_USUAL, images=None, leave_out=None):
    options = {"--images": images, "--leave-out": leave_out}
    manifest = captions.prepare(str(given), output, choices, options)
    return manifest, open_prepared(output)


def texts(data, splits="train+val"):
    """(caption, file name) of every pair, sorted."""
    rows = data.questions(splits)
    names = data.images.select_columns(["file_name"])
    return sorted((row["caption"], names[row["image_row"]]["file_name"]) for row in rows.to_list())


def expected(count=24, ending=".png"):
    rows = [(caption(scene(n)[1]), f"{n}{ending}") for n in range(count)]
    return sorted([*rows, ("two figures", f"0{ending}")])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_captions(folder)
    return folder


def test_a_json_list(files, tmp_path):
    manifest, data = prepare(files / "pairs.json", tmp_path / "data")
    assert texts(data) == expected()
    assert data.questions("train").features.arrow_schema.names == PAIRS.names
    assert data.labels == [] and data.form == "captions"
    splits = {name: (s["questions"], s["images"]) for name, s in manifest.splits.items()}
    assert sum(images for _, images in splits.values()) == 24
    assert splits["val"][1] == 2  # a tenth
    ids = np.concatenate([data.questions(name)["pair_id"][:] for name in ("train", "val")])
    assert sorted(ids) == list(range(25))
    for row in data.questions("train+val").to_list():
        picture = data.images[row["image_row"]]
        assert picture["image_id"] == row["image_id"]
        assert row["box"] is None and not row["object_boxes"]


def test_the_same_bytes_at_any_number_of_workers_and_size_of_shards(files, tmp_path):
    one, _ = prepare(files / "pairs.json", tmp_path / "one")
    two, _ = prepare(
        files / "pairs.json", tmp_path / "two", Choices(workers=2, shard_bytes=AS_USUAL.shard_bytes)
    )
    assert one.hash == two.hash
    small, data = prepare(files / "pairs.json", tmp_path / "small", Choices(shard_bytes=1000))
    assert len(small.images) > 2 and texts(data) == expected()
    again, _ = prepare(files / "pairs.json", tmp_path / "one")
    assert isinstance(again, Standing) and again.hash == one.hash
    assert list(again.splits) == ["train", "val"]


def test_a_changed_file_is_another_request(files, tmp_path):
    given = write(
        tmp_path / "own.json", json.loads((files / "pairs.json").read_text(encoding="utf-8"))
    )
    prepare(given, tmp_path / "data", images=str(files))
    change(given, lambda rows: rows.pop())
    with pytest.raises(RequestError, match="was prepared in another way"):
        prepare(given, tmp_path / "data", images=str(files))


def test_an_interrupted_preparation_goes_on(files, tmp_path, monkeypatch):
    whole, _ = prepare(files / "pairs.json", tmp_path / "whole", Choices(shard_bytes=1000))
    read = {"times": 0}
    rows = pairs.write_pairs

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(pairs, "write_pairs", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(files / "pairs.json", tmp_path / "data", Choices(shard_bytes=1000))
    monkeypatch.setattr(pairs, "write_pairs", rows)
    original = captions.table_rows

    def counted(*arguments):
        read["times"] += 1
        return original(*arguments)

    monkeypatch.setattr(captions, "table_rows", counted)
    manifest, _ = prepare(files / "pairs.json", tmp_path / "data", Choices(shard_bytes=1000))
    assert manifest.hash == whole.hash and read["times"] == 0


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_tables(files, tmp_path, ending):
    rows = json.loads((files / "pairs.json").read_text(encoding="utf-8"))
    path = tmp_path / f"pairs.{ending}"
    if ending in ("csv", "tsv"):
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="," if ending == "csv" else "\t")
            writer.writerow(["filepath", "title"])  # open_clip's names
            for row in rows:
                text = row["caption"]
                writer.writerow(
                    [row["image"], json.dumps(text) if isinstance(text, list) else text]
                )
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        lists = [
            {
                **row,
                "caption": row["caption"] if isinstance(row["caption"], list) else [row["caption"]],
            }
            for row in rows
        ]
        pq.write_table(pa.Table.from_pylist(lists), path)
    _, data = prepare(path, tmp_path / "data", images=str(files))
    assert texts(data) == expected()


def test_a_data_set_of_hugging_face(files, tmp_path):
    import datasets

    rows = [
        {
            "image": {"bytes": (files / "pictures" / f"{n}.png").read_bytes(), "path": None},
            "text": caption(scene(n)[1]),
        }
        for n in range(6)
    ]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    dataset = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict({"train": dataset, "validation": dataset.select([0, 1])}).save_to_disk(
        str(tmp_path / "saved")
    )
    (tmp_path / "spec.yaml").write_text(
        f"source: {tmp_path / 'saved'}\nsplits: {{train: train}}\n", encoding="utf-8"
    )
    _, data = prepare(tmp_path / "spec.yaml", tmp_path / "data")
    assert [row["caption"] for row in data.questions("train")] == [row["text"] for row in rows]
    picture = data.images[int(data.questions("train")[4]["image_row"])]
    assert picture["bytes"] == rows[4]["image"]["bytes"]


def coco(folder, files):
    """COCO's captions_train2014.json, with official names of files."""
    images, annotations = [], []
    (folder / "train2014").mkdir(parents=True)
    for number in range(12):
        name = f"COCO_train2014_{number:012d}.jpg"
        Image.open(files / "pictures" / f"{number}.png").save(folder / "train2014" / name)
        images.append({"id": number, "file_name": name})
        annotations += [
            {"id": 2 * number + k, "image_id": number, "caption": f" text {k} of {number}\n"}
            for k in range(2)
        ]
    return write(
        folder / "captions.json", {"info": {}, "images": images, "annotations": annotations}
    )


def test_coco(files, tmp_path):
    given = coco(tmp_path, files)
    manifest, data = prepare(
        given, tmp_path / "data", images=str(tmp_path / "train2014"), leave_out=["nothing"]
    )
    assert texts(data) == sorted(
        (f"text {k} of {n}", f"COCO_train2014_{n:012d}.jpg") for n in range(12) for k in range(2)
    )
    assert manifest.left_out["evaluation_pictures"]["with_coco_id"] == 12


def test_karpathy(files, tmp_path):
    splits = ["train", "restval", "val", "test"]
    images = [
        {
            "filename": f"{n}.png",
            "filepath": "pictures",
            "split": splits[n % 4],
            "cocoid": n,
            "sentences": [{"raw": f"text of {n}"}],
        }
        for n in range(12)
    ]
    given = write(tmp_path / "dataset_coco.json", {"images": images, "dataset": "coco"})
    manifest, data = prepare(
        given, tmp_path / "data", images=str(files), leave_out=[str(write(tmp_path / "a.txt", 1))]
    )
    counts = {name: split["questions"] for name, split in manifest.splits.items()}
    assert counts == {"train": 5, "val": 3, "test": 3}  # 1 of restval is left out
    assert texts(data, "val") == sorted((f"text of {n}", f"{n}.png") for n in (2, 6, 10))


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_tars(folder, files, count=24, without=(), twice=()):
    """What img2dataset writes, ten samples a tar."""
    folder.mkdir()
    for start in range(0, count, 10):
        with tarfile.open(folder / f"{start // 10:05d}.tar", "w") as tar:
            for number in range(start, min(start + 10, count)):
                text = caption(scene(number)[1])
                members = {
                    "png": (files / "pictures" / f"{number}.png").read_bytes(),
                    "txt": text.encode(),
                    "json": json.dumps({"caption": text, "url": "https://x/y.png"}).encode(),
                }
                for ending, content in members.items():
                    for _ in range(1 + ((number, ending) in twice)):
                        if (number, ending) not in without:
                            add(tar, f"{number:09d}.{ending}", content)
    return folder


def test_tars(files, tmp_path):
    folder = write_tars(tmp_path / "tars", files, without={(3, "txt"), (5, "json")})
    _, data = prepare(folder, tmp_path / "data")
    assert [text for text, _ in texts(data)] == sorted(caption(scene(n)[1]) for n in range(24))
    for row in data.questions("train+val").to_list():
        picture = Image.open(io.BytesIO(data.images[row["image_row"]]["bytes"])).convert("RGB")
        same = [n for n in range(24) if np.array_equal(picture, scene(n)[0])]
        assert row["caption"] in [caption(scene(n)[1]) for n in same]


@pytest.mark.parametrize(
    ("without", "twice", "problem"),
    [
        ({(4, "png")}, (), r"00000.tar: member 000000004: has no picture \(.jpg, .jpeg, .png"),
        ({(4, "txt"), (4, "json")}, (), "00000.tar: member 000000004: has no caption"),
        ((), {(14, "txt")}, "00001.tar: member 000000014.txt: is named twice"),
    ],
)
def test_wrong_tars(files, tmp_path, without, twice, problem):
    folder = write_tars(tmp_path / "tars", files, without=without, twice=twice)
    with pytest.raises(RequestError, match=problem):
        prepare(folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    manifest, _ = prepare(folder, tmp_path / "data", SKIP)
    assert len(manifest.left_out["records"]) == 1
    left = sum(split["questions"] for split in manifest.splits.values())
    assert left == (23 if without else 24)  # of a name that occurs twice, the first is taken


def damaged(folder, files, ending, content):
    """A tar of which one member has another content."""
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w") as tar:
        for number in range(3):
            members = {
                "png": (files / "pictures" / f"{number}.png").read_bytes(),
                "json": b'{"caption": "a text"}',
            }
            if number == 1:
                members[ending] = content
            for name, value in members.items():
                add(tar, f"{number}.{name}", value)
    return folder


def test_a_damaged_member_of_a_tar_is_named_once_and_can_be_left_out(files, tmp_path):
    for ending, content, problem in (
        ("json", b'{"caption": ', "member 1: its .json: broken or cut-off JSON at column"),
        ("json", b'{"caption": "nan"}', "member 1: 'nan': no caption"),
        ("txt", b"\xff", "member 1: its .txt: not UTF-8"),
        ("png", b"no picture", "member 1: its picture: "),
    ):
        folder = damaged(tmp_path / problem.replace(":", "")[:30], files, ending, content)
        with pytest.raises(RequestError) as error:
            prepare(folder, tmp_path / "data")
        assert str(error.value).startswith(f"{folder / '0.tar'}: {problem}")
        assert str(error.value).count("0.tar") == 1
        manifest, data = prepare(folder, folder / "data", SKIP)
        assert len(data.questions("+".join(manifest.splits))) == 2


def test_folders_of_other_forms(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=r"empty: holds no captions: neither webdataset's tars"):
        prepare(tmp_path / "empty", tmp_path / "data")
    write_visual_genome(tmp_path / "vg", 1)
    with pytest.raises(RequestError, match="`vle-bench prepare visual-genome --source .*vg`"):
        prepare(tmp_path / "vg", tmp_path / "data")


def test_cut_off_and_compressed_tars(files, tmp_path):
    whole = (write_tars(tmp_path / "tars", files, 4) / "00000.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(RequestError, match=r"cut\.tar: .*(fetch this tar again|or removed)"):
        prepare(tmp_path / "cut.tar", tmp_path / "data")
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        add(tar, "0.txt", b"a")
    with pytest.raises(RequestError, match="a compressed one has to be decompressed"):
        prepare(tmp_path / "packed.tar", tmp_path / "data")


def test_addresses_are_not_fetched(tmp_path):
    way_out = "img2dataset --url_list"
    (tmp_path / "sbu.csv").write_text("image,caption\nhttps://x/y.jpg,a dog\n", encoding="utf-8")
    with pytest.raises(RequestError, match=rf"row 1: image: .*{way_out}"):
        prepare(tmp_path / "sbu.csv", tmp_path / "data", SKIP)
    (tmp_path / "cc12m.tsv").write_text("url\tcaption\nhttps://x/y.jpg\ta dog\n", encoding="utf-8")
    with pytest.raises(RequestError, match=rf"column 'url' holds addresses, .*{way_out}.*tsv"):
        prepare(tmp_path / "cc12m.tsv", tmp_path / "data")
    (tmp_path / "cc3m.tsv").write_text("a dog\thttps://x/y.jpg\n", encoding="utf-8")
    with pytest.raises(RequestError, match=rf"its first row is no header, .*{way_out}"):
        prepare(tmp_path / "cc3m.tsv", tmp_path / "data")


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda rows: rows[3].update(image="pictures/99.png"), "no such image .*row 4"),
        (lambda rows: rows[3].update(image=7), "row 4: 7: no picture: a path or its bytes"),
        (lambda rows: rows[3].update(caption="  "), "row 4: '  ': no caption: a text is expected"),
        (lambda rows: rows[3].update(caption=[]), "row 4: no caption: an empty list"),
        (lambda rows: rows[3].update(caption=None), "row 4: None: no caption"),
        (lambda rows: rows[3].update(caption="NaN"), "row 4: 'NaN': no caption, .* a missing"),
        (lambda rows: rows.__setitem__(3, 5), "row 4: 5 is not an object"),
        (lambda rows: [row.pop("image") for row in rows], "has no column 'image' or 'filepath'"),
        (lambda rows: [row.pop("caption") for row in rows], "has no column 'caption' or"),
        (lambda rows: rows.clear(), "empty"),
    ],
)
def test_wrong_rows_are_one_line(files, tmp_path, edit, problem):
    given = write(
        tmp_path / "own.json", json.loads((files / "pairs.json").read_text(encoding="utf-8"))
    )
    change(given, edit)
    with pytest.raises(RequestError, match=problem) as error:
        prepare(given, tmp_path / "data", images=str(files))
    assert "\n" not in str(error.value) and not (tmp_path / "data").exists()


def test_wrong_rows_can_be_left_out(files, tmp_path):
    given = write(
        tmp_path / "own.json", json.loads((files / "pairs.json").read_text(encoding="utf-8"))
    )

    def edit(rows):
        rows[3]["image"] = "pictures/99.png"
        rows[4]["caption"] = ""

    change(given, edit)
    manifest, data = prepare(given, tmp_path / "data", SKIP, images=str(files))
    assert len(texts(data)) == 23
    assert len(manifest.left_out["images"]) == len(manifest.left_out["records"]) == 1
    assert manifest.left_out["pairs_of_images"] == 1
    shown = "\n".join(pairs.summary(manifest))
    assert "left out: 1 records" in shown and "left out: 1 pictures" in shown


def test_a_coco_caption_without_its_picture(files, tmp_path):
    given = coco(tmp_path, files)
    change(given, lambda content: content["images"].pop(2))
    with pytest.raises(RequestError, match="annotation 4: a caption without a picture: image_id 2"):
        prepare(given, tmp_path / "data", images=str(tmp_path / "train2014"), leave_out=["nothing"])


def test_a_coco_image_id_that_occurs_twice(files, tmp_path):
    given = coco(tmp_path, files)
    change(given, lambda content: content["images"][2].update(id=1))
    with pytest.raises(RequestError, match="record 2: the image id 1 is named twice"):
        prepare(given, tmp_path / "data", images=str(tmp_path / "train2014"), leave_out=["nothing"])


def test_a_yaml_names_splits_and_columns(files, tmp_path):
    rows = json.loads((files / "pairs.json").read_text(encoding="utf-8"))
    for name, part in (("a", rows[:20]), ("b", rows[20:])):
        named = [{"img": row["image"], "words": row["caption"]} for row in part]
        write(tmp_path / f"{name}.json", named)
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "splits: {train: a.json, val: b.json}\n"
        f"images: {files}\ncolumns: {{image: img, caption: words}}\n",
        encoding="utf-8",
    )
    manifest, data = prepare(spec, tmp_path / "data")
    assert {name: s["images"] for name, s in manifest.splits.items()} == {"train": 20, "val": 4}
    assert texts(data) == expected()
    spec.write_text("source: a.json\nsplits: {train: 0.9, val: 0.1}\n", encoding="utf-8")
    with pytest.raises(RequestError, match="files or splits of the source are expected"):
        prepare(spec, tmp_path / "other")
    spec.write_text(
        "splits: {train: a.json, val: a.json}\n"
        f"images: {files}\ncolumns: {{image: img, caption: words}}\n",
        encoding="utf-8",
    )
    with pytest.raises(RequestError, match="splits train and val share 20 pictures"):
        prepare(spec, tmp_path / "other")


def test_the_command(files, tmp_path):
    arguments = ("prepare", "captions", files / "pairs.json", "--output", tmp_path / "data")
    shown, _ = in_process.run(*arguments, cwd=tmp_path)
    assert "val: 2 pairs of 2 pictures" in shown and f"written: {tmp_path / 'data'}" in shown
    shown, _ = in_process.run(*arguments, cwd=tmp_path)
    assert "already complete, nothing to do" in shown
    _, errors = in_process.run("prepare", "captions", cwd=tmp_path, code=2)
    assert "a data file, a folder or a YAML is expected" in errors


def test_equal_bytes_are_in_one_split_and_repeated_pairs_are_counted(tmp_path):
    """Every picture comes twice, under two names; one pair comes three times."""
    write_captions(tmp_path, 30)
    rows = []
    for number in range(30):
        source = tmp_path / "pictures" / f"{number}.png"
        Image.new("RGB", (9, 9), (8 * number, 0, 0)).save(source)
        (tmp_path / "pictures" / f"again-{number}.png").write_bytes(source.read_bytes())
        for name in (f"{number}.png", f"again-{number}.png"):
            rows.append({"image": f"pictures/{name}", "caption": f"text of {name}"})
    rows += [{"image": "pictures/again-3.png", "caption": "text of 3.png"}] * 2
    write(tmp_path / "twice.json", rows)
    manifest, data = prepare(tmp_path / "twice.json", tmp_path / "data")
    held = {
        name: {data.images[row]["bytes"] for row in data.questions(name)["image_row"]}
        for name in ("train", "val")
    }
    assert len(held["val"]) == 3 and len(held["train"]) == 27 and not held["train"] & held["val"]
    assert manifest.splits["val"]["images"] == 6
    said = "\n".join(pairs.summary(manifest))
    assert said.count(": 2 pairs occur again: the same picture (by its bytes) and text") == 1
    assert "in another split" not in said


def test_equal_bytes_in_given_splits_are_said(tmp_path):
    write_captions(tmp_path, 2)
    for number, name in enumerate(("train", "val")):
        Image.new("RGB", (9, 9)).save(tmp_path / "pictures" / f"{number}.png")
        row = {"image": f"pictures/{number}.png", "caption": "a text"}
        write(tmp_path / f"{name}.json", [row])
    spec = {"splits": {name: f"{name}.json" for name in ("train", "val")}}
    write(tmp_path / "spec.yaml", spec)
    manifest, _ = prepare(tmp_path / "spec.yaml", tmp_path / "data")
    said = "\n".join(pairs.summary(manifest))
    assert "val: 1 of its pictures are in another split too, under other names" in said


def test_to_leave_out_without_effect_is_said(files, tmp_path):
    (tmp_path / "ids.txt").write_text("7\n", encoding="utf-8")
    given = [str(tmp_path / "ids.txt")]
    manifest, _ = prepare(files / "pairs.json", tmp_path / "data", leave_out=given)
    line = f"0 of 24 pictures have a COCO id: --leave-out {given[0]} leaves out nothing here"
    assert line in list(pairs.summary(manifest))
    manifest, _ = prepare(files / "pairs.json", tmp_path / "other", leave_out=["nothing"])
    assert "--leave-out" not in "\n".join(pairs.summary(manifest))
