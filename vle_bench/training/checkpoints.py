"""Whole training states, `checkpoints/step-00000500/`: written complete or not at all, checked before they are used."""

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from vle_bench import atomic
from vle_bench.digests import file_sha256
from vle_bench.errors import RequestError, RunFailed
from vle_bench.training.optim import AverageWeights

MODEL, STATE, PROGRESS, MANIFEST = "model.safetensors", "state.pt", "progress.json", "manifest.json"

OF_ALL = StateDictOptions(
    full_state_dict=True, cpu_offload=True
)  # however the weights are wrapped or shared out


def name(step: int) -> str:
    return f"step-{step:08d}"


def gather(
    accelerator: Accelerator,
    model: Any,
    optimizer: Any,
    schedule: Any,
    average: AverageWeights | None,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Weights, and all else that changes from step to step, the random numbers of every process too; for `save`."""
    weights: Any = get_model_state_dict(model, options=OF_ALL)
    return weights, {
        "optimizer": get_optimizer_state_dict(model, optimizer.optimizer, options=OF_ALL),
        "schedule": schedule.state_dict(),
        "average": average.state_dict() if average else None,
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
        "random": gather_object([random_state()]),
    }


def put_back(
    path: Path,
    accelerator: Accelerator,
    model: Any,
    optimizer: Any,
    schedule: Any,
    average: AverageWeights | None,
) -> None:
    """Put everything where it was when `gather` saw it; a RequestError for a state of another model."""
    own: Any = get_model_state_dict(model)
    weights: Any = read_model(path, {key: value.shape for key, value in own.items()})
    state = torch.load(path / STATE, map_location="cpu", weights_only=True)
    set_model_state_dict(model, weights, options=OF_ALL)
    set_optimizer_state_dict(model, optimizer.optimizer, state["optimizer"], options=OF_ALL)
    schedule.load_state_dict(state["schedule"])
    if average:
        average.load_state_dict(state["average"])
    if accelerator.scaler and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])
    if accelerator.process_index < len(
        state["random"]
    ):  # more processes than there were keep those that they start with
        set_random_state(state["random"][accelerator.process_index])


def save(
    folder: Path,
    model: dict[str, torch.Tensor],
    state: dict[str, Any],
    progress: dict[str, Any],
    keep: int,
) -> None:
    """Write the state of `progress["step"]`, then remove all but the `keep` newest up to it.

    Args:
        folder: the run's `checkpoints/`.
        state: of the optimiser and whatever else holds tensors; must load with `weights_only`.
        progress: plain values; must have `step`.

    Raises:
        RunFailed: it cannot be written; those before it are as they were.
    """
    path = folder / name(progress["step"])
    try:
        with atomic.folder(path) as partial:
            save_file(unshared(model), partial / MODEL)
            torch.save(state, partial / STATE)
            atomic.write_json(partial / PROGRESS, progress)
            atomic.write_json(
                partial / MANIFEST,
                {
                    file: {
                        "bytes": (partial / file).stat().st_size,
                        "sha256": file_sha256(partial / file),
                    }
                    for file in (MODEL, STATE, PROGRESS)
                },
            )
    except (
        OSError,
        RuntimeError,
        SafetensorError,
    ) as error:  # torch and safetensors have their own for a full disk
        before = names(folder)
        usable = f"{before[-1]} before it is whole" if before else "there is none before it"
        raise RunFailed(
            f"{path}: cannot be written: {str(error).splitlines()[0]} ({free(folder)} free); {usable}; "
            "make room and go on with --resume"
        ) from error
    for old in [other for other in names(folder) if other <= path.name][:-keep]:
        shutil.rmtree(folder / old)


def unshared(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tied weights once more under each of their names: safetensors refuses tensors that share memory."""
    seen: set[int] = set()
    found = {}
    for key, value in weights.items():
        found[key] = value.clone() if value.data_ptr() in seen else value.contiguous()
        seen.add(value.data_ptr())
    return found


def free(folder: Path) -> str:
    return f"{shutil.disk_usage(folder).free / 10**9:.1f} GB"


def names(folder: Path) -> list[str]:
    """Those that have their final name, oldest first."""
    return sorted(p.name for p in folder.glob("step-*") if re.fullmatch(r"step-\d{8}", p.name))


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest whole state, and a line for every other that was passed over."""
    passed = [f"{p}: not written to the end" for p in sorted(folder.glob(".step-*.partial"))]
    for path in [folder / found for found in reversed(names(folder))]:
        problem = damage(path)
        if problem is None:
            return path, passed
        passed.append(f"{path}: {problem}")
    return None, passed


def damage(path: Path) -> str | None:
    """What is wrong with a state, or None: every file is there with the content that was written."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = {
            name: (manifest[name]["bytes"], manifest[name]["sha256"])
            for name in (MODEL, STATE, PROGRESS)
        }
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{MANIFEST} cannot be read"
    for name, (size, digest) in files.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
        if file_sha256(file) != digest:
            return f"{name} was altered"
    return None


def read_progress(path: Path) -> dict[str, Any]:
    progress: dict[str, Any] = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
    return progress


def read_model(path: Path, shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """The weights; a RequestError if they are not of a model with these shapes."""
    with safe_open(path / MODEL, "pt") as file:
        found = {key: torch.Size(file.get_slice(key).get_shape()) for key in file.keys()}
    for key in sorted(found.keys() | shapes.keys()):
        if found.get(key) != shapes.get(key):
            has, wants = (
                "none" if s is None else list(s) for s in (found.get(key), shapes.get(key))
            )
            raise RequestError(
                f"{path / MODEL}: of another model: {key} is {has}, the recipe's {wants}; give another --output-dir"
            )
    return load_file(path / MODEL)


def random_state() -> dict[str, Any]:
    """Of every generator that this process draws from, in types that load with `weights_only`."""
    numpy: Any = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (numpy[0], numpy[1].tolist(), *numpy[2:]),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def changed_keys(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Lines `dotted.key: old -> new`: of keys that decide the result, and of harmless ones."""
    from vle_bench.recipe.schema import (  # here: recipes need pydantic, which saving a state does without
        HARMLESS,
        flat,
    )

    before, after = flat(old), flat(new)
    changed = [key for key in before | after if before.get(key) != after.get(key)]
    lines = {key: f"{key}: {before.get(key)} -> {after.get(key)}" for key in changed}
    deciding = [line for key, line in lines.items() if not HARMLESS.fullmatch(key)]
    return deciding, [line for key, line in lines.items() if HARMLESS.fullmatch(key)]
