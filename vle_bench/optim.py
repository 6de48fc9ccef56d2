"""Parameter groups and learning-rate schedules."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

# Nothing pulls a bias or a norm's scale towards zero (METER, `meter_utils.py`; BERT before it).
NORMS = (nn.LayerNorm,)


def parameter_groups(
    model: Any, learning_rate: float, lr_mult_head: float, lr_mult_cross_modal: float, weight_decay: float,
    layer_decay: float | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Head, cross-modal layers and the rest, each with and without weight decay; by module, never by a part of a name.

    The model says what its head, its fusion and its encoders' layers are (`head_parameters`, `cross_modal_parameters`,
    `encoder_layers`).

    Args:
        layer_decay: an encoder's last layer learns at this part of its rate, each layer before it at this part of the next
            one's, the embeddings below the first (BEiT, `optim_factory.py`). What all layers share keeps the full rate.
    """
    exempt = {id(p) for m in model.modules() if isinstance(m, NORMS) for p in m.parameters()}
    exempt |= {id(p) for m in model.modules() for name, p in m.named_parameters(recurse=False) if name == "bias"}
    factors = {id(p): ("rest", 1.0) for p in model.parameters()}
    for name, layers in model.encoder_layers().items() if layer_decay else ():
        for depth, layer in enumerate(reversed(layers), 1):
            factors |= {id(p): (f"{name} -{depth}", (layer_decay or 1) ** depth) for p in layer.parameters()}
    factors |= {id(p): ("cross_modal", lr_mult_cross_modal) for p in model.cross_modal_parameters()}
    factors |= {id(p): ("head", lr_mult_head) for p in model.head_parameters()}
    groups: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((*factors[id(parameter)], id(parameter) not in exempt), []).append(parameter)
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


SCHEDULES: dict[str, Callable[[float], float]] = {"linear": linear, "cosine": cosine, "constant": constant}


def warmup_steps(total_steps: int, warmup_fraction: float) -> int:
    return int(total_steps * warmup_fraction)


def learning_rate_schedule(
    optimizer: torch.optim.Optimizer, schedule: str, total_steps: int, warmup_fraction: float, restart: int = 0
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
