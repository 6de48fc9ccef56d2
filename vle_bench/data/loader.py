"""Batches as functions of (seed, epoch) alone, and the processes that load them."""

import atexit
import ctypes
import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, get_worker_info

from vle_bench.errors import RequestError, RunFailed

Indices = NDArray[np.int64]
P = TypeVar("P")
T = TypeVar("T")
SHOWN = 8  # rows in an error message


def grouped_order(image_rows: Indices, seed: int, epoch: int, questions_per_image: int) -> Indices:
    """Shuffle questions so that those of one image stand together.

    The questions of an image are shuffled and cut into groups of at most `questions_per_image`; the
    groups are shuffled.
    With 1 this is a plain shuffle of the questions (the published way).

    Args:
        image_rows: (questions,) the image of each.
    """
    rng = np.random.default_rng((seed, epoch))
    shuffled = rng.permutation(len(image_rows))
    by_image = shuffled[np.argsort(image_rows[shuffled], kind="stable")]
    rows = image_rows[by_image]
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    place = np.arange(len(rows)) - np.repeat(
        starts, np.diff(np.r_[starts, len(rows)])
    )  # place within its image
    group = np.cumsum(place % questions_per_image == 0) - 1
    key = rng.permutation(group[-1] + 1 if len(group) else 0)[group]
    return by_image[np.argsort(key, kind="stable")]


def image_batches(
    image_rows: Indices, batch_size: int, texts: Indices | None = None
) -> list[Indices]:
    """Return every question once, in order, in batches of whole images: each image is encoded once.

    A batch has at most `batch_size` questions, unless a single image has more.

    Args:
        image_rows: (questions,) the image of each.
        texts: (questions,) of each; `batch_size` then counts texts.
    """
    order = np.argsort(image_rows, kind="stable")
    rows = image_rows[order]
    sizes = np.ones(len(rows), np.int64) if texts is None else texts[order]
    before = np.r_[0, np.cumsum(sizes)]  # size of all that stands before a question
    ends = np.r_[
        0, np.flatnonzero(rows[1:] != rows[:-1]) + 1, len(rows)
    ]  # of nothing, then of each image
    batches, start = [], 0
    while start < len(rows):
        most = before[start] + batch_size
        fitting = ends[np.searchsorted(before[ends], most, side="right") - 1]
        end = fitting if fitting > start else ends[np.searchsorted(ends, start, side="right")]
        batches.append(order[start:end])
        start = end
    return batches


@dataclass(frozen=True)
class Outcome(Generic[P, T]):
    """Collate in a worker process, and return an error of ours as a value.

    DataLoader would raise it in the main process with the worker's traceback as its message.

    Args:
        at_work: the process of each worker and the number of the part that it collates, in memory
            that outlives it.
    """

    collate: Callable[[P], T]
    at_work: "ctypes.Array[ctypes.c_longlong]"

    def __call__(self, numbered: tuple[int, P]) -> T | RequestError | RunFailed:
        number, part = numbered
        if (worker := get_worker_info()) is not None:
            self.at_work[2 * worker.id : 2 * worker.id + 2] = [os.getpid(), number]
        try:
            return self.collate(part)
        except (RequestError, RunFailed) as error:
            return type(error)(str(error))


def load_batches(
    parts: Sequence[P], collate: Callable[[P], T], num_workers: int, *, pinned: bool
) -> Iterator[T]:
    """Collate the parts in order, ahead of their use where there are workers.

    Args:
        parts: the argument of `collate` for each batch.
        num_workers: processes that collate; a single batch is collated in the main process.
        pinned: copy the tensors into page-locked memory, from which a GPU copies asynchronously.

    Raises:
        RunFailed: a worker process has died.
        RequestError: as `collate` raises it.
    """
    workers = min(num_workers, max(0, len(parts) - 1))
    at_work = multiprocessing.RawArray(ctypes.c_longlong, 2 * max(1, workers))
    loader: DataLoader[tuple[int, P]] = DataLoader(
        list(enumerate(parts)),  # type: ignore[arg-type]  # DataLoader takes any sequence
        batch_size=None,
        # Of one part: batch_size is None.
        collate_fn=Outcome(collate, at_work),  # type: ignore[arg-type]
        num_workers=workers,
        worker_init_fn=in_loader,
        pin_memory=pinned,
        # The default generator would draw the workers' seeds from the numbers that dropout uses.
        generator=torch.Generator(),
    )
    loaded = iter(loader)
    for _ in parts:
        try:
            batch = next(loaded)
        except RuntimeError as error:
            dead = re.search(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\)", str(error))
            if dead is None:
                raise
            pids = set(map(int, dead[1].split(",")))
            numbers = [at_work[i + 1] for i in range(0, 2 * workers, 2) if at_work[i] in pids]
            raise RunFailed(
                f"a process that loads pictures has died (pid {dead[1]})"
                f"{''.join(rows_in_words(parts[number]) for number in numbers)}, "
                "perhaps because memory ran out; train.num_workers=0 loads them in the main process"
            ) from error
        if isinstance(batch, Exception):
            raise batch
        yield batch


def rows_in_words(part: object) -> str:
    """Name the examples that a dead worker had begun with, by their rows in the split."""
    rows = np.asarray(part).ravel().tolist()
    more = f" and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    return f", at rows {', '.join(map(str, rows[:SHOWN]))}{more} of the split (counted from 0)"


def in_loader(worker: int) -> None:
    """Leave signals to the parent: the `worker_init_fn` of a DataLoader.

    A signal to the whole group of processes reaches the workers too. They go on until the step is
    done. A second SIGTERM ends them, and so does the parent's end: see `end_loaders`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


@atexit.register
def end_loaders() -> None:
    """Kill the workers at exit, which hold nothing that would have to be saved.

    Python sends each child one SIGTERM and waits, for ever if the child takes it for the first of
    two.
    """
    for child in multiprocessing.active_children():
        child.kill()
