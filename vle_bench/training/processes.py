"""The main process decides, and every process ends alike."""

import time
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from torch import distributed

from vle_bench.errors import RequestError, RunFailed


def first_decides(action: Callable[[], Any]) -> Any:
    """What `action` returns on the first process, for all; where it fails there, all end, and the first says why."""
    outcome: list[Any] = [None, None]  # value, refusal
    # As Accelerator would make it, which comes later: the folder is looked at before a minute is spent on models and data.
    processes = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    if processes.is_main_process:
        try:
            outcome[0] = action()
        except (RequestError, RunFailed) as error:
            outcome[1] = error
    value, refusal = broadcast_object_list(outcome)
    if refusal is not None:
        if not processes.is_main_process:
            leave_after_the_first(2 if isinstance(refusal, RequestError) else 1)
        raise refusal
    return value


def leave_after_the_first(status: int) -> NoReturn:
    """A launcher ends all processes when one has gone; the first has something to say before."""
    time.sleep(2)
    raise SystemExit(status)


def agreement(num_processes: int) -> Callable[[int, bool], tuple[int, bool]]:
    """(signal, save) of one process → of any, the same on all at every step.

    A signal reaches the processes at different steps. They tell each other on the CPU, which does not wait for the devices.
    """
    if num_processes == 1:
        return lambda signal, save: (signal, save)
    group = distributed.new_group(backend="gloo")

    def agree(signal: int, save: bool) -> tuple[int, bool]:
        flags = torch.tensor([signal, save])
        distributed.all_reduce(flags, distributed.ReduceOp.MAX, group=group)
        return int(flags[0]), bool(flags[1])

    return agree
