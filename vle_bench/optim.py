"""Parameter groups and learning-rate schedules."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

# Nothing pulls a bias or a norm's scale towards zero (METER, `meter_utils.py`; BERT before it).
NORMS = (nn.LayerNorm,)


def parameter_groups(
    model: Any, learning_rate: float, lr_mult_head: float, lr_mult_cross_modal: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Head, cross-modal layers and the rest, each with and without weight decay; by module, never by a part of a name.

    The model says what its head and its fusion are (`head_parameters`, `cross_modal_parameters`).
    """
    exempt = {id(p) for m in model.modules() if isinstance(m, NORMS) for p in m.parameters()}
    exempt |= {id(p) for m in model.modules() for name, p in m.named_parameters(recurse=False) if name == "bias"}
    head = {id(p) for p in model.head_parameters()}
    cross = {id(p) for p in model.cross_modal_parameters()}
    multiplier = {"head": lr_mult_head, "cross_modal": lr_mult_cross_modal, "rest": 1.0}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            part = "head" if id(parameter) in head else "cross_modal" if id(parameter) in cross else "rest"
            groups.setdefault((part, id(parameter) not in exempt), []).append(parameter)
    return [
        {
            "name": part,
            "params": parameters,
            "lr": learning_rate * multiplier[part],
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (part, decays), parameters in groups.items()
    ]


def linear(progress: float) -> float:
    return 1 - progress


def cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def constant(progress: float) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {"linear": linear, "cosine": cosine, "constant": constant}


def learning_rate_schedule(
    optimizer: torch.optim.Optimizer, schedule: str, total_steps: int, warmup_fraction: float, restart: int = 0
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up over the first `warmup_fraction` of the optimiser's steps, then the schedule down to the last.

    Args:
        restart: step where the data change; the learning rate rises from 0 to the schedule's once more there, since new
            kinds of question bring large gradients that undo what was learnt (0: none).
    """
    warmup = int(total_steps * warmup_fraction)
    decay = SCHEDULES[schedule]

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        value = decay(min(1.0, (step - warmup) / max(1, total_steps - warmup)))
        if restart and restart <= step < restart + warmup:
            value *= (step - restart + 1) / warmup
        return value

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
