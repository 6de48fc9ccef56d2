"""Processes that act together: the main one decides, and signals stop a run after its step."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from torch import distributed

from vle_bench.errors import RequestError, RunFailed

T = TypeVar("T")

# Launchers pass on a signal that the terminal has already sent to every process, so one Ctrl-C
# arrives twice. Nobody presses it twice within this time.
SECONDS_OF_ONE_SIGNAL = 1.0


def on_main(action: Callable[[], T]) -> T:
    """Run `action` on the main process and broadcast its result.

    If it fails, every process exits and only the main process prints the error.
    """
    # The same call that Accelerator makes later: the run folder is checked before a minute is spent
    # on models and data.
    processes = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    result: T | None = None
    failure: RequestError | RunFailed | None = None
    if processes.is_main_process:
        try:
            result = action()
        except (RequestError, RunFailed) as error:
            failure = error
    result, failure = broadcast_object_list([result, failure])
    if failure is not None:
        if not processes.is_main_process:
            exit_after_main(2 if isinstance(failure, RequestError) else 1)
        raise failure
    return result


def exit_after_main(status: int) -> NoReturn:
    """Exit two seconds late.

    Launchers kill all processes as soon as one exits, and the main process still has to print its
    error.
    """
    time.sleep(2)
    raise SystemExit(status)


def agreement(num_processes: int) -> Callable[[int, bool], tuple[int, bool]]:
    """Return a function that shares (signal, save) of each process with all, once a step.

    A signal reaches the processes at different steps. They agree on the CPU (gloo), which does not
    wait for the devices.
    """
    if num_processes == 1:
        return lambda number, save: (number, save)
    group = distributed.new_group(backend="gloo")

    def agree(number: int, save: bool) -> tuple[int, bool]:
        flags = torch.tensor([number, save])
        distributed.all_reduce(flags, distributed.ReduceOp.MAX, group=group)
        return int(flags[0]), bool(flags[1])

    return agree


@dataclass
class Stop:
    """The request to stop that a signal makes: the run ends after the step, with its state saved.

    A second signal ends the process at once.

    Args:
        prints: whether this process prints why it ends.
        signal: number of the first signal; 0 before it.
        arrived: when that was, by `time.monotonic`.
        saved: line to print and exit with at once, while all work is saved; else empty.
    """

    prints: bool = True
    signal: int = 0
    arrived: float = 0.0
    saved: str = ""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal and time.monotonic() - self.arrived < SECONDS_OF_ONE_SIGNAL:
            return
        if self.signal or self.saved:
            line = (
                self.saved
                or "second signal: stopped at once; --resume continues from the newest checkpoint"
            )
            if self.prints:
                os.write(sys.stderr.fileno(), f"vle-bench: {line}\n".encode())
            os._exit(128 + number)
        self.signal, self.arrived = number, time.monotonic()


@contextmanager
def stop_on_signals(prints: bool) -> Iterator[Stop]:
    """Turn SIGTERM and SIGINT into a `Stop`, and put the former handlers back afterwards."""
    stop = Stop(prints)
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
