"""The metric as `evaluate` loads it: from a copy of the folder, without a network."""

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest

import vle_bench
from vle_bench.errors import RequestError

ROOT = Path(__file__).parents[3]
FOLDER = str(ROOT / "vle_bench" / "metrics" / "vqa_accuracy")
GOLDEN = ROOT / "tests" / "golden" / "vqa_accuracy"


@pytest.fixture
def metric(tmp_path, monkeypatch):
    return evaluate.load(FOLDER, cache_dir=str(tmp_path))


def read(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def test_the_600_golden_questions(metric):
    predictions, references, expected = (
        read("results"),
        read("annotations")["annotations"],
        read("expected")["accuracy"],
    )
    for start in range(0, 600, 100):  # in different orders: they are matched by id
        metric.add_batch(
            predictions=predictions[start : start + 100],
            references=references[600 - start - 100 : 600 - start],
        )
    result = metric.compute()
    assert result["n"] == 600 and round(100 * result["accuracy"], 2) == expected["overall"]
    for ours, theirs in (
        ("per_answer_type", "perAnswerType"),
        ("per_question_type", "perQuestionType"),
    ):
        assert {name: round(100 * v, 2) for name, v in result[ours].items()} == expected[theirs]


def question(number, **values):
    answers = [{"answer_id": i, "answer": "yes"} for i in range(10)]
    return {
        "question_id": number,
        "question_type": "is",
        "answer_type": "yes/no",
        "answers": answers,
        **values,
    }


@pytest.mark.parametrize("ids", [[1] * 10, [1, 1.0, *range(2, 10)]])
def test_an_answer_id_twice_is_refused(metric, ids):
    truth = question(7, answers=[{"answer_id": i, "answer": "café"} for i in ids])
    with pytest.raises(RequestError, match="question_id 7: answers: answer_id 1 occurs twice"):
        metric.add(prediction={"question_id": 7, "answer": "café"}, reference=truth)


def test_one_at_a_time_and_all_at_once(metric):
    metric.add(prediction={"question_id": 1, "answer": "yes"}, reference=question(1))
    metric.add(prediction={"question_id": 2, "answer": "no"}, reference=question(2, image_id=7))
    assert metric.compute()["accuracy"] == 0.5
    predictions = [{"question_id": 1, "answer": "yes"}]
    assert metric.compute(predictions=predictions, references=[question(1)])["accuracy"] == 1


def test_other_than_ten_answers_are_refused(metric):
    nine = question(1, answers=question(1)["answers"][:9])
    with pytest.raises(RequestError, match="question_id 1: answers: 9 of them, not 10"):
        metric.compute(predictions=[{"question_id": 1, "answer": "yes"}], references=[nine])


@pytest.mark.parametrize("ids", [{}, {"answer_id": None}])
def test_answers_without_ids_are_numbered_by_their_place(metric, ids):
    truths = [question(k, answers=[{"answer": "yes", **ids}] * 10) for k in (1, 2)]
    with pytest.warns(
        UserWarning, match="answers without answer_id are numbered by their place"
    ) as said:
        metric.add(prediction={"question_id": 1, "answer": "yes"}, reference=truths[0])
        metric.add_batch(predictions=[{"question_id": 2, "answer": "yes"}], references=truths[1:])
    assert metric.compute()["accuracy"] == 1 and len(said) == 2  # which Python shows once


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([{"question_id": 1, "answer": "a"}] * 2, "question_id 1 is predicted twice"),
        (
            [{"question_id": 1, "answer": "a"}, {"question_id": 3, "answer": "a"}],
            "without a prediction .2.; 1 .* unknown .*3",
        ),
        (
            [{"question_id": 1, "answer": "a"}, {"question_id": 2, "answer": 3}],
            "question_id 2: answer: 3 is not a string",
        ),
    ],
)
def test_what_is_refused(metric, predictions, message):
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=predictions, references=[question(1), question(2)])


def test_the_example_and_the_citation(metric):
    example = doctest.DocTestParser().get_doctest(
        metric.inputs_description, {}, "vqa_accuracy", None, 0
    )
    assert len(example.examples) == 6
    result = doctest.DocTestRunner().run(example)
    assert result.attempted == 6 and result.failed == 0
    assert "Goyal, Yash" in metric.citation and "vqaEval.py" in metric.description


def test_it_loads_offline_in_a_process_of_its_own(tmp_path):
    # `evaluate` would take transformers and torch where it finds them; the metric needs neither.
    code = "import sys; sys.modules['transformers'] = sys.modules['torch'] = None; "
    code += f"import evaluate; m = evaluate.load({FOLDER!r}); print(m.name, 'Goyal' in m.citation, m.__class__.__module__)"
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(vle_bench.__file__).parents[1]),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "vqa_accuracy True evaluate_modules."
    )  # not this file: a copy in the cache


def test_numbers_of_more_than_64_bits_are_named(metric):
    big = 2**64
    with pytest.raises(RequestError, match=f"question_id: {big} has more than 64 bits"):
        metric.add_batch(
            predictions=[{"question_id": big, "answer": "yes"}], references=[question(big)]
        )
    answers = [{"answer_id": big + i, "answer": "yes"} for i in range(10)]
    with pytest.raises(RequestError, match=f"question_id 1: answer_id: {big} has more than 64"):
        metric.add(
            prediction={"question_id": 1, "answer": "yes"},
            reference=question(1, answers=answers),
        )


@pytest.mark.parametrize("written", [1.7, "1", None])
def test_ids_that_are_no_whole_numbers_are_named(metric, written):
    """Arrow would cut 1.7 to 1 and read "1" as a number, and so score another question's answer."""
    prediction, truth = {"question_id": 1, "answer": "yes"}, question(1)
    message = f"question_id: {written!r} is not a whole number"
    with pytest.raises(RequestError, match=message):
        metric.add(prediction={**prediction, "question_id": written}, reference=truth)
    with pytest.raises(RequestError, match=message):
        metric.add(prediction=prediction, reference={**truth, "question_id": written})


def test_answer_ids_are_whole_numbers(metric):
    """Cut to whole numbers, two people would be one, and a third of the others' hits would go."""
    answers = [{"answer_id": 1 + i / 10, "answer": "yes"} for i in range(10)]
    with pytest.raises(RequestError, match=r"question_id 1: answer_id: 1.1 is not a whole number"):
        metric.add(
            prediction={"question_id": 1, "answer": "yes"},
            reference=question(1, answers=answers),
        )


def test_an_id_is_the_number_that_it_equals(metric):
    """As the official reader takes it, and numpy's numbers too."""
    for written in (1.0, np.int64(1), True):
        prediction = {"question_id": written, "answer": "yes"}
        truth = question(1, answers=[{"answer_id": i, "answer": "yes"} for i in range(10)])
        assert metric.compute(predictions=[prediction], references=[truth])["accuracy"] == 1
