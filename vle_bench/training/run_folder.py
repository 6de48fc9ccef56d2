"""The run folder at the start: its lock, the run in it, and the state to resume from."""

import os
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

from vle_bench import atomic
from vle_bench.atomic import file_sha256
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import load_record
from vle_bench.json_files import JsonObject, read_json
from vle_bench.models import pretrained
from vle_bench.recipe.keys import LAYOUT, changed_keys
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.schema import Recipe
from vle_bench.recipe.values import AUTO
from vle_bench.strict_yaml import validated
from vle_bench.training import checkpoints


def take(
    stack: ExitStack, recipe: JsonObject, folder: Path, result: Path, resume: bool
) -> str | None:
    """Lock the run folder and decide where to start.

    Args:
        stack: holds the lock.
        recipe: values of the recipe.
        result: path of the record that a run ends with.

    Returns:
        `finished`, the path of a training state, or None for the beginning.

    Raises:
        RequestError: the folder holds something else, another run, or a run without `resume`.
    """
    stored, way_out = folder / "recipe.yaml", "give --output-dir a new folder, or remove this one"
    if not folder.is_dir() and folder.exists():
        raise RequestError(f"{folder}: exists and is not an empty folder; {way_out}")
    stack.enter_context(atomic.sole_writer(folder))
    if not any(folder.iterdir()):
        if resume:
            print(f"{folder}: no run there to resume; starting from the beginning", flush=True)
        return None
    if not stored.is_file():
        raise RequestError(f"{folder}: exists and is not an empty folder; {way_out}")
    done = finished(folder, result)
    if not resume:
        held = "another run" if done else "an interrupted run; continue it with --resume, or"
        raise RequestError(f"{folder}: holds {held}{';' * done} {way_out}")
    path, skipped = (None, []) if done else checkpoints.newest(folder / "checkpoints")
    # A training state knows best by which recipe it was trained: recipe.yaml may have been edited.
    old = recipe_of_state(path) if path else load_recipe(str(stored))
    refuse_other_recipe(folder, old.model_dump(mode="json"), recipe)
    if done:
        print(f"{folder}: this run is finished; there is nothing to resume", flush=True)
        return "finished"
    for line in skipped:
        print(f"skipped {line}", flush=True)
    if path:
        print(f"{folder}: continuing from {path}", flush=True)
        return str(path)
    why = "none of its checkpoints is complete" if skipped else "no checkpoint yet"
    print(f"{folder}: {why}; starting from the beginning", flush=True)
    return None


def recipe_of_state(path: Path) -> Recipe:
    """Read the recipe that a training state was trained by.

    Before there was `model.resize`, the images of a checkpoint were always squashed.
    """
    values = checkpoints.read_progress(path)["recipe"]
    if "resize" not in values["model"] and values["model"].get("checkpoint"):
        values = {**values, "model": {**values["model"], "resize": "squash"}}
    return validated(Recipe, values, str(path / checkpoints.PROGRESS))


def finished(folder: Path, result: Path) -> bool:
    """Tell whether all steps are done and the record is of the weights that represent the run."""
    if not result.is_file() or not (folder / "last" / pretrained.TRAINING_FILE).is_file():
        return False
    progress = read_json(folder / "last" / pretrained.TRAINING_FILE)["progress"]
    weights = folder / pretrained.selection(folder)[0] / "model.safetensors"
    if progress["step"] != progress["steps"] or not weights.is_file():
        return False
    return bool(load_record(result).model["checkpoint_sha256"] == file_sha256(weights))


def refuse_other_recipe(folder: Path, old: JsonObject, new: JsonObject) -> None:
    """Refuse to resume a run by a recipe that decides another result; raises RequestError.

    Other changed keys are printed.
    """
    if new["train"]["per_device_batch_size"] == AUTO:  # the run keeps its number
        kept = {"per_device_batch_size": old["train"]["per_device_batch_size"]}
        new = {**new, "train": {**new["train"], **kept}}
    changed, harmless = changed_keys(old, new)
    if deciding := [line for line in changed if not LAYOUT.match(line)]:
        raise RequestError(
            f"{folder}: was trained by another recipe: {'; '.join(deciding)}; "
            "give --output-dir a new folder, or the old values"
        )
    if layout := [line for line in changed if LAYOUT.match(line)]:
        lines = "; ".join(layout)
        print(f"{folder}: changed; the run continues, but not bit-exact: {lines}", flush=True)
    if harmless:
        lines = "; ".join(harmless)
        print(f"{folder}: changed without effect on the result: {lines}", flush=True)


def with_kept_number(recipe: Recipe, state: str | None) -> Recipe:
    """Give a run that goes on the micro-batches that it began with, where the recipe says `auto`.

    With others it would not end with the same bytes.

    Args:
        state: path of the training state that it goes on from.
    """
    if state is None or recipe.train.per_device_batch_size != AUTO:
        return recipe
    number = recipe_of_state(Path(state)).train.per_device_batch_size
    train = recipe.train.model_copy(update={"per_device_batch_size": number})
    return recipe.model_copy(update={"train": train})


def tidy(folder: Path, log_bytes: int) -> None:
    """Remove leftovers of killed writers, and the log after the training state to resume from.

    Args:
        log_bytes: size of log.jsonl when that state was saved. The steps after it are logged again.
    """
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
    """Return the command that resumes this run, without a launcher's part of the command line.

    A process cannot see that part.
    """
    resume = ["--resume"] if "train" in sys.argv and "--resume" not in sys.argv else []
    return shlex.join(["vle-bench", *sys.argv[1:], *resume])
