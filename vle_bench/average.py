"""A moving average of the weights, which is evaluated and saved in place of those that are trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


class AverageWeights:
    """After each step, average = decay × average + (1 - decay) × weights; in place, in shards where the weights are.

    torch's `AveragedModel` copies the module, which FSDP2's cannot be; the arithmetic is that of its `get_ema_multi_avg_fn`.

    Args:
        parameters: after `Accelerator.prepare`, which replaces them.
    """

    def __init__(self, parameters: Iterator[Tensor], decay: float) -> None:
        self.decay = decay
        self.weights = [p for p in parameters if p.requires_grad]
        self.averages = [p.detach().clone() for p in self.weights]

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.weights], 1 - self.decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model holds the averages inside, and what it held before afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, average in zip(self.weights, self.averages, strict=True):
            held = weight.detach().clone()
            weight.copy_(average)
            average.copy_(held)

    def state_dict(self) -> dict[str, Any]:
        """Whole averages on the CPU; every process has to call this where they are in shards."""
        return {"averages": [(a.full_tensor() if isinstance(a, DTensor) else a).cpu() for a in self.averages]}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        for average, saved in zip(self.averages, state["averages"], strict=True):
            if isinstance(average, DTensor):  # all have the same: nothing to send around
                saved = distribute_tensor(saved.to(average.device), average.device_mesh, average.placements, src_data_rank=None)
            average.copy_(saved)
