"""The predictions file: its bytes, and the reader that refuses what no evaluation writes."""

import json
from pathlib import Path

import pytest

from vle_bench.errors import RequestError, RunFailed
from vle_bench.tasks import load_task
from vle_bench.tasks.predictions import Prediction, by_id, read_predictions, write_predictions

ROWS = [
    {"id": 7, "answer": "café", "label": 1, "score": 0.25},
    {"id": 3, "answer": "no", "label": 0, "score": 1.0},
]


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_predictions(path, map(Prediction.from_row, ROWS))
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    assert path.read_bytes() == lines.encode()
    assert [one.as_row() for one in read_predictions(path)] == ROWS
    assert read_predictions(path)[0]["answer"] == "café"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"id": 1', r"x.jsonl: line 1: broken or cut-off JSON at column"),
        (b'{"id": 1}\n\xff\xfe', "x.jsonl: line 2: not UTF-8 text"),
        (b'{"id": 1, "id": 2}', "x.jsonl: line 1: .*the key 'id' occurs twice"),
        (b"[1]", r"x.jsonl: line 1: \[1\] is not an object"),
        (b'{"answer": "x"}', r"prediction 1 \(id None\): an id is expected"),
        (b'{"id": [1]}', r"prediction 1 \(id \[1\]\): an id is expected"),
        (b'{"id": true}', r"prediction 1 \(id True\): an id is expected"),
        (b'{"id": 1}\n{"id": 2}\n{"id": 1}', r"prediction 3 \(id 1\): a second time"),
        (b"[" * 100_000, "x.jsonl: line 1: JSON nested too deep"),
    ],
)
def test_what_no_evaluation_writes_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=message) as error:
        read_predictions(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"x.jsonl: no such file"):
        read_predictions(tmp_path / "x.jsonl")


def test_two_halves_of_one_example_are_joined() -> None:
    answer, rationale = Prediction("a", {"q2a": 1}), Prediction("a", {"qa2r": 2})
    assert answer.with_values_of(rationale) == Prediction("a", {"q2a": 1, "qa2r": 2})
    with pytest.raises(ValueError, match="two examples"):
        answer.with_values_of(Prediction("b", {}))


def test_predictions_are_one_for_each_question() -> None:
    predictions = [Prediction(1, {}), Prediction(2, {})]
    assert by_id(predictions, [2, 1])[2] is predictions[1]
    for ids in ([1], [1, 2, 3], [1, 3]):
        with pytest.raises(
            RunFailed, match=f"2 predictions are not one for each of the {len(ids)}"
        ):
            by_id(predictions, ids)
    with pytest.raises(RunFailed, match="3 predictions"):
        by_id([*predictions, predictions[0]], [1, 2])


@pytest.mark.parametrize(
    ("task", "row", "problem"),
    [
        ("vqa", {"id": 1, "answer": "x", "label": 0, "score": 0.5}, None),
        ("vqa", {"id": 1, "answer": "x", "score": 0.5}, None),  # of another label map
        ("vqa", {"id": "1", "answer": "x", "score": 0.5}, "an id, an answer and its label"),
        ("vqa", {"id": 1, "answer": 2, "score": 0.5}, "an id, an answer and its label"),
        ("vqa", {"id": 1, "answer": "x", "score": float("nan")}, "score: nan"),
        ("vcr_q2a", {"id": "a", "q2a": 1, "q2a_scores": [0.1, 0.7, 0.1, 0.1]}, None),
        ("vcr_q2a", {"id": "a", "q2a": 4, "q2a_scores": [0.25] * 4}, "q2a: 4 is not a number"),
        ("vcr_q2a", {"id": "a", "q2a": 0, "q2a_scores": [0.5] * 3}, "q2a_scores: 4 prob"),
        ("vcr_q2a", {"id": "a", "q2a": 0, "q2a_scores": [0.1, 0.7, 0.1, 0.1]}, "another choice"),
        ("vcr_joint", {"id": "a", "q2a": 0, "q2a_scores": [0.25] * 4}, "qa2r: None"),
        ("vcr_second_stage", {"id": "a", "mlm_masked": 2, "mlm_right": 1}, None),
        ("vcr_second_stage", {"id": "a", "mlm_masked": 2}, "two counts of words"),
    ],
)
def test_a_task_says_what_is_wrong(task: str, row: dict[str, object], problem: str | None) -> None:
    wrong = load_task(task).wrong(Prediction.from_row(row))
    assert (wrong is None) if problem is None else problem in str(wrong)


def test_the_second_stage_has_no_official_file() -> None:
    with pytest.raises(RequestError, match="answers no question"):
        load_task("vcr_second_stage").for_submission()
    assert load_task("vqa").for_submission() is load_task("vqa")
