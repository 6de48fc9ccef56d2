"""One's own data: the same from every format; splits that stay; what is wrong has its place."""

import csv
import json
import logging
import random
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.miniature.own import FORMATS, easy_rows, export, write_lines
from vle_bench.data import from_dataset
from vle_bench.data.prepare import shards
from vle_bench.data.prepare.fingerprint import Standing
from vle_bench.data.prepare.manifest import AS_USUAL, Choices
from vle_bench.data.prepare.own import prepare as own_prepare
from vle_bench.data.prepare.own.check import number_of
from vle_bench.data.prepare.own.prepare import prepare
from vle_bench.data.prepare.own.summary import check, lines
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError

SKIP = Choices(on_bad_record="skip", on_bad_image="skip")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with twelve pictures, which is the current one."""
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        picture = Image.new("RGB", (8 + number, 8), (20 * number, 99, 0))
        picture.save(tmp_path / "pictures" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(count=12, **more):
    """Rows with columns of our names, each about its own picture."""
    return [
        {"image": f"pictures/{n}.png", "question": f"what is {n}?", "answer": f"a{n % 3}", **more}
        for n in range(count)
    ]


def with_ids(count=12):
    return [{**row, "id": n} for n, row in enumerate(rows_of(count))]


def write(rows, name="my.jsonl"):
    return str(write_lines(Path(name), rows))


def spec(path="my.yaml", **keys):
    Path(path).write_text(json.dumps(keys), encoding="utf-8")  # JSON is YAML
    return path


HALVES = {"train": 0.5, "val": 0.5}


def prepared(given, output="out", choices=AS_USUAL):
    manifest = prepare(given, Path(output), choices, {})
    return manifest, open_prepared(Path(output))


def refused(given, choices=AS_USUAL, output="refused"):
    """The error of a request, after which nothing is there."""
    with pytest.raises(RequestError) as caught:
        prepare(given, Path(output), choices, {})
    left = list(Path().glob(f"*{output}*"))
    # Finished shards of pictures are kept for the next run.
    assert not left or "cannot be read as an image" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_questions(tmp_path, kind):
    rows = easy_rows(30)
    reference = prepare(str(export(rows, "csv", tmp_path / "a")), tmp_path / "ref", Choices(), {})
    out = tmp_path / "out"
    manifest = prepare(str(export(rows, kind, tmp_path / "b")), out, Choices(), {})
    tables = [name for name in manifest.files if "images" not in name]
    assert tables == ["label_map.json", *(f"questions-{s}.arrow" for s in ("train", "val", "test"))]
    for name in tables:
        assert manifest.files[name] == reference.files[name], name
    data = open_prepared(out)
    assert sum(split["questions"] for split in manifest.splits.values()) == len(rows)
    by_question = {
        (row["question"], Path(row["image"]).read_bytes()): row["answer"] for row in rows
    }
    for row in data.questions("train"):
        picture = data.images[row["image_row"]]["bytes"]
        assert by_question[row["question"], picture] == row["multiple_choice_answer"]
        assert (
            row["label_scores"] == [1.0] and data.labels[row["label_ids"][0]] == row["answers"][0]
        )
    assert (manifest.source, manifest.metric, manifest.name) == ("own", "exact", "out")


def test_cells_are_never_guessed(here):
    """`none`, `NA`, dates and 007 are answers; pandas and Arrow would make null and numbers of them."""
    answers = ["none", "NA", "2020-01-01", "007", "1.0", "null", "True", '["a", "b"]']
    with open("my.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "question", "answers", "id"])
        for number, answer in enumerate(answers):
            writer.writerow([f"pictures/{number}.png", "what, or\n“which”?", answer, number])
    _, data = prepared(spec(source="my.csv", splits=HALVES, answers={"metric": "soft"}))
    found = {row["question_id"]: row for row in data.questions("train+val")}
    given = [found[number]["answers"] for number in range(len(answers))]
    assert given == [[answer] for answer in answers[:-1]] + [["a", "b"]]
    assert found[0]["question"] == "what, or\n“which”?"
    lists = write([{**row, "answer": "2020-01-01"} for row in with_ids()])
    _, data = prepared(spec(source=lists, splits=HALVES), "dates")
    assert data.labels == ["20200101"] or data.labels == ["2020 01 01"]


def test_columns_of_other_names_and_a_yaml(here):
    rows = [
        {"img": row["image"].removeprefix("pictures/"), "q": row["question"], "gold": row["answer"]}
        | {"qid": f"q-{n}", "patient": f"p{n // 2}"}
        for n, row in enumerate(rows_of())
    ]
    columns = {"image": "img", "question": "q", "answers": "gold", "id": "qid", "group": "patient"}
    given = spec(source=write(rows), images="pictures", columns=columns, splits=HALVES, name="ward")
    manifest, data = prepared(given)
    assert manifest.name == "ward"
    ids = {s: set(data.questions(s)["official_id"]) for s in ("train", "val")}
    assert ids["train"] | ids["val"] == {f"q-{n}" for n in range(12)}
    for n in range(0, 12, 2):  # the two questions of a patient are together
        assert ({f"q-{n}", f"q-{n + 1}"} <= ids["train"]) != (
            {f"q-{n}", f"q-{n + 1}"} <= ids["val"]
        )


@pytest.mark.parametrize("by", ["id", "group", "image", None])
def test_added_rows_move_none(here, by):
    rows = [{**row, "group": f"g{row['id']}"} for row in with_ids()]
    shares = {"train": 0.4, "val": 0.3, "test": 0.3, "by": by}
    _, before = prepared(spec(source=write(rows[:9], "a.jsonl"), splits=shares), "before")
    _, after = prepared(spec(source=write(rows[::-1], "b.jsonl"), splits=shares), "after")
    split_of = {i: s for s in after.manifest.splits for i in after.questions(s)["question_id"]}
    for split in before.manifest.splits:
        assert {split_of[i] for i in before.questions(split)["question_id"]} == {split}
    assert len(split_of) == 12


def test_the_questions_of_a_picture_stay_together(here):
    rows = [{**row, "question": f"{row['question']} {n}"} for row in rows_of() for n in range(5)]
    _, data = prepared(write(rows))
    images = [set(data.questions(split)["image_id"]) for split in data.manifest.splits]
    assert sum(map(len, images)) == len(set.union(*images)) == 12


def test_pictures_with_an_exif_orientation_are_counted(here):
    marked = Image.Exif()
    marked[0x0112] = 6
    for number in (3, 7):
        Image.new("RGB", (8 + number, 8)).save(f"pictures/{number}.png", exif=marked)
    manifest, data = prepared(write(rows_of()))
    assert manifest.turned == data.manifest.turned == 2
    assert "images turned as their EXIF orientation says: 2;" in "\n".join(lines(manifest))
    assert sorted(data.images["height"])[-2:] == [11, 15]


def test_metrics_and_targets_follow_the_answers(here):
    outputs = iter("abcdefgh")

    def one(answers, **keys):
        rows = [{**row, "answers": answers} for row in with_ids()]
        given = spec(source=write(rows), splits=HALVES, answers=keys)
        manifest, data = prepared(given, next(outputs))
        row = data.questions("train")[0]
        targets = zip(row["label_ids"], row["label_scores"], strict=True)
        return manifest.metric, {data.labels[i]: round(score, 4) for i, score in targets}

    assert one("Yes") == ("exact", {"yes": 1.0})
    assert one(["red"] * 3 + ["blue"] * 7) == ("vqa", {"blue": 1.0})
    vocabulary = write_lines(Path("words.json"), [["red", "blue"]])
    assert one(["red"] * 3 + ["blue"] * 7, vocabulary=str(vocabulary)) == (
        "vqa",
        {"red": 0.9, "blue": 1.0},
    )
    assert one(["The red", "red", "blue"]) == ("soft", {"red": 0.6667})
    answers = [{"answer": "red", "confidence": "maybe"}, {"answer": "red", "confidence": 0.5}]
    assert one(answers, metric="soft") == ("soft", {"red": 0.6667})


def test_given_splits_and_a_test_split_without_labels(here):
    rows = with_ids()
    for name, part in (("a", rows[:8]), ("b", rows[8:10])):
        write(part, f"{name}.jsonl")
    write([{k: v for k, v in row.items() if k != "answer"} for row in rows[10:]], "c.jsonl")
    given = spec(splits={"train": "a.jsonl", "val": "b.jsonl", "test": "c.jsonl"})
    manifest, data = prepared(given)
    assert [split["labelled"] for split in manifest.splits.values()] == [True, True, False]
    assert data.questions("test")["answers"][:] == [None, None]
    assert list(data.questions("val")["question_id"]) == [8, 9]
    assert any("val " in line for line in lines(manifest))


def test_the_same_command_has_nothing_to_do_and_another_is_refused(here):
    given = spec(source=write(with_ids()), splits=HALVES)
    first, _ = prepared(given)
    again, _ = prepared(given)
    assert isinstance(again, Standing) and again.hash == first.hash
    spec(source="my.jsonl", splits={"train": 0.4, "val": 0.6})
    with pytest.raises(RequestError, match="out: was prepared in another way \\(splits: "):
        prepared("my.yaml")


def changed(number, **values):
    """Rows of which one is changed."""
    rows = with_ids()
    rows[number] |= values
    return [{k: v for k, v in row.items() if v is not ...} for row in rows]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (changed(2, question="  "), "my.jsonl: row 3: question: '  ': empty"),
        (changed(2, question=None), "my.jsonl: row 3: question: None: missing"),
        (changed(2, question=7), "my.jsonl: row 3: question: 7: a number, and row 1 has text"),
        (changed(2, answer=["a"]), "my.jsonl: row 3: answer: ['a']: a list of text, and row 1"),
        (changed(2, answer=...), "my.jsonl: row 3: answer: None: missing"),
        (changed(2, id=1), "my.jsonl: row 3: the id '1' is that of my.jsonl: row 2 too"),
        (changed(2, id="x"), "my.jsonl: row 3: id: 'x': text, and row 1 has a number"),
        (changed(2, id=1.5), "my.jsonl: row 3: id: 1.5: a number, neither text nor a whole number"),
        (changed(2, image=""), "my.jsonl: row 3: image: '': empty"),
        (changed(2, image="no.png"), "my.jsonl: row 3: image: no.png: no such file; `images`"),
        (changed(2, image="my.jsonl"), "my.jsonl: row 3: image: my.jsonl: cannot be read as an im"),
        ([{k: v for k, v in r.items() if k != "id"} for r in changed(3, **rows_of()[1])], "again"),
    ],
)
def test_what_is_wrong_is_named_with_file_row_column_and_value(here, rows, problem, capsys):
    given = spec(source=write(rows), splits=HALVES)
    assert problem in refused(given)
    with pytest.raises(RequestError, match="my.yaml: 1 problem; nothing was written; --on-bad-"):
        check(given, Choices())
    assert problem in capsys.readouterr().out
    manifest, data = prepared(given, choices=SKIP)
    assert len(manifest.left_out["records"] + manifest.left_out["images"]) == 1
    assert len(data.questions("train+val")) == 11
    assert any("left out: 1" in line for line in lines(manifest))


def test_a_broken_line_and_a_row_of_another_length(here):
    path = write(with_ids())
    text = Path(path).read_text(encoding="utf-8").splitlines()
    text[4] = text[4][:-3]
    Path(path).write_text("\n".join(text), encoding="utf-8")
    given = spec(source=path, splits=HALVES)
    assert refused(given).startswith("my.jsonl: row 5: broken or cut-off JSON")
    Path("my.csv").write_text("image,question,answer\na.png,b\n", encoding="utf-8")
    assert refused("my.csv").startswith("my.csv: row 1: 2 cells, and the header has 3")
    Path("my.csv").write_text("image,question,answer\na.png,b,\"['a', 'b']\"\n", encoding="utf-8")
    assert "looks like a list, and is not JSON" in refused("my.csv")


def test_a_picture_or_a_group_in_two_splits(here):
    Path("copy.png").write_bytes(Path("pictures/0.png").read_bytes())
    write(with_ids(8), "a.jsonl")
    row = {"image": "copy.png", "question": "a copy?", "answer": "yes", "id": 100}
    write([row, *with_ids()[8:]], "b.jsonl")
    given = spec(splits={"train": "a.jsonl", "val": "b.jsonl"})
    problem = (
        "b.jsonl: row 1: its picture pictures/0.png is in val and, at a.jsonl: row 1, in train"
    )
    problem += "; move the rows about it to one split; --on-bad-record skip"
    assert refused(given).startswith(problem)
    manifest, data = prepared(given, choices=SKIP)
    assert len(data.questions("train")) == 8 and 100 not in data.questions("val")["question_id"]
    assert manifest.left_out["records"][0]["problem"].startswith(
        "its picture pictures/0.png is in val"
    )
    write([{**r, "group": f"g{n}"} for n, r in enumerate(with_ids()[:6])], "a.jsonl")
    write([{**r, "group": f"g{n}"} for n, r in enumerate(with_ids()[6:], 5)], "b.jsonl")
    problem = "b.jsonl: row 1: its group 'g5' is in val and, at a.jsonl: row 6, in train"
    assert refused(given).startswith(problem)
    by_id = [{**r, "image": "copy.png"} for r in with_ids()]
    by_id = refused(spec(source=write(by_id), splits={**HALVES, "by": "id"}))
    assert "its picture copy.png is in val" in by_id
    assert "; splits: {..., by: image} keeps the questions of a picture together; " in by_id
    grouped = [{**r, "group": f"g{n % 2}"} for n, r in enumerate(with_ids())]
    by_image = refused(spec(source=write(grouped), splits={**HALVES, "by": "image"}))
    assert "; splits: {..., by: group} keeps a group together; " in by_image
    alone = [{**r, "image": "copy.png", "group": f"g{n}"} for n, r in enumerate(with_ids())]
    by_group = refused(spec(source=write(alone), splits=HALVES))
    assert "; give the questions of one picture one group, or splits: {..., by: image}" in by_group


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"source": "none.csv"}, "none.csv: no such file or folder"),
        ({"source": "my.txt"}, "my.txt: its ending is none of .csv, .tsv, .json, .jsonl, .parquet"),
        ({"colums": {}}, "my.yaml: colums: unknown key; nearest valid key: columns"),
        ({"columns": {"imag": "a"}}, "columns.imag: unknown key; nearest valid key: columns.image"),
        ({"form": "vcr"}, "my.yaml: form: "),
        ({"columns": {"question": "quest"}}, "has no column 'quest' (columns.question); nearest: "),
        ({"splits": {"train": 0.5, "val": 0.6}}, "splits: the shares add up to 1.1, not to 1"),
        ({"splits": {"train": 0.5, "val": "a.jsonl"}}, "shares and files cannot be mixed"),
        ({"splits": {"train": 0.999, "val": 0.001}}, "no question is left for the split 'val'"),
        ({"splits": {**HALVES, "by": "group"}}, "the data have no column of groups"),
        ({"splits": {"train": "training"}}, "my.jsonl: has no split 'training'"),
        (
            {"answers": {"metric": "vqa"}},
            "my.jsonl: row 1: 1 answer; answers.metric: vqa takes 10",
        ),
        ({"answers": {"metric": "bleu"}}, "my.yaml: answers.metric: "),
        ({"answers": {"min_count": 99}}, "answers.min_count: no answer occurs 99 times"),
        ({"answers": {"vocabulary": "no.json"}}, "no.json: no such file"),
        ({"images": "nowhere"}, "nowhere: no such file or folder"),
        ({"source": "hub:name"}, "'hub:name' is not of the form hub:owner/name[@revision]"),
        ({"source": "pictures"}, "pictures: neither an imagefolder (metadata.jsonl or .csv"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(here, keys, problem):
    Path("my.txt").write_text("", encoding="utf-8")
    values = {"source": write(with_ids()), "splits": HALVES} | keys
    assert problem in refused(spec(**values), SKIP)


def test_files_of_another_form(here):
    for name, content, problem in (
        ("a.json", '{"questions": []}', "a.json: has no column 'image'"),
        (
            "a.csv",
            "image;question;answer\na;b;c\n",
            "a.csv: its cells are divided by ';', not by ','",
        ),
        ("a.csv", "", "a.csv: empty"),
        ("a.csv", "image,image\n", "a.csv: the column 'image' occurs twice"),
        ("a.parquet", "image,question", "a.parquet: "),
        ("a.jsonl", "[1, 2]", "a.jsonl: row 1: 1 is not an object"),
    ):
        Path(name).write_text(content, encoding="utf-8")
        assert problem in refused(name)
    Path("a.csv").write_bytes("image,question,answer\nä,b,c\n".encode("latin-1"))
    assert refused("a.csv").startswith("a.csv: not UTF-8 text")


def test_a_downloaded_folder_may_not_name_files_outside(here):
    outside = here.parent / "secret.png"
    Image.new("RGB", (8, 8)).save(outside)
    folder = here / "folder"
    folder.mkdir()
    for name in (str(outside), "../../secret.png"):
        row = {"file_name": name, "question": "a?", "answer": "b"}
        write_lines(folder / "metadata.jsonl", [row])
        assert refused("folder").endswith(
            f"row 1: file_name: {Path('folder') / name}: leaves the folder of the data; --on-bad-image skip leaves "
            "such pictures and their questions out, --check lists all"
        )
    outside.unlink()


def test_a_picture_that_was_mended_makes_the_data_others(here):
    given = spec(source=write(changed(2, image="new.png")), images="pictures", splits=HALVES)
    rows = [{**row, "image": row["image"].removeprefix("pictures/")} for row in with_ids()]
    rows[2]["image"], rows[3]["image"] = "new.png", "a\0b"
    write(rows)
    manifest, _ = prepared(given, choices=SKIP)
    assert [bad["file"] for bad in manifest.left_out["images"]] == [
        "pictures/new.png",
        "pictures/a\0b",
    ]
    assert isinstance(prepared(given, choices=SKIP)[0], Standing)
    Image.new("RGB", (9, 9)).save("pictures/new.png")
    with pytest.raises(RequestError, match="pictures/new.png, which was left out, has changed"):
        prepared(given, choices=SKIP)


def test_a_hub_name_without_a_network_says_how_to_bring_it(here, monkeypatch):
    import datasets

    def offline(*_, **__):
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub\nmore lines")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    error = refused("hub:owner/name@main")
    # The library would print five lines about trying again.
    assert not logging.getLogger("huggingface_hub.utils._http").isEnabledFor(logging.WARNING)
    assert error.startswith("hub:owner/name@main: cannot be fetched (Couldn't reach 'owner/name'")
    assert "`hf download owner/name --repo-type dataset --local-dir DIR`" in error


def test_check_prints_examples_and_writes_nothing(here, capsys):
    given = spec(source=write(with_ids()), splits=HALVES)
    before = sorted(here.rglob("*"))
    check(given, Choices())
    shown = capsys.readouterr().out.splitlines()
    assert "what is" in shown[0] and ".png (" in shown[0] and "what is" in shown[2]
    assert any("have an answer in the vocabulary" in line for line in shown)
    assert shown[-1] == "no problems; nothing was written" and sorted(here.rglob("*")) == before


def test_numbers_of_ids():
    assert [number_of(text) for text in ("0", "17", "999999999999999999")] == [0, 17, 10**18 - 1]
    others = [number_of(text) for text in ("007", "q-1", "-1", "1000000000000000000", "１")]
    assert all(2**62 <= number < 2**63 for number in others) and len(set(others)) == len(others)


def test_a_dataset_of_python_is_prepared_as_its_files_are(tmp_path, monkeypatch):
    import datasets

    rows = easy_rows(30)
    reference = prepare(str(export(rows, "csv", tmp_path / "a")), tmp_path / "b", AS_USUAL, {})
    theirs = [{"img": r["image"], "q": r["question"], "gold": [r["answer"]]} for r in rows]
    dataset = datasets.Dataset.from_list(theirs)
    columns = {"image": "img", "question": "q", "answers": "gold"}
    data = from_dataset(dataset, tmp_path / "paths", columns=columns)
    pictures = dataset.cast_column("img", datasets.Image())
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    other = from_dataset(pictures, columns=columns)
    assert other.root.parent == tmp_path / "cache" / "vle-bench"
    assert from_dataset(pictures, columns=columns).root == other.root
    shares = {"train": 0.6, "val": 0.4}
    assert from_dataset(pictures, columns=columns, splits=shares).root != other.root
    for name in ("label_map.json", "questions-train.arrow"):
        digests = {one.manifest.files[name]["sha256"] for one in (data, other)}
        assert digests == {reference.files[name]["sha256"]}
    parts = datasets.DatasetDict(
        train=dataset.select(range(200)), validation=dataset.select(range(200, len(dataset)))
    )
    with pytest.raises(
        RequestError, match=r"^dataset \(validation\): row .*: its picture .*png is in "
    ):
        from_dataset(parts, tmp_path / "parts", columns=columns)
    skipped = from_dataset(parts, tmp_path / "parts", columns=columns, choices=SKIP)
    assert list(skipped.manifest.splits) == ["train", "val"]
    with pytest.raises(RequestError, match="^dataset: columns.imag: unknown key; nearest"):
        from_dataset(dataset, columns={"imag": "img"})


def test_what_is_no_dataset_and_names_of_classes(tmp_path):
    import datasets
    import pandas

    rows = easy_rows(30)
    dataset = datasets.Dataset.from_list(rows)
    for other in (rows, pandas.DataFrame(rows), dataset.to_iterable_dataset()):
        with pytest.raises(
            RequestError, match="^dataset: .*, not a datasets.Dataset or DatasetDic"
        ):
            from_dataset(other, tmp_path / "refused")
    # A class's name is the answer, not its number.
    data = from_dataset(dataset.class_encode_column("answer"), tmp_path / "classes")
    plain = from_dataset(dataset, tmp_path / "plain")
    assert data.labels == plain.labels and "yes" in data.labels
    numbers = dataset.class_encode_column("answer").cast_column("answer", datasets.Value("int64"))
    written = "an answer is written as "
    with pytest.raises(
        RequestError, match=rf"row 1: answer: \d+: a number, not text; {written}\"\d"
    ):
        from_dataset(numbers, tmp_path / "refused")


def test_stopped_and_started_again(here, monkeypatch):
    """The rows are not read twice, finished shards stay, and the bytes are those of one go."""
    given, small = spec(source=write(with_ids()), splits=HALVES), replace(AS_USUAL, shard_bytes=200)
    whole, _ = prepared(given, "whole", small)
    assert len(whole.images) > 3
    put, written = shards.write_table, []

    def stopping(path, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        put(path, *rest)

    monkeypatch.setattr(shards, "write_table", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepared(given, choices=small)
    assert not Path("out").exists() and Path(".out.partial").is_dir()
    monkeypatch.setattr(
        shards, "write_table", lambda path, *rest: (written.append(path.name), put(path, *rest))
    )
    monkeypatch.setattr(own_prepare, "checked_batches", None)  # the rows are there
    again, _ = prepared(given, choices=small)
    assert again.files == whole.files and len(written) == len(whole.images)
    assert not Path(".out.partial").exists()


def test_the_picture_of_a_row_is_the_one_that_was_read(here):
    """Two names of the same bytes are one picture; the questions of both are about it."""
    Path("pictures/twin.png").write_bytes(Path("pictures/0.png").read_bytes())
    rows = [*with_ids(), {**with_ids()[0], "image": "pictures/twin.png", "id": 99}]
    _, data = prepared(spec(source=write(rows), splits=HALVES))
    questions = data.questions("train+val")
    assert len(data.images) == 12 and len(questions) == 13
    image_of = dict(zip(questions["question_id"], questions["image_row"], strict=True))
    assert image_of[0] == image_of[99]
    for number, row in image_of.items():
        name = "pictures/0.png" if number == 99 else f"pictures/{number}.png"
        assert data.images[row]["bytes"] == Path(name).read_bytes()


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_a_damaged_binary_file_is_refused_in_one_line(here, kind):
    """Arrow's readers end the process on some damaged files; others give errors of many lines."""
    given = export(easy_rows(6), kind, here / kind)
    path = next(given.glob("*.arrow")) if given.is_dir() else given
    whole = path.read_bytes()
    generator = random.Random(0)
    for _ in range(8):
        damaged = bytearray(whole)
        for _ in range(8):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(bytes(damaged))
        with pytest.raises(RequestError) as caught:
            prepare(str(given), here / "out", AS_USUAL, {})
        assert "\n" not in str(caught.value)


def test_answers_that_are_numbers_are_named_before_what_they_leave_empty(here, capsys):
    numbers = [{**row, "answer": n} for n, row in enumerate(with_ids(6))]
    path = write(numbers)
    first = 'my.jsonl: row 1: answer: 0: a number, not text; an answer is written as "0"'
    assert refused(path).startswith(first + "; --on-bad-record skip leaves such records out")
    rest = "; my.jsonl: no question is left: this is the first of 6 problems; "
    assert refused(path, SKIP) == f"{first}{rest}--check lists all"
    with pytest.raises(RequestError) as caught:
        check(path, AS_USUAL)
    assert str(caught.value) == f"{first}{rest}all are printed"
    assert capsys.readouterr().out.count(": a number, not text") == 6
    # Of both kinds the numbers are wrong, wherever they stand.
    given = spec(source=write([*numbers[:1], *with_ids()[1:]]), splits=HALVES)
    with pytest.raises(RequestError, match="^my.yaml: 1 problem; nothing was written; --on-bad-"):
        check(given, AS_USUAL)
    assert f"{first}\n" in capsys.readouterr().out


def test_problems_are_listed_by_row_and_the_way_out_is_said_once(here, capsys):
    rows = with_ids()
    rows[10] |= {"question": ""}
    rows[1] |= {"image": "no.png"}
    rows[4] |= {"answer": ""}
    rows[2] |= {"id": 0}
    given = spec(source=write(rows), splits=HALVES)
    with pytest.raises(RequestError) as caught:
        check(given, AS_USUAL)
    assert str(caught.value) == (
        "my.yaml: 4 problems; nothing was written; --on-bad-record skip --on-bad-image skip leave "
        "such rows out"
    )
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("my.jsonl")]
    assert [line.split(": ")[1] for line in shown] == ["row 2", "row 3", "row 5", "row 11"]


@pytest.mark.parametrize("address", ["https://example.org/a.png", "s3://b/a.png", "data:,a"])
def test_an_address_is_no_file(here, address):
    rows = with_ids()
    rows[2] |= {"image": address}
    assert refused(spec(source=write(rows), splits=HALVES)).startswith(
        f"my.jsonl: row 3: image: {address}: an address, and pictures are read from files: fetch it"
    )


def test_cells_that_quotation_marks_join(here):
    head = "image,question,answer\npictures/0.png,what?,a\n\n"
    for text, problem in (
        ('x.png,"what?,b\ny.png,why?,c\n', "row 2: a quotation mark opens there and is never"),
        ('x.png,"what?,b\ny.png,"why?",c\n', "row 2: broken or cut-off cells: ',' expected after"),
    ):
        Path("my.csv").write_text(head + text, encoding="utf-8")
        assert refused("my.csv").startswith(f"my.csv: {problem}")
    Path("my.csv").write_text('image,"question,answer\n', encoding="utf-8")
    assert refused("my.csv").startswith("my.csv: header: a quotation mark opens there")


def test_bytes_of_other_encodings_are_told(here):
    row = "image,question,answer\npictures/0.png,où?,là\n"
    for encoding, name in (("latin-1", "WINDOWS-1252"), ("utf-16", "UTF-16")):
        Path("my.csv").write_bytes(row.encode(encoding))
        assert f"`iconv -f {name} -t UTF-8` converts it" in refused("my.csv")


def test_python_names_its_own_arguments(here):
    import datasets

    rows = [*rows_of(), {**rows_of(1)[0], "question": "", "answer": "a"}]
    rows[4] |= {"image": "no.png"}
    dataset = datasets.Dataset.from_list(rows)
    with pytest.raises(RequestError) as caught:
        from_dataset(dataset, "out", on_bad_image="skip", splits=HALVES)
    assert str(caught.value).endswith(
        '; on_bad_record="skip" leaves such records out, manifest.left_out of the data then lists '
        "all"
    )
    with pytest.raises(RequestError, match='; on_bad_image="skip" leaves such pictures and'):
        from_dataset(dataset, "out", on_bad_record="skip", splits=HALVES)
    skipped = {"on_bad_record": "skip", "on_bad_image": "skip"}
    data = from_dataset(dataset, "out", splits=HALVES, **skipped)
    left_out = data.manifest.left_out
    assert [len(left_out[kind]) for kind in ("records", "images")] == [1, 1]
    assert len(data.questions("train+val")) == 11
