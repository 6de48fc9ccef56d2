"""Processes that load batches."""

import atexit
import multiprocessing

# Registers an exit handler that waits for children. `end_loaders` has to run before it, so it has to
# be registered after it.
import signal


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
