"""Records made on one Python load, compare and tabulate to the same bytes on another, and in another process."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.miniature.run import VQA, prepare_vqa, vqa_rows, write_run

ROOT = Path(__file__).parents[2]
# `make test-pythons` makes them.
OTHERS = sorted(ROOT.glob(".venvs/*/bin/python"))
READ = """
import hashlib, json, pathlib, sys
from vle_bench.analysis.compare import compare_runs
from vle_bench.leaderboard.render import render
from vle_bench.evaluation.record import load_record

runs, board, golden = map(pathlib.Path, sys.argv[1:])
digest = lambda content: hashlib.sha256(content).hexdigest()
shown = {path.name: load_record(path).model_dump_json() for path in sorted(golden.glob("*.json"))}
shown["compare"] = compare_runs(runs / "a", runs / "b").as_json()
formats = ["md", "csv", "tex", "html"]
shown |= {path.name: digest(content) for path, content in render(board, formats).items() if path.suffix != ".png"}
print(json.dumps(shown))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs with records, and a leaderboard where a shipped record has two more seeds."""
    folder = tmp_path_factory.mktemp("made")
    root = prepare_vqa(folder)
    rows = vqa_rows(root)
    changed = [
        {**row, "answer": rows[0]["answer"]} if k % 5 == 0 else row for k, row in enumerate(rows)
    ]
    for name, chosen in (("a", rows), ("b", changed)):
        write_run(folder / "runs" / name, "demo/vqa-tiny", VQA, root, chosen, {})
    shutil.copytree(ROOT / "leaderboards", folder / "board")
    shipped = next((folder / "board" / "results" / "vqa").glob("vqa-tiny.test.seed-0.*.json"))
    record = json.loads(shipped.read_text(encoding="utf-8"))
    for seed in (1, 2):
        record["seed"], record["model"]["checkpoint_sha256"] = seed, f"{seed}" * 64
        record["metrics"]["accuracy"]["value"] -= 0.00123
        shipped.with_name(f"vqa-tiny.test.seed-{seed}.json").write_text(
            json.dumps(record), encoding="utf-8"
        )
    return folder


def arguments(made):
    folders = (made / "runs", made / "board", ROOT / "tests" / "golden" / "records")
    return [str(folder) for folder in folders]


def read(python, made):
    """What a process reads; sets and their order follow from the seed of hashes."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "1",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [str(python), "-c", READ, *arguments(made)],
        capture_output=True,
        encoding="utf-8",
        env=environment,
        cwd=made,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def read_here(made, monkeypatch):
    """What this process reads."""
    monkeypatch.chdir(made)
    monkeypatch.setattr("sys.argv", ["-c", *arguments(made)])
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(READ, {})
    return json.loads(shown.getvalue())


def test_records_are_read_compared_and_tabulated_to_the_same_bytes(made, monkeypatch):
    here = read_here(made, monkeypatch)
    assert {
        "version-1.json",
        "compare",
        "comparison.md",
        "comparison.csv",
        "comparison.tex",
        "index.html",
    } <= here.keys()
    for python in OTHERS or [sys.executable]:
        assert read(python, made) == here, python
