"""SIGTERM and SIGINT: the run ends after the step, with all of it saved; a second signal ends it at once."""

import atexit
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch
from torch import distributed

# Launchers pass on what the terminal has sent to every process already; nobody presses twice within this time.
SECONDS_OF_ONE_SIGNAL = 1.0


@dataclass
class Stop:
    """What was asked for by a signal, and what is to lose."""

    speaks: bool = True  # this process says why it ends
    signal: int = 0  # the first that came
    came: float = 0.0
    saved: str = ""  # a line to leave with, while there is nothing to lose; else empty

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal and time.monotonic() - self.came < SECONDS_OF_ONE_SIGNAL:
            return
        if self.signal or self.saved:
            line = self.saved or "a second signal: ended at once; --resume goes on from the newest checkpoint"
            if self.speaks:
                os.write(sys.stderr.fileno(), f"vle-bench: {line}\n".encode())
            os._exit(128 + number)
        self.signal, self.came = number, time.monotonic()


@contextmanager
def stop_on_signals(speaks: bool) -> Iterator[Stop]:
    stop = Stop(speaks)
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def in_loader(worker: int) -> None:
    """For a DataLoader's `worker_init_fn`: signals that a whole group of processes gets are the parent's to act on.

    Its workers go on until the step is done. A second SIGTERM ends them, and so does the parent's end: see `end_loaders`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


@atexit.register
def end_loaders() -> None:
    """At its end Python sends each child one SIGTERM and waits, for ever if the child takes it for the first of two."""
    for child in multiprocessing.active_children():
        child.kill()  # they hold nothing that would have to be saved


def agreement(num_processes: int) -> Callable[[int, bool], tuple[int, bool]]:
    """(signal, save) of one process → of any, the same on all at every step.

    A signal reaches the processes at different steps. They tell each other on the CPU, which does not wait for the devices.
    """
    if num_processes == 1:
        return lambda signal, save: (signal, save)
    group = distributed.new_group(backend="gloo")

    def agree(signal: int, save: bool) -> tuple[int, bool]:
        flags = torch.tensor([signal, save])
        distributed.all_reduce(flags, distributed.ReduceOp.MAX, group=group)
        return int(flags[0]), bool(flags[1])

    return agree
