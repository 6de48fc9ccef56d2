"""Scores and results files of the datasets by name, from official files with generated answers."""

import itertools
import json
import math
import random
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.miniature.by_name import GQA_TYPES, WRITERS
from tests.miniature.vqav2 import write
from vle_bench.data.prepare.by_name import LAYOUTS, prepare_named
from vle_bench.data.prepare.manifest import AS_USUAL
from vle_bench.data.prepared import open_prepared
from vle_bench.metrics.answers import multiple_choice
from vle_bench.tasks import vqa
from vle_bench.tasks.predictions import Prediction
from vle_bench.tasks.vqa import VQA_TASK, id_column

WORDS = ("yes", "no", "red", "table", "T-shirt", "two", "2", "the cat", "cat")
QUESTIONS = 240


def prepared(name, official, output):
    prepare_named(name, official, output, AS_USUAL, {})
    data = open_prepared(output)
    return data, VQA_TASK.for_data(data)


def predicted(data, split, answer_of):
    """Predictions by official id."""
    questions = data.questions(split)
    pairs = zip(questions["question_id"], questions[id_column(questions)], strict=True)
    return [Prediction(i, {"answer": answer_of(official), "score": 0.5}) for i, official in pairs]


def average(values):
    values = list(values)
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


@pytest.mark.parametrize("seed", [0, 1])
def test_gqa(seed, tmp_path):
    """The figures of its program: overall, binary and open, by structural and by semantic type."""
    draw = random.Random(seed)
    official = WRITERS["gqa"](tmp_path / "official")
    file = official / "testdev_balanced_questions.json"
    images = [record["imageId"] for record in json.loads(file.read_text("utf-8")).values()]
    records = {}
    for n in range(QUESTIONS):
        structural, semantic, detailed, _ = draw.choice(GQA_TYPES)
        kinds = {
            "structural": structural,
            "semantic": draw.choice([semantic, "obj"]),
            "detailed": detailed,
        }
        record = {"imageId": draw.choice(images), "question": f"What {n}?", "isBalanced": True}
        records[f"{n:08d}"] = {**record, "answer": draw.choice(WORDS), "types": kinds}
    write(file, records)
    data, task = prepared("gqa", official, tmp_path / "data")
    answers = {i: draw.choice([r["answer"], *WORDS[:4]]) for i, r in records.items()}
    scores = task.score(predicted(data, "testdev", answers.get), data.questions("testdev"))

    hits = {i: 1.0 if answers[i] == r["answer"] else 0.0 for i, r in records.items()}
    assert scores.metrics["accuracy"]["value"] == average(hits.values())
    assert 0.2 < average(hits.values()) < 0.9
    expected = defaultdict(lambda: defaultdict(list))
    for i, record in records.items():
        kinds = record["types"]
        expected["structural"][kinds["structural"]].append(hits[i])
        expected["semantic"][kinds["semantic"]].append(hits[i])
        expected["form"]["open" if kinds["structural"] == "query" else "binary"].append(hits[i])
    for kind, groups in expected.items():
        found = {
            name: (figure["value"], figure["n"]) for name, figure in scores.breakdown[kind].items()
        }
        assert found == {name: (average(values), len(values)) for name, values in groups.items()}


def ten(draw, answers):
    return [
        {"answer_id": i, "answer": draw.choice(answers), "answer_confidence": "yes"}
        for i in range(1, 11)
    ]


def official_accuracy(prediction, answers):
    """VQA v2's, for answers and predictions that normalising does not change."""
    others = [[a for j, a in enumerate(answers) if j != i] for i in range(10)]
    return average(min(1.0, rest.count(prediction) / 3) for rest in others)


@pytest.mark.parametrize("seed", [0, 1])
def test_consensus_of_rephrasings(seed, tmp_path):
    draw = random.Random(seed)
    official = WRITERS["vqa-rephrasings"](tmp_path / "official")
    split = LAYOUTS["vqa-rephrasings"].splits["val"]
    asked, truths = [], []
    for group in range(QUESTIONS // 4):
        answers = ten(draw, ["red", "blue", "green"])
        for k in range(4 if group else 3):  # the first group lacks one and does not count
            ids = {
                "question_id": 7000 + group if k == 0 else (7000 + group) * 10 + k,
                "image_id": 42 + group % 2,
            }
            more = {"rephrasing_of": 7000 + group} if k else {}
            asked.append({**ids, "question": f"Which? {k}", **more})
            types = {
                "question_type": "which",
                "answer_type": "other",
                "multiple_choice_answer": "red",
            }
            truths.append({**ids, **types, "answers": answers})
    write(official / split.questions, {"questions": asked})
    write(official / split.annotations, {"annotations": truths})
    data, task = prepared("vqa-rephrasings", official, tmp_path / "data")
    questions = data.questions("val")
    answers = {i: draw.choice(["red", "blue", "green", "grey"]) for i in questions["question_id"]}
    scores = task.score(predicted(data, "val", answers.get), questions)

    groups = defaultdict(list)
    for row in questions:
        groups[row["rephrasing_of"]].append(
            official_accuracy(answers[row["question_id"]], row["answers"])
        )
    assert scores.metrics["accuracy"]["value"] == pytest.approx(
        average(sum(groups.values(), [])), abs=1e-12
    )
    for k in (1, 2, 3, 4):
        shares = []
        for values in groups.values():
            if len(values) == 4:
                subsets = list(itertools.combinations(values, k))
                shares.append(
                    sum(all(value > 0 for value in subset) for subset in subsets) / len(subsets)
                )
        figure = scores.metrics[f"consensus_{k}"]
        assert figure["value"] == average(shares) and figure["n"] == QUESTIONS // 4 - 1
        assert figure["interval"][0] <= figure["value"] <= figure["interval"][1]
    assert scores.metrics["consensus_1"]["value"] > scores.metrics["consensus_4"]["value"] > 0


def test_other_data_have_no_consensus(tmp_path):
    data, task = prepared("advqa", WRITERS["advqa"](tmp_path / "official"), tmp_path / "data")
    scores = task.score(predicted(data, "val", lambda i: "2"), data.questions("val"))
    assert {*scores.metrics} == {"accuracy", "accuracy_not_yes_no"} and {*scores.breakdown} == {
        "answer_type",
        "question_type",
    }


@pytest.mark.parametrize(
    ("name", "answer", "accuracy"),
    [
        ("vizwiz", "The red", average([1.0, 1.0, 1.0, 0.0])),  # "red" six times as it stands
        ("vizwiz", "unanswerable", average([0.0, 0.0, 0.0, 1.0])),
        ("textvqa", "STOP", 1.0),
        ("textvqa", "Go!", 0.3),
        ("aokvqa", "cab", 1.0),
        ("aokvqa", "taxi", 2 / 3),  # no annotator is left out
        ("aokvqa", "Cab", 0.0),  # compared as given
        ("aokvqa-choices", "cab", 1.0),
        ("aokvqa-choices", "train", 0.0),
        ("okvqa", "two", average([1.0, 0.0] * 3)),
        ("vqa-cp-v2", "red", average([0.0, 1.0] * 4)),
    ],
)
def test_each_is_scored_with_its_own_accuracy(name, answer, accuracy, tmp_path):
    data, task = prepared(name, WRITERS[name](tmp_path / "official"), tmp_path / "data")
    split = "test" if name == "vqa-cp-v2" else "val"
    scores = task.score(predicted(data, split, lambda i: answer), data.questions(split))
    assert scores.metrics["accuracy"]["value"] == pytest.approx(accuracy, abs=1e-12)
    if name == "vizwiz":
        assert {*scores.breakdown["answer_type"]} == {"other", "unanswerable"}


RESULTS = {
    "vizwiz": (
        "test",
        [{"image": "VizWiz_test_00000000.jpg", "answer": "VizWiz_test_00000000.jpg!"}],
    ),
    "textvqa": ("test", [{"question_id": 39602, "answer": "39602!"}]),
    "advqa": ("test-dev", [{"question_id": 770, "answer": "770!"}]),
    "gqa": ("submission", [{"questionId": "0300", "prediction": "0300!"}]),
    "aokvqa": ("test", {"22MexNkBPpdZGX6sxbxte0": {"direct_answer": "22MexNkBPpdZGX6sxbxte0!"}}),
    "aokvqa-choices": (
        "test",
        {"22MexNkBPpdZGX6sxbxte0": {"multiple_choice": "22MexNkBPpdZGX6sxbxte0!"}},
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_the_results_file_has_the_official_form_and_ids(name, tmp_path):
    data, task = prepared(name, WRITERS[name](tmp_path / "official"), tmp_path / "data")
    split, expected = RESULTS[name]
    questions = data.questions(split)
    text = task.submission(predicted(data, split, lambda i: f"{i}!"), questions)
    found = json.loads(text)
    assert text.endswith("\n") and len(found) == len(questions) > 1
    if isinstance(expected, list):
        assert expected[0] in found and {tuple(record) for record in found} == {tuple(expected[0])}
    else:
        assert expected.items() <= found.items()


def test_data_with_vqa_v2s_metric_and_file_have_its_task(tmp_path):
    _, task = prepared("okvqa", WRITERS["okvqa"](tmp_path / "official"), tmp_path / "data")
    assert task == VQA_TASK


@pytest.mark.parametrize("seed", [0, 1])
def test_multiple_choice(seed):
    """The most probable choice of the label map, against a search through all of them."""
    rng = np.random.default_rng(seed)
    labels = [f"answer {n}" for n in range(30)] + ["2"]
    choices, right = {}, {}
    for n in range(QUESTIONS):
        among = [*rng.choice(labels[:-1], 3, replace=False).tolist(), f"unknown {n}"]
        choices[n] = [str(answer) for answer in rng.permutation(among)]
        right[n] = choices[n][int(rng.integers(4))]
    choices[0] = ["red", "blue"]  # neither is in the label map
    choices[1] = ["two", "answer 1"]  # known in its normalised form
    logits = torch.tensor(rng.normal(size=(QUESTIONS, len(labels))), dtype=torch.float32)
    logits[1, -1] = 9.0
    predictions = replace(VQA_TASK, choices=choices).predictions(logits, [*choices], labels)
    hits = []
    for n, prediction in enumerate(predictions):
        best, highest = choices[n][0], -math.inf
        for choice in choices[n]:
            if choice in labels and float(logits[n][labels.index(choice)]) > highest:
                best, highest = choice, float(logits[n][labels.index(choice)])
        best = "two" if n == 1 else best
        assert prediction.id == n and prediction["answer"] == best
        assert "label" not in prediction.values and VQA_TASK.wrong(prediction) is None
        hits.append(1.0 if best == right[n] else 0.0)
        assert multiple_choice(prediction["answer"], [right[n]]) == hits[-1]
    assert predictions[0].values == {"answer": "red", "score": 0.0}
    assert 0.15 < average(hits) < 0.5


def test_a_question_is_predicted_among_its_own_choices(tmp_path, monkeypatch):
    official = WRITERS["aokvqa-choices"](tmp_path / "official")
    data, task = prepared("aokvqa-choices", official, tmp_path / "data")
    monkeypatch.setattr(vqa, "predict_in_batches", lambda task, _: task.choices)
    questions = data.questions("test")
    assert task.predict(SimpleNamespace(data=data, split="test", processor=None)) == dict(
        zip(questions["question_id"], questions["choices"], strict=True)
    )
    direct, task = prepared("aokvqa", official, tmp_path / "direct")
    assert task.predict(SimpleNamespace(data=direct, split="test", processor=None)) == {}


def test_unanswerable_questions(tmp_path):
    """Of val's four questions the last is unanswerable; the model gives the answer a probability."""
    data, task = prepared("vizwiz", WRITERS["vizwiz"](tmp_path / "official"), tmp_path / "data")
    questions = data.questions("val")
    assert [row["official_id"][-5] for row in questions if row["unanswerable"]] == ["3"]
    assert data.questions("test")["unanswerable"] == [None] * 4
    labels = ["red", "unanswerable"]
    chances = {"0": 0.7, "1": 0.2, "2": 0.1, "3": 0.6}
    asked = [row["official_id"][-5] for row in questions]
    logits = torch.tensor([[2.0, math.log(chances[n] / (1 - chances[n]))] for n in asked])
    ids = questions["question_id"]
    predictions = replace(task, unanswerable=True).predictions(logits, ids, labels)
    assert [one["unanswerable"] for one in predictions] == pytest.approx(
        [chances[n] for n in asked], abs=1e-6
    )
    assert all(task.wrong(one) is None for one in predictions)
    found = task.score(predictions, questions).metrics
    assert found["unanswerable_average_precision"]["value"] == 0.5  # the second of two
    assert found["unanswerable_f1"]["value"] == pytest.approx(2 / 3)
    assert found["unanswerable_f1"]["n"] == 4
    without = replace(task, unanswerable=True).predictions(logits, ids, ["red", "blue"])
    assert not [name for name in task.score(without, questions).metrics if "unanswerable" in name]
    broken = Prediction(1, {"answer": "red", "score": 0.5, "unanswerable": 2})
    assert task.wrong(broken) == "unanswerable: 2 is no probability"
