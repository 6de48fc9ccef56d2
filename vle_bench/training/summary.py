"""What a run says before its first step and after its last."""

import time
from typing import TYPE_CHECKING

from accelerate import Accelerator
from accelerate.utils import DistributedType

from vle_bench.evaluation.provenance import device_name
from vle_bench.training.engine import NO_STATES
from vle_bench.training.optim import warmup_steps

if TYPE_CHECKING:
    from vle_bench.training.run import Run

MIB = 2**20


def describe(run: "Run") -> None:
    """What is about to run, before it runs."""
    recipe, accelerator = run.recipe, run.accelerator
    train, world = recipe.train, accelerator.num_processes
    parameters = list(run.bare_model.parameters())
    total = sum(p.numel() for p in parameters)
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    kinds = {
        DistributedType.NO: "",
        DistributedType.FSDP: ", FSDP2",
        DistributedType.DEEPSPEED: ", DeepSpeed",
    }
    kind = kinds.get(accelerator.distributed_type, ", DDP")
    print(
        f"{recipe.name} ({recipe.hash}) on {world} × {device_name(accelerator)}, {precision_name(accelerator)}{kind}"
    )
    print(
        f"model: {total:,} parameters, {trainable:,} trainable, {run.new_parameters:,} new; "
        f"data: {len(run.questions):,} questions of {recipe.data.train} in {recipe.data.root}"
    )
    print(
        f"batch {train.batch_size} = {world} process{'es' * (world > 1)} × {run.accumulation} "
        f"micro-batch{'es' * (run.accumulation > 1)} × {train.per_device_batch_size}; {run.total_steps} steps, "
        f"{warmup_steps(run.total_steps, train.warmup_fraction)} of them warm-up; run folder {run.folder}"
    )
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        print(NO_STATES)
    if train.compile:
        print(
            "compiling with the first steps, which takes minutes; signals wait for the end of a step"
        )
    memory = memory_estimate(total, trainable, accelerator, train.ema is not None)
    print(
        f"memory: {memory / MIB:,.0f} MiB a device for weights, gradients{', averages' * bool(train.ema)} and optimiser states"
        "; activations, autocast's copies of the weights and buffers come on top",
        flush=True,
    )


def memory_estimate(total: int, trainable: int, accelerator: Accelerator, ema: bool) -> float:
    """Bytes on each device of what lasts from step to step: float32 weights, gradients, AdamW's two moments, an average."""
    world, kind = accelerator.num_processes, accelerator.distributed_type
    weights, gradients, states = 4 * total, 4 * trainable, 8 * trainable + 4 * trainable * ema
    if kind == DistributedType.FSDP:
        return (weights + gradients + states) / world
    if kind == DistributedType.DEEPSPEED:
        if accelerator.mixed_precision == "no":
            return weights + (gradients + states) / world
        # 16-bit weights for everybody, and of gradients (16 bits), float32 weights and moments a share (ZeRO, section 3)
        return 2 * total + (2 * trainable + 4 * trainable + states) / world
    return weights + gradients + states


def precision_name(accelerator: Accelerator) -> str:
    return {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)


def summary(run: "Run") -> str:
    """What came of a run, with all its parts if it was resumed: scores on the split that picks the checkpoint, and times."""
    seconds = time.monotonic() - run.started
    rate = run.samples / max(run.training_seconds, 1e-9)
    return (
        f"{run.recipe.data.evaluate}: best {100 * run.best:.2f}, last {100 * run.last:.2f}; "
        f"{seconds:.0f} s in all, {run.training_seconds:.0f} s of them training, {rate:.1f} samples/s"
    )
