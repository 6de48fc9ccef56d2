"""Train several small models at the same time, each in a process with one thread.

For a model of 0.4 million parameters a second thread costs more than it brings, so that a core each
is the best use of a machine.
"""

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import FrameType
from typing import Protocol

import psutil

from vle_bench.data.prepare.shards import end_with_parent
from vle_bench.demo.runs import run_once
from vle_bench.errors import Interrupted, RequestError, RunFailed
from vle_bench.json_files import loads
from vle_bench.progress import Bar
from vle_bench.recipe.schema import Recipe

SECONDS = 1.0  # seconds between two looks at the runs
BYTES = 1 << 30  # of memory that a run takes at most
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Work(Protocol):
    """A call in a process of its own: pickled, with all output in the file `log`."""

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def log(self) -> Path: ...
    @property
    def steps(self) -> int:
        """Return the number of steps in all."""
        ...

    def step(self) -> int:
        """Return the number of steps done so far, by the files of the work."""
        ...

    def run(self) -> object:
        """Do the work, or continue it."""
        ...


@dataclass(frozen=True)
class Job:
    """A recipe to train in `folder`; its output goes to the file `log` beside it."""

    recipe: Recipe
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.name}.txt")

    @property
    def steps(self) -> int:
        return self.recipe.train.max_steps or 0

    def step(self) -> int:
        """Read the last step that the run has logged; 0 before the first."""
        try:
            last = (self.folder / "log.jsonl").read_bytes().splitlines()[-1]
            return min(int(loads(last).get("step", 0)), self.steps)
        except (OSError, IndexError, ValueError):
            return 0

    def run(self) -> object:
        return run_once(self.recipe, self.folder)


class Jobs:
    """Jobs that run in the order in which they are added, `at_once` of them at a time.

    A context manager: at its end, also after an error or a signal, no process is left. SIGINT and
    SIGTERM let the runs save their states; the same command goes on from there.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.waiting: deque[Work] = deque()
        self.running: dict[Path, tuple[Work, ForkServerProcess]] = {}
        self.finished: set[Path] = set()

    def __enter__(self) -> "Jobs":
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, interrupted) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._before:  # the runs are on their way to end
            signal.signal(number, signal.SIG_IGN)
        processes = [process for _, process in self.running.values()]
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def add(self, jobs: Sequence[Work]) -> None:
        """Add jobs, and start those for which there is room."""
        self.waiting.extend(jobs)
        self._start()

    def finish(self, jobs: Sequence[Work]) -> None:
        """Wait until these jobs are done.

        Raises:
            RequestError, RunFailed: a job ended so; the line is the last one of its output.
            Interrupted: a signal arrived; the runs have saved their states.
        """
        total = sum(job.steps for job in jobs)
        with Bar("train", total, initial=sum(job.step() for job in jobs)) as bar:
            while not self.finished.issuperset(job.folder for job in jobs):
                wait([process.sentinel for _, process in self.running.values()], SECONDS)
                for job, process in list(self.running.values()):
                    if process.exitcode is not None:
                        self._end(job, process.exitcode)
                self._start()
                shown = [
                    f"{job.name} {job.step():,}/{job.steps:,}" for job, _ in self.running.values()
                ]
                steps = sum(job.step() for job in jobs)
                bar.advance(steps - bar.done, text=", ".join(shown))

    def _start(self) -> None:
        while self.waiting and len(self.running) < self.at_once:
            job = self.waiting.popleft()
            job.log.parent.mkdir(parents=True, exist_ok=True)
            process = context().Process(target=work_alone, args=(job,))
            process.start()
            self.running[job.folder] = job, process

    def _end(self, job: Work, status: int) -> None:
        del self.running[job.folder]
        lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = lines[-1].removeprefix("vle-bench: ") if lines else "ended without a word"
        if status:
            error = RequestError if status == 2 else RunFailed
            raise error(f"{job.name}: {last} (its output is in {job.log})")
        self.finished.add(job.folder)


def interrupted(number: int, frame: FrameType | None) -> None:
    """Turn a signal into an exception; a signal handler."""
    raise Interrupted(number, "stopped; the same command continues from the saved states")


def at_once() -> int:
    """Return how many small models the cores and the free memory allow at a time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, int(psutil.virtual_memory().available // BYTES)))


def context() -> ForkServerContext:
    """Return a context whose processes are forked from one that has only loaded the libraries.

    The libraries read the environment when they are loaded there.
    """
    os.environ.update(ONE_THREAD)
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["vle_bench.training.train", "vle_bench.models"])
    return made


def work_alone(job: Work) -> None:
    """Do one job in a process of its own, with all output in its file."""
    import torch

    end_with_parent()
    torch.set_num_threads(1)
    with open(job.log, "ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    try:
        job.run()
    except (RequestError, RunFailed, Interrupted) as error:
        print(f"vle-bench: {error}", file=sys.stderr, flush=True)
        ended = 128 + error.signal if isinstance(error, Interrupted) else None
        sys.exit(ended or (2 if isinstance(error, RequestError) else 1))
