"""The versions of the code and of the libraries that computed a score."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

from vle_bench import __version__
from vle_bench.json_files import JsonObject

LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "numpy", "pillow")


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
