"""`vle-bench bench`: how fast a recipe trains here, and what it waits for."""

import resource
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch

from vle_bench.batches import steps
from vle_bench.evaluate import EVALUATION_BATCH_SIZE, predict
from vle_bench.recipe import Recipe
from vle_bench.train import build, optimizer_step

WARM_UP = 3  # the first steps allocate memory and fill caches


def run_bench(recipe: Recipe, count: int) -> dict[str, str]:
    """Time `count` steps of a recipe, the loading of as many batches alone, and the evaluation of `data.evaluate`."""
    with tempfile.TemporaryDirectory() as folder:
        run = build(recipe, Path(folder))
        loading = time.monotonic()
        batches = list(islice(steps(run), WARM_UP + count))
        loading = time.monotonic() - loading
        run.model.train()
        for _, size, micro_batches in batches[:WARM_UP]:
            optimizer_step(run, micro_batches, size)
        synchronize()
        training = time.monotonic()
        for _, size, micro_batches in batches[WARM_UP:]:
            optimizer_step(run, micro_batches, size)
        synchronize()
        training = time.monotonic() - training
        evaluating = time.monotonic()
        rows = predict(
            run.bare_model, run.processor, run.task, run.data, recipe.data.evaluate, run.labels,
            accelerator=run.accelerator, batch_size=EVALUATION_BATCH_SIZE, inputs=run.inputs,
        )  # fmt: skip
        evaluating = time.monotonic() - evaluating
    questions = sum(size for _, size, _ in batches[WARM_UP:])
    per_step = training / len(batches[WARM_UP:])
    return {
        "training, questions/s": f"{questions / training:.0f}",
        "training, seconds a step": f"{per_step:.3f}",
        "loading, seconds a step": f"{loading / len(batches):.3f} ({100 * loading / len(batches) / per_step:.0f} %)",
        "evaluation, questions/s": f"{len(rows) / evaluating:.0f}",
        "peak memory, GiB": f"{peak_memory():.2f}",
        "steps of the recipe": f"{run.total_steps}, about {run.total_steps * per_step / 60:.1f} minutes",
    }


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory() -> float:
    """GiB: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB
