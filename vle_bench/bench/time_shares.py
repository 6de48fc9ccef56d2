"""Measure the parts of a training step, by marks that hooks set while a model runs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch

PARTS = ("data", "vision", "text", "fusion", "backward", "optimiser")


class Marks:
    """Moments during a step. The time between two marks belongs to the part of the second one.

    On a GPU they are events in its stream, which are read at the end, so that nothing waits.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.moments: list[tuple[str, Any]] = []
        self.mark("")

    def mark(self, part: str) -> None:
        """Record that `part` ends now."""
        if not self.on_gpu:
            self.moments.append((part, time.perf_counter()))
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.moments.append((part, event))

    def seconds(self) -> dict[str, float]:
        """Add up the seconds of each part."""
        if self.on_gpu:
            torch.cuda.synchronize()
        total = dict.fromkeys(PARTS, 0.0)
        for (_, start), (part, end) in zip(self.moments, self.moments[1:], strict=False):
            # Events count milliseconds.
            total[part] += start.elapsed_time(end) / 1000 if self.on_gpu else end - start
        return total


@contextmanager
def watched(accelerator: Any, model: Any, marks: Marks) -> Iterator[None]:
    """Let a model and its backward pass set marks. The head belongs to the fusion."""

    def before(part: str) -> Callable[..., None]:
        return lambda module, inputs: marks.mark(part)

    def after(part: str) -> Callable[..., None]:
        return lambda module, inputs, output: marks.mark(part)

    hooks = [
        # Collation, and the copy to the device.
        model.register_forward_pre_hook(before("data")),
        model.register_forward_hook(after("fusion")),
    ]
    for part, modules in model.timed_parts().items():
        hooks += [
            modules[0].register_forward_pre_hook(before("fusion")),
            modules[-1].register_forward_hook(after(part)),
        ]
    backward = accelerator.backward

    @wraps(backward)
    def marked_backward(*arguments: object, **options: object) -> None:
        backward(*arguments, **options)
        marks.mark("backward")

    accelerator.backward = marked_backward
    try:
        yield
    finally:
        del accelerator.backward
        for hook in hooks:
            hook.remove()
