"""Boxes of one's own multiple-choice questions: what is read, and what is refused where."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.miniature.own import write_lines
from vle_bench.data import from_dataset
from vle_bench.data.prepare.manifest import AS_USUAL, Choices
from vle_bench.data.prepare.own.prepare import prepare
from vle_bench.data.prepare.own.summary import check, lines
from vle_bench.data.prepared import open_prepared
from vle_bench.data.tagged_text import check_text, tokens_of, words_of
from vle_bench.errors import RequestError

DOG = {"name": "dog", "box": [1, 2, 30, 20]}
MAN = {"name": "person", "box": [10.5, 0, 40, 32]}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with twelve pictures of 40 × 32 pixels, which is the current one."""
    for number in range(12):
        Image.new("RGB", (40, 32), (20 * number, 99, 0)).save(tmp_path / f"{number}.png")
    monkeypatch.chdir(tmp_path)


def rows_of(**more):
    return [
        {
            "image": f"{n}.png",
            "question": "What does [0] do?",
            "choices": ["it runs", "it looks at [1]"],
            "answer": n % 2,
            "id": n,
            "boxes": [DOG, MAN],
            **more,
        }
        for n in range(12)
    ]


def spec(rows, name="my.jsonl", **keys):
    if name.endswith(".csv"):
        with open(name, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            for row in rows:
                cells = {key: json.dumps(row[key]) for key in ("choices", "boxes")}
                writer.writerow({**row, **cells})
    else:
        write_lines(Path(name), rows)
    halves = {"train": 0.5, "val": 0.5}
    given = {"form": "choice", "source": name, "splits": halves, **keys}
    Path("my.yaml").write_text(json.dumps(given), encoding="utf-8")
    return "my.yaml"


def prepared(given, choices=AS_USUAL, output="out"):
    manifest = prepare(given, Path(output), choices, {})
    data = open_prepared(Path(output))
    return manifest, data.questions("train+val").sort("question_id").to_list()


@pytest.mark.parametrize("name", ["my.jsonl", "my.csv"])
def test_boxes_and_names_stand_beside_the_question(name):
    rows = rows_of()
    rows[3] |= {"boxes": [], "question": "Is it day?", "choices": ["yes", "no"]}
    manifest, questions = prepared(spec(rows, name))
    assert questions[0]["boxes"] == [[1, 2, 30, 20], [10.5, 0, 40, 32]]
    assert questions[0]["object_names"] == ["dog", "person"]
    assert (questions[3]["boxes"], questions[3]["object_names"]) == ([], [])
    assert open_prepared(Path("out")).tagged
    # 11 questions tag both
    counts = [report["boxes"] for report in manifest.report.values()]
    assert sum(c["objects"] for c in counts) == sum(c["tagged"] for c in counts) == 22


def test_other_names_and_no_boxes_at_all():
    rows = [{**row, "regions": row.pop("boxes")} for row in rows_of()]
    _, questions = prepared(spec(rows, columns={"boxes": "regions"}))
    assert questions[0]["object_names"] == ["dog", "person"]
    # Left out, [0] is a word like others
    _, questions = prepared(spec(rows_of(), columns={"boxes": None}), output="without")
    assert "boxes" not in questions[0] and questions[0]["question"] == "What does [0] do?"
    assert not open_prepared(Path("without")).tagged


def test_what_tags_are():
    assert tokens_of("Is[0]left of [1 , 2]?") == ["Is", [0], "left", "of", [1, 2], "?"]
    words = ["[]", "[a]", "[-1]", "1]", "[12345]", "[0;1]", "0"]
    assert tokens_of(" ".join(words)) == words
    row = {"question": "Why does [1] run?", "choices": ["[0] does"], "question_id": 1}
    assert words_of(row | {"object_names": ["dog", "man"]}) == (
        "Why does man[1] run?",
        ["dog[0] does"],
    )
    assert words_of(row) == ("Why does [1] run?", ["[0] does"])
    check_text("[0,1] and [1]", 2)
    with pytest.raises(ValueError, match="private use"):
        check_text("a \ue000", 0)


def box(*corners):
    return {"boxes": [{"name": "dog", "box": list(corners)}, MAN]}


NOT_FOUR = "four finite numbers x1, y1, x2, y2 are expected"
REFUSED = {
    "tag": (
        {"question": "Is [2] red?"},
        "question: 'Is [2] red?': the tag [2] names no object; its",
    ),
    "tag of a choice": (
        {"choices": ["[0]", "[1,7]"]},
        "the tag [7] names no object; its boxes are",
    ),
    "no boxes": ({"boxes": []}, "the tag [1] names no object; its boxes are empty"),
    "null": ({"boxes": None}, "the tag [1] names no object; its boxes are empty"),
    "outside": (
        box(1, 1, 42, 9),
        "object 0: box [1.0, 1.0, 42.0, 9.0] leaves its picture of 40 × 32",
    ),
    "above": (box(1, -2, 4, 9), "leaves its picture of 40 × 32 pixels"),
    "exchanged": (box(30, 2, 1, 20), "x1 < x2 and y1 < y2 are expected in x1, y1, x2, y2"),
    "without area": (box(3, 2, 3, 20), "x1 < x2 and y1 < y2 are expected"),
    "three": (box(1, 2, 3), f"box [1, 2, 3]: {NOT_FOUR}"),
    "text": (box(1, 2, 3, "4"), NOT_FOUR),
    "true": (box(0, 0, True, True), NOT_FOUR),
    "huge": (box(0, 0, 10**400, 1), NOT_FOUR),
    "corners alone": (
        {"boxes": [[1, 2, 3, 4]]},
        "a list of a list of a number, and row 1 has a list of",
    ),
    "no list": ({"boxes": {"name": "a"}}, "boxes: {'name': 'a'}: an object, and row 1 has"),
    "no name": (
        {"boxes": [{"box": [1, 2, 3, 4]}]},
        "object 0: has no 'name'; objects are written as",
    ),
    "empty name": ({"boxes": [{**DOG, "name": " "}]}, "object 0: name: empty"),
    "COCO": ({"boxes": [{"name": "a", "bbox": [1, 2, 3, 4]}]}, "bbox is x, y, width, height"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_has_row_and_column(change, message):
    rows = rows_of()
    rows[2] |= change
    with pytest.raises(RequestError) as caught:
        prepare(spec(rows), Path("refused"), AS_USUAL, {})
    line = str(caught.value)
    assert line.startswith("my.jsonl: row 3: ") and message in line and "\n" not in line
    assert not Path("refused").exists()
    manifest, _ = prepared("my.yaml", Choices(on_bad_record="skip"))
    assert len(manifest.left_out["records"]) == 1
    assert sum(split["questions"] for split in manifest.splits.values()) == 11


def test_rounding_and_the_upright_picture():
    """A box may be a pixel too large, and counts in the picture as people see it."""
    picture = Image.new("RGB", (40, 32))
    exif = picture.getexif()
    exif[0x0112] = 6  # a quarter turn: 32 × 40
    picture.save("0.jpg", exif=exif)
    rows = rows_of()
    rows[0] |= box(0, 0, 32.4, 40.9) | {"image": "0.jpg", "choices": ["it runs", "not"]}
    rows[0]["boxes"].pop()
    _, questions = prepared(spec(rows))
    assert questions[0]["boxes"] == [[0, 0, 32.4, 40.9]]
    rows[0] |= box(0, 0, 40, 32)
    with pytest.raises(RequestError, match="row 1: .* leaves its picture of 32 × 40 pixels"):
        prepare(spec(rows), Path("refused"), AS_USUAL, {})


@pytest.mark.parametrize("name", ["1.png", "1.jpg"])
def test_a_picture_that_is_cut_off_is_told_once(name, caplog):
    Image.effect_noise((40, 32), 90).save(name)
    Path(name).write_bytes(Path(name).read_bytes()[:-300])
    rows = rows_of()
    rows[1]["image"] = name
    manifest, _ = prepared(spec(rows), Choices(on_bad_image="skip"))
    assert [bad["file"] for bad in manifest.left_out["images"]] == [name]
    assert "EXIF" not in caplog.text


def test_boxes_that_nothing_tags_or_that_one_split_lacks():
    rows = rows_of(question="Is it day?", choices=["yes", "no"])
    with pytest.raises(RequestError, match="my.jsonl: no text tags an object of its boxes"):
        prepare(spec(rows), Path("refused"), AS_USUAL, {})
    write_lines(Path("val.jsonl"), [{k: v for k, v in rows[7].items() if k != "boxes"}])
    given = spec(rows_of()[:6], source=None, splits={"train": "my.jsonl", "val": "val.jsonl"})
    with pytest.raises(RequestError, match="val.jsonl: has no column of boxes, and another split"):
        prepare(given, Path("refused"), AS_USUAL, {})
    with pytest.raises(RequestError, match="has no column 'regions' .*columns.boxes"):
        prepare(spec(rows_of(), columns={"boxes": "regions"}), Path("refused"), AS_USUAL, {})


def test_the_report_and_the_check(capsys):
    check(spec(rows_of()), AS_USUAL)
    shown = capsys.readouterr().out
    assert "[0] dog [1.0, 2.0, 30.0, 20.0], [1] person [10.5, 0.0, 40.0, 32.0]" in shown
    manifest, _ = prepared("my.yaml")
    assert any("objects: " in line and " tagged of " in line for line in lines(manifest))


def test_a_dataset_in_memory():
    from datasets import Dataset

    halves = {"train": 0.5, "val": 0.5}
    data = from_dataset(Dataset.from_list(rows_of()), "out", form="choice", splits=halves)
    assert data.tagged and data.questions("train")["object_names"][0] == ["dog", "person"]
