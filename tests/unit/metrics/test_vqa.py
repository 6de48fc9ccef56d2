"""The official accuracy against the official program's stored numbers."""

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest

from vle_bench.data.prepare.targets import soft_target
from vle_bench.errors import RequestError
from vle_bench.evaluation.score_files import score_vqa_files
from vle_bench.metrics.bootstrap import interval
from vle_bench.metrics.vqa import (
    CONTRACTIONS,
    exact_accuracy,
    normalize_answer,
    question_accuracy,
    soft_accuracy,
    vqa_accuracy,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "vqa_accuracy"
FILES = [GOLDEN / f"{name}.json" for name in ("questions", "annotations", "results")]


def test_all_600_golden_questions_agree_to_the_last_digit():
    result, expected = (
        score_vqa_files(*FILES),
        json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8")),
    )
    assert result["n"] == len(expected["per_question"]) == 600
    assert {str(i): round(100 * v, 2) for i, v in result["per_question"].items()} == expected[
        "per_question"
    ]
    assert round(100 * result["accuracy"], 2) == expected["accuracy"]["overall"]
    for ours, theirs in (
        ("per_answer_type", "perAnswerType"),
        ("per_question_type", "perQuestionType"),
    ):
        assert {name: round(100 * v, 2) for name, v in result[ours].items()} == expected[
            "accuracy"
        ][theirs]


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("p.m.", "pm"),
        ("5.5", "5.5"),
        ("1,000-2,000", "10002000"),
        ("t-shirt", "t shirt"),
        ("black/white", "black white"),
        ("10:30", "10:30"),
        ("$5", "$5"),
        ("50%", "50%"),
        ("#1", "#1"),
        ("None of the above", "0 of above"),
        ("No.1", "no.1"),
        ("a", ""),
        ("ten-four", "10 4"),
        ("somebody'd", "somebodyd"),
        ("dont", "don't"),
        ("Im", "im"),
        ("." * 40, "." * 8),
    ],
)
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


def by_definition(prediction, answers):
    """The official program's steps as they stand, on copies of the records."""
    records = [dict(record) for record in answers]
    for record in records:
        record["answer"] = record["answer"].replace("\n", " ").replace("\t", " ").strip()
    prediction = prediction.replace("\n", " ").replace("\t", " ").strip()
    if len({record["answer"] for record in records}) > 1:
        for record in records:
            record["answer"] = normalize_answer(record["answer"])
        prediction = normalize_answer(prediction)
    scores = []
    for record in records:
        others = [other for other in records if other != record]
        scores.append(
            min(1, float(len([other for other in others if other["answer"] == prediction])) / 3)
        )
    total = 0.0  # as `sum` added before Python 3.12, under which the official program was written
    for score in scores:
        total += score
    return total / len(scores)


IDS = {
    "unique": lambda rng, i: {"answer_id": i + 1},
    "some twice": lambda rng, i: {"answer_id": rng.randint(1, 10)},
    "1, 1.0 and True": lambda rng, i: {"answer_id": rng.choice([1, 1.0, True, 2, "1", None, 3.5])},
    "none": lambda rng, i: {},
    "some without": lambda rng, i: {"answer_id": i} if rng.random() < 0.7 else {},
    "lists": lambda rng, i: {"answer_id": [rng.randint(1, 5)]},
    "told apart by another field": lambda rng, i: {
        "answer_id": 1,
        "answer_confidence": rng.choice(["yes", "no", "maybe"]),
    },
}
AWKWARD = [
    "yes",
    "Yes",
    "yes ",
    "\tyes\n",
    "YES.",
    "two",
    "2",
    "a",
    "the",
    "",
    "t-shirt",
    "t shirt",
    "p.m.",
    "pm",
    "1,000",
    "dont",
    "don't",
]


@pytest.mark.parametrize("ids", IDS, ids=str)
def test_any_annotations_score_as_the_definition_says(ids):
    rng = random.Random(ids)
    seen = set()
    for _ in range(1500):
        words = rng.sample(AWKWARD, rng.randint(1, 4))
        answers = [
            {"answer": rng.choice(words), **IDS[ids](rng, i)}
            for i in range(rng.choice([1, 2, 3, 10, 10, 10, 12]))
        ]
        prediction = rng.choice([*words, "Yes", "cat"])
        expected = by_definition(prediction, answers)
        assert question_accuracy(prediction, answers) == expected, (
            prediction,
            answers,
        )  # to the last bit
        seen.add(expected)
    assert len(seen) > 4


def test_the_order_of_the_annotators_does_not_cost_a_bit():
    for pattern in range(1024):
        answers = [
            {"answer": "yes" if pattern >> i & 1 else "no", "answer_id": i} for i in range(10)
        ]
        assert question_accuracy("yes", answers) == by_definition("yes", answers)


@pytest.mark.slow
def test_the_validation_split_is_scored_in_seconds(tmp_path):
    """VQA v2's val has 214,354 questions; 10 s of one core are allowed on a quiet machine, three times that here."""
    rng = random.Random(0)
    words = [
        f"{word} {i}" for word in ("red", "t-shirt", "none of the", "1,000") for i in range(2000)
    ]
    questions, annotations, predictions = [], [], []
    for i in range(214_354):
        both = {"question_id": 1000 * i, "image_id": i // 5}
        kinds = [
            rng.choice(("yes", "no", "2", "white")) if rng.random() < 0.6 else rng.choice(words)
            for _ in range(3)
        ]
        answers = [rng.choice(kinds) if rng.random() < 0.4 else kinds[0] for _ in range(10)]
        records = [
            {"answer": a, "answer_confidence": "yes", "answer_id": k}
            for k, a in enumerate(answers, 1)
        ]
        questions.append({**both, "question": "What is on the left side of the picture?"})
        annotations.append(
            {
                **both,
                "question_type": "what is",
                "answer_type": "other",
                "multiple_choice_answer": kinds[0],
                "answers": records,
            }
        )
        predictions.append({"question_id": both["question_id"], "answer": rng.choice(kinds)})
    contents = {"q": {"questions": questions}, "a": {"annotations": annotations}, "p": predictions}
    for name, content in contents.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    started = time.process_time()
    result = score_vqa_files(*(tmp_path / name for name in contents))
    seconds = time.process_time() - started
    print(f"{result['n']:,} questions scored in {seconds:.1f} s of one core")
    assert result["n"] == 214_354 and seconds < 30
    for i in range(0, 214_354, 1000):
        assert result["per_question"][1000 * i] == by_definition(
            predictions[i]["answer"], annotations[i]["answers"]
        )


def test_the_training_target_is_another_function():
    assert [soft_target(k) for k in range(6)] == [0, 0.3, 0.6, 0.9, 1, 1]


def annotation(question_id):
    return {
        "question_id": question_id,
        "answer_type": "other",
        "question_type": "what",
        "answers": ten("cat"),
    }


def test_ids_must_be_equal():
    with pytest.raises(
        RequestError, match=r"1 question id without a prediction \(2\); 1 .* unknown .*\(3\)"
    ):
        vqa_accuracy({1: "cat", 3: "cat"}, [annotation(1), annotation(2)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"question_id": 1, "ans', "broken or cut-off JSON at line 1"),
        ("{}", "no list"),
        ('[{"question_id": 1}]', r"record 0 \(question_id 1\): has no 'answer'"),
        ('[{"question_id": 1, "answer": 3}]', "answer: 3 is not a string"),
        ('[{"question_id": NaN, "answer": "a"}]', "NaN is no JSON number"),
        ('[{"answer": "a"}]', "record 0: has no 'question_id'"),
        ('[{"question_id": "1", "answer": "a"}]', "record 0: question_id: '1' is not a whole"),
        ('[{"question_id": 1.5, "answer": "a"}]', "record 0: question_id: 1.5 is not a whole"),
    ],
)
def test_bad_predictions_get_one_line(tmp_path, content, message):
    path = tmp_path / "predictions.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RequestError, match=message) as error:
        score_vqa_files(*FILES[:2], path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.tsv", "folder"])
def test_predictions_of_another_form_are_told_what_is_read(tmp_path, name):
    (tmp_path / "folder").mkdir()
    if name != "folder":
        (tmp_path / name).write_text('{"question_id": 1, "answer": "a"}\n' * 2, encoding="utf-8")
    with pytest.raises(RequestError) as error:
        score_vqa_files(*FILES[:2], tmp_path / name)
    assert str(error.value).endswith(
        'a JSON list is expected: [{"question_id": 1, "answer": "yes"}, ...]'
    )


@pytest.mark.parametrize("place", [0, 1])
def test_a_folder_of_prepared_data_is_scored_by_another_command(tmp_path, place):
    files = list(FILES)
    files[place] = tmp_path
    with pytest.raises(RequestError, match="`vle-bench record vqa --data DIR` scores predictions"):
        score_vqa_files(*files)


@pytest.mark.parametrize("count", [0, 9, 11])
def test_other_than_ten_answers_are_refused(tmp_path, count):
    content = json.loads(FILES[1].read_text(encoding="utf-8"))
    record = content["annotations"][3]
    record["answers"] = (record["answers"] * 2)[:count]
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    expected = f"{count} of them, not 10" if count else "an empty list"
    with pytest.raises(
        RequestError,
        match=rf"a.json: record 3 \(question_id {record['question_id']}\): answers: .*{expected}",
    ):
        score_vqa_files(FILES[0], tmp_path / "a.json", FILES[2])


@pytest.mark.parametrize(
    ("number", "key", "message"),
    [
        (0, "questions", "record 600: question_id 331 a second time"),
        (1, "annotations", r"record 600 \(question_id \d+\): a second time"),
    ],
)
def test_a_question_twice_in_an_official_file_is_refused(tmp_path, number, key, message):
    content = json.loads(FILES[number].read_text(encoding="utf-8"))
    content[key].append(content[key][0])
    files = list(FILES)
    files[number] = tmp_path / "twice.json"
    files[number].write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RequestError, match=message):
        score_vqa_files(*files)


def test_interval_draws_whole_images():
    scores = np.repeat([0.0, 1.0], 500)
    narrow = interval(scores, np.arange(1000))
    wide = interval(scores, np.repeat(np.arange(20), 50))
    assert narrow == interval(scores, np.arange(1000))
    assert 0.45 < narrow[0] < 0.5 < narrow[1] < 0.55
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])


def numbered_records(*answers):
    return [{"answer": answer, "answer_id": i} for i, answer in enumerate(answers)]


def test_exact_and_soft_accuracy_normalise_and_count():
    two = numbered_records("The Red", "red.", "blue", "Two")
    assert [exact_accuracy(p, two) for p in ("red", "2", "blue", "green")] == [1, 1, 1, 0]
    assert soft_accuracy("a red", two) == pytest.approx(2 / 3)
    assert soft_accuracy("blue", two) == pytest.approx(1 / 3)
    assert soft_accuracy("green", two) == 0
    # Three of ten: 1 here, and 0.9 officially, which leaves one annotator out at a time.
    ten = numbered_records(*["red"] * 3, *["blue"] * 7)
    assert soft_accuracy("red", ten) == 1.0
    assert question_accuracy("red", ten) == pytest.approx(0.9)


def test_a_split_is_scored_with_the_metric_that_is_asked_for():
    annotations = [
        {
            "question_id": 1,
            "question_type": "what",
            "answer_type": "other",
            "answers": numbered_records("Red", "red", "blue"),
        }
    ]
    assert vqa_accuracy({1: "the red"}, annotations, exact_accuracy)["accuracy"] == 1.0
    assert vqa_accuracy({1: "the red"}, annotations, soft_accuracy)["accuracy"] == pytest.approx(
        2 / 3
    )
