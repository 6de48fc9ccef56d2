"""The whole road on one's own multiple-choice questions: train, evaluate, predict, report, table."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.miniature.in_process import run
from tests.miniature.own import choice_rows, vcr_rows, write_lines
from vle_bench.bench import bench
from vle_bench.data.prepare.shapes_vcr import prepare_shapes_vcr
from vle_bench.data.prepared import open_prepared
from vle_bench.evaluation.record import load_record

ROOT = Path(__file__).parents[2]
STEPS = ("train.max_steps=3", "train.evaluate_every=3", "train.batch_size=16")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Prepared questions, and runs of two seeds."""
    folder = tmp_path_factory.mktemp("choices")
    rows = [{**row, "id": f"q{n}"} for n, row in enumerate(choice_rows(30))]
    write_lines(folder / "my.jsonl", rows)
    (folder / "my.yaml").write_text("form: choice\nsource: my.jsonl\n", encoding="utf-8")
    run("prepare", "own", "my.yaml", "--output", "data/my-choices", cwd=folder)
    for seed in (0, 1):
        recipe = ("own/choice-tiny", *STEPS, "train.per_device_batch_size=16")
        output = ("--output-dir", f"runs/{seed}")
        run("train", *recipe, f"train.seed={seed}", *output, cwd=folder)
    (folder / "leaderboards").mkdir()
    shutil.copy(ROOT / "leaderboards" / "published.yaml", folder / "leaderboards")
    return folder


def questions_of(work, split, name="my-choices"):
    return open_prepared(work / "data" / name).questions(split).to_list()


def test_the_score_is_the_share_of_right_choices(work):
    run("evaluate", "runs/0", "--split", "val", cwd=work)
    record = load_record(work / "runs" / "0" / "results" / "choice.val.json")
    lines = (work / "runs" / "0" / "predictions" / "choice.val.jsonl").read_text(encoding="utf-8")
    predicted = {row["id"]: row for row in map(json.loads, lines.splitlines())}
    questions = questions_of(work, "val")
    right = [predicted[q["question_id"]]["chosen"] == q["right_choice"] for q in questions]
    assert record.n == len(questions) == len(predicted)
    assert record.metrics["accuracy"].value == pytest.approx(sum(right) / len(right))
    assert record.metrics["accuracy"].interval is not None
    for question in questions:
        scores = predicted[question["question_id"]]["scores"]
        assert len(scores) == len(question["choices"]) and sum(scores) == pytest.approx(1)
    assert (record.data["source"], record.data["name"]) == ("own", "my-choices")
    assert record.ranked and "metric" not in record.data


def test_the_results_file_has_the_ids_of_the_user(work):
    run("predict", "runs/0", "--split", "test", "--output", "answers.json", cwd=work)
    rows = json.loads((work / "answers.json").read_text(encoding="utf-8"))
    choices = {q["official_id"]: q["choices"] for q in questions_of(work, "test")}
    assert {row["question_id"] for row in rows} == choices.keys() and len(rows) == len(choices)
    assert all(choices[row["question_id"]][row["choice"]] == row["answer"] for row in rows)


def test_report_comparison_and_table(work):
    run("report", "runs/0", cwd=work)
    page = (work / "runs" / "0" / "report.choice.test.html").read_text(encoding="utf-8")
    assert "A mistake is a wrong choice." in page and "✗ chosen" in page
    shown, _ = run("compare", "runs/0", "runs/1", cwd=work)
    assert "choice on test of my-choices" in shown
    run("table", "--add", "runs/0", "--add", "runs/1", cwd=work)
    table = (work / "leaderboards" / "own.md").read_text(encoding="utf-8")
    assert "Percent, accuracy: the share of questions whose right choice is predicted." in table
    assert "2 seeds" in table


def test_a_model_is_scored_on_other_questions(work):
    """With other numbers of choices; no table ranks it among models of those data."""
    rows = [{**row, "choices": [*row["choices"], "none"]} for row in choice_rows(12)]
    write_lines(work / "other.jsonl", rows)
    spec = {"form": "choice", "splits": {"val": "other.jsonl"}}
    (work / "other.yaml").write_text(json.dumps(spec), encoding="utf-8")
    run("prepare", "own", "other.yaml", "--output", "data/other", cwd=work)
    run("evaluate", "runs/0", "--data", "data/other", "--split", "val", cwd=work)
    record = load_record(work / "runs" / "0" / "results" / "choice.val@other.json")
    assert record.n == len(rows) and record.transferred and not record.ranked
    assert (record.data["name"], record.training_data["name"]) == ("other", "my-choices")


def test_speed_without_any_data(work, monkeypatch):
    monkeypatch.setattr(bench, "PRODUCT_ON_CPU", 64)
    few = ("--steps", "1", "--evaluation-batch-size", "8", "train.batch_size=4")
    few += ("train.per_device_batch_size=4", "--json")
    shown, _ = run("bench", "own/choice-tiny", "--synthetic", *few, cwd=work)
    report = json.loads(shown.splitlines()[-1])
    # three to five choices a question, of one or more texts an image
    assert 3 <= report["training"]["texts_per_image"] <= 5


def test_the_page_of_what_a_run_gets(work):
    run("look", "runs/0", "--examples", "2", cwd=work)
    page = (work / "runs" / "0" / "look.train.html").read_text(encoding="utf-8")
    assert "What a run of the recipe own-choice-tiny gets of train" in page
    assert "Choices a question" in page


def test_the_road_with_boxes(work):
    """Train, evaluate, predict, report and compare; a model without boxes reads the names."""
    prepare_shapes_vcr(work / "vcr", 0, questions={"train": 40, "val": 2, "test": 2})
    write_lines(work / "boxes.jsonl", vcr_rows(open_prepared(work / "vcr"), "train", work))
    (work / "boxes.yaml").write_text("form: choice\nsource: boxes.jsonl\n", encoding="utf-8")
    run("prepare", "own", "boxes.yaml", "--output", "data/my-boxes", cwd=work)
    for name, alignment in (("on", "on"), ("off", "off")):
        recipe = ("own/choice-boxes-tiny", *STEPS, "train.per_device_batch_size=16")
        recipe += (f"model.alignment={alignment}", "--output-dir", f"runs/boxes-{name}")
        run("train", *recipe, cwd=work)
    predicted = {}
    for name in ("boxes-on", "boxes-off"):
        run("evaluate", f"runs/{name}", "--split", "val", cwd=work)
        record = load_record(work / "runs" / name / "results" / "choice.val.json")
        assert record.ranked and record.n == len(questions_of(work, "val", "my-boxes"))
        file = work / "runs" / name / "predictions" / "choice.val.jsonl"
        predicted[name] = file.read_text(encoding="utf-8")
    assert predicted["boxes-on"] != predicted["boxes-off"]
    run("report", "runs/boxes-on", "--split", "val", cwd=work)
    page = (work / "runs" / "boxes-on" / "report.choice.val.html").read_text(encoding="utf-8")
    assert re.search(r"person\[\d\]", page) and '<rect class="box o' in page
    shown, _ = run("compare", "runs/boxes-on", "runs/boxes-off", cwd=work)
    assert "choice on test of my-boxes" in shown
    run("predict", "runs/boxes-on", "--split", "test", "--output", "boxes.json", cwd=work)
    run("evaluate", "runs/0", "--data", "data/my-boxes", "--split", "val", cwd=work)
    record = load_record(work / "runs" / "0" / "results" / "choice.val@my-boxes.json")
    assert record.transferred and not record.ranked


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ("train", "own/vle-tiny", "data.root=data/my-choices"),
            "no answers to choose from for vqa",
        ),
        (
            ("train", "own/choice-tiny", "data.source=easy-vqa"),
            "task choice cannot be trained on data.source easy-vqa",
        ),
    ],
)
def test_what_does_not_go_together(work, command, message):
    _, errors = run(*command, cwd=work, code=2)
    assert message in errors and len(errors.strip().splitlines()) == 1
