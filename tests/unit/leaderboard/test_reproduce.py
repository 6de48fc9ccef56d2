"""Published against measured: the tolerance in decimal figures, the seeds of a recipe, and what is refused."""

import json
import sys

import pytest

from vle_bench.cli.app import main
from vle_bench.errors import RequestError
from vle_bench.leaderboard.reproduce import measured, report_lines
from vle_bench.recipe.load import load_recipe

RECIPE = "vcr/vle-base-q2a"  # 79.9 on val


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe_of(tolerance=0.3, seed=0, **expect):
    changes = {
        "metric": "accuracy",
        "split": "val",
        "value": 79.9,
        "tolerance": tolerance,
        **expect,
    }
    return load_recipe(
        RECIPE, [f"train.seed={seed}", *(f"expect.{key}={value}" for key, value in changes.items())]
    )


def record(value, seed=0, digest=None, version=3, **changes):
    recipe = recipe_of(seed=seed)
    known = {"experiment": recipe.experiment} if version > 2 else {}
    return {
        "schema_version": version,
        "task": "vcr_q2a",
        "task_version": 1,
        "split": "val",
        "n": 26534,
        "metrics": {"accuracy": {"value": value, "interval": [value - 0.005, value + 0.005]}},
        "primary_metric": "accuracy",
        "recipe": {"name": recipe.name, "hash": recipe.hash, **known},
        "training_splits": ["train"],
        "contaminated": False,
        "model": {
            "name": recipe.name,
            "parameters": 1,
            "checkpoint_sha256": digest or f"weights of seed {seed}",
        },
        "data": {"source": "vcr", "manifest_hash": "0"},
        "seed": seed,
        "code": {"version": "0.1.0", "commit": "0123456789abcdef", "clean": True},
        "libraries": {},
        "device": "cpu",
        "processes": 1,
        "batch_size": 128,
        "seconds": 1.0,
        "command": "vle-bench train",
    } | changes


def write(folder, name, *records):
    (folder / "results" / name).mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(records):
        (folder / "results" / name / f"{number}.json").write_text(
            json.dumps(each), encoding="utf-8"
        )


def run_folder(folder, *records, **expect):
    (folder / "results").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe_of(**expect).to_yaml(), encoding="utf-8")
    for number, each in enumerate(records):
        (folder / "results" / f"vcr_q2a.{number}.json").write_text(
            json.dumps(each), encoding="utf-8"
        )
    return folder


def reproduce(*arguments, capsys, monkeypatch):
    """Exit status, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["vle-bench", "reproduce", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    shown = capsys.readouterr()
    return stop.value.code or 0, shown.out, shown.err


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (0.802, 0),
        (0.8020000001, 1),
        (0.796, 0),
        (0.7959999999, 1),
        (0.799, 0),
        (0.5, 1),
        (0.9, 1),
    ],
)
def test_exactly_at_the_tolerance_is_inside(work, value, status, capsys, monkeypatch):
    """100 × 0.802 − 79.9 is 0.30000000000001137 in binary floats."""
    run_folder(work / "runs" / "a", record(value))
    code, shown, error = reproduce("runs/a", capsys=capsys, monkeypatch=monkeypatch)
    assert code == status
    assert ("inside ±0.3" if status == 0 else "outside ±0.3") in shown
    assert ("not reproduced" in error) == bool(status)


def test_what_is_printed(work, capsys, monkeypatch):
    write(work / "leaderboards", "vcr_q2a", record(0.7981), record(0.8003, seed=1))
    write(work / "leaderboards", "vqa", record(0.99, task="vqa"))
    code, shown, _ = reproduce(RECIPE, capsys=capsys, monkeypatch=monkeypatch)
    lines = shown.splitlines()
    assert lines[0].startswith("vle-base-vcr-q2a: accuracy on val of vcr (26,534 questions)")
    assert lines[1] == "published    79.9   VLE README"
    assert lines[2] == "measured     79.92   2 seeds, sd 0.16"  # 79.81 and 80.03
    assert (
        lines[3]
        == "  seed 0     79.81   (79.31 to 80.31)   leaderboards/results/vcr_q2a/0.json, commit 0123456789ab"
    )
    assert lines[4].startswith("  seed 1     80.03")
    assert lines[-1].startswith("difference   +0.02, inside ±") and code == 0


def test_one_checkpoint_counts_once_and_old_records_by_their_hash(work):
    recipe = load_recipe(RECIPE)
    foreign = record(0.99, recipe={"name": "x", "hash": "y"}, version=2, digest="foreign")
    write(work / "leaderboards", "vcr_q2a", record(0.79), record(0.80, seed=1), foreign)
    old = record(
        0.81, version=2, digest="another", recipe={"name": recipe.name, "hash": recipe.hash}
    )
    run = run_folder(work / "runs" / recipe.name, record(0.79), old)
    (found,) = measured(RECIPE, work / "leaderboards")
    assert [r.metrics["accuracy"].value for r in found.experiment.records] == [0.79, 0.81, 0.80]
    assert found.experiment.mean == pytest.approx(0.80)
    (run / "results" / "vcr_q2a.0.json").write_text(json.dumps(record(0.78)), encoding="utf-8")
    with pytest.raises(RequestError, match="two scores of one checkpoint on the same data"):
        measured(RECIPE, work / "leaderboards")


def test_other_data_is_another_row_and_another_expectation_is_told(work):
    stated = {
        "metric": "accuracy",
        "split": "val",
        "value": 82.0,
        "tolerance": 9.0,
        "source": "a dream",
    }
    other = record(0.5, seed=1, data={"source": "vcr", "manifest_hash": "1"})
    write(work / "leaderboards", "vcr_q2a", record(0.799, expect=stated), other)
    one, two = measured(RECIPE, work / "leaderboards")
    assert (one.experiment.inside, two.experiment.inside) == (True, False)
    assert "    measured when 82.0 ± 9.0 was expected" in report_lines(one)


@pytest.mark.parametrize(
    ("records", "expect", "message"),
    [
        (
            [],
            {},
            "nothing is measured there yet: it comes with `vle-bench evaluate runs/a --split val`",
        ),
        ([record(0.7, split="test")], {}, "nothing is measured there yet"),
        (
            [record(0.799, training_data={"source": "vqav2", "manifest_hash": "2"})],
            {},
            "nothing is measured there yet",
        ),
        (
            [record(0.799, contaminated=True)],
            {},
            "only contaminated records, which never count: runs/a/results/vcr_q2a.0.json",
        ),
        (
            [record(0.799)],
            {"metric": "q2ar"},
            "has no metric 'q2ar', which runs/a expects; it has accuracy",
        ),
        ([{**record(0.799), "mood": "good"}], {}, "vcr_q2a.0.json: mood: unknown field"),
    ],
)
def test_what_is_refused_of_a_run(work, records, expect, message, capsys, monkeypatch):
    run_folder(work / "runs" / "a", *records, **expect)
    code, _, error = reproduce("runs/a", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 2 and message in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "vqa/vle-base",
            "only the server scores it; FILE is its answer to vqa_test.json: `vle-bench train vqa/vle-base`; "
            "`vle-bench predict runs/vle-base-vqa --split test --output vqa_test.json`; "
            "`vle-bench evaluate runs/vle-base-vqa --split test-dev --server-result FILE`",
        ),
        (RECIPE, "it comes with `vle-bench train vcr/vle-base-q2a`"),
        ("demo/vqa-tiny", "the recipe has no `expect`"),
        ("nowhere", "nowhere: no such recipe"),
        (".", ".: has no recipe.yaml"),
    ],
)
def test_what_is_refused_of_a_recipe(work, what, message, capsys, monkeypatch):
    code, _, error = reproduce(what, capsys=capsys, monkeypatch=monkeypatch)
    assert code == 2 and message in error and len(error.splitlines()) == 1
