"""The device, the precision, and the versions of code and libraries that computed a score."""

import importlib.metadata
import platform
import subprocess
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils.environment import parse_flag_from_env

from vle_bench import __version__
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject

LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "numpy", "pillow")
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


def precision_name(mixed_precision: str) -> str:
    """Translate Accelerate's name of a precision to ours: it calls fp32 `no`."""
    return "fp32" if mixed_precision == "no" else mixed_precision


def scoring_precision(trained: str | None, chosen: str | None, device: torch.device) -> str:
    """Return `chosen`, else the precision of the training, else `fp32`.

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
    """Return the context in which a float32 model computes in this precision."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def set_tf32(on: bool) -> None:
    """Allow a GPU to round the factors of float32 products to TF32's 10 bits, or forbid it."""
    torch.set_float32_matmul_precision("high" if on else "highest")
    torch.backends.cudnn.allow_tf32 = on


def code_version() -> JsonObject:
    """Return version and commit of the checkout; the commit of an installed package is None."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=10,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    # An installed package may lie inside the repository of another project, whose commit says
    # nothing about this code.
    if top is None or Path(top).resolve() != root.resolve():
        return {"version": __version__, "commit": None, "clean": None}
    status = git("status", "--porcelain")
    return {"version": __version__, "commit": git("rev-parse", "HEAD"), "clean": status == ""}


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that can change a score."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in LIBRARIES
    }
