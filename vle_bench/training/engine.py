"""Accelerate, set up so that a recipe is the same optimization on any hardware."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.utils.deterministic
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType, gather_object
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from vle_bench.errors import RequestError
from vle_bench.evaluation.environment import on_gpu, set_tf32, training_precision
from vle_bench.models.base import TrainableModel
from vle_bench.models.vle.pretrained_model import VLEPreTrainedModel
from vle_bench.tasks.catalogue import CATALOGUE
from vle_bench.training.graphs import check_graphs
from vle_bench.training.launch import check_launch

if TYPE_CHECKING:
    from vle_bench.recipe.schema import Recipe, TrainGroup

# Kinds of launch in which each device holds whole gradients.
UNSHARDED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
NO_STATES = (
    "with DeepSpeed, which keeps the optimiser to itself, no training state is saved or restored; "
    "take DDP or FSDP2"
)
# The workspaces with which cuBLAS adds up in one order (its manual, "Results Reproducibility").
ORDERED_WORKSPACES = (":4096:8", ":16:8")
# Bytes that a training step in bf16 holds for each number of a layer's output. VLE-base at 384
# pixels had 48 (VQA, one question a picture), 51 (5.4 of them) and 51 (VCR) between a small and the
# largest micro-batch; docs/speed.md.
BYTES = 53
FLOAT32 = 1.5  # times as many where activations are not in 16 bits, an estimate
# Part of the device's memory that is planned with. The rest is for the driver, for gaps between
# tensors and for batches with more objects.
SHARE = 0.85


def accelerator_for(settings: "TrainGroup", folder: Path) -> Accelerator:
    """Create the Accelerator of a run.

    Args:
        settings: the recipe's group `train`.
        folder: the run folder, where trackers write.

    Raises:
        RequestError: an accelerate configuration with hyper-parameters in it; a global batch that
            does not divide; a choice that this hardware or this configuration cannot run.
    """
    check_launch(os.environ)
    set_tf32(settings.tf32)
    order_products()
    precision = training_precision(settings.precision)
    accelerator = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        log_with=settings.trackers or None,
        project_dir=str(folder),
    )
    share_out(accelerator, settings)  # refuses a global batch that does not divide
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        check_deepspeed(settings)
    if settings.cuda_graphs:
        check_graphs(accelerator)
    if accelerator.is_fsdp2 and settings.compile:
        raise RequestError(
            "train.compile: not with FSDP2 in this version; take DDP, or train.compile=false"
        )
    return accelerator


def share_out(accelerator: Accelerator, settings: "TrainGroup") -> int:
    """Tell Accelerate how the global batch is cut, before the model is prepared.

    Returns:
        The micro-batches that each process accumulates for one global batch.

    Raises:
        RequestError: the global batch does not divide.
    """
    # Recipes need pydantic, which `make gpu-check` does without.
    from vle_bench.recipe.values import batch_layout

    size, processes = settings.micro_batch, accelerator.num_processes
    if settings.per_device_batch_size == "auto":  # a number is chosen once there is a model
        size = math.gcd(size, settings.batch_size // processes) or 1
    accumulation = batch_layout(settings.batch_size, size, processes)
    accelerator.gradient_accumulation_steps = accumulation
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        accelerator.state.deepspeed_plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": size,
            "gradient_accumulation_steps": accumulation,
            "gradient_clipping": settings.max_grad_norm or 0.0,  # 0 means never to DeepSpeed
        }
    return accumulation


def leave_cores(accelerator: Accelerator, processes: int) -> None:
    """Leave a core to each process that loads data, for which threads on a CPU would compete."""
    if accelerator.device.type == "cpu":
        cores = (os.cpu_count() or 1) - processes
        torch.set_num_threads(max(1, min(torch.get_num_threads(), cores)))


def check_deepspeed(settings: "TrainGroup") -> None:
    """Refuse what a run under DeepSpeed cannot do; raises RequestError."""
    if settings.ema is not None:
        raise RequestError(
            "train.ema: not with DeepSpeed, which keeps the trained weights to itself; "
            "take DDP or FSDP2, or null"
        )
    if settings.checkpoint_every is not None:
        raise RequestError(f"train.checkpoint_every: {NO_STATES}, or null")


def order_products() -> None:
    """Make cuBLAS add up in one order; it reads the environment once, at its first product.

    Raises:
        RequestError: the environment asks for a workspace that makes this impossible.
    """
    if not on_gpu():
        return
    workspace = os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ORDERED_WORKSPACES[0])
    if workspace not in ORDERED_WORKSPACES:
        raise RequestError(
            f"CUBLAS_WORKSPACE_CONFIG={workspace}: a resumed run would not end with the same "
            f"bytes; take {ORDERED_WORKSPACES[0]}, or unset it"
        )


@contextmanager
def deterministic() -> Iterator[None]:
    """Use the GPU kernels whose sums do not depend on the order of threads.

    The same step then gives the same bytes. Only attention in the cuDNN and memory-efficient
    kernels needs it, and it heeds `warn_only=False` alone. A CPU needs none of it.
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
    # Filling memory helps to find bugs, and costs one more kernel for every tensor.
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled


def prepare(
    accelerator: Accelerator,
    model: VLEPreTrainedModel,
    optimizer: torch.optim.Optimizer,
    compiled: bool,
) -> tuple[nn.Module, AcceleratedOptimizer]:
    """Move the model to its device or devices, and compile its layers if asked to."""
    model.to(accelerator.device)
    if accelerator.is_fsdp2:
        plugin = accelerator.state.fsdp_plugin
        classes = {type(layer).__name__ for layer in model.shard_layers()}
        plugin.transformer_cls_names_to_wrap = sorted(classes)
        # Weights are gathered in float32 and autocast does the rest, as everywhere else: FSDP's own
        # policy would sum gradients in 16 bits and round the soft targets with the other inputs.
        plugin.mixed_precision_policy = None
    if compiled:
        compile_layers(model)
    prepared: tuple[nn.Module, AcceleratedOptimizer] = accelerator.prepare(model, optimizer)
    return prepared


def forward_backward(
    accelerator: Accelerator,
    model: nn.Module,
    accumulation: int,
    inputs: Mapping[str, Tensor],
    weight: float | Tensor,
) -> Tensor:
    """Run a micro-batch forward and backward, and add up the gradients.

    Args:
        accumulation: micro-batches of a global batch, by which Accelerate divides the loss.
        weight: of the loss of this micro-batch.

    Returns:
        (), the weighted loss; (1 + n,) with the n sums of a model that has figures of its own for
        the log. It holds nothing of the passes.
    """
    with accelerator.autocast():
        output = model(**inputs)
    share: Tensor = output.loss * weight
    accelerator.backward(share * accumulation)
    sums: Tensor | None = getattr(output, "sums", None)
    if sums is None:
        return share.detach()
    return torch.cat([share.detach()[None], sums.detach().to(share.dtype)])


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Recompute activations in the backward pass.

    transformers 5.23 renamed the call; 5.20 has the old name only.
    """
    new_name = getattr(model, "activation_checkpointing_enable", None)
    (new_name or model.gradient_checkpointing_enable)()


def compile_layers(model: TrainableModel, **options: str) -> None:
    """Compile each layer on its own: layers of a kind share their code, so 12 take as long as one.

    The whole model in one graph took more than three minutes on 16 cores. The raised limit keeps
    the code for texts of any length, any number of images, training and evaluation; after the
    eighth, torch would silently run without compiled code.

    Args:
        options: more arguments of `torch.compile`.
    """
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, 64)
    for layer in model.shard_layers():
        layer.compile(dynamic=True, **options)


def whole_weights(accelerator: Accelerator, model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of the bare model, complete on the main process.

    Every process has to call this, since sharded weights are gathered from all of them.
    """
    bare: nn.Module = accelerator.unwrap_model(model, keep_torch_compile=False)
    weights: dict[str, Tensor] = (
        accelerator.get_state_dict(model) if accelerator.is_fsdp2 else bare.state_dict()
    )
    return weights


def clip_gradients(
    accelerator: Accelerator, parameters: Sequence[nn.Parameter], max_norm: float | None
) -> Tensor:
    """Clip gradients to `max_norm` if given.

    Args:
        parameters: all of the model. To walk through its modules in every step takes a small model
            longer than the norm itself.

    Returns:
        The norm before clipping (float32 scalar), which is not finite if training has diverged. It
        is 0 with fp16, where the scaler skips steps that overflow, so that only the loss can tell.
    """
    fp16 = accelerator.mixed_precision == "fp16"
    norm: Tensor | float | None
    if max_norm is None and accelerator.distributed_type in UNSHARDED and not fp16:
        # Clipping to infinity would read and write every gradient once more, to multiply it by 1.
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    else:
        limit = math.inf if max_norm is None else max_norm
        norm = accelerator.clip_grad_norm_(parameters, limit)
    if fp16 or norm is None:
        norm = 0.0
    if isinstance(norm, DTensor):  # the weights are sharded
        norm = norm.full_tensor()
    return torch.as_tensor(norm, dtype=torch.float32, device=accelerator.device)


def memory_estimate(total: int, trainable: int, accelerator: Accelerator, ema: bool) -> float:
    """Estimate the bytes on each device that last from step to step.

    These are float32 weights and gradients, AdamW's two moments, and an average of the weights.
    """
    world: int = accelerator.num_processes
    kind = accelerator.distributed_type
    weights, gradients, states = 4 * total, 4 * trainable, 8 * trainable + 4 * trainable * ema
    if kind == DistributedType.FSDP:
        return (weights + gradients + states) / world
    if kind == DistributedType.DEEPSPEED:
        if accelerator.mixed_precision == "no":
            return weights + (gradients + states) / world
        # Whole 16-bit weights; shares of the 16-bit gradients, float32 weights and moments (ZeRO,
        # section 3).
        return 2 * total + (2 * trainable + 4 * trainable + states) / world
    return weights + gradients + states


def with_number(recipe: "Recipe", model: TrainableModel, accelerator: Accelerator) -> "Recipe":
    """Replace `auto` by the largest number of questions that fits every device."""
    from vle_bench.recipe.values import AUTO

    train = recipe.train
    if train.per_device_batch_size != AUTO:
        return recipe
    share = train.batch_size // accelerator.num_processes
    # Devices may differ, and all processes take as many micro-batches.
    number = min(gather_object([largest(recipe, model, accelerator, share)]))
    chosen = train.model_copy(update={"per_device_batch_size": number})
    return recipe.model_copy(update={"train": chosen})


def largest(recipe: "Recipe", model: TrainableModel, accelerator: Accelerator, share: int) -> int:
    """Return the largest divisor of `share` whose micro-batch fits the GPU.

    On a CPU more questions at once are no faster: it takes what is taken without a device.
    """
    from vle_bench.recipe.values import largest_divisor

    if accelerator.device.type != "cuda":
        return largest_divisor(share, recipe.train.micro_batch)
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters)
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    lasting = memory_estimate(total, trainable, accelerator, recipe.train.ema is not None)
    lasting += 2 * total  # autocast's copies of the weights
    room = SHARE * torch.cuda.get_device_properties(accelerator.device).total_memory - lasting
    size = question_bytes(recipe, model, accelerator.mixed_precision != "no")
    if recipe.train.cuda_graphs:  # memory of recordings, and of passes that are not recorded
        size *= 2
    return largest_divisor(share, max(1, int(room / size)))


def question_bytes(recipe: "Recipe", model: TrainableModel, half: bool) -> float:
    """Estimate the memory of a question: one picture, and texts as long as they may be.

    Gradient checkpointing takes less, texts of several hundred tokens more: the scores of DeBERTa's
    attention are not counted.

    Args:
        half: activations are in 16 bits.
    """
    texts, tokens = CATALOGUE[recipe.task].texts, recipe.model.max_text_length
    outputs = model.question_outputs(texts, tokens, recipe.model.image_size)
    return float(outputs * BYTES * (1 if half else FLOAT32))
