"""The passes over a micro-batch as CUDA graphs: `train.cuda_graphs`.

At small micro-batches the processor that starts thousands of kernels one by one bounds a step. A
graph starts all of them at once. It runs the same kernels on the same places in memory, with the
random numbers that would have come next, so it gives the same bytes as the passes without it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from vle_bench.errors import RequestError, RunFailed, first_line

# Inputs of the model and the weight of their loss → their part of the loss of the global batch. The
# gradients are added to those of the parameters.
Pass = Callable[[Mapping[str, Tensor], float | Tensor], Tensor]
# Name, shape and type of every input.
Layout = tuple[tuple[str, torch.Size, torch.dtype], ...]

# Enough for every length of text with every usual number of pictures. A graph of VLE-base has 5,000
# kernels and copies of the inputs.
MOST_GRAPHS = 64


def check_graphs(accelerator: Accelerator) -> None:
    """Refuse `train.cuda_graphs` where it was not made for; raises RequestError."""
    if accelerator.device.type != "cuda":
        raise RequestError("train.cuda_graphs: needs an NVIDIA GPU; train.cuda_graphs=false")
    if accelerator.distributed_type != DistributedType.NO:
        raise RequestError(
            "train.cuda_graphs: one process on one GPU only in this version, without FSDP2 and "
            "DeepSpeed; train.cuda_graphs=false"
        )


@dataclass
class Recording:
    """A recorded pass.

    Args:
        replay: runs it on what `inputs` and `weight` hold, and writes `loss`.
        inputs: the places that it reads the inputs from.
        weight: (), the weight of the loss.
        loss: (), overwritten by other recordings too.
    """

    replay: Callable[[], None]
    inputs: dict[str, Tensor]
    weight: Tensor
    loss: Tensor


Recorder = Callable[[Pass, dict[str, Tensor]], Recording]


class RecordedPasses:
    """Run passes; from the second pass of a layout on, replay a recording.

    The first one of a layout makes the gradients, to whose places the recordings add, and loads
    kernels, which cannot be recorded. From then on gradients have to be set to zero in place.
    """

    def __init__(
        self, run_pass: Pass, parameters: Sequence[nn.Parameter], record: Recorder | None = None
    ) -> None:
        """Start without recordings.

        Args:
            record: replaces a `CudaRecorder`.
        """
        self.run_pass, self.parameters = run_pass, parameters
        self.record = record or CudaRecorder()
        self.seen: set[Layout] = set()
        self.recordings: dict[Layout, Recording] = {}
        self.gradients: list[Tensor | None] = []

    def __call__(self, inputs: Mapping[str, Tensor], weight: float | Tensor) -> Tensor:
        layout = tuple((name, value.shape, value.dtype) for name, value in inputs.items())
        recording = self.recordings.get(layout)
        if recording is None:
            if layout not in self.seen or len(self.recordings) == MOST_GRAPHS:
                self.seen.add(layout)
                return self.run_pass(inputs, weight)
            held = {name: value.clone() for name, value in inputs.items()}
            recording = self.record(self.run_pass, held)
            self.recordings[layout] = recording
            self.gradients = self.gradients or [p.grad for p in self.parameters]
        if any(p.grad is not g for p, g in zip(self.parameters, self.gradients, strict=True)):
            raise RuntimeError("gradients are not where the recordings add to")
        for name, value in inputs.items():
            recording.inputs[name].copy_(value)
        recording.weight.fill_(weight)
        recording.replay()
        return recording.loss.clone()


class CudaRecorder:
    """Record passes as CUDA graphs, which share their memory since only one runs at a time."""

    def __init__(self) -> None:
        self.memory = torch.cuda.graph_pool_handle()

    def __call__(self, run_pass: Pass, inputs: dict[str, Tensor]) -> Recording:
        """Record a pass, without running it. No random numbers are used up.

        Raises:
            RunFailed: the pass needs something that a graph cannot hold, or more memory.
        """
        weight = torch.ones((), device=next(iter(inputs.values())).device)
        graph = torch.cuda.CUDAGraph()
        try:
            # The thread that pins loaded batches allocates memory at any time: "thread_local".
            with torch.cuda.graph(graph, pool=self.memory, capture_error_mode="thread_local"):
                loss = run_pass(inputs, weight)
        except RuntimeError as error:
            raise RunFailed(
                f"train.cuda_graphs: a pass cannot be recorded: {first_line(error)}; "
                "train.cuda_graphs=false"
            ) from error
        return Recording(graph.replay, inputs, weight, loss)
