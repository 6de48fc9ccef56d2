"""A run's questions → the micro-batches of each step, the same at every start of the run."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from vle_bench.data.loader import in_loader
from vle_bench.data.samplers import questions_together
from vle_bench.errors import RequestError

if TYPE_CHECKING:
    from vle_bench.training.run import Run


def epoch_batches(run: "Run", epoch: int, stage: np.ndarray | None) -> list[list[np.ndarray]]:
    """The global batches of an epoch, each as its micro-batches for all processes in turn.

    A function of (seed, epoch) and the batch layout. The epoch's last batch may be short, and then some of its micro-batches
    may be empty: no question is left out, and a global batch holds the same questions however it is shared out.

    Args:
        stage: (questions,) bool, which questions take part; None: all.
    """
    settings, data = run.recipe.train, run.recipe.data
    per_image = questions_together(data.grouping, data.questions_per_image) or len(run.questions)
    order = run.task.training_order(run.questions, settings.seed, epoch, per_image)
    if stage is not None:
        order = order[stage[order]]
    parts = run.accumulation * run.accelerator.num_processes
    batches = [
        order[start : start + settings.batch_size]
        for start in range(0, len(order), settings.batch_size)
    ]
    return [np.array_split(batch, parts) for batch in batches]


TEXT_MULTIPLE = 16  # tokens; a power of two that keeps the shapes of a compiled model few


def micro_batch(
    collate: Callable[[np.ndarray], dict[str, Any]], stand_in: np.ndarray, part: np.ndarray
) -> dict[str, Any]:
    """Collate a part of a global batch.

    An empty part becomes a stand-in without ids, which weighs nothing in the loss: every process has to make as many passes
    as the others, which wait for it to add up the gradients.
    """
    return collate(part) if len(part) else {**collate(stand_in), "ids": []}


def padded_text(
    inputs: dict[str, torch.Tensor], longest: int, pad_token_id: int
) -> dict[str, torch.Tensor]:
    """Texts padded to a multiple of `TEXT_MULTIPLE` tokens, at most `longest`; (..., T) each."""
    length = inputs["input_ids"].shape[-1]
    more = max(length, min(math.ceil(length / TEXT_MULTIPLE) * TEXT_MULTIPLE, longest)) - length
    fill = {"input_ids": pad_token_id, "attention_mask": 0, "token_type_ids": 0}
    return inputs | {
        name: torch.nn.functional.pad(inputs[name], (0, more), value=value)
        for name, value in fill.items()
        if name in inputs
    }


def model_inputs(run: "Run", batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What the model gets of a micro-batch, on its device."""
    inputs = batch["inputs"]
    if run.recipe.train.compile:
        inputs = padded_text(
            inputs, run.inputs["max_text_length"], run.processor.tokenizer.pad_token_id
        )
    return {
        name: value.to(run.accelerator.device, non_blocking=True) for name, value in inputs.items()
    }


def first_stage(run: "Run", epoch: int) -> np.ndarray | None:
    """(questions,) bool, which questions the first stage sees in this epoch."""
    stage, data = run.recipe.data.first_stage, run.recipe.data
    if stage is None:
        return None
    try:
        return run.task.first_stage(
            run.questions, stage.question_types, stage.other_share, run.recipe.train.seed, epoch
        )
    except ValueError as error:
        raise RequestError(
            f"data.first_stage.question_types: {data.train} in {data.root}: {error}"
        ) from error


Step = tuple[
    int, int, list[dict[str, Any]]
]  # epoch, questions in the global batch, this process's micro-batches


def steps(run: "Run", start: int = 0) -> Iterator[Step]:
    """Collated steps, for ever: the first stage's, then those of all questions; the first `start` are passed over unread."""
    recipe, world, rank = run.recipe, run.accelerator.num_processes, run.accelerator.process_index
    done = 0
    for epoch in itertools.count():
        in_stage = done < run.stage_steps
        batches = epoch_batches(run, epoch, first_stage(run, epoch) if in_stage else None)
        if in_stage:
            batches = batches[: run.stage_steps - done]
        passed = min(max(start - done, 0), len(batches))
        done += len(batches)
        batches = batches[passed:]
        if not batches:
            continue
        settings = recipe.augment.model_dump() | {
            "one_a_question": recipe.data.grouping == "question"
        }
        augment = run.task.augmentation(settings, recipe.train.seed, epoch)
        collate = run.task.collator(
            run.questions, run.data.images, run.processor, run.labels, run.inputs, augment
        )
        collate = partial(micro_batch, collate, batches[-1][0][:1])
        mine: Any = [part for batch in batches for part in batch[rank::world]]
        loaded = iter(
            DataLoader(
                mine,
                batch_size=None,
                collate_fn=collate,
                num_workers=recipe.train.num_workers,
                worker_init_fn=in_loader,
                generator=torch.Generator(),  # its seed for the workers would else be drawn from the numbers that dropout uses
            )
        )
        for batch in batches:
            yield epoch, sum(map(len, batch)), [next(loaded) for _ in range(run.accumulation)]
