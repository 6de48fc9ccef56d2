"""The run folder at the start: who may write there, what is there already, and where a run goes on."""

import os
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vle_bench import atomic
from vle_bench.digests import file_sha256
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import load_record
from vle_bench.models import pretrained
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.schema import LAYOUT, Recipe
from vle_bench.training import checkpoints


def take(
    stack: ExitStack, recipe: dict[str, Any], folder: Path, result: Path, resume: bool
) -> str | None:
    """Lock the run folder and say where to start: `finished`, a training state's path, or None for the beginning.

    Args:
        stack: holds the lock.
        result: the record that a run ends with.
    """
    stored, way_out = folder / "recipe.yaml", "give --output-dir a new folder, or remove this one"
    if not folder.is_dir() and folder.exists():
        raise RequestError(f"{folder}: is there and not an empty folder; {way_out}")
    stack.enter_context(atomic.sole_writer(folder))
    if not any(folder.iterdir()):
        if resume:
            print(f"{folder}: no run there to resume; starting from the beginning", flush=True)
        return None
    if not stored.is_file():
        raise RequestError(f"{folder}: is there and not an empty folder; {way_out}")
    done = finished(folder, result)
    if not resume:
        held = (
            "holds another run; "
            if done
            else "holds a run that was broken off; go on with --resume, or "
        )
        raise RequestError(f"{folder}: {held}{way_out}")
    path, passed = (None, []) if done else checkpoints.newest(folder / "checkpoints")
    # The state knows best by what it was trained: recipe.yaml may have been edited since.
    old = recipe_of_state(path) if path else load_recipe(str(stored))
    refuse_other_recipe(folder, old.model_dump(mode="json"), recipe)
    if done:
        print(f"{folder}: this run is finished; there is nothing to resume", flush=True)
        return "finished"
    for line in passed:
        print(f"passed over {line}", flush=True)
    none = "none of its checkpoints is whole" if passed else "no checkpoint yet"
    print(
        f"{folder}: going on from {path}"
        if path
        else f"{folder}: {none}; starting from the beginning",
        flush=True,
    )
    return str(path) if path else None


def recipe_of_state(path: Path) -> Recipe:
    """By what a training state was trained. Before `model.resize` there was, a checkpoint's pictures were squashed always."""
    values = checkpoints.read_progress(path)["recipe"]
    if "resize" not in values["model"] and values["model"].get("checkpoint"):
        values = {**values, "model": {**values["model"], "resize": "squash"}}
    return Recipe.model_validate(values)


def finished(folder: Path, result: Path) -> bool:
    """All steps are done, and the record is that of the weights that stand for the run."""
    if not result.is_file() or not (folder / "last" / pretrained.TRAINING_FILE).is_file():
        return False
    progress = pretrained.read_json(folder / "last" / pretrained.TRAINING_FILE)["progress"]
    weights = folder / pretrained.selection(folder)[0] / "model.safetensors"
    if progress["step"] != progress["steps"] or not weights.is_file():
        return False
    return load_record(result).model["checkpoint_sha256"] == file_sha256(weights)


def refuse_other_recipe(where: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    changed, harmless = checkpoints.changed_keys(old, new)
    deciding = [line for line in changed if not LAYOUT.match(line)]
    if deciding:
        raise RequestError(
            f"{where}: was trained by another recipe: {'; '.join(deciding)}; give --output-dir a new folder, or the old values"
        )
    if layout := [line for line in changed if LAYOUT.match(line)]:
        print(
            f"{where}: changed, so that it goes on, but not bit-exact: {'; '.join(layout)}",
            flush=True,
        )
    if harmless:
        print(f"{where}: changed, to no effect on the result: {'; '.join(harmless)}", flush=True)


def tidy(folder: Path, log_bytes: int) -> None:
    """Take away what killed writers left; what was logged after the state that the run goes on from is logged again."""
    for place in (folder, *(folder / name for name in ("checkpoints", "results", "predictions"))):
        atomic.remove_leftovers(place)
    log = folder / "log.jsonl"
    if (size := log.stat().st_size if log.is_file() else 0) < log_bytes:
        print(
            f"{log}: shorter than when the checkpoint was written; some of its lines are lost",
            flush=True,
        )
    elif size:
        os.truncate(log, log_bytes)


def command_to_resume() -> str:
    """What was typed, as far as a process can know: of a launcher's own part it knows nothing."""
    resume = ["--resume"] if "train" in sys.argv and "--resume" not in sys.argv else []
    return shlex.join(["vle-bench", *sys.argv[1:], *resume])
