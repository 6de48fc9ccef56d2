"""A moving average of the weights, which is evaluated and saved in place of those that are trained."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
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
        return {
            "averages": [
                (a.full_tensor() if isinstance(a, DTensor) else a).cpu() for a in self.averages
            ]
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        for average, saved in zip(self.averages, state["averages"], strict=True):
            if isinstance(average, DTensor):  # all have the same: nothing to send around
                saved = distribute_tensor(
                    saved.to(average.device),
                    average.device_mesh,
                    average.placements,
                    src_data_rank=None,
                )
            average.copy_(saved)


# Nothing pulls a bias or a norm's scale towards zero (METER, `meter_utils.py`; BERT before it).
NORMS = (nn.LayerNorm,)


def parameter_groups(
    model: Any,
    learning_rate: float,
    lr_mult_head: float,
    lr_mult_cross_modal: float,
    weight_decay: float,
    layer_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Head, cross-modal layers and the rest, each with and without weight decay; by module, never by a part of a name.

    The model says what its head, its fusion and its encoders' layers are (`head_parameters`, `cross_modal_parameters`,
    `encoder_layers`).

    Args:
        layer_decay: an encoder's last layer learns at this part of its rate, each layer before it at this part of the next
            one's, the embeddings below the first (BEiT, `optim_factory.py`). What all layers share keeps the full rate.
    """
    exempt = {id(p) for m in model.modules() if isinstance(m, NORMS) for p in m.parameters()}
    exempt |= {
        id(p)
        for m in model.modules()
        for name, p in m.named_parameters(recurse=False)
        if name == "bias"
    }
    factors = {id(p): ("rest", 1.0) for p in model.parameters()}
    for name, layers in model.encoder_layers().items() if layer_decay else ():
        for depth, layer in enumerate(reversed(layers), 1):
            factors |= {
                id(p): (f"{name} -{depth}", (layer_decay or 1) ** depth) for p in layer.parameters()
            }
    factors |= {id(p): ("cross_modal", lr_mult_cross_modal) for p in model.cross_modal_parameters()}
    factors |= {id(p): ("head", lr_mult_head) for p in model.head_parameters()}
    groups: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((*factors[id(parameter)], id(parameter) not in exempt), []).append(
                parameter
            )
    return [
        {
            "name": part,
            "params": parameters,
            "lr": learning_rate * factor,
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (part, factor, decays), parameters in groups.items()
    ]


def linear(progress: float) -> float:
    return 1 - progress


def cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def constant(progress: float) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": linear,
    "cosine": cosine,
    "constant": constant,
}


def warmup_steps(total_steps: int, warmup_fraction: float) -> int:
    return int(total_steps * warmup_fraction)


def learning_rate_schedule(
    optimizer: torch.optim.Optimizer,
    schedule: str,
    total_steps: int,
    warmup_fraction: float,
    restart: int = 0,
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up over the first `warmup_fraction` of the optimiser's steps, then the schedule down to the last.

    Args:
        restart: step where the data change; the learning rate rises from 0 to the schedule's once more there, since new
            kinds of question bring large gradients that undo what was learnt (0: none).
    """
    warmup = warmup_steps(total_steps, warmup_fraction)
    decay = SCHEDULES[schedule]

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        value = decay(min(1.0, (step - warmup) / max(1, total_steps - warmup)))
        if restart and restart <= step < restart + warmup:
            value *= (step - restart + 1) / warmup
        return value

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
