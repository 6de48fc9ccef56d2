"""The whole road through the command line on a 40-image slice of the real data."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.miniature import in_process
from tests.miniature.forked import launched
from tests.miniature.vqav2 import write_vqav2

ROOT = Path(__file__).parents[2]
SMALL = [
    "train.max_steps=6",
    "train.evaluate_every=3",
    "train.log_every=2",
    "data.first_stage=null",
    "train.batch_size=32",
    "train.per_device_batch_size=32",
]


def run(*arguments, cwd, code=0):
    """Run `vle-bench`; returns stdout, or stderr where a failure is expected."""
    shown, errors = in_process.run(*arguments, cwd=cwd, code=code)
    return shown if code == 0 else errors


def run_alone(*arguments, cwd):
    """Run `vle-bench` in a process of its own; returns its exit status, stdout and stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "vle_bench", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", timeout=300
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    assert "train" in run(
        "prepare", "easy-vqa", "--output", "data/easy-vqa", "--limit-images", 40, cwd=folder
    )
    return folder


@pytest.fixture(scope="module")
def trained(work):
    shown = run("train", "demo/vqa-tiny", *SMALL, "--output-dir", "runs/a", cwd=work)
    assert "written: runs/a/" in shown and "6 steps" in shown
    return work / "runs" / "a"


def test_the_run_folder(trained):
    log = [
        json.loads(line)
        for line in (trained / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [e["step"] for e in log if "loss" in e] == [2, 3, 4, 6]
    assert [e["step"] for e in log if "split" in e] == [3, 6]
    record = json.loads((trained / "results" / "vqa.test.json").read_text(encoding="utf-8"))
    assert (
        record["split"] == "test"
        and record["training_splits"] == ["train"]
        and not record["contaminated"]
    )
    assert record["model"]["resize"] == "squash"
    rows = [
        json.loads(line)
        for line in (trained / "predictions" / "vqa.test.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    assert record["n"] == len({row["id"] for row in rows}) == len(rows)
    assert {p.name for p in (trained / "best").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "label_map.json",
        "tokenizer.json",
        "training.json",
    }
    assert not [p for p in trained.rglob("*") if "partial" in p.name]


def test_evaluating_again_gives_the_same_score_whatever_the_batch(trained, work):
    shown = run(
        "evaluate", "runs/a", "--split", "test", "--output", "again/results/r.json", cwd=work
    )
    first = json.loads((trained / "results" / "vqa.test.json").read_text(encoding="utf-8"))
    second = json.loads((work / "again" / "results" / "r.json").read_text(encoding="utf-8"))
    assert first["metrics"] == second["metrics"]
    assert f"{100 * first['metrics']['accuracy']['value']:.2f}" in shown


def test_the_predictions_score_the_same_in_the_official_format(trained, work):
    from vle_bench.data.prepare.easy_vqa import write_official

    questions, annotations, _ = write_official(work / "official", "test", 40)
    rows = [
        json.loads(line)
        for line in (trained / "predictions" / "vqa.test.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    (work / "p.json").write_text(
        json.dumps([{"question_id": r["id"], "answer": r["answer"]} for r in rows]),
        encoding="utf-8",
    )
    files = ("--questions", questions, "--annotations", annotations, "--predictions", "p.json")
    shown = run("score", "vqa", *files, "--json", cwd=work)
    record = json.loads((trained / "results" / "vqa.test.json").read_text(encoding="utf-8"))
    assert json.loads(shown)["accuracy"] == record["metrics"]["accuracy"]["value"]


@pytest.mark.processes
def test_two_processes_predict_what_one_evaluated(trained, work):
    sent = ("predict", "runs/a/best", "--split", "test", "--output", "sent/test.json")
    shown = launched(2, *sent, cwd=work)
    rows = [
        json.loads(line)
        for line in (trained / "predictions" / "vqa.test.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    expected = [{"question_id": row["id"], "answer": row["answer"]} for row in rows]
    assert json.loads((work / "sent" / "test.json").read_text(encoding="utf-8")) == sorted(
        expected, key=lambda r: r["question_id"]
    )
    assert (
        shown.count(f"written: sent/test.json ({len(rows):,} answers, each question of test once)")
        == 1
    )
    assert "sent/test.json: exists already" in run(*sent, cwd=work, code=2)


def test_training_on_the_scored_split_is_marked(work):
    both = [*SMALL, "data.train=train+test", "--output-dir", "runs/both"]
    shown = run("train", "demo/vqa-tiny", *both, cwd=work, code=2)
    assert (
        "data.report: test shares images with data.train: train+test" in shown
        and not (work / "runs" / "both").exists()
    )
    run("train", "demo/vqa-tiny", *both, "data.allow_contaminated=true", cwd=work)
    assert (
        json.loads(
            (work / "runs" / "both" / "results" / "vqa.test.json").read_text(encoding="utf-8")
        )["contaminated"]
        is True
    )


def test_same_seed_same_weights_and_accumulation_changes_nothing(trained, work):
    run("train", "demo/vqa-tiny", *SMALL, "--output-dir", "runs/twin", cwd=work)
    name = Path("last") / "model.safetensors"
    assert (work / "runs" / "twin" / name).read_bytes() == (trained / name).read_bytes()
    run(
        "train",
        "demo/vqa-tiny",
        *SMALL,
        "train.per_device_batch_size=8",
        "--output-dir",
        "runs/accumulated",
        cwd=work,
    )
    losses = [
        [
            json.loads(line)["loss"]
            for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
            if "loss" in line
        ]
        for folder in (trained, work / "runs" / "accumulated")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=2e-4)


@pytest.mark.processes
def test_two_processes_train_and_score_as_one(trained, work):
    launched(
        2,
        "train",
        "demo/vqa-tiny",
        *SMALL,
        "train.per_device_batch_size=16",
        "--output-dir",
        "runs/two",
        cwd=work,
    )
    one, two = (
        json.loads((f / "results" / "vqa.test.json").read_text(encoding="utf-8"))
        for f in (trained, work / "runs" / "two")
    )
    assert two["processes"] == 2 and two["n"] == one["n"]
    losses = [
        [
            json.loads(line)["loss"]
            for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
            if "loss" in line
        ]
        for folder in (trained, work / "runs" / "two")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=2e-4)


def test_prepare_vqav2(tmp_path):
    write_vqav2(tmp_path / "official")
    (tmp_path / "official" / "train2014" / "COCO_train2014_000000000002.jpg").unlink()
    command = ["prepare", "vqav2", "--source", "official", "--output", "data", "--workers", 2]
    assert "000000000002.jpg: no such image (image_id 2)" in run(*command, cwd=tmp_path, code=2)
    shown = run(*command, "--on-bad-image", "skip", cwd=tmp_path)
    assert re.search(
        r"minival +3 questions +1 images +66.67 % have an answer in the vocabulary, 1 have none",
        shown,
    )
    assert "left out: 1 images that cannot be read, and with them 3 questions" in shown
    for wrong, message in (
        (["--visual-genome", "qa.json"], "--visual-genome and --vg-image-data go together"),
        (["--label-map", "nowhere.json"], "nowhere.json: no such file"),
        (["--on-bad-image", "ignore"], "ignore"),
    ):
        assert message in run(*command, *wrong, "--on-bad-record", "skip", cwd=tmp_path, code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "demo/vqa-tiny", "train.learning_rat=1"], "train.learning_rate"),
        (["train", "demo/vqa-tiny", "train.batch_size=many"], "train.batch_size"),
        (["train", "no/such-recipe"], "no/such-recipe"),
        (["train", "demo/vqa-tiny", "--output-dir", "runs/a"], "runs/a: holds another run"),
        (["train", "demo/vqa-tiny", "data.root=elsewhere"], "elsewhere: no prepared data"),
        (
            ["train", "demo/vqa-tiny", "train.precision=fp16", "--output-dir", "runs/x"],
            "train.precision: fp16 needs a GPU",
        ),
        (
            ["train", "demo/vqa-tiny", "data.train=tran", "--output-dir", "runs/x"],
            "'tran' is no split of easy-vqa",
        ),
        (
            ["train", "demo/vqa-tiny", "model.config.num_attention_heads=5"],
            "hidden_size 64 does not divide by 5",
        ),
        (
            ["train", "demo/vqa-tiny", "model.config.text_config.hidden_size=-64"],
            "a whole number of 1 to 16,384 is expected, not -64",
        ),
        (
            ["train", "demo/vqa-tiny", "model.config.text_config.model_type=bart"],
            "'bart' is none of deberta-v2",
        ),
        (
            [
                "train",
                "demo/vqa-tiny",
                "data.first_stage.question_types=[nope]",
                "--output-dir",
                "runs/x",
            ],
            "has the type nope",
        ),
        (
            ["train", "demo/vqa-tiny", "--output-dir", "runs/a/log.jsonl"],
            "log.jsonl: exists and is not an empty folder",
        ),
        (["evaluate", "nowhere"], "nowhere: no such folder"),
        (["predict", "nowhere", "--split", "test", "--output", "submission.json"], "nowhere: no "),
        (["check-submission", "vqa", "p", "--questions", "q"], "q: no such file"),
        (["prepare", "vqav3", "--output", "x"], "vqav3"),
        (
            ["score", "vqa", "--questions", "q", "--annotations", "a", "--predictions", "p"],
            "q: no such file",
        ),
    ],
)
def test_mistakes_get_one_line_and_exit_2(trained, work, arguments, message):
    shown = run(*arguments, cwd=work, code=2)
    assert message in shown
    assert not (work / "runs" / "x").exists() and not (work / "x").exists()


def test_a_process_of_its_own_prints_and_ends_as_the_same_command_does_here(work):
    """Commands without torch; tests/e2e/test_processes.py trains and evaluates in such processes."""
    right = ("validate", "demo/vqa-tiny")
    assert run_alone(*right, cwd=work) == (0, run(*right, cwd=work), "")
    status, shown, errors = run_alone("validate", "nowhere", cwd=work)
    assert (status, shown) == (2, "") and errors == run("validate", "nowhere", cwd=work, code=2)
    assert len(errors.splitlines()) == 1


def test_help_is_quick_and_needs_no_torch():
    script = "import sys; sys.argv = ['vle-bench', '--help']\ntry:\n    from vle_bench.cli.app import main; main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    started = sum(os.times()[2:4])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=60
    )
    assert done.returncode == 0, done.stderr
    # The child's CPU time, since other programs may keep it waiting; 0.5 s.
    assert sum(os.times()[2:4]) - started < 3


def test_every_shipped_recipe_validates_without_data_or_weights(tmp_path):
    recipes = sorted(
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / "recipes").rglob("*.yaml")
        if "accelerate" not in p.parts
    )
    assert len(recipes) >= 10
    shown = run("validate", *recipes, cwd=tmp_path)
    assert shown.count(": valid, hash") == len(recipes)
