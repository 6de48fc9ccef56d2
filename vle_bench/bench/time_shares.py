"""Where the time of a training step goes: marks that hooks set while a model runs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch

PARTS = ("data", "vision", "text", "fusion", "backward", "optimiser")


class Marks:
    """The time between two marks belongs to the part that the second one names.

    On a GPU the marks are events in its stream, read after the last: nothing waits in between.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.moments: list[tuple[str, Any]] = []
        self.mark("")

    def mark(self, part: str) -> None:
        moment: Any = time.perf_counter()
        if self.on_gpu:
            moment = torch.cuda.Event(enable_timing=True)
            moment.record()
        self.moments.append((part, moment))

    def seconds(self) -> dict[str, float]:
        """Of each part, in all."""
        if self.on_gpu:
            torch.cuda.synchronize()
        found = dict.fromkeys(PARTS, 0.0)
        for (_, start), (part, end) in zip(self.moments, self.moments[1:], strict=False):
            found[part] += (
                start.elapsed_time(end) / 1000 if self.on_gpu else end - start
            )  # events count milliseconds
        return found


@contextmanager
def watched(accelerator: Any, model: Any, marks: Marks) -> Iterator[None]:
    """While this lasts, a VLE model and its backward pass set marks; the head belongs to the fusion."""

    def before(part: str) -> Callable[..., None]:
        return lambda module, inputs: marks.mark(part)

    def after(part: str) -> Callable[..., None]:
        return lambda module, inputs, output: marks.mark(part)

    hooks = [
        model.register_forward_pre_hook(
            before("data")
        ),  # what came before: collation, and the way to the device
        model.register_forward_hook(after("fusion")),
    ]
    for part, modules in model.timed_parts().items():
        hooks += [
            modules[0].register_forward_pre_hook(before("fusion")),
            modules[-1].register_forward_hook(after(part)),
        ]
    backward = accelerator.backward

    @wraps(backward)
    def marked_backward(*arguments: Any, **options: Any) -> None:
        backward(*arguments, **options)
        marks.mark("backward")

    accelerator.backward = marked_backward
    try:
        yield
    finally:
        del accelerator.backward
        for hook in hooks:
            hook.remove()
