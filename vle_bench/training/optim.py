"""The optimizer's parameter groups, the learning rate schedule, and a moving average of weights."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from vle_bench.json_files import JsonObject
from vle_bench.models.base import TrainableModel


class AverageWeights:
    """A moving average of the weights that is evaluated and saved in place of them (EMA).

    After each step, average = decay × average + (1 - decay) × weights, in the shards of the weights
    if they are sharded. This is the arithmetic of torch's `get_ema_multi_avg_fn`; its
    `AveragedModel` copies the module, which is impossible under FSDP2. Users know it as
    `--model_ema` of BEiT-3 and timm.

    Args:
        parameters: after `Accelerator.prepare`, which replaces them.
    """

    def __init__(self, parameters: Iterator[Tensor], decay: float) -> None:
        self.decay = decay
        self.weights = [p for p in parameters if p.requires_grad]
        self.averages = [p.detach().clone() for p in self.weights]

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the weights, after a step."""
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.weights], 1 - self.decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages into the model, and its own weights back afterwards."""
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

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Return whole averages on the CPU; every process has to call this."""
        return {
            "averages": [
                (a.full_tensor() if isinstance(a, DTensor) else a).cpu() for a in self.averages
            ]
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Load what `state_dict` returned."""
        for average, saved in zip(self.averages, state["averages"], strict=True):
            # All processes hold the same `saved`, so nothing is sent.
            if isinstance(average, DTensor):
                saved = distribute_tensor(
                    saved.to(average.device),
                    average.device_mesh,
                    average.placements,
                    src_data_rank=None,
                )
            average.copy_(saved)


# No weight decay on biases and the scales of norms (METER, `meter_utils.py`; BERT before it).
NORMS = (nn.LayerNorm,)


def parameter_groups(
    model: TrainableModel,
    learning_rate: float,
    lr_mult_head: float,
    lr_mult_cross_modal: float,
    weight_decay: float,
    layer_decay: float | None = None,
) -> list[JsonObject]:
    """Group parameters into head, cross-modal layers and the rest, with and without weight decay.

    The model itself names these parts (`head_parameters`, `cross_modal_parameters`,
    `encoder_layers`), never a part of a parameter's name.

    Args:
        layer_decay: factor on the learning rate of an encoder's last layer; each layer before it
            has this factor on the rate of the next, the embeddings last (BEiT, `optim_factory.py`).
            Parameters that all layers share keep the full rate.
    """
    exempt = {
        id(p)
        for m in model.modules()
        for name, p in m.named_parameters(recurse=False)
        if name == "bias" or isinstance(m, NORMS)
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
            key = (*factors[id(parameter)], id(parameter) not in exempt)
            groups.setdefault(key, []).append(parameter)
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
    """Count the steps over which the learning rate rises from 0."""
    return int(total_steps * warmup_fraction)


def learning_rate_schedule(
    optimizer: torch.optim.Optimizer,
    schedule: str,
    total_steps: int,
    warmup_fraction: float,
    restart: int = 0,
) -> torch.optim.lr_scheduler.LambdaLR:
    """Create a schedule with a linear warm-up over the first `warmup_fraction` of all steps.

    Args:
        restart: step at which the data change (0: none). The learning rate warms up again from
            there, because new types of question bring large gradients that undo former learning.
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
