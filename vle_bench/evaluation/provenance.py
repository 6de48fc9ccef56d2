"""Where a score comes from: code, libraries, device, ids."""

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


def device_name(accelerator: Accelerator) -> str:
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_name(accelerator.device)
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' * (threads > 1)}"


LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "numpy", "pillow")


def ids_digest(ids: Iterable[Any]) -> str:
    """SHA-256 of the ids of a split's examples, in order, one a line; equal digests: the same set was scored."""
    return hashlib.sha256("".join(f"{i}\n" for i in sorted(ids)).encode()).hexdigest()


def code_version() -> dict[str, Any]:
    """The commit of the checkout that this package runs from; None where it was installed."""
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
    # An installed package may lie inside somebody else's repository, whose commit says nothing about this code.
    if top is None or Path(top).resolve() != root.resolve():
        return {"version": __version__, "commit": None, "clean": None}
    status = git("status", "--porcelain")
    return {"version": __version__, "commit": git("rev-parse", "HEAD"), "clean": status == ""}


def library_versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in LIBRARIES
    }
