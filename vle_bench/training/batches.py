"""The batches of each step: functions of (seed, epoch), the same at every start of a run."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from vle_bench.data.collate import Batch
from vle_bench.data.loader import Indices, load_batches

Collate = Callable[[Indices], Batch]
# The epoch, the questions of the global batch, and the micro-batches of this process.
Step = tuple[int, int, list[Batch]]

# Tokens. A power of two keeps the number of different shapes of a compiled model small.
TEXT_MULTIPLE = 16


def first_stage(
    types: NDArray[np.str_], chosen: list[str], other_share: float, seed: int, epoch: int
) -> NDArray[np.bool_]:
    """Choose the questions that the first stage of training sees in one epoch.

    Args:
        types: (questions,) the type of each question of the training split.
        chosen: the types that the stage trains on.
        other_share: share of all other questions among those returned, drawn anew each epoch.

    Returns:
        (questions,) mask.
    """
    mask: NDArray[np.bool_] = np.isin(types, chosen)
    if other_share:
        wanted = other_share / (1 - other_share) * mask.sum()
        drawn = np.random.default_rng((seed, epoch, 1)).random(len(mask))
        mask = mask | (drawn < wanted / max(1, (~mask).sum()))
    return mask


def epoch_batches(
    epoch: int,
    step: int,
    *,
    order: Callable[[int], Indices],
    batch_size: int,
    parts: int,
    stage_steps: int = 0,
    stage: Callable[[int], NDArray[np.bool_]] | None = None,
) -> list[list[Indices]]:
    """Cut an epoch into global batches, and each of them into micro-batches.

    The last batch may be short, and some of its micro-batches empty: no question is left out, and a
    global batch holds the same questions however many processes share it.

    Args:
        epoch: number of the epoch.
        step: number of steps before it.
        order: epoch → the questions in the order of that epoch.
        batch_size: questions in a global batch.
        parts: micro-batches in a global batch, over all processes.
        stage_steps: length of the first stage. An epoch ends where the stage ends.
        stage: epoch → (questions,) mask of the questions that the first stage sees.
    """
    in_stage = stage is not None and step < stage_steps
    questions = order(epoch)
    if stage is not None and in_stage:
        questions = questions[stage(epoch)[questions]]
    starts = range(0, len(questions), batch_size)
    batches = [np.array_split(questions[i : i + batch_size], parts) for i in starts]
    return batches[: stage_steps - step] if in_stage else batches


def micro_batch(collate: Collate, stand_in: Indices, part: Indices) -> Batch:
    """Collate one micro-batch.

    An empty part becomes a stand-in without ids, which has no weight in the loss: every process has
    to make as many passes as the others, which wait for it to add up the gradients.
    """
    return collate(part) if len(part) else {**collate(stand_in), "ids": []}


def padded_text(
    inputs: dict[str, torch.Tensor], longest: int, pad_token_id: int
) -> dict[str, torch.Tensor]:
    """Pad texts (..., T) to a multiple of `TEXT_MULTIPLE` tokens, but to no more than `longest`."""
    length = inputs["input_ids"].shape[-1]
    target = min(math.ceil(length / TEXT_MULTIPLE) * TEXT_MULTIPLE, longest)
    missing = max(length, target) - length
    fill = {"input_ids": pad_token_id, "attention_mask": 0, "token_type_ids": 0}
    return inputs | {
        name: torch.nn.functional.pad(inputs[name], (0, missing), value=value)
        for name, value in fill.items()
        if name in inputs
    }


def steps(
    batches_of: Callable[[int, int], list[list[Indices]]],
    collate_of: Callable[[int], Collate],
    *,
    start: int = 0,
    num_workers: int = 0,
    pinned: bool = False,
    process: int = 0,
    processes: int = 1,
) -> Iterator[Step]:
    """Load the steps of a run, without end.

    Args:
        batches_of: (epoch, steps before it) → its global batches, each as the micro-batches of all
            processes in turn; see `epoch_batches`.
        collate_of: epoch → the function that collates a micro-batch.
        start: number of steps to skip, without reading their data.
        num_workers: processes that load data.
        pinned: see `load_batches`.
        process: rank of this process.
        processes: number of processes that train together.
    """
    done = 0
    for epoch in itertools.count():
        batches = batches_of(epoch, done)
        skipped = min(max(start - done, 0), len(batches))
        done += len(batches)
        batches = batches[skipped:]
        if not batches:
            continue
        own = [part for batch in batches for part in batch[process::processes]]
        collate = partial(micro_batch, collate_of(epoch), batches[-1][0][:1])
        loaded = load_batches(own, collate, num_workers, pinned=pinned)
        for batch in batches:
            count = len(batch[process::processes])
            yield epoch, sum(map(len, batch)), [next(loaded) for _ in range(count)]
