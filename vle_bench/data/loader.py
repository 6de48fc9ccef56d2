"""Processes that load batches."""

import atexit
import multiprocessing
import signal


def in_loader(worker: int) -> None:
    """Ignore signals to the process group in a loader; the parent acts on them (`worker_init_fn`).

    The loader works until the step is done. A second SIGTERM ends it, and so does the parent's end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


@atexit.register
def end_loaders() -> None:
    """Kill loaders at exit: Python would send one SIGTERM, which they ignore, and wait forever."""
    for child in multiprocessing.active_children():
        child.kill()  # they hold nothing that would have to be saved
