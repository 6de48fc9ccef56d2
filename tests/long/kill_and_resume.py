"""Kills a demo-sized run at random moments, resumes it, and compares what is left with a run that was not killed.

    python tests/long/kill_and_resume.py --kills 20

Every fourth kill is in the middle of saving. A run is a fork of this process, which has imported everything already, so that
one takes seconds; two processes are started as a launcher would start them.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}

from vle_bench.cli import app
from vle_bench.data.prepare.easy_vqa import prepare_easy_vqa
from vle_bench.training import train  # noqa: F401  (train: imported once, for every fork)

# An epoch has 12 steps; with dropout, so that the random numbers matter; some states are saved between two lines of the log.
STEPS = 16
RECIPE = [
    "demo/vqa-tiny",
    f"train.max_steps={STEPS}",
    "train.evaluate_every=5",
    "train.checkpoint_every=2",
    "train.log_every=3",
    "train.batch_size=32",
    "train.per_device_batch_size=8",
    "model.config.hidden_dropout_prob=0.1",
    "model.config.text_config.hidden_dropout_prob=0.1",
]
Rank = dict[str, str]


def start(folder: Path, processes: int, workers: int, *more: str) -> list[int]:
    """Start `vle-bench train` into a folder; returns the ids of its processes, each the leader of a group of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks: list[Rank] = (
        [{}]
        if processes == 1
        else [
            {
                "RANK": str(r),
                "LOCAL_RANK": str(r),
                "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            for r in range(processes)
        ]
    )
    return [
        fork(
            rank,
            folder,
            ["train", *RECIPE, f"train.num_workers={workers}", "--output-dir", str(folder), *more],
        )
        for rank in ranks
    ]


def fork(rank: Rank, folder: Path, arguments: list[str]) -> int:
    if pid := os.fork():
        return pid
    status = 1
    try:
        os.setsid()
        os.environ |= rank
        output = os.open(folder.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = ["vle-bench", *arguments]
        app.main()
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(pids: list[int]) -> list[int]:
    """Wait for all; their exit statuses."""
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def running(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def kill_at(pids: list[int], folder: Path, seconds: float, saving: str | None) -> bool:
    """SIGKILL so many seconds after the run's first file, or while it writes the state `saving`; False: it was over before."""
    first, pattern = folder / "recipe.yaml", f".{saving}.*.partial"
    while running(pids[0]) and not first.exists():
        time.sleep(0.001)
    end = time.monotonic() + seconds
    while running(pids[0]) and not (
        any((folder / "checkpoints").glob(pattern)) if saving else time.monotonic() >= end
    ):
        time.sleep(0.001)
    in_time = running(pids[0])
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(
                pid, signal.SIGKILL
            )  # its DataLoader workers are left to find out, as when the machine kills one process
    ended(pids)
    return in_time


def left_by(folder: Path) -> dict[str, object]:
    """What must not depend on kills: the weights' bytes, and the log and the record but for times."""
    log = [
        json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    record = json.loads((folder / "results" / "vqa.test.json").read_text(encoding="utf-8"))
    return {
        "last": (folder / "last" / "model.safetensors").read_bytes(),
        "best": (folder / "best" / "model.safetensors").read_bytes(),
        "log": [
            {k: v for k, v in line.items() if k not in ("seconds", "samples_per_second")}
            for line in log
        ],
        "metrics": record["metrics"],
        "states": sorted(p.name for p in (folder / "checkpoints").iterdir()),
    }


def try_kills(work: Path, processes: int, workers: int, kills: int, rng: random.Random) -> int:
    """So many runs, each killed once and resumed; returns how many ended as the run that was not killed."""
    reference = work / f"whole-{processes}-{workers}"
    pids = start(reference, processes, workers)
    while running(pids[0]) and not (reference / "recipe.yaml").exists():
        time.sleep(0.001)
    began = time.monotonic()
    if any(ended(pids)):
        raise SystemExit(reference.with_suffix(".txt").read_text(encoding="utf-8"))
    took, expected = time.monotonic() - began, left_by(reference)
    equal = done = in_saving = 0
    while done < kills:
        folder = work / f"killed-{processes}-{workers}-{done}"
        saving = f"step-{rng.randrange(2, STEPS, 2):08d}" if done % 4 == 3 else None
        if not kill_at(start(folder, processes, workers), folder, rng.uniform(0, took), saving):
            shutil.rmtree(folder)
            continue
        done += 1
        in_saving += any((folder / "checkpoints").glob(".step-*.partial"))
        statuses = ended(start(folder, processes, workers, "--resume"))
        unequal = (
            []
            if any(statuses)
            else [key for key, value in left_by(folder).items() if value != expected[key]]
        )
        if any(statuses) or unequal:
            print(
                f"{folder}: exit statuses {statuses}, not equal: {unequal}; see {folder.with_suffix('.txt')}",
                flush=True,
            )
        else:
            equal += 1
            shutil.rmtree(folder)
    print(
        f"{processes} process{'es' * (processes > 1)}, {workers} workers each: {equal} of {kills} killed runs ended as the one "
        f"that was not; {in_saving} were killed while saving",
        flush=True,
    )
    return equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--kills", type=int, default=20, help="for each number of processes and workers"
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--seed", type=int, default=0)
    choices = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="kill-and-resume-"))
    prepare_easy_vqa(work / "data" / "easy-vqa", limit_images=40)
    os.chdir(work)
    rng = random.Random(choices.seed)
    layouts = [(p, w) for p in choices.processes for w in choices.workers]
    equal = [try_kills(work, p, w, choices.kills, rng) for p, w in layouts]
    if equal != [choices.kills] * len(layouts):
        raise SystemExit(f"not all are equal; the runs are in {work}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
