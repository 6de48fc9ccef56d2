"""VCR through the command line on a miniature of the official files."""

import csv
import json

import pytest

from tests.miniature import in_process
from tests.miniature.vcr import write_vcr
from vle_bench.data.official.vcr import COLUMNS

SMALL = [
    "data.root=data/vcr",
    "data.source=vcr",
    "train.max_steps=4",
    "train.evaluate_every=2",
    "train.log_every=2",
    "train.batch_size=4",
    "train.per_device_batch_size=4",
    "train.num_workers=0",
]


def run(*arguments, cwd, code=0):
    """What a command prints on stdout, or on stderr where a failure is expected."""
    shown, errors = in_process.run(*arguments, cwd=cwd, code=code)
    return shown if code == 0 else errors


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    write_vcr(folder / "official")
    assert "train" in run(
        "prepare", "vcr", "--source", "official", "--output", "data/vcr", cwd=folder
    )
    for name, recipe, more in (
        ("q2a", "demo/vcr-q2a-tiny", []),
        ("qa2r", "demo/vcr-qa2r-tiny", []),
        ("joint", "demo/vcr-q2a-tiny", ["task=vcr_joint"]),
    ):
        shown = run("train", recipe, *SMALL, *more, "--output-dir", f"runs/{name}", cwd=folder)
        assert f"written: runs/{name}/" in shown and "by objects tagged" in shown
    return folder


def metrics(path):
    return {
        name: metric["value"]
        for name, metric in json.loads(path.read_text(encoding="utf-8"))["metrics"].items()
    }


def rows(path):
    return {
        row["id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    }


def test_a_run_says_what_it_scored(work):
    record = json.loads((work / "runs/q2a/results/vcr_q2a.val.json").read_text(encoding="utf-8"))
    found = rows(work / "runs/q2a/predictions/vcr_q2a.val.jsonl")
    truth = {
        r["annot_id"]: r["answer_label"]
        for r in map(
            json.loads, (work / "official/val.jsonl").read_text(encoding="utf-8").splitlines()
        )
    }
    assert found.keys() == truth.keys() and record["n"] == len(truth)
    hits = sum(found[i]["q2a"] == truth[i] for i in truth)
    assert record["metrics"]["accuracy"]["value"] == hits / len(truth)
    assert sum(group["n"] for group in record["breakdown"]["answer_likelihood"].values()) == len(
        truth
    )
    assert not (work / "runs/q2a/best/label_map.json").exists()


def test_two_runs_are_joined_by_annot_id(work):
    shown = run("evaluate", "runs/q2a", "--with", "runs/qa2r", cwd=work)
    assert "q2ar" in shown and "written: runs/q2a/results/vcr_q2ar.val.json" in shown
    joined = metrics(work / "runs/q2a/results/vcr_q2ar.val.json")
    q2a, qa2r = (rows(work / f"runs/{n}/predictions/vcr_{n}.val.jsonl") for n in ("q2a", "qa2r"))
    truth = [
        json.loads(line)
        for line in (work / "official/val.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    both = [
        (
            q2a[r["annot_id"]]["q2a"] == r["answer_label"],
            qa2r[r["annot_id"]]["qa2r"] == r["rationale_label"],
        )
        for r in truth
    ]
    assert joined["q2ar"] == sum(a and b for a, b in both) / len(both)
    assert joined["q2a"] == sum(a for a, _ in both) / len(both)
    record = json.loads((work / "runs/q2a/results/vcr_q2ar.val.json").read_text(encoding="utf-8"))
    assert record["task"] == "vcr_q2ar" and " + " in record["recipe"]["name"]


def test_a_join_of_other_rows_is_refused(work):
    predictions = work / "runs/qa2r/predictions/vcr_qa2r.val.jsonl"
    lines = predictions.read_text(encoding="utf-8").splitlines(keepends=True)
    try:
        predictions.write_text("".join(lines[1:]), encoding="utf-8")
        assert "1 annot_ids are in one only" in run(
            "evaluate", "runs/q2a", "--with", "runs/qa2r", cwd=work, code=2
        )
        truth = {
            r["annot_id"]: r["rationale_label"]
            for r in map(
                json.loads, (work / "official/val.jsonl").read_text(encoding="utf-8").splitlines()
            )
        }
        right = [{**row, "qa2r": truth[row["id"]]} for row in map(json.loads, lines)]
        predictions.write_text("".join(json.dumps(row) + "\n" for row in right), encoding="utf-8")
        shown = run("evaluate", "runs/q2a", "--with", "runs/qa2r", cwd=work, code=2)
        assert "the predictions of qa2r are not those of the record; evaluate again" in shown
    finally:
        predictions.write_text("".join(lines), encoding="utf-8")
    missing = run("evaluate", "runs/q2a", "--with", "runs/joint", cwd=work, code=2)
    assert (
        "runs/joint/results/vcr_qa2r.val.json: no such file; `vle-bench evaluate runs/joint --split val`"
        in missing
    )


def test_the_joint_run_scores_all_three(work):
    found = metrics(work / "runs/joint/results/vcr_joint.val.json")
    assert list(found) == ["q2a", "q2ar", "qa2r"] and found["q2ar"] <= min(
        found["q2a"], found["qa2r"]
    )
    shown = run(
        "evaluate", "runs/joint", "--split", "val", "--output", "again/results/r.json", cwd=work
    )
    assert metrics(work / "again/results/r.json") == found and "q2ar" in shown


@pytest.mark.parametrize(
    "of", [["runs/q2a", "--with", "runs/qa2r"], ["runs/qa2r", "--with", "runs/q2a"], ["runs/joint"]]
)
def test_the_leaderboards_file(work, of):
    name = "-".join(of).replace("/", "-")
    assert "each question of test once" in run(
        "predict", *of, "--split", "test", "--output", f"{name}.csv", cwd=work
    )
    assert ": fine: " in run(
        "check-submission", "vcr", f"{name}.csv", "--annotations", "official/test.jsonl", cwd=work
    )
    lines = list(csv.reader((work / f"{name}.csv").open(encoding="utf-8")))
    ids = [
        json.loads(line)["annot_id"]
        for line in (work / "official/test.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert tuple(lines[0]) == COLUMNS and [line[0] for line in lines[1:]] == ids
    # scored as any other file, the file of val says what the evaluation said
    run("predict", *of, "--split", "val", "--output", f"{name}-val.csv", cwd=work)
    command = [
        "score",
        "vcr",
        "--annotations",
        "official/val.jsonl",
        "--predictions",
        f"{name}-val.csv",
        "--json",
    ]
    scored = json.loads(run(*command, cwd=work))
    if of == ["runs/joint"]:
        assert {k: scored[k] for k in ("q2a", "qa2r", "q2ar")} == metrics(
            work / "runs/joint/results/vcr_joint.val.json"
        )
    else:
        singles = {
            k: metrics(work / f"runs/{k}/results/vcr_{k}.val.json")["accuracy"]
            for k in ("q2a", "qa2r")
        }
        assert {k: scored[k] for k in ("q2a", "qa2r")} == singles


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ["predict", "runs/q2a"],
            "runs/q2a: the official file of vcr_q2a needs --with RUN, a run of vcr_qa2r",
        ),
        (
            ["predict", "runs/q2a", "--with", "runs/joint"],
            "a run of vcr_qa2r, not one of vcr_joint",
        ),
        (
            ["predict", "runs/joint", "--with", "runs/q2a"],
            "runs/joint: vcr_joint needs no other checkpoint; leave --with out",
        ),
    ],
)
def test_an_incomplete_leaderboard_file_is_refused(work, command, message):
    assert message in run(*command, "--split", "test", "--output", "none.csv", cwd=work, code=2)
    assert not (work / "none.csv").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.config.num_token_types=3"],
            "objects in one choice, and the model has types for 1: model.config.num_token_types",
        ),
        (["data.evaluate=test"], "split 'test' has no labels"),
        (["data.train=trian"], "'trian' is no split of vcr; there are train, val, test"),
        (["task=vqa"], "task vqa cannot be trained on data.source vcr"),
    ],
)
def test_what_training_refuses(work, overrides, message):
    shown = run(
        "train", "demo/vcr-q2a-tiny", *SMALL, *overrides, "--output-dir", "runs/x", cwd=work, code=2
    )
    assert message in shown and not (work / "runs/x/recipe.yaml").exists()
