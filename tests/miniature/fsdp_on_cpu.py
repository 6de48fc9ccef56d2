"""The command line with FSDP2 on CPUs.

torch shards on CPUs over gloo as it does on GPUs, but Accelerate 1.15 takes DDP there whatever it is told (`AcceleratorState`
looks at its list of GPU kinds). This says FSDP after it, so that all else that a GPU run does is done.
"""

from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from vle_bench.cli.app import main
from vle_bench.training import engine

plain_init, plain_prepare = AcceleratorState.__init__, engine.prepare


def init(self: Any, *arguments: Any, fsdp_plugin: Any = None, **more: Any) -> None:
    plain_init(self, *arguments, fsdp_plugin=fsdp_plugin, **more)
    if fsdp_plugin is not None:
        self.distributed_type = PartialState._shared_state["distributed_type"] = (
            DistributedType.FSDP
        )
        self.fsdp_plugin = fsdp_plugin


def prepare(*arguments: Any) -> tuple[Any, Any]:
    model, optimizer = plain_prepare(*arguments)
    assert all(isinstance(p, DTensor) for p in model.parameters()), "the weights are not in shards"
    return model, optimizer


AcceleratorState.__init__ = init  # type: ignore[method-assign]
engine.prepare = prepare
main()
