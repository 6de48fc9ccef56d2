"""The training state of a run: saved at a step, and restored."""

import time
from pathlib import Path

import torch
from accelerate.utils import DistributedType

from vle_bench import atomic
from vle_bench.errors import RequestError
from vle_bench.evaluation.precision import device_name
from vle_bench.evaluation.record import library_versions
from vle_bench.recipe.keys import changed_keys
from vle_bench.training import checkpoints
from vle_bench.training.batches import Batch
from vle_bench.training.engine import NO_STATES
from vle_bench.training.processes import on_main
from vle_bench.training.run import Run


def surroundings(run: Run) -> dict[str, str | int | bool]:
    """Describe what the last bits of the weights depend on besides the recipe."""
    return {
        "processes": run.accelerator.num_processes,
        "shards": run.accelerator.is_fsdp2,
        "device": device_name(run.accelerator).partition(",")[0],
        "torch": library_versions()["torch"],
    }


def save_state(run: Run) -> None:
    """Save the training state of this step, unless it is saved already.

    The main process writes it, with the RNG states of all processes in it. With DeepSpeed nothing
    is saved; see `NO_STATES`.
    """
    if run.saved_step == run.step or run.accelerator.distributed_type == DistributedType.DEEPSPEED:
        return
    weights, state = checkpoints.gather(
        run.accelerator, run.model, run.optimizer, run.schedule, run.average
    )
    log = run.folder / "log.jsonl"
    if log.is_file() and run.accelerator.is_main_process:
        atomic.flush(log)
    progress: checkpoints.Progress = {
        "step": run.step,
        "samples": run.samples,
        "best": run.best,
        "last": run.last,
        "losses": run.losses,
        "training_seconds": run.training_seconds,
        "seconds": time.monotonic() - run.started,
        "log_bytes": log.stat().st_size if log.is_file() else 0,
        "threads": torch.get_num_threads(),
        "made_on": surroundings(run),
        "recipe": run.recipe.model_dump(mode="json"),
        "data_manifest_hash": run.data.manifest.hash,
    }
    keep = run.recipe.train.keep
    on_main(lambda: checkpoints.save(run.folder / "checkpoints", weights, state, progress, keep))
    run.saved_step = run.step


def restore(run: Run, path: Path) -> None:
    """Put a run back to the training state at `path`.

    Raises:
        RequestError: the state is of other data or of another model, or the run is under DeepSpeed.
    """
    if run.accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise RequestError(f"{path}: {NO_STATES}, or give another --output-dir")
    progress = checkpoints.read_progress(path)
    if (now := run.data.manifest.hash) != (then := progress["data_manifest_hash"]):
        raise RequestError(
            f"data.root: {run.recipe.data.root}: not the data of {path}: "
            f"manifest hash {then} -> {now}"
        )
    if run.accelerator.num_processes > 1:
        _, _, micro_batches = next(run.steps())
        settle_gradients(run, micro_batches[0])
    checkpoints.put_back(path, run.accelerator, run.model, run.optimizer, run.schedule, run.average)
    run.step = run.saved_step = progress["step"]
    run.samples, run.losses = progress["samples"], progress["losses"]
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


def settle_gradients(run: Run, batch: Batch) -> None:
    """Run one throwaway backward pass on a micro-batch.

    DDP rebuilds its gradient buckets after the first one, which changes the order of summation.
    Without it, the first step of a resumed run on three or more processes differs in the last bits.
    """
    run.model.train()
    with run.accelerator.autocast():
        loss = run.model(**run.model_inputs(batch)).loss
    run.accelerator.backward(loss)
    run.optimizer.zero_grad(set_to_none=True)
