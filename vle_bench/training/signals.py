"""SIGTERM and SIGINT: the run ends after the step, with all of it saved; a second signal ends it at once."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

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
            line = (
                self.saved
                or "a second signal: ended at once; --resume goes on from the newest checkpoint"
            )
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
