"""`vle-bench bench`: how fast a recipe trains and evaluates on this machine, beside the published way where it is asked for."""

import itertools
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vle_bench.bench.published_way import published_way
from vle_bench.bench.setup import check_memory, sized_model, with_synthetic_data
from vle_bench.bench.time_shares import Marks, watched
from vle_bench.errors import RequestError, RunFailed
from vle_bench.evaluation.evaluate import forward
from vle_bench.evaluation.precision import DTYPES, precision_name
from vle_bench.evaluation.provenance import device_name
from vle_bench.models.vle.flops import BACKWARD, forward_flops, head_flops
from vle_bench.progress import Bar
from vle_bench.recipe.schema import Recipe
from vle_bench.training.batches import Step
from vle_bench.training.run import Run, build
from vle_bench.training.train import optimizer_step

OURS, NAIVE = "ours", "naive"
WARM_UP = 2  # the optimiser's states come in the first step, so the second is the first at the full memory
MOST = 100_000  # steps, and questions in an evaluation batch
SHARED_STEPS = 2  # in which the parts are timed
PRODUCT_ON_CPU, PRODUCT_ON_GPU = (
    2048,
    8192,
)  # rows of the square matrices whose product tells the peak
PRODUCTS = 10

Ways = Mapping[
    str, Callable[[], AbstractContextManager[None]]
]  # how a model is run → a context in which it is


@dataclass
class Timing:
    """Of one way: seconds a sample in each repetition, of the clock and of the process; peak memory in bytes."""

    clock: list[float] = field(default_factory=list)
    process: list[float] = field(default_factory=list)
    peak: int = 0

    def report(
        self, samples: float, flops: float, matmul_peak: float, device: str
    ) -> dict[str, float | None]:
        """Args: samples: in a repetition, on average; flops: of a sample; matmul_peak: FLOP/s."""
        rate = 1 / statistics.median(self.clock)
        return {
            "samples_per_second": rate,
            "seconds_per_step": samples / rate,
            # on a GPU the process only waits
            "cpu_seconds_per_step": samples * statistics.median(self.process)
            if device == "cpu"
            else None,
            "model_gflop_per_sample": flops / 1e9,
            "model_flop_utilisation": flops * rate / matmul_peak,
        }


def run_bench(
    recipe: Recipe,
    count: int,
    evaluation_batch_size: int,
    *,
    synthetic: str | None = None,
    naive: bool = False,
) -> dict[str, Any]:
    """Time `count` optimiser steps and as many evaluation batches of a recipe.

    Batches are loaded in this process between the timed steps. The time of a step's parts comes from steps of their own.

    Args:
        synthetic: why data and weights of the recipe's sizes are made here, in the place of the recipe's own; None: they are not.
        naive: run each step also as the published programs do, in turn with ours.

    Raises:
        RequestError: what cannot be measured so; RunFailed: no memory for it.
    """
    check(recipe, count, evaluation_batch_size, naive)
    asked = recipe
    recipe = recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"num_workers": 0, "trackers": []})}
    )
    check_memory(recipe)
    with tempfile.TemporaryDirectory() as folder:
        if synthetic:
            recipe = with_synthetic_data(
                recipe, Path(folder) / "data", count + WARM_UP, evaluation_batch_size
            )
        run = build(recipe, Path(folder), sized_model if synthetic else None)
        if run.accelerator.num_processes > 1:
            raise RequestError("bench: measures one process; start it without a launcher")
        try:
            found = measure(run, count, evaluation_batch_size, synthetic, naive)
        except (
            RuntimeError,
            MemoryError,
        ) as error:  # torch has no class of its own for a CPU that has no memory left
            if isinstance(
                error, MemoryError | torch.OutOfMemoryError
            ) or "can't allocate memory" in str(error):
                size = recipe.train.per_device_batch_size
                raise RunFailed(
                    f"bench: no memory for micro-batches of {size} questions; give a smaller train.per_device_batch_size"
                ) from error
            raise
    data = "synthetic" if synthetic else asked.data.root
    return {
        "recipe": asked.name,
        "recipe_hash": asked.hash,
        "data": data,
        "synthetic_because": synthetic,
        **found,
    }


def check(recipe: Recipe, count: int, evaluation_batch_size: int, naive: bool) -> None:
    for option, value in (("--steps", count), ("--evaluation-batch-size", evaluation_batch_size)):
        if value < 1:
            raise RequestError(f"bench {option}: 1 or more is expected, not {value}")
        if value > MOST:
            raise RequestError(f"bench {option}: at most {MOST:,} are possible, not {value}")
    if naive and recipe.train.compile:
        raise RequestError(
            "bench --naive: the published way is not compiled, so the two would not compare; train.compile=false"
        )


def measure(
    run: Run, count: int, evaluation_batch_size: int, synthetic: str | None, naive: bool
) -> dict[str, Any]:
    device = run.accelerator.device
    ways: dict[str, Callable[[], AbstractContextManager[None]]] = {OURS: nullcontext}
    if naive:
        length, padding = run.inputs["max_text_length"], run.processor.tokenizer.pad_token_id
        ways[NAIVE] = partial(published_way, run.bare_model, length, padding)
    total = len(ways) * 2 * count + (WARM_UP + len(ways) - 1) + len(ways) + SHARED_STEPS
    with Bar(f"bench {run.recipe.name}", total) as bar:
        peak = matmul_peak(device, DTYPES[precision_name(run.accelerator.mixed_precision)])
        trained = training(run, ways, count, bar)
        evaluated = evaluation(run, ways, count, evaluation_batch_size, bar)
        shares = time_shares(run, bar)
        peak = max(
            peak, matmul_peak(device, DTYPES[precision_name(run.accelerator.mixed_precision)])
        )  # once more: others may have been busy then
    train = run.recipe.train
    found: dict[str, Any] = {
        "task": run.task.name,
        "device": device_name(run.accelerator),
        "precision": precision_name(run.accelerator.mixed_precision),
        "parameters": sum(p.numel() for p in run.bare_model.parameters()),
        "image_size_pixels": run.recipe.model.image_size,
        "steps": count,
        "questions_per_step": train.batch_size,
        "questions_per_micro_batch": train.per_device_batch_size,
        "matmul_peak_tflop_per_second": peak / 1e12,
        "training_time_shares": {
            part: seconds / sum(shares.values()) for part, seconds in shares.items()
        },
    }
    for name in ways:
        report = {
            part: done.report(name, peak, device.type)
            for part, done in (("training", trained), ("evaluation", evaluated))
        }
        report["training"]["peak_memory_gib"] = trained.ways[name].peak / 2**30
        found |= report if name == OURS else {name: report}
    for part, done in (("training", trained), ("evaluation", evaluated)):
        found[part] |= {
            "loading_samples_per_second_per_process": done.samples / done.loading,
            **done.shapes(),
        }
        if naive:
            found["naive"][part]["ratio"] = done.ratio("clock")
            found["naive"][part]["ratio_of_cpu_time"] = (
                done.ratio("process") if device.type == "cpu" else None
            )
    if not synthetic:
        found["steps_of_the_recipe"] = run.total_steps
        found["hours_of_the_recipe_without_loading"] = (
            run.total_steps * found["training"]["seconds_per_step"] / 3600
        )
    return found


@dataclass
class Measured:
    """Training or evaluation: each way's timing, and what was in the batches that were timed."""

    ways: dict[str, Timing]
    samples: int = 0
    repetitions: int = 0
    images: int = 0
    texts: int = 0
    tokens: int = 0
    flops: float = 0.0
    loading: float = 0.0  # seconds

    def add(self, run: Run, batches: list[dict[str, Any]], seconds: float, passes: int) -> None:
        """Count what is in the micro-batches of one repetition."""
        self.repetitions += 1
        self.loading += seconds
        for batch in batches:
            texts, images, words = shape(batch["inputs"])
            architecture, config = run.task.architecture, run.bare_model.config
            whole = (
                architecture == "VLEForVCRSecondStage"
            )  # whose words are read from the last layer too
            flops = sum(forward_flops(config, texts, images, pooled_only=not whole).values())
            self.flops += passes * (flops + head_flops(architecture, config, len(texts), words))
            self.samples += len(batch["ids"])
            self.images += images
            self.texts += len(texts)
            self.tokens += sum(tokens for tokens, _ in texts)

    def report(self, way: str, matmul_peak: float, device: str) -> dict[str, float | None]:
        return self.ways[way].report(
            self.samples / self.repetitions, self.flops / self.samples, matmul_peak, device
        )

    def shapes(self) -> dict[str, float]:
        return {
            "texts_per_image": self.texts / self.images,
            "tokens_per_text": self.tokens / self.texts,
            "questions_per_batch": self.samples / self.repetitions,
        }

    def ratio(self, clock: str) -> float:
        """How many times as long the naive way takes."""
        return statistics.median(getattr(self.ways[NAIVE], clock)) / statistics.median(
            getattr(self.ways[OURS], clock)
        )


def shape(inputs: Mapping[str, torch.Tensor]) -> tuple[list[tuple[int, int]], int, int]:
    """(tokens, objects) of each text, images, and masked words of a micro-batch."""
    tokens = inputs["attention_mask"].sum(-1).flatten().tolist()
    objects = (
        inputs["object_mask"].sum(-1).flatten().tolist()
        if "object_mask" in inputs
        else [0] * len(tokens)
    )
    words = int((inputs["masked_words"] != -100).sum()) if "masked_words" in inputs else 0
    return list(zip(tokens, objects, strict=True)), inputs["pixel_values"].shape[0], words


def training(run: Run, ways: Ways, count: int, bar: Bar) -> Measured:
    run.model.train()
    found, stream = Measured({name: Timing() for name in ways}), run.steps()

    def step(batch: Step) -> None:
        optimizer_step(run, batch[2], batch[1])

    for (
        name,
        way,
    ) in ways.items():  # ours first: on a CPU the peak of the process is never forgotten
        for _ in range(WARM_UP if name == OURS else 1):
            timed(run, way, partial(step, next(stream)), found.ways[name])
            bar.advance(text=f"warm-up, {name}")
    for number in range(count):
        started = time.perf_counter()
        batch = next(stream)
        found.add(run, batch[2], time.perf_counter() - started, passes=1 + BACKWARD)
        in_turn(run, ways, number, partial(step, batch), batch[1], found, bar)
    return found


@torch.no_grad()
def evaluation(run: Run, ways: Ways, count: int, batch_size: int, bar: Bar) -> Measured:
    """The road of `vle_bench.evaluation.evaluate.predict`, a batch at a time."""
    run.model.eval()
    questions = run.data.questions(run.recipe.data.evaluate)
    collate = run.task.collator(
        questions, run.data.images, run.processor, run.data.labels, run.inputs
    )
    chosen = itertools.cycle(run.task.evaluation_batches(questions, batch_size))
    found = Measured({name: Timing() for name in ways})

    def answer(batch: dict[str, Any]) -> None:
        run.task.predictions(
            forward(run.model, batch, run.accelerator), batch["ids"], run.data.labels
        )

    for number in range(-1, count):
        started = time.perf_counter()
        batch = collate(next(chosen))
        seconds = time.perf_counter() - started
        if number < 0:  # warm-up
            for name, way in ways.items():
                timed(run, way, partial(answer, batch), found.ways[name])
                bar.advance(text=f"warm-up, {name}")
            continue
        found.add(run, [batch], seconds, passes=1)
        in_turn(run, ways, number, partial(answer, batch), len(batch["ids"]), found, bar)
    run.model.train()
    return found


def in_turn(
    run: Run,
    ways: Ways,
    number: int,
    work: Callable[[], None],
    samples: int,
    found: Measured,
    bar: Bar,
) -> None:
    """The same work in every way, the first of them last in the next repetition: what else runs here disturbs all alike."""
    for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
        clock, process = timed(run, ways[name], work, found.ways[name])
        found.ways[name].clock.append(clock / samples)
        found.ways[name].process.append(process / samples)
        bar.advance(text=f"{name} {samples / clock:.3g} samples/s")


def timed(
    run: Run,
    way: Callable[[], AbstractContextManager[None]],
    work: Callable[[], None],
    timing: Timing,
) -> tuple[float, float]:
    """Seconds by the clock and of this process, all its threads; the peak memory goes to `timing`.

    A CPU process cannot forget its peak: there it is that of the first calls, before another way may have used more.
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
        timing.peak = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )  # Linux counts in KiB
    return clock, process


def time_shares(run: Run, bar: Bar) -> dict[str, float]:
    """Seconds of each part of a training step that loads its batch itself; of the model as it is without torch.compile."""
    stream = run.steps()
    next(stream)  # opens the tables
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
    """FLOP/s of the fastest of some products of large square matrices, in the precision that training multiplies in."""
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
