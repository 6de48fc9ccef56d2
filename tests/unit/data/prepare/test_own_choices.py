"""Multiple-choice questions of one's own: which choice is right, and what is refused where."""

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
from vle_bench.errors import RequestError
from vle_bench.tasks import load_task

LETTERS = "abcdefghijklmnopqrstuvwxyzA"
HALVES = {"train": 0.5, "val": 0.5}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with twelve pictures, which is the current one."""
    for number in range(12):
        Image.new("RGB", (8 + number, 8), (20 * number, 99, 0)).save(tmp_path / f"{number}.png")
    monkeypatch.chdir(tmp_path)


def rows_of(count=12):
    """Questions of 2 to 5 choices, whose right one is named by index."""
    rows = []
    for n in range(count):
        choices = [f"{letter} {n}" for letter in LETTERS[: 2 + n % 4]]
        row = {"image": f"{n}.png", "question": f"which is {n}?", "choices": choices}
        rows.append({**row, "answer": n % len(choices), "id": n})
    return rows


def in_words(rows):
    return [{**row, "answer": row["choices"][row["answer"]]} for row in rows]


def spec(rows, name="my.jsonl", **keys):
    """Write a data file and the YAML that describes it."""
    if name.endswith(".csv"):
        with open(name, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({**row, "choices": json.dumps(row["choices"])} for row in rows)
    else:
        write_lines(Path(name), rows)
    given = {"form": "choice", "source": name, "splits": HALVES, **keys}
    Path("my.yaml").write_text(json.dumps(given), encoding="utf-8")  # JSON is YAML
    return "my.yaml"


def right_choices(given, output="out"):
    manifest = prepare(given, Path(output), AS_USUAL, {})
    data = open_prepared(Path(output))
    assert (manifest.source, manifest.form, data.form) == ("own", "choice", "choice")
    assert manifest.metric is None and manifest.labels is None and data.labels == []
    rows = data.questions("+".join(manifest.splits)).sort("question_id")
    for row in rows:
        number = data.images[row["image_row"]]["width"] - 8
        assert row["question"] == f"which is {number}?"
        if row["right_choice"] is not None:
            assert row["multiple_choice_answer"] == row["choices"][row["right_choice"]]
    return rows["right_choice"][:]


@pytest.mark.parametrize("name", ["my.jsonl", "my.csv"])
@pytest.mark.parametrize("given", [rows_of(), in_words(rows_of())], ids=["index", "text"])
def test_the_right_choice_by_index_and_by_text(given, name):
    expected = [row["answer"] for row in rows_of()]
    assert right_choices(spec(given, name)) == expected


def test_most_choices_and_other_names():
    rows = rows_of()
    rows[3] |= {"choices": list(LETTERS[:26]), "answer": 25}
    renamed = [{**row, "gold": row.pop("answer"), "options": row.pop("choices")} for row in rows]
    columns = {"answers": "gold", "choices": "options"}
    assert right_choices(spec(renamed, columns=columns))[3] == 25


def test_a_test_split_without_answers():
    unlabelled = [{k: v for k, v in row.items() if k != "answer"} for row in rows_of(12)[6:]]
    write_lines(Path("test.jsonl"), unlabelled)
    given = spec(rows_of(6), splits={"train": "my.jsonl", "test": "test.jsonl"}, source=None)
    assert right_choices(given) == [row["answer"] for row in rows_of(6)] + [None] * 6
    splits = open_prepared(Path("out")).manifest.splits
    assert (splits["train"]["labelled"], splits["test"]["labelled"]) == (True, False)


def test_numbers_of_csv_are_read_as_the_rows_before_them():
    """`1` is the text of a choice in a column of texts, and an index in one of indices."""
    rows = rows_of(4)
    rows[2] |= {"choices": ["2", "1", "0"], "answer": 0}
    assert right_choices(spec(rows, "my.csv"), "by-index") == [0, 1, 0, 3]
    texts = in_words(rows)
    texts[2]["answer"] = "0"
    assert right_choices(spec(texts, "my.csv"), "by-text") == [0, 1, 2, 3]


def test_questions_that_differ_in_their_choices_alone_are_two():
    rows = [{k: v for k, v in row.items() if k != "id"} for row in rows_of(4)]
    rows.append({**rows[0], "choices": ["x", "y"]})
    manifest = prepare(spec(rows), Path("out"), AS_USUAL, {})
    assert sum(split["questions"] for split in manifest.splits.values()) == 5


REFUSED = {
    "one": ({"choices": ["a"], "answer": 0}, "choices: ['a']: 1 choice; 2 to 26 are expected"),
    "27": ({"choices": list(LETTERS), "answer": 0}, "27 choices; 2 to 26 are expected"),
    "repeated": ({"choices": ["a", "b", " a"], "answer": 0}, "choices 0 and 2 are the same, 'a'"),
    "empty": ({"choices": ["a", " "], "answer": 0}, "choice 1: empty"),
    "a number": ({"choices": [1, 2], "answer": 0}, "choices: [1, 2]: a list of a number"),
    "no list": ({"choices": "a, b", "answer": 0}, "choices: 'a, b': text, and row 1 has a list"),
    "outside": ({"answer": 4}, "answer: 4: no index of its 4 choices, which are 0 to 3"),
    "negative": ({"answer": -1}, "answer: -1: no index of its 4 choices, which are 0 to 3"),
    "mixed": ({"answer": "a 2"}, "answer: 'a 2': text, and row 1 has a number"),
    "true": ({"answer": True}, "answer: True: true or false, and row 1 has a number"),
    "missing": ({"answer": None}, "answer: None: missing"),
    "half": ({"answer": 0.5}, "answer: 0.5: a number, neither the text of a choice nor a whole"),
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
    # Skipped, it is listed and the others stay.
    manifest = prepare("my.yaml", Path("out"), Choices(on_bad_record="skip"), {})
    assert len(manifest.left_out["records"]) == 1
    assert sum(split["questions"] for split in manifest.splits.values()) == 11


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("my.jsonl", "z", "row 3: answer: 'z': none of its 4 choices"),
        ("my.jsonl", "1", "row 3: answer: '1': none of its 4 choices"),
        ("my.csv", "1", "row 3: answer: '1': an index, and row 1 has a text"),
        ("my.csv", "7", "row 3: answer: '7': none of its 4 choices"),
    ],
)
def test_an_answer_of_texts_that_is_none(name, answer, message):
    rows = in_words(rows_of())
    rows[2]["answer"] = answer
    with pytest.raises(RequestError, match=message):
        prepare(spec(rows, name), Path("refused"), AS_USUAL, {})


def test_a_number_of_csv_that_may_be_two_choices():
    rows = rows_of()
    rows[0] |= {"choices": ["1", "0"], "answer": "0"}
    with pytest.raises(RequestError, match="row 1: answer: '0': may be the index 0 or the text of"):
        prepare(spec(rows, "my.csv"), Path("refused"), AS_USUAL, {})
    rows[0]["choices"] = ["0", "1"]  # both are the same choice
    assert right_choices(spec(rows, "my.csv"))[0] == 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"answers": {"metric": "exact"}}, "answers.metric: form choice has no vocabulary"),
        ({"columns": {"answers": None}}, "columns.answers: form choice needs the right choice"),
        ({"columns": {"choices": "choyces"}}, "no column 'choyces' .*nearest: 'choices'"),
        ({"form": "vqa", "columns": {"choices": "choices"}}, "columns.choices: goes with form"),
    ],
)
def test_keys_that_do_not_fit(keys, message):
    with pytest.raises(RequestError, match=message):
        prepare(spec(rows_of(), **keys), Path("refused"), AS_USUAL, {})


def test_a_column_of_boxes_is_read_by_this_form_alone():
    given = {key: value for key, value in rows_of()[0].items() if key != "choices"}
    given |= {"boxes": 7, "answer": "a"}
    write_lines(Path("open.jsonl"), [{**given, "image": f"{n}.png", "id": n} for n in range(12)])
    manifest = prepare("open.jsonl", Path("out"), AS_USUAL, {})
    assert "boxes" not in open_prepared(Path("out")).questions("train").column_names
    assert manifest.form is None


def test_options_of_open_questions():
    Path("map.json").write_text('["a"]', encoding="utf-8")
    for choices, option in (
        (Choices(label_map=Path("map.json")), "--label-map"),
        (Choices(tokenizer=Path()), "--tokenizer"),
    ):
        with pytest.raises(RequestError, match=f"{option}: form choice takes none"):
            prepare(spec(rows_of()), Path("refused"), choices, {})


def test_data_of_one_form_are_refused_by_tasks_of_another():
    prepare(spec(rows_of()), Path("choices"), AS_USUAL, {})
    with pytest.raises(
        RequestError,
        match="of the form choice, which has no answers to choose from .*own/choice-base",
    ):
        load_task("vqa").open(Path("choices"))
    with pytest.raises(RequestError, match="holds prepared own, vcr_q2a needs"):
        load_task("vcr_q2a").open(Path("choices"))
    prepare(spec(in_words(rows_of()), form="vqa"), Path("open"), AS_USUAL, {})
    with pytest.raises(RequestError, match="of the form vqa; choice needs questions with choices"):
        load_task("choice").open(Path("open"))


def test_folders_of_open_questions_are_recognised_as_before():
    """Columns that they never read are no part of how they were prepared."""
    manifest = prepare(spec(in_words(rows_of()), form="vqa"), Path("open"), AS_USUAL, {})
    assert manifest.form is None and "form" not in manifest.as_json()
    columns = json.loads(manifest.inputs["options"]["columns"])
    assert [*columns] == [
        *("image", "question", "answers", "id", "group", "question_type", "answer_type"),
    ]


def test_the_report_and_the_check(capsys):
    manifest = prepare(spec(rows_of()), Path("out"), AS_USUAL, {})
    counts = [split["choices"] for split in manifest.report.values()]
    assert {n: sum(c.get(str(n), 0) for c in counts) for n in range(2, 6)} == dict.fromkeys(
        range(2, 6), 3
    )
    assert next(iter(lines(manifest))) == "out: multiple-choice questions, scored with the accuracy"
    check("my.yaml", AS_USUAL)
    shown = capsys.readouterr().out
    assert "right: '" in shown and shown.endswith("no problems; nothing was written\n")


def test_a_dataset_in_memory():
    from datasets import Dataset

    data = from_dataset(Dataset.from_list(rows_of()), "out", form="choice", splits=HALVES)
    assert data.form == "choice"
    assert sorted(data.questions("train+val")["right_choice"]) == sorted(
        row["answer"] for row in rows_of()
    )


def test_choices_that_are_not_asked_for_are_pointed_out(capsys):
    given = spec(rows_of(), form="vqa")
    with pytest.raises(RequestError, match="; its column 'choices' is read by a YAML with form: c"):
        prepare(given, Path("refused"), AS_USUAL, {})
    # Texts can be answers of open questions.
    spec(in_words(rows_of()), form="vqa")
    prepare(given, Path("open"), AS_USUAL, {})
    note = "my.jsonl: its column 'choices' is not read; a YAML with form: choice reads multiple-"
    assert capsys.readouterr().err.count(note) == 2
    prepare(spec(rows_of()), Path("choices"), AS_USUAL, {})
    assert "is not read" not in capsys.readouterr().err
