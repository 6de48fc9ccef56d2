"""What the servers would reject, one case each."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vle_bench.cli import app
from vle_bench.data.official.vcr import COLUMNS
from vle_bench.errors import RequestError
from vle_bench.evaluation.submission import check_vcr_submission, check_vqa_submission

IDS = [11, 12, 13, 14, 15, 16, 17, 18]
LAST_COUNTS = "the official reader scores the last answer of each"
GOOD = [{"question_id": i, "answer": "yes"} for i in IDS]


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "questions.json"
    path.write_text(
        json.dumps(
            {"questions": [{"question_id": i, "image_id": 1, "question": "what?"} for i in IDS]}
        ),
        encoding="utf-8",
    )
    return path


@pytest.fixture
def annotations(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text(
        "".join(json.dumps({"annot_id": f"test-{i}"}) + "\n" for i in range(8)), encoding="utf-8"
    )
    return path


def changed(number, **values):
    return [{**record, **values} if n == number else record for n, record in enumerate(GOOD)]


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        (GOOD, []),
        (GOOD[::-1], []),
        ([{**record, "confidence": 0.5} for record in GOOD], []),
        (GOOD[2:], ["2 question ids missing: 11, 12"]),
        ([], ["8 question ids missing: 11, 12, 13, 14, 15, ..."]),
        ([*GOOD, {"question_id": 7, "answer": "no"}], ["1 question id unknown: 7"]),
        (
            changed(0, question_id="11"),
            [
                "1 records whose question_id is not a whole number: record 0 ('11')",
                "1 question id missing: 11",
            ],
        ),
        (
            changed(0, question_id=11.5),
            [
                "1 records whose question_id is not a whole number: record 0 (11.5)",
                "1 question id missing: 11",
            ],
        ),
        (
            [{"answer": "yes"}, *GOOD],
            ["1 records whose question_id is not a whole number: record 0 (none)"],
        ),
        (changed(1, answer=2), ["1 answers that are not strings: 12"]),
        (changed(1, answer=None), ["1 answers that are not strings: 12"]),
        (changed(1, answer=["yes"]), ["1 answers that are not strings: 12"]),
        ([*GOOD[:7], {"question_id": 18}], ["1 records without an answer: 18"]),
        ([*GOOD, 19, None], ["2 records that are no objects: 8, 9"]),
        (
            {"answers": GOOD},
            ['the file is an object, not a list of {"question_id": ..., "answer": ...}'],
        ),
        (3, ['the file is 3, not a list of {"question_id": ..., "answer": ...}']),
        ("yes", ['the file is a string, not a list of {"question_id": ..., "answer": ...}']),
    ],
)
def test_vqa(tmp_path, questions, content, problems):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    findings = check_vqa_submission(path, questions)
    assert findings.problems == problems and findings.warnings == []


@pytest.mark.parametrize(
    ("content", "warnings"),
    [
        ([*GOOD, GOOD[3]], [f"1 question ids more than once; {LAST_COUNTS}: 14"]),
        (
            [*GOOD, GOOD[3], GOOD[3], GOOD[0]],
            [f"2 question ids more than once; {LAST_COUNTS}: 11, 14"],
        ),
        (
            changed(0, question_id=11.0),
            [
                "1 question ids are not written as whole numbers; the official reader takes each for the number that it equals: "
                "record 0 (11.0 for 11)"
            ],
        ),
        (
            [*GOOD, {"question_id": 12.0, "answer": "no"}],
            [
                "1 question ids are not written as whole numbers; the official reader takes each for the number that it equals: "
                "record 8 (12.0 for 12)",
                f"1 question ids more than once; {LAST_COUNTS}: 12",
            ],
        ),
    ],
)
def test_what_the_official_reader_takes_is_a_warning(tmp_path, questions, content, warnings):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    findings = check_vqa_submission(path, questions)
    assert findings.problems == [] and findings.warnings == warnings
    # the official reader: sets of ids, then an index by id
    index = {record["question_id"]: record["answer"] for record in content}
    assert set(index) == set(IDS) and len(index) == len(IDS)


def test_true_is_the_id_1(tmp_path, questions):
    questions.write_text(json.dumps({"questions": [{"question_id": 1}]}), encoding="utf-8")
    (tmp_path / "a.json").write_text('[{"question_id": true, "answer": "yes"}]', encoding="utf-8")
    findings = check_vqa_submission(tmp_path / "a.json", questions)
    assert findings.problems == [] and "record 0 (true for 1)" in findings.warnings[0]


def test_an_empty_answer_is_a_warning(tmp_path, questions):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(changed(2, answer=" ")), encoding="utf-8")
    findings = check_vqa_submission(path, questions)
    assert findings.problems == [] and findings.warnings == ["1 answers are empty: 13"]


def test_the_questions_of_test_dev_alone_are_a_warning(tmp_path, questions):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    questions.write_text(
        json.dumps(
            {**json.loads(questions.read_text(encoding="utf-8")), "data_subtype": "test-dev2015"}
        ),
        encoding="utf-8",
    )
    (warning,) = check_vqa_submission(path, questions).warnings
    assert "the server wants every question of test2015" in warning


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), ('[{"quest', "cut-off JSON"), (b"\xff", "not UTF-8")],
)
def test_a_vqa_file_that_cannot_be_read(tmp_path, questions, content, message):
    path = tmp_path / "answers.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for files in ((path, questions), (questions, path)):
        with pytest.raises(RequestError, match=message):
            check_vqa_submission(*files)


def leaderboard(path, rows, header=COLUMNS):
    path.write_text(
        "\n".join([",".join(header), *(",".join(map(str, row)) for row in rows)]) + "\n",
        encoding="utf-8",
    )
    return path


ROWS = [[f"test-{i}", *[0.25] * 20] for i in range(8)]


@pytest.mark.parametrize(
    ("rows", "header", "problems"),
    [
        (ROWS, COLUMNS, []),
        (ROWS[1:], COLUMNS, ["1 annot_id missing: test-0"]),
        ([*ROWS, ["val-1", *[0.25] * 20]], COLUMNS, ["1 annot_id unknown: val-1"]),
        ([*ROWS, ROWS[0]], COLUMNS, ["line 10: annot_id 'test-0' a second time"]),
        (
            [["test-0", *[0.25] * 19], *ROWS[1:]],
            COLUMNS,
            ["line 2: 21 columns are expected, not 20"],
        ),
        (
            [["test-0", "x", *[0.25] * 19], *ROWS[1:]],
            COLUMNS,
            ["line 2 (annot_id 'test-0'): answer_0: 'x' is not a number"],
        ),
        (
            [["test-0", "nan", *[0.25] * 19], *ROWS[1:]],
            COLUMNS,
            ["line 2 (annot_id 'test-0'): answer_0: 'nan' is not finite"],
        ),
        (
            ROWS,
            COLUMNS[::-1],
            ["line 1: column 1: 'annot_id' is expected, not 'rationale_conditioned_on_a3_3'"],
        ),
    ],
)
def test_vcr(tmp_path, annotations, rows, header, problems):
    findings = check_vcr_submission(leaderboard(tmp_path / "l.csv", rows, header), annotations)
    assert findings.problems == problems and findings.warnings == []


def test_scores_that_are_no_probabilities(tmp_path, annotations):
    rows = [
        ["test-0", -0.5, 1.0, 0.5, *[0.25] * 17],
        ["test-1", *[0.25] * 19, 1.5],
        ["test-2", *[0.25] * 16, 0.1, 0.2, 0.3, 0.3],
        ["test-3", *[0.25] * 16, 0.1, 0.2, 0.3, 0.3999],
        *ROWS[4:],
    ]
    findings = check_vcr_submission(leaderboard(tmp_path / "l.csv", rows), annotations)
    assert findings.problems == [
        "3 annot_ids whose scores are no probabilities (each of 0 to 1, every four of a sum of 1): test-0, test-1, test-2"
    ]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"\xff\xfe", "not UTF-8")]
)
def test_a_vcr_file_that_cannot_be_read(tmp_path, annotations, content, message):
    path = tmp_path / "l.csv"
    if content is not None:
        path.write_bytes(content)
    for files in ((path, annotations), (leaderboard(tmp_path / "fine.csv", ROWS), path)):
        with pytest.raises(RequestError, match=message):
            check_vcr_submission(*files)
    with pytest.raises(RequestError, match="a folder"):
        check_vcr_submission(tmp_path, annotations)


def test_annotations_without_ids(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"annot_id": 1}\n', encoding="utf-8")
    with pytest.raises(RequestError, match="a.jsonl: line 1: annot_id: 1 is not a string"):
        check_vcr_submission(leaderboard(tmp_path / "l.csv", ROWS), tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("content", "code", "out", "err"),
    [
        (GOOD, 0, "fine: 8 records, every id of ", ""),
        (changed(2, answer=""), 0, "fine: 8", "warning: 1 answers are empty: 13"),
        (
            GOOD[1:5],
            1,
            "",
            "the server would reject it\n  4 question ids missing: 11, 16, 17, 18\n",
        ),
        ("broken", 2, "", "no such file"),
    ],
)
def test_the_command(tmp_path, questions, content, code, out, err, monkeypatch, capsys):
    path = Path(tmp_path) / "answers.json"
    if content != "broken":
        path.write_text(json.dumps(content), encoding="utf-8")
    arguments = ["check-submission", "vqa", str(path), "--questions", str(questions)]
    monkeypatch.setattr("sys.argv", ["vle-bench", *arguments])
    with pytest.raises(SystemExit) as stop:
        app.main()
    shown = capsys.readouterr()
    assert (stop.value.code or 0) == code and out in shown.out and err in shown.err
    assert len(shown.out.splitlines()) == (code == 0)
    assert CliRunner().invoke(app.app, ["check-submission", "vcr", "--help"]).exit_code == 0
