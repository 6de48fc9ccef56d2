"""`vle-bench bench`: speed of a recipe on this machine, also beside the published way to run it."""

import itertools
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from vle_bench.bench.flops import forward_flops, training_flops
from vle_bench.bench.measured import BF16, NAIVE, OURS, Measured, Timing, rate_shown
from vle_bench.bench.published_way import published_way
from vle_bench.bench.separate_passes import separate_passes
from vle_bench.bench.setup import model_builder, with_synthetic_data
from vle_bench.bench.time_shares import Marks, watched
from vle_bench.data.asking import Words
from vle_bench.data.collate import Batch
from vle_bench.data.pixels import choose
from vle_bench.errors import RequestError, RunFailed
from vle_bench.evaluation.environment import DTYPES, device_name, precision_name
from vle_bench.json_files import JsonObject
from vle_bench.model_families import FAMILIES, VLE
from vle_bench.models import VLEForPreTraining
from vle_bench.progress import Bar
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks.base import output_of
from vle_bench.training.feed import Step
from vle_bench.training.run import Run, build
from vle_bench.training.train import optimizer_step

# The states of the optimizer come in the first step, so the second is the first at full memory.
WARM_UP = 2
MOST = 100_000  # steps, and questions in an evaluation batch
SHARED_STEPS = 2  # steps in which the parts are timed
# Rows of the square matrices whose product measures the peak.
PRODUCT_ON_CPU, PRODUCT_ON_GPU = 2048, 8192
PRODUCTS = 10
# Of the seconds by the clock times the threads, the share of CPU seconds below which other programs
# (or a machine with fewer free cores) have slowed a measurement down: threads that wait for each
# other spin.
UNDISTURBED = 0.8
# Names of ways to run a model, each with a function that returns a context in which it runs so.
Ways = Mapping[str, Callable[[], AbstractContextManager[None]]]


def run_bench(
    recipe: Recipe,
    count: int,
    evaluation_batch_size: int,
    *,
    synthetic: str | None = None,
    naive: bool = False,
) -> JsonObject:
    """Time `count` optimizer steps and as many evaluation batches of a recipe.

    Batches are loaded in this process, between the timed steps. The time of the parts of a step is
    measured in steps of their own.

    Args:
        synthetic: why data and weights of the recipe's sizes replace its own; None if they do not.
        naive: also run each step as the published programs do, in turn with ours.

    Raises:
        RequestError: the recipe cannot be measured like this.
        RunFailed: there is too little memory.
    """
    check_options(recipe, count, evaluation_batch_size, naive)
    train = recipe.train.model_copy(update={"num_workers": 0, "trackers": []})
    measured = recipe.model_copy(update={"train": train})
    with tempfile.TemporaryDirectory() as folder:
        builder = model_builder(measured) if synthetic else None
        if synthetic:
            measured = with_synthetic_data(
                measured, Path(folder) / "data", count + WARM_UP, evaluation_batch_size
            )
        with enough_memory(recipe):
            run = build(measured, Path(folder), builder)
            if run.accelerator.num_processes > 1:
                raise RequestError("bench: measures one process; start it without a launcher")
            report = measure(run, recipe, count, evaluation_batch_size, synthetic, naive)
    return {
        "recipe": recipe.name,
        "recipe_hash": recipe.hash,
        "data": "synthetic" if synthetic else recipe.data.root,
        "synthetic_because": synthetic,
        **report,
    }


@contextmanager
def enough_memory(recipe: Recipe) -> Iterator[None]:
    """Turn the errors of a machine without memory into RunFailed, one line."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # For a CPU without memory, torch raises a bare RuntimeError.
        full = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not full and "can't allocate memory" not in str(error):
            raise
        raise RunFailed(
            f"bench: not enough memory for micro-batches of {recipe.train.micro_batch} questions "
            f"of {recipe.model.image_size} pixels; give a smaller train.per_device_batch_size"
        ) from error


def check_options(recipe: Recipe, count: int, evaluation_batch_size: int, naive: bool) -> None:
    """Refuse options that cannot be measured; raises RequestError."""
    for option, value in (("--steps", count), ("--evaluation-batch-size", evaluation_batch_size)):
        if value < 1:
            raise RequestError(f"bench {option}: 1 or more is expected, not {value}")
        if value > MOST:
            raise RequestError(f"bench {option}: at most {MOST:,} are possible, not {value}")
    if naive and recipe.model.family != VLE:
        raise RequestError(
            f"bench --naive: the published way is that of VLE and METER, not of "
            f"{FAMILIES[recipe.model.family].title}; leave it out"
        )
    for key in ("compile", "cuda_graphs"):
        if naive and getattr(recipe.train, key):
            raise RequestError(
                f"bench --naive: the published way runs without train.{key}, so the two would not "
                f"compare; train.{key}=false"
            )


def measure(
    run: Run,
    recipe: Recipe,
    count: int,
    evaluation_batch_size: int,
    synthetic: str | None,
    naive: bool,
) -> JsonObject:
    """Measure training and evaluation of a run in every way; returns the report.

    Args:
        recipe: as it was given; says how many processes load data.
    """
    device, train = run.accelerator.device, run.recipe.train
    precision = precision_name(run.accelerator.mixed_precision)
    ways: dict[str, Callable[[], AbstractContextManager[None]]] = {OURS: nullcontext}
    if naive:
        ways[NAIVE] = naive_way(run)
    if device.type == "cpu" and precision == "fp32" and torch.cpu._is_amx_tile_supported():
        ways[BF16] = in_bf16
    total = len(ways) * 2 * count + (WARM_UP + len(ways) - 1) + len(ways) + SHARED_STEPS
    with Bar(f"bench {run.recipe.name}", total) as bar:
        dtypes = {name: DTYPES["bf16" if name == BF16 else precision] for name in ways}
        before = {name: matmul_peak(device, dtype) for name, dtype in dtypes.items()}
        parts = {"training": training(run, ways, count, bar)}
        # The outer context keeps 16-bit weights from batch to batch, as in `predict_in_batches`.
        with run.accelerator.autocast():
            parts["evaluation"] = evaluation(run, ways, count, evaluation_batch_size, bar)
        shares = time_shares(run, bar)
        # Twice, since other programs may have been busy the first time.
        peaks = {
            name: max(before[name], matmul_peak(device, dtype)) for name, dtype in dtypes.items()
        }
    report: JsonObject = {
        "task": run.task.name,
        "device": device_name(run.accelerator),
        "precision": precision,
        "parameters": sum(p.numel() for p in run.bare_model.parameters()),
        "image_size_pixels": run.recipe.model.image_size,
        "steps": count,
        "questions_per_step": train.batch_size,
        "questions_per_micro_batch": train.micro_batch,
        "matmul_peak_tflop_per_second": peaks[OURS] / 1e12,
        "training_time_shares": {
            k: seconds / sum(shares.values()) for k, seconds in shares.items()
        },
        **compared(ways, parts, peaks, device.type),
    }
    for part, done in parts.items():
        computed, processes = report[part]["samples_per_second"], recipe.train.num_workers
        report[part] |= done.loading_rates(computed, processes, os.cpu_count() or 1)
    shares_of_threads = [report[part]["cpu_share_of_threads"] for part in parts]
    report["disturbed"] = any(s is not None and s < UNDISTURBED for s in shares_of_threads)
    if not synthetic:
        seconds = run.total_steps * report["training"]["seconds_per_step"]
        report["steps_of_the_recipe"] = run.total_steps
        report["hours_of_the_recipe_without_loading"] = seconds / 3600
    return report


def naive_way(run: Run) -> Callable[[], AbstractContextManager[None]]:
    """Return the published way to run a model; of pre-training, a pass for each objective."""
    if isinstance(run.bare_model, VLEForPreTraining):
        return partial(separate_passes, run.bare_model)
    length = run.input_settings["max_text_length"]
    padding = run.processor.tokenizer.pad_token_id
    return partial(published_way, run.bare_model, length, padding)


@contextmanager
def in_bf16() -> Iterator[None]:
    """Compute in bf16 on a CPU, as `train.precision=bf16` does."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield


def compared(
    ways: Ways, parts: Mapping[str, Measured], peaks: Mapping[str, float], device: str
) -> JsonObject:
    """Report on training and evaluation in our way, and under the names of the others in those.

    `ratio` says how many times as fast ours is as the published way, and bf16 as ours.

    Args:
        peaks: FLOP/s of matrix products in the precision of each way.
    """
    report: JsonObject = {}
    for name in ways:
        speeds = {part: done.report(name, peaks[name], device) for part, done in parts.items()}
        speeds["training"]["peak_memory_gib"] = parts["training"].ways[name].peak / 2**30
        report |= speeds if name == OURS else {name: speeds}
    for part, done in parts.items():
        report[part] |= done.shapes()
        for name in set(ways) - {OURS}:
            power = -1 if name == BF16 else 1
            by_clock, by_process = (done.ratio(clock, name) for clock in ("clock", "process"))
            report[name][part]["ratio"] = by_clock**power
            report[name][part]["ratio_of_cpu_time"] = by_process**power if device == "cpu" else None
    return report


def training(run: Run, ways: Ways, count: int, bar: Bar) -> Measured:
    """Time optimizer steps in every way."""
    run.model.train()
    done, stream = Measured({name: Timing() for name in ways}), run.steps()

    def step(batch: Step) -> None:
        optimizer_step(run, batch[2], batch[1])

    # Ours first: on a CPU, the peak memory of the process never goes down.
    for name, way in ways.items():
        for _ in range(WARM_UP if name == OURS else 1):
            timed(run, way, partial(step, next(stream)), done.ways[name])
            bar.advance(text=f"warm-up, {name}")
    for number in range(count):
        started = time.perf_counter()
        batch = next(stream)
        done.add(run.bare_model, batch[2], time.perf_counter() - started, count=training_flops)
        in_turn(run, ways, number, partial(step, batch), batch[1], done, bar)
    return done


@torch.no_grad()
def evaluation(run: Run, ways: Ways, count: int, batch_size: int, bar: Bar) -> Measured:
    """Time the evaluation, batch by batch, in every way."""
    run.model.eval()
    task = run.task.for_inputs(run.input_settings)
    questions = run.data.questions(run.recipe.data.evaluate)
    collate = run.task.collator(run.reading(questions, choose(run.data, run.processor)[0]))
    chosen = itertools.cycle(run.task.evaluation_batches(questions, batch_size))
    done = Measured({name: Timing() for name in ways})

    def answer(batch: Batch) -> None:
        with run.accelerator.autocast():
            output = output_of(run.model, batch, run.accelerator.device)
        assert not isinstance(output, Words)  # no trained model answers in words
        task.predictions(output.logits, batch["ids"], run.data.labels)

    for number in range(-1, count):
        started = time.perf_counter()
        batch = collate(next(chosen))
        seconds = time.perf_counter() - started
        if number < 0:  # warm-up
            for name, way in ways.items():
                timed(run, way, partial(answer, batch), done.ways[name])
                bar.advance(text=f"warm-up, {name}")
            continue
        done.add(run.bare_model, [batch], seconds, count=forward_flops)
        in_turn(run, ways, number, partial(answer, batch), len(batch["ids"]), done, bar)
    run.model.train()
    return done


def in_turn(
    run: Run,
    ways: Ways,
    number: int,
    work: Callable[[], None],
    samples: int,
    done: Measured,
    bar: Bar,
) -> None:
    """Time the same work in every way.

    The order is reversed in the next repetition, so that other programs disturb all ways alike.
    """
    for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
        clock, process = timed(run, ways[name], work, done.ways[name])
        done.ways[name].clock.append(clock / samples)
        done.ways[name].process.append(process / samples)
        bar.advance(text=f"{name} {rate_shown(samples / clock)} samples/s")


def timed(
    run: Run,
    way: Callable[[], AbstractContextManager[None]],
    work: Callable[[], None],
    timing: Timing,
) -> tuple[float, float]:
    """Measure seconds by the clock and of CPU time (all threads); peak memory goes to `timing`.

    The peak of a CPU process never goes down: there it is that of the first calls, before another
    way may have used more.
    """
    on_gpu = run.accelerator.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    with way():
        clock, process = time.perf_counter(), time.process_time()
        work()
        if on_gpu:
            torch.cuda.synchronize()
        clock, process = time.perf_counter() - clock, time.process_time() - process
    if on_gpu:
        timing.peak = max(timing.peak, torch.cuda.max_memory_allocated())
    elif not timing.clock:
        # Linux counts in KiB.
        timing.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return clock, process


def time_shares(run: Run, bar: Bar) -> dict[str, float]:
    """Measure the parts of a training step that loads its own batch.

    Without torch.compile and CUDA graphs, in which the parts cannot be told apart.
    """
    train = run.recipe.train.model_copy(update={"cuda_graphs": False})
    run = replace(run, recipe=run.recipe.model_copy(update={"train": train}))
    stream = run.steps()
    next(stream)  # the first batch opens the tables
    marks = Marks(run.accelerator.device)
    with torch.compiler.set_stance("force_eager"), watched(run.accelerator, run.bare_model, marks):
        for _ in range(SHARED_STEPS):
            _, size, micro_batches = next(stream)
            marks.mark("data")
            optimizer_step(run, micro_batches, size)
            marks.mark("optimiser")
            bar.advance(text="time shares")
    return marks.seconds()


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Measure FLOP/s of the fastest of some products of large square matrices.

    Args:
        dtype: of the products in training.
    """
    rows = PRODUCT_ON_GPU if device.type == "cuda" else PRODUCT_ON_CPU
    one, other = (torch.randn(rows, rows, device=device, dtype=dtype) for _ in range(2))
    fastest = float("inf")
    for _ in range(PRODUCTS):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        one @ other
        if device.type == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * rows**3 / fastest
