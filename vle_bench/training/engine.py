"""Accelerate, set up so that a recipe is the same optimisation whatever it runs on."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.utils.deterministic
from accelerate import Accelerator
from accelerate.utils import DistributedType
from accelerate.utils.environment import parse_flag_from_env

from vle_bench.errors import RequestError
from vle_bench.evaluation.precision import set_tf32
from vle_bench.training.launch import check_launch

if TYPE_CHECKING:
    from vle_bench.recipe.schema import Recipe, TrainGroup


def accelerator_for(recipe: "Recipe", folder: Path) -> tuple[Accelerator, int]:
    """The engine of a run, and the micro-batches that each process accumulates for one global batch.

    Raises:
        RequestError: an accelerate configuration with hyper-parameters in it; a global batch that does not divide; a choice
            that this hardware or this configuration cannot run.
    """
    from vle_bench.recipe.schema import (
        batch_layout,  # here: recipes need pydantic, which `make gpu-check` does without
    )

    settings = recipe.train
    check_launch(os.environ)
    set_tf32(settings.tf32)
    order_products()
    accelerator = Accelerator(
        mixed_precision=precision(settings.precision),
        log_with=settings.trackers or None,
        project_dir=str(folder),
    )
    accumulation = batch_layout(
        settings.batch_size, settings.per_device_batch_size, accelerator.num_processes
    )
    accelerator.gradient_accumulation_steps = accumulation
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        check_deepspeed(settings)
        accelerator.state.deepspeed_plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": settings.per_device_batch_size,
            "gradient_accumulation_steps": accumulation,
            "gradient_clipping": settings.max_grad_norm or 0.0,  # 0: DeepSpeed's word for never
        }
    if accelerator.is_fsdp2 and settings.compile:
        raise RequestError(
            "train.compile: not with FSDP2 in this version; take DDP, or train.compile=false"
        )
    return accelerator, accumulation


PLAIN = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
)  # gradients are whole on each device
NO_STATES = "with DeepSpeed, which keeps the optimiser to itself, no training state is saved or put back; take DDP or FSDP2"


def check_deepspeed(settings: "TrainGroup") -> None:
    if settings.ema is not None:
        raise RequestError(
            "train.ema: not with DeepSpeed, which keeps the trained weights to itself; take DDP or FSDP2, or null"
        )
    if settings.checkpoint_every is not None:
        raise RequestError(f"train.checkpoint_every: {NO_STATES}, or null")


def on_gpu() -> bool:
    """Whether Accelerate will take a GPU."""
    return torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")


def precision(choice: str) -> str:
    """The recipe's word → Accelerate's; `auto` is bf16 on a GPU that computes in it, else float32.

    Raises:
        RequestError: fp16 without a GPU; Accelerate would leave out the scaler there without a word.
    """
    if choice == "fp16" and not on_gpu():
        raise RequestError("train.precision: fp16 needs a GPU; a CPU takes bf16 or fp32")
    if choice == "auto":
        # older GPUs only emulate it, slower than float32
        return (
            "bf16" if on_gpu() and torch.cuda.is_bf16_supported(including_emulation=False) else "no"
        )
    return {"fp32": "no"}.get(choice, choice)


ORDERED = (
    ":4096:8",
    ":16:8",
)  # the workspaces with which cuBLAS adds up in one order (its manual, "Results Reproducibility")


def order_products() -> None:
    """Have cuBLAS add up in one order; it reads the environment once, at the first product on a GPU.

    Raises:
        RequestError: the environment asks for a workspace that makes this impossible.
    """
    if (
        on_gpu()
        and (value := os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ORDERED[0])) not in ORDERED
    ):
        raise RequestError(
            f"CUBLAS_WORKSPACE_CONFIG={value}: a resumed run would not end with the same bytes; take {ORDERED[0]}, or unset it"
        )


@contextmanager
def deterministic() -> Iterator[None]:
    """On GPUs the kernels whose sums do not depend on the order of threads, so that the same step gives the same bytes.

    Attention in the cuDNN and memory-efficient kernels is the one thing of a step that is not so by itself, and it heeds
    `warn_only=False` alone. CPUs need none of it.
    """
    if not on_gpu():
        yield
        return
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # a search for bugs, one more kernel for every tensor
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled


def prepare(
    accelerator: Accelerator, model: Any, optimizer: torch.optim.Optimizer, compiled: bool
) -> tuple[Any, Any]:
    """Put the model on its device or devices."""
    model = model.to(accelerator.device)
    if accelerator.is_fsdp2:
        plugin = accelerator.state.fsdp_plugin
        kinds = {type(layer).__name__ for layer in model.shard_layers()}
        plugin.transformer_cls_names_to_wrap = sorted(kinds)
        # Weights are gathered in float32 and autocast does the rest, as everywhere else: FSDP's own policy would sum gradients
        # in 16 bits and round the soft targets with the other inputs.
        plugin.mixed_precision_policy = None
    if compiled:
        compile_layers(model)
    return accelerator.prepare(model, optimizer)


def compile_layers(model: Any, **options: Any) -> None:
    """Compile each layer by itself, in its place: those of a kind share their code, so that 12 take as long as one.

    The whole model in one graph took more than three minutes on 16 cores. Code for texts of any length, any number of
    pictures, training and evaluation is kept; torch would go back to running without it, in silence, after the eighth.

    Args:
        options: more for `torch.compile`.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    for layer in model.shard_layers():
        layer.compile(dynamic=True, **options)


def whole_weights(accelerator: Accelerator, model: Any) -> dict[str, Any]:
    """The state dictionary of the bare model, complete on the first process; every process has to call this."""
    if accelerator.is_fsdp2:
        return accelerator.get_state_dict(model)
    return accelerator.unwrap_model(model, keep_torch_compile=False).state_dict()


def clip_gradients(accelerator: Accelerator, model: Any, max_norm: float | None) -> torch.Tensor:
    """Clip where `max_norm` says so; () the norm before, in float32, which is not finite where training has diverged.

    With fp16 the scaler skips steps that overflow, so there only the loss can tell; the norm is 0 then.
    """
    if (
        max_norm is None
        and accelerator.distributed_type in PLAIN
        and accelerator.mixed_precision != "fp16"
    ):
        # clipping to infinity would read and write every gradient once more, to multiply it by 1
        norm: Any = torch.nn.utils.get_total_norm(
            [p.grad for p in model.parameters() if p.grad is not None]
        )
    else:
        norm = accelerator.clip_grad_norm_(
            model.parameters(), math.inf if max_norm is None else max_norm
        )
    if accelerator.mixed_precision == "fp16" or norm is None:
        norm = 0.0
    norm = (
        norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    )  # a DTensor where the weights are in shards
    return torch.as_tensor(norm, dtype=torch.float32, device=accelerator.device)
