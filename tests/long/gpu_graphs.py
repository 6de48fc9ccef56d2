"""Passes as CUDA graphs: the same bytes, and how much faster. And the largest micro-batch compiled."""

import os
import time
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tests.long.gpu_loading import PICTURES, collator, jpegs, waiting
from tests.long.gpu_peak import need_peak
from tests.long.gpu_profile import kernels
from tests.long.gpu_setting import (
    MAX_TEXT,
    Report,
    Setting,
    evaluation_step,
    forget,
    forward_backward,
    one_line,
    recorder,
    seconds_each,
)
from tests.long.gpu_speed import WORKS, Bench, Work, label_of, told
from vle_bench.bench.published_way import published_way
from vle_bench.training import engine
from vle_bench.training.graphs import Pass, RecordedPasses

LARGEST = 256  # questions on one picture each; 100 GiB uncompiled


def plain_passes(bench: Bench) -> Pass:
    return partial(forward_backward, bench.setting, bench.called)


def recorded_passes(bench: Bench) -> RecordedPasses:
    parameters = list(bench.model.parameters())
    return RecordedPasses(plain_passes(bench), parameters, recorder(bench.setting.on_gpu))


def graphs(setting: Setting, report: Report) -> None:
    """Training at the recipes' micro-batches, one experiment after the other: published, without
    graphs, with them; then evaluation and loading.
    """
    need_peak(setting)
    for number, work in enumerate((WORKS[1], WORKS[2], WORKS[0])):
        bench = Bench(setting, work)
        size = 2 if setting.tiny else work.recipe_batch
        if number == 0:
            attempt(report, f"{work.name}, equality", equality, setting, report, bench, size)
        attempt(report, f"{work.name}, training", training, setting, report, bench, size)
        if number == 0 and setting.on_gpu:
            for questions in (size, 4 * size):
                label = f"{work.name}, evaluation, {questions}"
                attempt(report, label, evaluation, setting, report, bench, questions)
        if number == 0:
            attempt(report, f"{work.name}, with loading", with_loading, setting, report, bench)
        del bench
        forget(setting)


def attempt(report: Report, label: str, experiment: Any, *arguments: Any) -> None:
    """Run one experiment; its failure leaves the rest."""
    try:
        experiment(*arguments)
    except (RuntimeError, ValueError) as error:
        report.row(label, one_line(error), ok=False)


def equality(setting: Setting, report: Report, bench: Bench, size: int) -> None:
    """Losses, gradients and random numbers of recorded passes beside those of plain ones."""
    bench.called.train()
    batches, _ = bench.batches(size, bucketed=True)
    recorded = recorded_passes(bench)
    with engine.deterministic():
        plain = figures(bench, plain_passes(bench), batches)
        seconds = 0.0
        for inputs in batches * 2:
            started = time.perf_counter()
            recorded(inputs, 1.0)
            setting.wait()
            seconds = max(seconds, time.perf_counter() - started)
        graphed = figures(bench, recorded, batches)
    names = ["loss"] * len(batches) + ["random numbers"]
    names += [name for name, p in bench.model.named_parameters() if p.grad is not None]
    other = [
        name for name, a, b in zip(names, plain, graphed, strict=True) if not torch.equal(a, b)
    ]
    text = f"{len(names)} figures, {len(other)} of other bytes {', '.join(other[:3])}"
    report.row(f"{bench.work.name}, with graphs as without", text, ok=not other, other=other[:20])
    report.row(
        f"{bench.work.name}, the slowest recording",
        f"{seconds:.2f} s with its run; {len(recorded.recordings)} graphs, {bench.memory():.1f} GiB",
        seconds=seconds,
        recordings=len(recorded.recordings),
    )
    bench.optimizer.zero_grad(set_to_none=True)


def figures(bench: Bench, passes: Pass, batches: list[dict[str, Tensor]]) -> list[Tensor]:
    """The losses of all batches, the state of the random numbers after them, the added gradients."""
    for p in bench.model.parameters():
        if p.grad is not None:
            p.grad.zero_()
    torch.manual_seed(3)
    losses = [passes(inputs, 0.25) for inputs in batches]
    state = torch.cuda.get_rng_state() if bench.setting.on_gpu else torch.get_rng_state()
    gradients = [p.grad.clone() for p in bench.model.parameters() if p.grad is not None]
    return [*losses, state, *gradients]


def training(setting: Setting, report: Report, bench: Bench, size: int) -> None:
    bench.called.train()
    with published_way(bench.model, MAX_TEXT[bench.work.kind], 0):
        bench.ordered = False
        published = bench.measure(True, size)
        bench.ordered = True
    row(report, bench.work, True, "published", published)
    row(report, bench.work, True, "eager", bench.measure(True, size), published)
    bench.recorded = recorded_passes(bench)
    try:
        graphed = bench.measure(True, size, bucketed=True)
        row(report, bench.work, True, "CUDA graphs", graphed, published)
        if bench.work is WORKS[1]:
            batches, _ = bench.batches(size, bucketed=True)
            kernels(setting, report, bench.work, lambda: bench.step(True, batches[0]), shown=6)
    finally:
        bench.recorded = None
        bench.optimizer.zero_grad(set_to_none=True)
        forget(setting)


def row(
    report: Report,
    work: Work,
    in_training: bool,
    way: str,
    measured: dict[str, Any],
    published: dict[str, Any] | None = None,
) -> None:
    label = label_of(work, in_training, way, measured["questions"])
    report.row(label, told(measured, published), way=way, **measured)


def evaluation(setting: Setting, report: Report, bench: Bench, questions: int) -> None:
    """One batch again and again, without a graph and with one."""
    bench.called.eval()
    inputs = bench.work.batch(setting, bench.config, questions, 0)
    eager = seconds_each(setting, lambda _: evaluation_step(setting, bench.called, inputs), 1.0)
    expected = evaluation_step(setting, bench.called, inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = evaluation_step(setting, bench.called, inputs)
    graphed = seconds_each(setting, lambda _: graph.replay(), 1.0)
    same = torch.equal(logits, expected)
    report.row(
        f"{bench.work.name}, evaluation, {questions}",
        f"{questions / eager:.0f} /s, {questions / graphed:.0f} with a graph, "
        f"{'the same' if same else 'OTHER'} logits",
        ok=same,
        seconds=eager,
        seconds_with_graph=graphed,
    )
    bench.called.train()


def with_loading(setting: Setting, report: Report, bench: Bench) -> None:
    """Training while other processes load pictures and a thread pins them; it allocates memory at
    any time, also while a pass is recorded.
    """
    vision = bench.config.vision_config
    contents = jpegs(PICTURES, *((640, 480) if not setting.tiny else (64, 48)))
    collate = collator(vision.image_size, vision.patch_size, len(bench.config.id2label), contents)
    bench.recorded = recorded_passes(bench)
    try:
        waiting(
            setting,
            report,
            bench,
            collate,
            True,
            1 if setting.tiny else min(16, os.cpu_count() or 1),
        )
    finally:
        bench.recorded = None
        bench.optimizer.zero_grad(set_to_none=True)


def compiled_largest(setting: Setting, report: Report) -> None:
    """Compiled layers at the largest micro-batch, and within a CUDA graph at the recipe's."""
    need_peak(setting)
    work = WORKS[1]
    bench = Bench(setting, work)
    bench.called.train()
    size, small = (3, 3) if setting.tiny else (LARGEST, work.recipe_batch)
    eager = bench.lowered(True, size)
    report.row(label_of(work, True, "eager", size), told(eager), way="eager", **(eager or {}))
    torch._dynamo.reset()
    engine.compile_layers(bench.model, **({"backend": "aot_eager"} if setting.tiny else {}))
    attempt(report, f"{work.name}, compiled", compiled_step, setting, report, bench, size)
    # After the larger one, whose sizes all differ: sizes that are alike at first share a variable,
    # and a micro-batch where they differ would compile again.
    plain = bench.lowered(True, small, bucketed=True)
    report.row(
        label_of(work, True, "compiled", small), told(plain), way="compiled", **(plain or {})
    )
    bench.recorded = recorded_passes(bench)
    attempt(report, f"{work.name}, compiled, in a graph", graphed_compiled, report, bench, small)
    bench.recorded = None
    del bench
    forget(setting)


def compiled_step(setting: Setting, report: Report, bench: Bench, size: int) -> None:
    batches, _ = bench.batches(size, bucketed=True)
    started = time.perf_counter()
    bench.step(True, batches[0])
    setting.wait()
    seconds = time.perf_counter() - started
    report.row(f"{bench.work.name}, the first compiled step", f"{seconds:.0f} s", seconds=seconds)
    row(report, bench.work, True, "compiled", bench.measure(True, size, bucketed=True))
    kernels(setting, report, bench.work, lambda: bench.step(True, batches[0]))


def graphed_compiled(report: Report, bench: Bench, size: int) -> None:
    measured = bench.measure(True, size, bucketed=True)
    row(report, bench.work, True, "compiled, CUDA graphs", measured)
