"""The official accuracy against the official program's stored numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from vle_bench.errors import RequestError
from vle_bench.metrics.bootstrap import interval
from vle_bench.metrics.files import score_vqa_files
from vle_bench.metrics.vqa import question_accuracy, vqa_accuracy
from vle_bench.vqa_answers import CONTRACTIONS, normalize_answer, soft_target

GOLDEN = Path(__file__).parents[2] / "golden" / "vqa_accuracy"
FILES = [GOLDEN / f"{name}.json" for name in ("questions", "annotations", "results")]


def test_all_600_golden_questions_agree_to_the_last_digit():
    result, expected = score_vqa_files(*FILES), json.loads((GOLDEN / "expected.json").read_text())
    assert result["n"] == len(expected["per_question"]) == 600
    assert {str(i): round(100 * v, 2) for i, v in result["per_question"].items()} == expected["per_question"]
    assert round(100 * result["accuracy"], 2) == expected["accuracy"]["overall"]
    for ours, theirs in (("per_answer_type", "perAnswerType"), ("per_question_type", "perQuestionType")):
        assert {name: round(100 * v, 2) for name, v in result[ours].items()} == expected["accuracy"][theirs]


@pytest.mark.parametrize(
    ("answer", "normal"),
    [("p.m.", "pm"), ("5.5", "5.5"), ("1,000-2,000", "10002000"), ("t-shirt", "t shirt"), ("black/white", "black white"),
     ("10:30", "10:30"), ("$5", "$5"), ("50%", "50%"), ("#1", "#1"), ("None of the above", "0 of above"),
     ("No.1", "no.1"), ("a", ""), ("ten-four", "10 4"), ("somebody'd", "somebodyd"), ("dont", "don't"), ("Im", "im"),
     ("." * 40, "." * 8)],
)  # fmt: skip
def test_normalize_answer(answer, normal):
    assert normalize_answer(answer) == normal


def test_the_contraction_table_has_its_official_length():
    assert len(CONTRACTIONS) == 120


def ten(*answers):
    return [{"answer": a, "answer_id": i} for i, a in enumerate(answers * (10 // len(answers)), 1)]


def test_nothing_is_normalised_where_all_agree():
    assert question_accuracy("Yes", ten("yes")) == 0
    assert question_accuracy("yes", ten("yes")) == 1
    assert question_accuracy("Yes", ten("yes", "no")) == 1


def test_without_unique_ids_equal_answers_are_no_witnesses():
    assert question_accuracy("yes", [{"answer": "yes"}] * 10) == 0


def test_the_training_target_is_another_function():
    assert [soft_target(k) for k in range(6)] == [0, 0.3, 0.6, 0.9, 1, 1]


def annotation(question_id):
    return {"question_id": question_id, "answer_type": "other", "question_type": "what", "answers": ten("cat")}


def test_ids_must_be_equal():
    with pytest.raises(RequestError, match=r"1 question ids without a prediction \(2\); 1 .* unknown .*\(3\)"):
        vqa_accuracy({1: "cat", 3: "cat"}, [annotation(1), annotation(2)])


@pytest.mark.parametrize(
    ("content", "message"),
    [('[{"question_id": 1, "ans', "broken or cut-off JSON at line 1"), ("{}", "no list"),
     ('[{"question_id": 1}]', r"record 0 \(question_id 1\): has no 'answer'"),
     ('[{"question_id": 1, "answer": 3}]', "answer: 3 is not a string"),
     ('[{"question_id": NaN, "answer": "a"}]', "nan is not a whole number"),
     ('[{"question_id": 1, "answer": "a"}, {"question_id": 1, "answer": "b"}]', "question_id 1 a second time")],
)  # fmt: skip
def test_bad_predictions_get_one_line(tmp_path, content, message):
    path = tmp_path / "predictions.json"
    path.write_text(content)
    with pytest.raises(RequestError, match=message) as error:
        score_vqa_files(*FILES[:2], path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("number", "key", "message"),
    [(0, "questions", "record 600: question_id 331 a second time"), (1, "annotations", "1 question ids twice in the annotations")],
)
def test_a_question_twice_in_an_official_file_is_refused(tmp_path, number, key, message):
    content = json.loads(FILES[number].read_text())
    content[key].append(content[key][0])
    files = list(FILES)
    files[number] = tmp_path / "twice.json"
    files[number].write_text(json.dumps(content))
    with pytest.raises(RequestError, match=message):
        score_vqa_files(*files)


def test_interval_draws_whole_images():
    scores = np.repeat([0.0, 1.0], 500)
    narrow = interval(scores, np.arange(1000))
    wide = interval(scores, np.repeat(np.arange(20), 50))
    assert narrow == interval(scores, np.arange(1000))
    assert 0.45 < narrow[0] < 0.5 < narrow[1] < 0.55
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
