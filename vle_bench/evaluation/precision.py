"""The device and the precision of training and scoring."""

from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator
from accelerate.utils.environment import parse_flag_from_env

from vle_bench.errors import RequestError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device_name(accelerator: Accelerator) -> str:
    """Return the GPU's name, or the number of CPU threads, on which rounding depends."""
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_name(accelerator.device)
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' * (threads > 1)}"


def on_gpu() -> bool:
    """Tell whether Accelerate will take a GPU."""
    return torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")


def training_precision(choice: str) -> str:
    """Resolve `auto` of `train.precision`: bf16 on a GPU that computes in it, else fp32.

    Raises:
        RequestError: fp16 without a GPU, where Accelerate would silently leave out the loss scaler.
    """
    if choice == "fp16" and not on_gpu():
        raise RequestError("train.precision: fp16 needs a GPU; a CPU takes bf16 or fp32")
    if choice != "auto":
        return choice
    # Older GPUs only emulate bf16, slower than float32.
    native = on_gpu() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"


def faster_on_cpu(choice: str) -> str:
    """Say what bf16 would bring where `auto` takes fp32 on a CPU with AMX; else an empty string.

    `auto` stays fp32 there, so that the same recipe gives the same scores on CPUs without it.
    """
    if choice != "auto" or on_gpu() or not torch.cpu._is_amx_tile_supported():
        return ""
    # The factors: VLE-base at 224 and 384 pixels, VQA and VCR, two cores; docs/speed.md.
    return (
        "precision: auto is fp32 on a CPU; this one has AMX, where train.precision=bf16 made "
        "VLE-base 1.5 to 1.9 times as fast in training and 2.2 to 2.8 times in evaluation"
    )


def precision_name(mixed_precision: str) -> str:
    """Accelerate's name of a precision → ours: it calls fp32 `no`."""
    return "fp32" if mixed_precision == "no" else mixed_precision


def scoring_precision(trained: str | None, chosen: str | None, device: torch.device) -> str:
    """`chosen`, else the precision of the training, else `fp32`.

    Args:
        trained: None where it is not known.
        chosen: the option --precision; None where it was not given.

    Raises:
        RequestError: no such precision, or fp16 on a device that does not compute in it.
    """
    if chosen is not None and chosen not in DTYPES:
        raise RequestError(f"--precision: {chosen!r} is none of {', '.join(DTYPES)}")
    precision = chosen or trained or "fp32"
    if precision == "fp16" and device.type == "cpu":
        why = "" if chosen else ", in which the checkpoint was trained,"
        raise RequestError(f"--precision: fp16{why} needs a GPU; a CPU takes bf16 or fp32")
    return precision


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context in which a float32 model computes in this precision."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def set_tf32(on: bool) -> None:
    """Allow a GPU to round the factors of float32 products to TF32's 10 bits, or forbid it."""
    torch.set_float32_matmul_precision("high" if on else "highest")
    torch.backends.cudnn.allow_tf32 = on
