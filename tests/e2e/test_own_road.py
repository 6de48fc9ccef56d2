"""The whole road on one's own data, the same from four formats, and a model scored on other data."""

import json
import shutil
from pathlib import Path

import pytest

from tests.miniature.in_process import run
from tests.miniature.own import easy_rows, export
from vle_bench.atomic import file_sha256
from vle_bench.data.prepared import open_prepared
from vle_bench.evaluation.record import load_record

ROOT = Path(__file__).parents[2]
STEPS = (
    *("train.max_steps=3", "train.evaluate_every=3", "train.batch_size=32", "train.num_workers=0"),
    "train.per_device_batch_size=32",
)
FORMATS = {"csv": "data.csv", "jsonl": "data.jsonl", "parquet": "data.parquet", "imagefolder": ""}


def train(work, data, name, *more):
    root = f"data.root=data/{data}"
    run("train", "own/vle-tiny", root, *STEPS, *more, "--output-dir", f"runs/{name}", cwd=work)
    return work / "runs" / name


def weights(folder):
    return file_sha256(folder / "last" / "model.safetensors")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    rows = easy_rows(30)
    for kind, name in FORMATS.items():
        export(rows, kind, folder / kind)
        run("prepare", "own", f"{kind}/{name}", "--output", f"data/{kind}", cwd=folder)
    colours = [
        {**row, "answer": row["answer"].upper()} for row in rows if "what" in row["question"]
    ]
    export([*colours, {**colours[0], "question": "why?", "answer": "nobody knows"}], "csv", folder)
    spec = {"source": "data.csv", "name": "shouted", "splits": {"train": 0.5, "val": 0.5}}
    (folder / "shouted.yaml").write_text(json.dumps(spec), encoding="utf-8")
    run("prepare", "own", "shouted.yaml", "--output", "data/shouted", cwd=folder)
    (folder / "leaderboards").mkdir()
    shutil.copy(ROOT / "leaderboards" / "published.yaml", folder / "leaderboards")
    return folder


@pytest.fixture(scope="module")
def runs(work):
    """A run of each format, and another seed."""
    found = {kind: train(work, kind, kind) for kind in FORMATS}
    return found | {"other": train(work, "csv", "other", "train.seed=1")}


def test_four_formats_train_to_the_same_bytes(runs):
    assert len({weights(runs[kind]) for kind in FORMATS}) == 1
    assert weights(runs["other"]) != weights(runs["csv"])


def test_record_report_comparison_and_table(work, runs):
    record = load_record(runs["csv"] / "results" / "vqa.test.json")
    manifest = json.loads((work / "data" / "csv" / "manifest.json").read_text(encoding="utf-8"))
    assert record.data == {
        "source": "own",
        "name": "csv",
        "metric": "exact",
        "targets": "normalised",
        "manifest_hash": manifest["hash"],
    }
    assert record.training_data == {
        "source": "own",
        "name": "csv",
        "manifest_hash": manifest["hash"],
    }
    assert record.ranked and not record.transferred
    shown, _ = run("evaluate", "runs/csv", "--split", "val", cwd=work)
    assert "own-vle-tiny on val of csv" in shown
    shown, _ = run("report", "runs/csv", cwd=work)
    assert "written: runs/csv/report.vqa.test.html" in shown
    page = (runs["csv"] / "report.vqa.test.html").read_text(encoding="utf-8")
    assert "of csv" in page or "on csv" in page
    shown, _ = run("compare", "runs/csv", "runs/other", cwd=work)
    assert "vqa on test of csv" in shown
    run("predict", "runs/csv", "--split", "test", "--output", "answers.json", cwd=work)
    assert len(json.loads((work / "answers.json").read_text(encoding="utf-8"))) == record.n
    run("table", "--add", "runs/csv", "--add", "runs/other", cwd=work)
    table = (work / "leaderboards" / "own.md").read_text(encoding="utf-8")
    assert f"csv, test: {record.n} questions. Percent, exact: equal to the answer" in table
    assert "2 seeds" in table


def test_a_model_is_scored_on_other_data_with_its_own_answers(work, runs):
    """The accuracy needs no vocabulary; the record names both data, and no table ranks it."""
    trained = train(work, "shouted", "shouted", "data.report=val")
    run("table", "--add", "runs/shouted", cwd=work)
    command = ("evaluate", "runs/csv", "--data", "data/shouted", "--split", "val")
    shown, said = run(*command, cwd=work)
    assert "own-vle-tiny on val of shouted" in shown
    # Both data have the same pictures, and their shares of them are others.
    ids = [
        set(open_prepared(work / "data" / name).questions(split)["image_id"])
        for name, split in (("csv", "train"), ("shouted", "val"))
    ]
    shared = len(ids[0] & ids[1])
    assert shared and f"{shared} of its pictures are among those of the training" in said
    assert "trained on csv: never ranked among models of this data" in shown
    assert "soft_score_in_vocabulary is left out" in shown
    path = runs["csv"] / "results" / "vqa.val@shouted.json"
    record, own = load_record(path), load_record(trained / "results" / "vqa.val.json")
    assert (record.data, record.ids_sha256, record.n) == (own.data, own.ids_sha256, own.n)
    assert record.training_data["name"] == "csv" and record.training_splits == ["train"]
    assert record.transferred and not record.ranked and record.contaminated
    # "RED" and "red" are one answer to the metric, so that the score is that of the own questions.
    predictions = runs["csv"] / "predictions" / "vqa.val@shouted.jsonl"
    lines = predictions.read_text(encoding="utf-8")
    predicted = {row["id"]: row["answer"] for row in map(json.loads, lines.splitlines())}
    truths = open_prepared(work / "data" / "shouted").questions("val")
    right = [
        predicted[row["question_id"]] == row["multiple_choice_answer"].lower() for row in truths
    ]
    assert record.metrics["accuracy"].value == pytest.approx(sum(right) / len(right))
    # The run's own record of that split stays.
    assert load_record(runs["csv"] / "results" / "vqa.test.json").data["name"] == "csv"
    run(*command, cwd=work)  # the same weights on the same data may be scored again
    assert load_record(path).metrics == record.metrics
    shown, _ = run("report", "runs/csv", "--split", "val", "--data", "data/shouted", cwd=work)
    assert "written: runs/csv/report.vqa.val@shouted.html" in shown
    both = ("compare", "runs/csv", "runs/shouted", "--split", "val", "--data", "data/shouted")
    assert "vqa on val of shouted" in run(*both, cwd=work)[0]
    run("table", "--add", str(path.relative_to(work)), cwd=work)
    table = (work / "leaderboards" / "own.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if "own-vle-tiny (" in line]
    assert "trained on csv" in rows[-1] and "⇄" in rows[-1]
    assert "never ranked among the models of this one" in table


def test_another_version_of_the_data_is_other_data(work, runs):
    """Its name is that of the training data; the hash says that its splits are others."""
    spec = {"source": "csv/data.csv", "name": "csv", "splits": {"train": 0.4, "test": 0.6}}
    (work / "again.yaml").write_text(json.dumps(spec), encoding="utf-8")
    run("prepare", "own", "again.yaml", "--output", "data/again", cwd=work)
    first, again = (open_prepared(work / "data" / name) for name in ("csv", "again"))
    name = f"csv-{again.manifest.hash[:8]}"
    assert again.manifest.name == first.manifest.name == "csv" and name != "csv"
    own = (runs["other"] / "results" / "vqa.test.json").read_bytes()
    command = ("evaluate", "runs/other", "--data", "data/again", "--split", "test")
    shown, said = run(*command, cwd=work)
    path = runs["other"] / "results" / f"vqa.test@{name}.json"
    assert (runs["other"] / "results" / "vqa.test.json").read_bytes() == own
    record = load_record(path)
    seen = set(first.questions("train")["image_id"]) & set(again.questions("test")["image_id"])
    assert seen and f"{len(seen)} of its pictures are among those of the training" in said
    assert record.contaminated is True and record.transferred and not record.ranked
    assert f"on test of {name}" in shown
    assert f"trained on csv-{first.manifest.hash[:8]}: never ranked" in shown
    run("report", "runs/other", "--split", "test", "--data", "data/again", cwd=work)
    page = (runs["other"] / f"report.vqa.test@{name}.html").read_text(encoding="utf-8")
    assert f"on train of csv-{first.manifest.hash[:8]} (seed" in page
    assert f"questions of test of {name}." in page
    card = (runs["other"] / "last" / "README.md").read_text(encoding="utf-8")
    assert "for the task `vqa` on csv, splits `train`" in card and "own data" not in card
    assert f"| {name} | test (contaminated) | accuracy |" in card
    assert "| csv | test | accuracy |" in card
    assert f"{name} is not what the model was trained on" in card
    shown, _ = run("table", "--add", str(path.relative_to(work)), cwd=work)
    assert f"test@{name}.seed-1" in shown and "not ranked, it would be at place" in shown


def test_copies_that_cannot_be_looked_for_are_not_known(work, runs):
    """The training data were prepared anew in their place: nobody knows what they held."""
    shutil.copytree(runs["csv"], work / "runs" / "moved")
    recipe = work / "runs" / "moved" / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("data/csv", "data/gone"), encoding="utf-8")
    command = ("evaluate", "runs/moved", "--data", "data/shouted", "--split", "val")
    _, said = run(*command, cwd=work)
    assert "it was not checked whether its pictures" in said
    record = load_record(work / "runs/moved/results/vqa.val@shouted.json")
    assert record.contaminated is None and not record.ranked
