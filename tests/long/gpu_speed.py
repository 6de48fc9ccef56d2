"""What the device can do, and how much of it training and evaluation of VLE-base use, beside the published way."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tests.long.gpu_setting import (
    MAX_TEXT,
    Report,
    Setting,
    base_config,
    evaluation_step,
    exact_products,
    forget,
    new_model,
    no_memory,
    optimizer_of,
    seconds_each,
    training_step,
    vcr_batch,
    vqa_batch,
)
from vle_bench.batches import padded_text
from vle_bench.flops import BACKWARD, forward_flops, head_flops
from vle_bench.naive import published_way

VARIETY = 4  # batches of other lengths, which follow each other
MEASURE = 2.0  # seconds of each measurement
LEAST_TO_COMPILE = 40.0  # seconds


@dataclass(frozen=True)
class Work:
    """A task of VLE-base: what is timed, and the micro-batch of its recipe."""

    name: str
    architecture: str
    kind: str  # of MAX_TEXT
    recipe_batch: int  # questions
    most: int  # questions that are tried
    shared: bool = False

    def batch(self, setting: Setting, config: Any, questions: int, seed: int) -> dict[str, Tensor]:
        """On the device; the first seed's has the longest text that is drawn."""
        if self.kind == "vcr":
            return vcr_batch(config, questions, seed, seed == 0, setting.device)
        return vqa_batch(config, questions, seed, self.shared, seed == 0, setting.device)


WORKS = (
    Work("VQA, 5.4 a picture", "VLEForVQA", "vqa", 32, 2048, shared=True),
    Work("VQA, one a picture", "VLEForVQA", "vqa", 32, 1024),
    Work("VCR Q2A", "VLEForVCRQ2A", "vcr", 8, 256),
)


def peak(setting: Setting, report: Report) -> None:
    """Matrix products and copies, the fastest of a few sizes; bf16 over a second too, as clocks fall under load."""
    sizes = (8192, 4096, 16384) if setting.on_gpu else (256,)
    for name, dtype, tf32 in (
        ("bf16", torch.bfloat16, False),
        ("TF32", torch.float32, True),
        ("float32", torch.float32, False),
    ):
        if name == "TF32" and not setting.on_gpu:
            continue
        rates = {}
        with exact_products(tf32):
            for rows in sizes[:2] if name == "float32" else sizes:
                one, other = (torch.randn(rows, rows, device=setting.device, dtype=dtype) for _ in range(2))
                product = torch.empty_like(one)
                for seconds in (0.2, 1.0) if name == "bf16" and rows == sizes[0] and not setting.tiny else (0.2,):
                    each = seconds_each(setting, partial(product_of, one, other, product), seconds)
                    rates[rows, seconds] = 2 * rows**3 / each
                del one, other, product
        best = max(rates, key=lambda key: rates[key])
        setting.peaks[name] = rates[best]
        long = rates.get((sizes[0], 1.0))
        text = f"{rates[best] / 1e12:.1f} TFLOP/s ({best[0]} rows)" + (f"; {long / 1e12:.1f} over a second" if long else "")
        report.row(
            f"matrix product, {name}",
            text,
            flop_per_second=rates[best],
            by_rows_and_seconds={f"{r} {s}": rate for (r, s), rate in rates.items()},
        )
    copies(setting, report)
    forget(setting)


def product_of(one: Tensor, other: Tensor, product: Tensor, number: int) -> None:
    torch.matmul(one, other, out=product)


def copies(setting: Setting, report: Report) -> None:
    source = torch.empty((1 << 30 if setting.on_gpu else 1 << 24) // 4, device=setting.device)
    target = torch.empty_like(source)
    each = seconds_each(setting, lambda _: target.copy_(source), 0.2)
    rate = 2 * source.nbytes / each
    report.row("copy, read and written", f"{rate / 1e9:.0f} GB/s", bytes_per_second=rate)
    if setting.on_gpu:
        host = torch.empty(1 << 26, pin_memory=True)
        each = seconds_each(setting, lambda _: target[: 1 << 26].copy_(host, non_blocking=True), 0.2)
        report.row(
            "copy from pinned memory",
            f"{host.nbytes / each / 1e9:.1f} GB/s",
            bytes_per_second=host.nbytes / each,
        )


def flops(config: Any, work: Work, batch: dict[str, Tensor], training: bool) -> float:
    """Of what has to be done: real tokens, each picture once (`vle_bench.flops`)."""
    tokens = batch["attention_mask"].sum(-1).flatten().tolist()
    objects = batch["object_mask"].sum(-1).flatten().tolist() if "object_mask" in batch else [0] * len(tokens)
    total = sum(forward_flops(config, list(zip(tokens, objects, strict=True)), len(batch["pixel_values"])).values())
    total += head_flops(work.architecture, config, len(tokens))
    return total * (1 + BACKWARD if training else 1)


class Bench:
    """One model on the device, run in several ways.

    Args:
        setting: the device; its deadline bounds the searches.
    """

    def __init__(self, setting: Setting, work: Work) -> None:
        self.setting, self.work = setting, work
        self.config = base_config(setting.tiny)
        self.model = new_model(work.architecture, self.config, setting.device)
        self.optimizer, self.schedule = optimizer_of(self.model)
        self.called: Any = self.model

    def step(self, training: bool, inputs: dict[str, Tensor]) -> Tensor:
        if training:
            return training_step(self.setting, self.called, self.optimizer, self.schedule, inputs)
        return evaluation_step(self.setting, self.called, inputs)

    def batches(self, questions: int, bucketed: bool) -> tuple[list[dict[str, Tensor]], list[float]]:
        """Of other texts on the same pictures; and the FLOPs of a forward pass of each."""
        made = [self.work.batch(self.setting, self.config, questions, seed) for seed in range(VARIETY)]
        for batch in made:
            batch["pixel_values"] = made[0]["pixel_values"]
        counted = [flops(self.config, self.work, batch, training=False) for batch in made]
        if bucketed:
            made = [padded_text(batch, MAX_TEXT[self.work.kind], 0) for batch in made]
        return made, counted

    def fits(self, training: bool, questions: int) -> bool:
        """Whether a step with the longest texts and one more of the same size have memory."""
        enough, inputs = True, {}
        try:
            inputs = self.work.batch(self.setting, self.config, questions, 0)
            for _ in range(2):
                self.step(training, inputs)
            self.setting.wait()
        except RuntimeError as error:
            if not no_memory(error):
                raise
            enough = False
        del inputs
        if not enough:  # outside the handler, whose traceback holds the tensors of the step
            self.optimizer.zero_grad(set_to_none=True)
            forget(self.setting)
        return enough

    def largest(self, training: bool, start: int) -> int:
        """Questions: doubled from `start` until they do not fit, then one half of the way; bounded by the part's time."""
        if self.setting.tiny:
            return start
        best, size = 0, start
        most = self.work.most if training else 16 * self.work.recipe_batch
        while size <= most and self.setting.left > 5 and self.fits(training, size):
            best, size = size, 2 * size
        if best and size <= most and self.fits(training, best * 3 // 2):
            best = best * 3 // 2
        return best

    def measure(self, training: bool, questions: int, bucketed: bool = False) -> dict[str, Any]:
        """Samples a second, peak memory, share of the bf16 peak."""
        self.called.train(training)
        forget(self.setting)
        batches, counted = self.batches(questions, bucketed)
        rounds = 1 if self.setting.tiny else VARIETY
        each = seconds_each(
            self.setting,
            lambda n: self.step(training, batches[n % VARIETY]),
            0.01 if self.setting.tiny else MEASURE,
            warm_up=rounds,
        )
        memory = torch.cuda.max_memory_allocated() / 2**30 if self.setting.on_gpu else 0.0
        work = sum(counted) / VARIETY * (1 + BACKWARD if training else 1)
        most = self.setting.peaks.get("bf16")
        return {
            "questions": questions,
            "samples_per_second": questions / each,
            "seconds_per_step": each,
            "peak_memory_gib": memory,
            "model_gflop_per_sample": work / questions / 1e9,
            "share_of_bf16_peak": work / each / most if most else None,
        }

    def lowered(self, training: bool, questions: int, **options: Any) -> dict[str, Any] | None:
        """As `measure`, with half the questions, and half again, where they do not fit."""
        while questions:
            try:
                return self.measure(training, questions, **options)
            except RuntimeError as error:
                if not no_memory(error):
                    raise
            self.optimizer.zero_grad(set_to_none=True)
            forget(self.setting)
            questions //= 2
        return None


def told(found: dict[str, Any] | None, beside: dict[str, Any] | None = None, whose: str = "published") -> str:
    if found is None:
        return "no memory"
    share = found["share_of_bf16_peak"]
    text = (
        f"{found['samples_per_second']:8.1f} /s {'' if share is None else f'{share:6.1%} peak'} {found['peak_memory_gib']:5.1f} GiB"
    )
    if beside is not None:
        found[f"ratio_to_{whose}"] = found["samples_per_second"] / beside["samples_per_second"]
        text += f" {found[f'ratio_to_{whose}']:5.2f} x {whose}"
    return text


def label(work: Work, training: bool, way: str, questions: int) -> str:
    return f"{work.name}, {'training' if training else 'evaluation'}, {way}, {questions}"


def speed(setting: Setting, report: Report) -> None:
    """Eager: the recipe's micro-batch and the largest that fits, beside the published way."""
    need_peak(setting)
    for number, work in enumerate(WORKS):
        whole = setting.deadline
        setting.deadline = time.monotonic() + setting.left / (len(WORKS) - number)
        bench = Bench(setting, work)
        for training in (True, False):
            size = 2 if setting.tiny else work.recipe_batch
            bench.called.train(training)
            with published_way(bench.model, MAX_TEXT[work.kind], 0):
                published = bench.lowered(training, size)
            ours = bench.lowered(training, size)
            if published:
                report.row(
                    label(work, training, "published", published["questions"]),
                    told(published),
                    way="published",
                    **published,
                )
            if ours:
                text = told(ours, published)
                report.row(label(work, training, "eager", ours["questions"]), text, way="eager", **ours)
            largest = bench.largest(training, 2 * size)
            if largest:
                most = bench.lowered(training, largest)
                if most:
                    text = told(most, published)
                    report.row(
                        label(work, training, "eager", most["questions"]),
                        text,
                        way="eager",
                        largest=True,
                        **most,
                    )
        del bench
        forget(setting)
        setting.deadline = whole


def need_peak(setting: Setting) -> None:
    """Measure the bf16 peak where the part `peak` was left out."""
    if "bf16" not in setting.peaks:
        rows = 8192 if setting.on_gpu else 256
        one = torch.randn(rows, rows, device=setting.device, dtype=torch.bfloat16)
        setting.peaks["bf16"] = 2 * rows**3 / seconds_each(setting, lambda _: one @ one, 0.2)


def layers(model: Any) -> Iterator[Any]:
    base = model.base_model
    yield from base.text_model.encoder.layer
    yield from base.vision_model.encoder.layers
    yield from base.cross_modal_text_layers
    yield from base.cross_modal_image_layers


@contextmanager
def layers_compiled(bench: Bench, backend: str) -> Iterator[None]:
    """Every layer compiled on its own: layers of a kind share their code, so that it takes seconds, not minutes."""
    torch._dynamo.reset()
    try:
        for layer in layers(bench.model):
            layer.compile(dynamic=True, backend=backend)
        yield
    finally:
        for layer in layers(bench.model):
            layer._compiled_call_impl = None


@contextmanager
def all_compiled(bench: Bench, backend: str) -> Iterator[None]:
    """As `train.compile: true` does it."""
    torch._dynamo.reset()
    try:
        bench.called = torch.compile(bench.model, dynamic=True, backend=backend)
        yield
    finally:
        bench.called = bench.model


def compiled(setting: Setting, report: Report) -> None:
    """The whole model as recipes do it, then its layers alone, as long as the time lasts."""
    need_peak(setting)
    torch._dynamo.config.recompile_limit = 64
    backend = "aot_eager" if setting.tiny else "inductor"
    ways = {"all compiled": all_compiled, "layers compiled": layers_compiled}
    for way, context in list(ways.items())[-1:] if setting.tiny else ways.items():
        for work in WORKS[1:2] if setting.tiny else WORKS[1:]:
            if setting.left < LEAST_TO_COMPILE:
                report.row(f"{work.name}, {way}", f"left out: {setting.left:.0f} s left")
                continue
            bench = Bench(setting, work)
            with context(bench, backend):
                for training in (True, False):
                    compare(setting, report, bench, training, way)
            del bench
            forget(setting)


def compare(setting: Setting, report: Report, bench: Bench, training: bool, way: str) -> None:
    """One way beside eager, in one go; with the first step's time, which is the compilation."""
    size = 2 if setting.tiny else bench.work.recipe_batch
    bench.called.train(training)
    batches, _ = bench.batches(size, bucketed=True)
    started = time.perf_counter()
    for inputs in batches:
        bench.step(training, inputs)
    setting.wait()
    first = time.perf_counter() - started
    found = bench.lowered(training, size, bucketed=True)
    report.row(
        label(bench.work, training, way, size),
        f"{told(found)}, compiled in {first:.0f} s",
        way=way,
        compile_seconds=first,
        **(found or {}),
    )
    if setting.left > 10 and not setting.tiny:
        most = bench.lowered(training, size * 4, bucketed=True)
        if most:
            report.row(label(bench.work, training, way, most["questions"]), told(most), way=way, **most)


def profile(setting: Setting, report: Report) -> None:
    """Where the time of a training step goes, by kernel; what the dropout and the deterministic kernels cost."""
    need_peak(setting)
    for work in WORKS[1:]:
        bench = Bench(setting, work)
        size = 2 if setting.tiny else work.recipe_batch
        bench.called.train(True)
        batches, _ = bench.batches(size, bucketed=False)
        step = partial(bench.step, True)
        plain = seconds_each(
            setting,
            lambda n, s=step, b=batches: s(b[n % VARIETY]),
            0.01 if setting.tiny else 1.0,
            VARIETY,
        )
        kernels(setting, report, work, lambda s=step, b=batches: s(b[0]))
        for name, context in (
            ("without dropout", without_dropout(bench.model)),
            ("deterministic", deterministic()),
        ):
            with context:
                each = seconds_each(
                    setting,
                    lambda n, s=step, b=batches: s(b[n % VARIETY]),
                    0.01 if setting.tiny else 1.0,
                )
            report.row(
                f"{work.name}, training, {name}",
                f"{each * 1e3:.1f} ms a step; {plain * 1e3:.1f} as it is",
                seconds=each,
                seconds_as_it_is=plain,
            )
        del bench, batches, step
        forget(setting)


def kernels(setting: Setting, report: Report, work: Work, step: Callable[[], Any]) -> None:
    activities = [torch.profiler.ProfilerActivity.CUDA if setting.on_gpu else torch.profiler.ProfilerActivity.CPU]
    step()
    setting.wait()
    with torch.profiler.profile(activities=activities) as profiler:
        step()
        setting.wait()
    time_of = "self_device_time_total" if setting.on_gpu else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, time_of))
    total = sum(getattr(event, time_of) for event in events) or 1
    for event in events[: 2 if setting.tiny else 16]:
        spent = getattr(event, time_of)
        report.row(
            f"{work.name}: {spent / total:5.1%} {spent / 1e3:7.2f} ms {event.count:5d} x",
            event.key[:160],
            share=spent / total,
            milliseconds=spent / 1e3,
            calls=event.count,
        )


@contextmanager
def without_dropout(model: Any) -> Iterator[None]:
    held = [(module, module.p) for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    own = [(module, module.dropout) for module in model.modules() if isinstance(getattr(module, "dropout", None), float)]
    for module, _ in held:
        module.p = 0.0
    for module, _ in own:
        module.dropout = 0.0
    try:
        yield
    finally:
        for module, value in held:
            module.p = value
        for module, value in own:
            module.dropout = value


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
