"""The command line with DeepSpeed on CPUs over gloo, which Accelerate 1.15 starts on GPUs only."""

from typing import Any

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType

from vle_bench.cli.app import main


def set_device(self: Any) -> None:
    self.device = torch.device("cpu")


PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)  # type: ignore[method-assign,assignment]
PartialState.set_device = set_device  # type: ignore[method-assign]
main()
