"""The result record: what was measured, on what, by which code. Every table is rendered from these."""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from vle_bench import __version__
from vle_bench.errors import RequestError

SCHEMA_VERSION = 2  # 2: breakdown
LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "numpy", "pillow")


class Metric(BaseModel):
    model_config = ConfigDict(extra="forbid")
    value: float  # a fraction in 0..1
    interval: tuple[float, float] | None = None  # 95 %, bootstrap over images
    n: int | None = None


class Record(BaseModel):
    """One evaluation of one checkpoint on one split."""

    model_config = ConfigDict(extra="forbid")
    schema_version: int
    task: str
    task_version: int
    split: str
    n: int
    metrics: dict[str, Metric]
    primary_metric: str
    per_answer_type: dict[str, float] = {}
    per_question_type: dict[str, float] = {}
    breakdown: dict[str, dict[str, Metric]] = {}  # the primary metric by what examples are like: kind → group → figure
    recipe: dict[str, str]  # name, hash
    training_splits: list[str]
    contaminated: bool
    model: dict[str, Any]  # name, parameters, checkpoint_sha256
    data: dict[str, str]  # source, manifest_hash
    seed: int
    code: dict[str, Any]  # version, commit, clean
    libraries: dict[str, str]
    device: str
    processes: int
    batch_size: int
    seconds: float
    training: dict[str, Any] = {}  # steps, seconds, score on the split that picked the checkpoint
    command: str


def code_version() -> dict[str, Any]:
    """The commit of the checkout that this package runs from; None where it was installed."""
    root = Path(__file__).parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10)
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
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in LIBRARIES}


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:
    digest = hashlib.sha256()  # Python 3.10 has no file_digest
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


def load_record(path: Path) -> Record:
    try:
        return Record.model_validate(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such result record") from error
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}: not JSON, it ends or breaks at line {error.lineno}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
