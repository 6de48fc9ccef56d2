"""Runs that are killed, stopped and resumed end as one that was not; tests/long/kill_and_resume.py does it many times."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.miniature.forked import launched

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[2]
SMALL = [
    "train",
    "demo/vqa-tiny",
    "train.max_steps=16",
    "train.evaluate_every=5",
    "train.checkpoint_every=2",
    "train.log_every=3",
    "train.batch_size=32",
    "train.per_device_batch_size=8",
    "model.config.hidden_dropout_prob=0.1",
]


def start(*arguments, cwd, output):
    """`vle-bench` in a group of processes of its own; what it says goes to a file, since workers outlive a killed parent."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ACCELERATE_USE_CPU": "true",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "vle_bench", *map(str, arguments)]
    with open(cwd / output, "w", encoding="utf-8") as file:
        return subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=file, stderr=file, start_new_session=True
        )


def run(*arguments, cwd, code=0):
    done = start(*arguments, cwd=cwd, output="said.txt").wait(timeout=300)
    said = (cwd / "said.txt").read_text(encoding="utf-8")
    assert done == code and "Traceback" not in said, said
    return said


def wait_for(folder, pattern, process):
    end = time.monotonic() + 200
    while not any(folder.glob(pattern)):
        assert process.poll() is None and time.monotonic() < end, (
            f"ended or waited too long before {pattern}"
        )
        time.sleep(0.001)


def without_times(log):
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [
        {k: v for k, v in entry.items() if k not in ("seconds", "samples_per_second")}
        for entry in entries
    ]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    launched(
        1, "prepare", "easy-vqa", "--output", "data/easy-vqa", "--limit-images", 40, cwd=folder
    )
    return folder


def test_killed_stopped_and_resumed_with_other_workers(work):
    """0 workers, killed while saving; then 2 workers, stopped by SIGTERM to the whole group; then to the end."""
    none, two = "train.num_workers=0", "train.num_workers=2"
    launched(1, *SMALL, none, "--output-dir", "whole", cwd=work)
    states = work / "r" / "checkpoints"
    first = start(*SMALL, none, "--output-dir", "r", cwd=work, output="first.txt")
    wait_for(states, ".step-00000006.*.partial", first)
    first.kill()
    first.wait()
    second = start(*SMALL, two, "--output-dir", "r", "--resume", cwd=work, output="second.txt")
    wait_for(states, "step-00000008", second)
    os.killpg(second.pid, signal.SIGTERM)
    said = (second.wait(timeout=100), (work / "second.txt").read_text(encoding="utf-8"))
    assert said[0] == 143 and "Traceback" not in said[1], said
    assert (
        "r: continuing from r/checkpoints/step-0000000" in said[1]
        and "train.num_workers: 0 -> 2" in said[1]
    )
    assert (
        "vle-bench: stopped by SIGTERM at step" in said[1]
        and "train.num_workers=2 --output-dir r --resume" in said[1]
    )
    newest = max(p.name for p in states.iterdir())
    assert f"its state is in r/checkpoints/{newest}; continue with" in said[1]
    last = run(*SMALL, two, "--output-dir", "r", "--resume", cwd=work)
    assert f"r: continuing from r/checkpoints/{newest}" in last
    for name in ("last", "best"):
        assert (work / "r" / name / "model.safetensors").read_bytes() == (
            work / "whole" / name / "model.safetensors"
        ).read_bytes()
    assert without_times(work / "r" / "log.jsonl") == without_times(work / "whole" / "log.jsonl")
    assert sorted(p.name for p in states.iterdir()) == ["step-00000014", "step-00000016"]
    again = launched(1, *SMALL, two, "--output-dir", "r", "--resume", cwd=work)
    assert "r: this run is finished" in again


def test_a_random_kill_of_two_processes():
    command = [
        sys.executable,
        ROOT / "tests" / "long" / "kill_and_resume.py",
        "--kills",
        "1",
        "--processes",
        "2",
        "--workers",
        "2",
    ]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert (
        done.returncode == 0 and "1 of 1 killed runs ended as the one that was not" in done.stdout
    ), done.stdout + done.stderr
