"""Read thousands of damaged files: `python -m tests.long.fuzz`, or `make fuzz`.

A case is (kind, number): its damage follows from the seed, so `--kind vqa --start 117 --cases 1` runs
one of them again. Each kind runs in a process of its own; where that dies or does not answer, the case
is a finding and the run goes on with the next one. Exit status 1 where something was found.

What is a finding: an exception that escapes or that the command line calls a defect; another exit
status than 0, 1 and 2; an error that names none of the files, or says pages; a warning of a library's;
a case that takes too long; an accepted file with another score that does not say so itself; a file
that is left under its final name, or half-written beside it, after an error.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.long.kinds import KINDS, ROOT, Kind, Outcome
from tests.long.mutations import mutate

SECONDS, GRACE, START = (
    60,
    20,
    300,
)  # of a case, beyond it for a process that hears no signal, of a process's start
LONGEST = 4000  # characters of an error
MEMORY = 12 << 30  # bytes of addresses: a huge number in a file must not take the machine's memory
REFUSED, SAME, OTHER = (
    "refused",
    "accepted, same score",
    "accepted, another score that the file says",
)


class TooLong(BaseException):
    """A case's time is over; no `except Exception` of a reader's may swallow it."""


@dataclass
class Case:
    kind: str
    number: int
    file: str
    damage: str
    result: str  # REFUSED, SAME, OTHER, or what was found
    detail: str = ""

    @property
    def is_finding(self) -> bool:
        return self.result not in (REFUSED, SAME, OTHER)


def run_case(kind: Kind, name: str, number: int, seed: int, scores: dict[str, Any]) -> Case:
    """Damage one file, read it, and put the original back.

    Args:
        name: of the kind.
        scores: of the originals: (file, way) → score; filled as they are needed.
    """
    rng = random.Random(f"{seed} {name} {number}")
    file = rng.choice(kind.files)
    path = kind.folder / file
    original = path.read_bytes()
    damage, content = mutate(rng, file, original)
    way = f"{file} {number % 2}"
    if way not in scores:
        first = attempt(kind, file, number)
        assert isinstance(first, Outcome) and first.code == 0, (
            f"the original {file} is refused: {first}"
        )
        scores[way] = first.score
    path.write_bytes(content)
    try:
        outcome = attempt(kind, file, number)
        result, detail = (
            judge(kind, file, damage, outcome, scores[way])
            if isinstance(outcome, Outcome)
            else outcome
        )
    finally:
        path.write_bytes(original)
    return Case(name, number, file, damage, result, detail)


def attempt(kind: Kind, file: str, number: int) -> Outcome | tuple[str, str]:
    """Run the reader with a time limit; returns its outcome, or what was found and where."""
    shutil.rmtree(kind.outputs, ignore_errors=True)
    kind.outputs.mkdir()
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        return kind.run(file, number)
    except TooLong:
        return "too long", place(sys.exc_info()[2])
    except Exception as error:
        return (
            "exception",
            f"{type(error).__name__}: {str(error)[:300]} {place(error.__traceback__)}",
        )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def stop(number: int, frame: Any) -> None:
    raise TooLong


def place(trace: Any) -> str:
    """The last line of the package, or of anything."""
    frames = traceback.extract_tb(trace)
    ours = [frame for frame in frames if "vle_bench" in frame.filename] or frames
    return f"at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""


def judge(kind: Kind, file: str, damage: str, outcome: Outcome, score: Any) -> tuple[str, str]:
    """What became of a damaged file: a result and its detail."""
    errors = outcome.errors.strip()
    if "Traceback" in errors or "(unexpected; --debug" in errors:
        return "unnamed error", errors[:500]
    if outcome.code not in (0, 1, 2):
        return "exit status", f"{outcome.code}: {errors[:300]}"
    if "Warning" in errors:
        return "library's warning", errors[:300]
    if outcome.code:
        left = [str(p.relative_to(kind.outputs)) for p in kind.outputs.rglob("*") if p.is_file()]
        if left:
            return "left after an error", f"{left[:5]}: {errors[:200]}"
        if not any(word in errors for word in named(kind, file)):
            return "names no file", errors[:300]
        return (
            (REFUSED, errors[:200])
            if len(errors) <= LONGEST
            else ("says pages", f"{len(errors)}: {errors[:200]}")
        )
    if partial := [p.name for p in kind.outputs.rglob("*.partial")]:
        return "half-written beside it", str(partial)
    if outcome.score == score:
        return SAME, ""
    said = f"{score} before, {outcome.score} now"[:300]
    return (
        (OTHER, said)
        if kind.explained(file, damage, outcome)
        else ("another score without a word", said)
    )


def named(kind: Kind, file: str) -> set[str]:
    """Names by which an error may call the damaged file: its own, its folder's, and those of the files beside it."""
    siblings = {Path(other).name for other in kind.files if Path(other).parent == Path(file).parent}
    return {Path(file).name, Path(file).stem, Path(file).parent.name or file} | siblings


def work(name: str, seed: int, numbers: range, output: Any) -> None:
    """Run cases in this process; a line of JSON for each."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        kind, scores = KINDS[name](Path(folder)), {}
        for number in numbers:
            case = run_case(kind, name, number, seed, scores)
            print(json.dumps(vars(case)), file=output, flush=True)


def cases(name: str, seed: int, numbers: range) -> Iterator[Case]:
    """Cases of a kind from processes that are started again after one that dies or hangs."""
    following = numbers.start
    while following < numbers.stop:
        command = [
            sys.executable,
            "-m",
            "tests.long.fuzz",
            "--worker",
            "--kind",
            name,
            "--seed",
            str(seed),
            "--start",
            str(following),
            "--cases",
            str(numbers.stop - following),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with (
            tempfile.TemporaryFile() as said,  # a full pipe would stop the worker
            subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, env=environment
            ) as worker,
        ):
            died, first = "", following
            for line in lines(worker):
                yield (case := Case(**json.loads(line)))
                following = case.number + 1
            if worker.poll() is None:
                worker.kill()
                died = "too long"
            worker.wait()
            said.seek(0)
            errors = said.read().decode(errors="replace").strip()
        if following < numbers.stop:
            if following == first and not died and "refused:" in errors:
                raise SystemExit(f"{name}: {errors.splitlines()[-1]}")
            yield Case(
                name,
                following,
                "",
                "",
                died or "process died",
                f"status {worker.returncode}: {errors[-300:]}",
            )
            following += 1


def lines(worker: subprocess.Popen) -> Iterator[str]:
    """Lines of a worker until it ends, or does not answer in time."""
    assert worker.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        patience, held = START, b""
        while selector.select(patience):
            block = os.read(worker.stdout.fileno(), 1 << 16)
            if not block:
                worker.wait()
                return
            *whole, held = (held + block).split(b"\n")
            yield from (line.decode() for line in whole)
            patience = SECONDS + GRACE


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kind", choices=KINDS, action="append", help="all of them if not given; may be repeated"
    )
    parser.add_argument("--cases", type=int, default=2000, help="of each kind (default: 2000)")
    parser.add_argument(
        "--start", type=int, default=0, help="number of the first case, to go on with a run"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    numbers = range(options.start, options.start + options.cases)
    if options.worker:
        # A library's own code may print to the descriptor itself; only the cases' lines may come out there.
        output = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        return work(options.kind[0], options.seed, numbers, output)
    found = 0
    for name in options.kind or KINDS:
        started, results = time.monotonic(), Counter[str]()
        for case in cases(name, options.seed, numbers):
            results[case.result] += 1
            if case.is_finding:
                found += 1
                print(
                    f"{name} {case.number}: {case.result}: {case.file}, {case.damage}: {case.detail}",
                    flush=True,
                )
        shown = ", ".join(f"{result} {count:,}" for result, count in sorted(results.items()))
        print(
            f"{name}: {len(numbers):,} cases in {time.monotonic() - started:.0f} s: {shown}",
            flush=True,
        )
    print(f"{found:,} findings (seed {options.seed})")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
