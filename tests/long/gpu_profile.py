"""Where the time of a training step goes, by kernel, and what sums in one order cost."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.long.gpu_peak import need_peak
from tests.long.gpu_setting import Report, Setting, forget, seconds_each, training_step
from tests.long.gpu_speed import VARIETY, WORKS, Bench, Work


def profile(setting: Setting, report: Report) -> None:
    """At the recipe's micro-batch and at four times it: as training runs, and with the kernels
    that torch takes by itself.
    """
    need_peak(setting)
    for work in WORKS[1:2] if setting.tiny else WORKS[1:]:
        bench = Bench(setting, work)
        bench.called.train(True)
        size = 2 if setting.tiny else work.recipe_batch
        for questions in (size,) if setting.tiny else (size, 4 * size):
            batches, _ = bench.batches(questions, bucketed=False)
            compare(setting, report, bench, batches, f"{work.name}, training, {questions}")
        batches, _ = bench.batches(size, bucketed=False)
        kernels(setting, report, work, lambda b=bench, i=batches[0]: b.step(True, i))
        lengths(setting, report, bench, batches[0])
        del bench, batches
        forget(setting)


def step(bench: Bench, inputs: dict[str, Tensor], ordered: bool) -> Tensor:
    return training_step(
        bench.setting, bench.called, bench.optimizer, bench.schedule, inputs, ordered
    )


def compare(
    setting: Setting, report: Report, bench: Bench, batches: list[dict[str, Tensor]], label: str
) -> None:
    seconds = 0.01 if setting.tiny else 1.0
    each = {
        ordered: seconds_each(
            setting, lambda n, o=ordered: step(bench, batches[n % VARIETY], o), seconds, VARIETY
        )
        for ordered in (True, False)
    }
    text = f"{each[True] * 1e3:.1f} ms a step; {each[False] * 1e3:.1f} with sums in any order"
    report.row(label, text, seconds=each[True], seconds_in_any_order=each[False])


def lengths(setting: Setting, report: Report, bench: Bench, inputs: dict[str, Tensor]) -> None:
    """Steps whose texts are of a length that none had before: some kernels are made anew for
    every shape.
    """
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in inputs]
    each = {}
    for ordered, first in ((True, 1), (False, 6)):
        more = [
            inputs | {name: F.pad(inputs[name], (0, first + n)) for name in names} for n in range(5)
        ]
        step(bench, more[0], ordered)
        each[ordered] = seconds_each(
            setting, lambda n, m=more, o=ordered: step(bench, m[n], o), 0.0, warm_up=0
        )
    text = f"{each[True] * 1e3:.1f} ms a step; {each[False] * 1e3:.1f} with sums in any order"
    report.row(
        f"{bench.work.name}, texts of new lengths",
        text,
        seconds=each[True],
        seconds_in_any_order=each[False],
    )


def kernels(
    setting: Setting, report: Report, work: Work, step: Callable[[], Any], shown: int = 16
) -> None:
    activities = [
        torch.profiler.ProfilerActivity.CUDA
        if setting.on_gpu
        else torch.profiler.ProfilerActivity.CPU
    ]
    step()
    setting.wait()
    with torch.profiler.profile(activities=activities) as profiler:
        step()
        setting.wait()
    time_of = "self_device_time_total" if setting.on_gpu else "self_cpu_time_total"
    # Calls of the driver's functions, which take no time of the device, are listed too.
    events = [event for event in profiler.key_averages() if getattr(event, time_of)]
    events.sort(key=lambda event: -getattr(event, time_of))
    total = sum(getattr(event, time_of) for event in events) or 1
    calls = sum(event.count for event in events)
    text = f"{total / 1e3:.1f} ms in {calls} kernels and copies"
    report.row(
        f"{work.name}: one step, the device alone", text, milliseconds=total / 1e3, calls=calls
    )
    for event in events[: 2 if setting.tiny else shown]:
        spent = getattr(event, time_of)
        report.row(
            f"{work.name}: {spent / total:5.1%} {spent / 1e3:7.2f} ms {event.count:5d} x",
            event.key[:160],
            share=spent / total,
            milliseconds=spent / 1e3,
            calls=event.count,
        )
