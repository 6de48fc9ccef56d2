"""Training states, `checkpoints/step-00000500/`: written complete or not at all, and verified."""

import random
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType, gather_object
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim.lr_scheduler import LambdaLR

from vle_bench import atomic
from vle_bench.atomic import file_sha256
from vle_bench.data.collate import Batch
from vle_bench.errors import RequestError, RunFailed, first_line
from vle_bench.evaluation.environment import device_name, library_versions
from vle_bench.json_files import JsonObject, read_json
from vle_bench.training.engine import NO_STATES
from vle_bench.training.optim import AverageWeights
from vle_bench.training.processes import on_main

if TYPE_CHECKING:
    # Runs need the libraries of data and recipes, which `make gpu-check` does without.
    from vle_bench.training.run import Run

MODEL, STATE, PROGRESS, MANIFEST = "model.safetensors", "state.pt", "progress.json", "manifest.json"

# Whole tensors on the CPU, however the weights are wrapped or sharded.
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Progress(TypedDict):
    """The plain values of a training state.

    `losses` are those since the last line of the log, `sums` those of the model's own figures since
    then (earlier versions had none), `made_on` the surroundings that the last bits depend on.
    """

    step: int
    samples: int
    best: float
    last: float
    losses: list[float]
    sums: list[float]
    training_seconds: float
    seconds: float
    log_bytes: int
    threads: int
    made_on: dict[str, str | int | bool]
    recipe: JsonObject
    data_manifest_hash: str


def name(step: int) -> str:
    """Return the name of a training state's folder."""
    return f"step-{step:08d}"


def surroundings(run: "Run") -> dict[str, str | int | bool]:
    """Describe what the last bits of the weights depend on besides the recipe."""
    return {
        "processes": run.accelerator.num_processes,
        "shards": run.accelerator.is_fsdp2,
        "device": device_name(run.accelerator).partition(",")[0],
        "torch": library_versions()["torch"],
    }


def save_state(run: "Run") -> None:
    """Save the training state of this step, unless it is saved already.

    The main process writes it, with the RNG states of all processes in it. With DeepSpeed nothing
    is saved; see `NO_STATES`.
    """
    if run.saved_step == run.step or run.accelerator.distributed_type == DistributedType.DEEPSPEED:
        return
    weights, state = gather(run.accelerator, run.model, run.optimizer, run.schedule, run.average)
    log = run.folder / "log.jsonl"
    if log.is_file() and run.accelerator.is_main_process:
        atomic.flush(log)
    progress: Progress = {
        "step": run.step,
        "samples": run.samples,
        "best": run.best,
        "last": run.last,
        "losses": run.losses,
        "sums": run.sums,
        "training_seconds": run.training_seconds,
        "seconds": time.monotonic() - run.started,
        "log_bytes": log.stat().st_size if log.is_file() else 0,
        "threads": torch.get_num_threads(),
        "made_on": surroundings(run),
        "recipe": run.recipe.model_dump(mode="json"),
        "data_manifest_hash": run.training_data.manifest.hash,
    }
    keep = run.recipe.train.keep
    on_main(lambda: write_state(run.folder / "checkpoints", weights, state, progress, keep))
    run.saved_step = run.step


def restore(run: "Run", path: Path) -> None:
    """Put a run back to the training state at `path`.

    Raises:
        RequestError: the state is of other data or of another model, or the run is under DeepSpeed.
    """
    from vle_bench.recipe.keys import changed_keys

    if run.accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise RequestError(f"{path}: {NO_STATES}, or give another --output-dir")
    progress = read_progress(path)
    if (now := run.training_data.manifest.hash) != (then := progress["data_manifest_hash"]):
        raise RequestError(
            f"data.root: {run.recipe.data.root}: not the data of {path}: "
            f"manifest hash {then} -> {now}"
        )
    if run.accelerator.num_processes > 1:
        _, _, micro_batches = next(run.steps())
        settle_gradients(run, micro_batches[0])
    put_back(path, run.accelerator, run.model, run.optimizer, run.schedule, run.average)
    run.step = run.saved_step = progress["step"]
    run.samples, run.losses = progress["samples"], progress["losses"]
    run.sums = progress.get("sums", [])
    run.log_bytes = progress["log_bytes"]
    run.best, run.last = progress["best"], progress["last"]
    run.training_seconds = progress["training_seconds"]
    run.started -= progress["seconds"]
    if run.accelerator.device.type == "cpu":
        # The number of threads decides how sums round; `build` derived it from the loading workers.
        torch.set_num_threads(progress["threads"])
    other, _ = changed_keys(progress["made_on"], surroundings(run))
    if other and run.accelerator.is_main_process:
        print(f"{path}: resumed, but not bit-exact: {'; '.join(other)}", flush=True)


def settle_gradients(run: "Run", batch: Batch) -> None:
    """Run one throwaway backward pass on a micro-batch.

    DDP rebuilds its gradient buckets after the first one, which changes the order of summation.
    Without it, the first step of a resumed run on three or more processes differs in the last bits.
    """
    run.model.train()
    with run.accelerator.autocast():
        loss = run.model(**run.model_inputs(batch)).loss
    run.accelerator.backward(loss)
    run.optimizer.zero_grad(set_to_none=True)


def gather(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: AcceleratedOptimizer,
    schedule: LambdaLR,
    average: AverageWeights | None,
) -> tuple[dict[str, torch.Tensor], JsonObject]:
    """Collect the full training state, for `write_state`.

    Returns:
        The weights; and the state of the optimizer, schedule, EMA, gradient scaler and the random
        number generators of every process.
    """
    weights = get_model_state_dict(model, options=WHOLE)
    return cast(dict[str, torch.Tensor], weights), {
        "optimizer": get_optimizer_state_dict(model, optimizer.optimizer, options=WHOLE),
        "schedule": schedule.state_dict(),
        "average": average.state_dict() if average else None,
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
        "random": gather_object([random_state()]),
    }


def put_back(
    path: Path,
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: AcceleratedOptimizer,
    schedule: LambdaLR,
    average: AverageWeights | None,
) -> None:
    """Load a training state; raises RequestError if it is of another model."""
    own = cast(dict[str, torch.Tensor], get_model_state_dict(model))
    weights = read_model(path, {key: value.shape for key, value in own.items()})
    state = torch.load(path / STATE, map_location="cpu", weights_only=True)
    set_model_state_dict(model, dict(weights), options=WHOLE)
    set_optimizer_state_dict(model, optimizer.optimizer, state["optimizer"], options=WHOLE)
    schedule.load_state_dict(state["schedule"])
    if average:
        average.load_state_dict(state["average"])
    if accelerator.scaler and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])
    # Processes beyond those that saved keep the random numbers that they start with.
    if accelerator.process_index < len(state["random"]):
        set_random_state(state["random"][accelerator.process_index])


def write_state(
    folder: Path,
    model: dict[str, torch.Tensor],
    state: JsonObject,
    progress: Progress,
    keep: int,
) -> None:
    """Write the state of `progress["step"]`, then remove all but the `keep` newest up to it.

    Args:
        folder: the run's `checkpoints/`.
        state: see `gather`; must load with `weights_only`.

    Raises:
        RunFailed: the state cannot be written. Earlier states are untouched.
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
    # For a full disk, torch raises RuntimeError and safetensors an error of its own.
    except (OSError, RuntimeError, SafetensorError) as error:
        before = names(folder)
        usable = f"{before[-1]} before it is complete" if before else "there is no earlier one"
        raise RunFailed(
            f"{path}: cannot be written: {first_line(error)} ({free(folder)} free); "
            f"{usable}; free some space and continue with --resume"
        ) from error
    for old in [other for other in names(folder) if other <= path.name][:-keep]:
        shutil.rmtree(folder / old)


def unshared(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy tied weights, once for each name: safetensors refuses tensors that share memory."""
    seen: set[int] = set()
    copies = {}
    for key, value in weights.items():
        copies[key] = value.clone() if value.data_ptr() in seen else value.contiguous()
        seen.add(value.data_ptr())
    return copies


def free(folder: Path) -> str:
    """Return the free space on the disk of a folder, for a message."""
    return f"{shutil.disk_usage(folder).free / 10**9:.1f} GB"


def names(folder: Path) -> list[str]:
    """Return the names of the training states that were written to the end, oldest first."""
    return sorted(p.name for p in folder.glob("step-*") if re.fullmatch(r"step-\d{8}", p.name))


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """Find the newest whole state.

    Returns:
        Its path, or None; and a line for every newer state that was skipped.
    """
    skipped = [f"{p}: not written to the end" for p in sorted(folder.glob(".step-*.partial"))]
    for path in [folder / state for state in reversed(names(folder))]:
        problem = damage(path)
        if problem is None:
            return path, skipped
        skipped.append(f"{path}: {problem}")
    return None, skipped


def damage(path: Path) -> str | None:
    """Say what is wrong with a state; None if every file has the content that was written."""
    if not (path / MANIFEST).is_file():
        return f"{MANIFEST} is missing"
    try:
        manifest = read_json(path / MANIFEST)
        files = {
            name: (manifest[name]["bytes"], manifest[name]["sha256"])
            for name in (MODEL, STATE, PROGRESS)
        }
    except (RequestError, KeyError, TypeError):
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


def read_progress(path: Path) -> Progress:
    """Read the plain values of a training state."""
    progress: Progress = read_json(path / PROGRESS)
    return progress


def read_model(path: Path, shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Read the weights of a state; raises RequestError unless they have exactly these shapes."""
    with safe_open(path / MODEL, "pt") as file:
        saved = {key: torch.Size(file.get_slice(key).get_shape()) for key in file.keys()}
    for key in sorted(saved.keys() | shapes.keys()):
        pair = saved.get(key), shapes.get(key)
        if pair[0] != pair[1]:
            has, wants = ("none" if shape is None else list(shape) for shape in pair)
            raise RequestError(
                f"{path / MODEL}: of another model: {key} is {has}, the recipe's {wants}; "
                "give another --output-dir"
            )
    return load_file(path / MODEL)


def random_state() -> JsonObject:
    """Return the state of every random generator, in types that load with `weights_only`."""
    numpy: Any = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (numpy[0], numpy[1].tolist(), *numpy[2:]),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: JsonObject) -> None:
    """Load what `random_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
