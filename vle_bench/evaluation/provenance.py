"""The origin of a score: code, libraries, device, ids."""

import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from vle_bench import __version__
from vle_bench.tasks.predictions import Id


def device_name(accelerator: Accelerator) -> str:
    """Return the GPU's name, or the number of CPU threads, on which rounding depends."""
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_name(accelerator.device)
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' * (threads > 1)}"


LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "numpy", "pillow")


def ids_digest(ids: Iterable[Id]) -> str:
    """Return the SHA-256 of a split's ids in order, one a line: equal for the same examples."""
    return hashlib.sha256("".join(f"{i}\n" for i in sorted(ids)).encode()).hexdigest()


def code_version() -> dict[str, Any]:
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
