"""A run's training state: taken at a step, and put back."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vle_bench import atomic, training_state
from vle_bench.errors import RequestError
from vle_bench.evaluate import device_name
from vle_bench.results import library_versions
from vle_bench.run_folder import first_decides

if TYPE_CHECKING:
    from vle_bench.train import Run


def made_on(run: "Run") -> dict[str, Any]:
    """What else the last bits of the weights depend on."""
    return {
        "processes": run.accelerator.num_processes, "device": device_name(run.accelerator).partition(",")[0],
        "torch": library_versions()["torch"],
    }  # fmt: skip


def save_state(run: "Run") -> None:
    """The whole training state of this step; written by the first process, the random numbers of all in it."""
    if run.saved_step == run.step:
        return
    weights, state = training_state.gather(run.accelerator, run.model, run.optimizer, run.schedule)
    log = run.folder / "log.jsonl"
    if log.is_file() and run.accelerator.is_main_process:
        atomic.flush(log)
    progress = {
        "step": run.step, "best": run.best, "training_seconds": run.training_seconds, "losses": run.losses,
        "log_bytes": log.stat().st_size if log.is_file() else 0, "threads": torch.get_num_threads(), "made_on": made_on(run),
        "recipe": run.recipe.model_dump(mode="json"), "data_manifest_hash": run.data.manifest["hash"],
    }  # fmt: skip
    keep = run.recipe.train.keep
    first_decides(lambda: training_state.save(run.folder / "checkpoints", weights, state, progress, keep))
    run.saved_step = run.step


def restore(run: "Run", path: Path) -> None:
    """Put the run where it was when the state was saved; refuses a state of other data or another model."""
    progress = training_state.read_progress(path)
    if (now := run.data.manifest["hash"]) != (then := progress["data_manifest_hash"]):
        raise RequestError(f"data.root: {run.recipe.data.root}: not the data of {path}: manifest hash {then} -> {now}")
    training_state.put_back(path, run.accelerator, run.model, run.optimizer, run.schedule)
    run.step = run.saved_step = progress["step"]
    run.best, run.losses, run.log_bytes = progress["best"], progress["losses"], progress["log_bytes"]
    run.training_seconds = progress["training_seconds"]
    if run.accelerator.device.type == "cpu":  # sums round by the number of threads, and `build` has it from the workers'
        torch.set_num_threads(progress["threads"])
    other, _ = training_state.changed_keys(progress["made_on"], made_on(run))
    if other and run.accelerator.is_main_process:
        print(f"{path}: resumed, but not bit-exact: {'; '.join(other)}", flush=True)
