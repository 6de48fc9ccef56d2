"""A run's training state: taken at a step, and put back."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import DistributedType

from vle_bench import atomic
from vle_bench.errors import RequestError
from vle_bench.evaluation.provenance import device_name, library_versions
from vle_bench.training import checkpoints
from vle_bench.training.batches import model_inputs, steps
from vle_bench.training.engine import NO_STATES
from vle_bench.training.processes import first_decides

if TYPE_CHECKING:
    from vle_bench.training.run import Run


def made_on(run: "Run") -> dict[str, Any]:
    """What else the last bits of the weights depend on."""
    return {
        "processes": run.accelerator.num_processes,
        "shards": run.accelerator.is_fsdp2,
        "device": device_name(run.accelerator).partition(",")[0],
        "torch": library_versions()["torch"],
    }


def save_state(run: "Run") -> None:
    """The whole training state of this step; written by the first process, the random numbers of all in it."""
    if (
        run.saved_step == run.step or run.accelerator.distributed_type == DistributedType.DEEPSPEED
    ):  # see NO_STATES
        return
    weights, state = checkpoints.gather(
        run.accelerator, run.model, run.optimizer, run.schedule, run.average
    )
    log = run.folder / "log.jsonl"
    if log.is_file() and run.accelerator.is_main_process:
        atomic.flush(log)
    progress = {
        "step": run.step,
        "samples": run.samples,
        "best": run.best,
        "last": run.last,
        "losses": run.losses,
        "training_seconds": run.training_seconds,
        "seconds": time.monotonic() - run.started,
        "log_bytes": log.stat().st_size if log.is_file() else 0,
        "threads": torch.get_num_threads(),
        "made_on": made_on(run),
        "recipe": run.recipe.model_dump(mode="json"),
        "data_manifest_hash": run.data.manifest.hash,
    }
    keep = run.recipe.train.keep
    first_decides(
        lambda: checkpoints.save(run.folder / "checkpoints", weights, state, progress, keep)
    )
    run.saved_step = run.step


def restore(run: "Run", path: Path) -> None:
    """Put the run where it was when the state was saved; refuses a state of other data or another model."""
    if run.accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise RequestError(f"{path}: {NO_STATES}, or give another --output-dir")
    progress = checkpoints.read_progress(path)
    if (now := run.data.manifest.hash) != (then := progress["data_manifest_hash"]):
        raise RequestError(
            f"data.root: {run.recipe.data.root}: not the data of {path}: manifest hash {then} -> {now}"
        )
    settle_gradients(run)
    checkpoints.put_back(path, run.accelerator, run.model, run.optimizer, run.schedule, run.average)
    run.step = run.saved_step = progress["step"]
    run.samples, run.losses, run.log_bytes = (
        progress["samples"],
        progress["losses"],
        progress["log_bytes"],
    )
    run.best, run.last = progress["best"], progress["last"]
    run.training_seconds = progress["training_seconds"]
    run.started -= progress["seconds"]
    if (
        run.accelerator.device.type == "cpu"
    ):  # sums round by the number of threads, and `build` has it from the workers'
        torch.set_num_threads(progress["threads"])
    other, _ = checkpoints.changed_keys(progress["made_on"], made_on(run))
    if other and run.accelerator.is_main_process:
        print(f"{path}: resumed, but not bit-exact: {'; '.join(other)}", flush=True)


def settle_gradients(run: "Run") -> None:
    """A backward pass for nothing: after its first, DDP lays the gradients out anew, and so sums and rounds them otherwise.

    Without it, the first step of a resumed run on three or more processes differs in the last bits.
    """
    if run.accelerator.num_processes > 1:
        run.model.train()
        _, _, micro_batches = next(steps(run))
        with run.accelerator.autocast():
            loss = run.model(**model_inputs(run, micro_batches[0])).loss
        run.accelerator.backward(loss)
        run.optimizer.zero_grad(set_to_none=True)
