"""The data that a model has seen besides those of its recipe: data mixed in, and its start."""

import sys
from collections.abc import Iterable
from pathlib import Path

from accelerate import Accelerator

from vle_bench.data.picture_ids import in_both
from vle_bench.data.prepared import PreparedData, open_prepared
from vle_bench.data.splits import name_in
from vle_bench.errors import RequestError
from vle_bench.evaluation.published_checkpoint import read_training, trained_on
from vle_bench.evaluation.record import Training, either
from vle_bench.json_files import JsonObject
from vle_bench.models import pretrained

ROOT = "root"  # where the data were; records do not repeat it


def pretraining_of(checkpoint: Path) -> list[JsonObject]:
    """Return the trainings that a checkpoint of ours comes from, the last first.

    Each has task, recipe, steps, splits, data (source, manifest_hash, name and root of each
    prepared folder), and the weights of its objectives if it has some. Empty for a checkpoint from
    elsewhere, or of an earlier version.
    """
    folder = pretrained.resolve(checkpoint)
    try:
        training = read_training(folder)
    except RequestError:
        return []
    if training is None:
        return []
    data = training.mixed or [{**trained_on(folder, training), ROOT: training.data_root}]
    objectives = (training.inputs.model_extra or {}).get("objectives")
    entry: JsonObject = {
        "task": training.task,
        "recipe": {key: training.recipe[key] for key in ("name", "hash")},
        "steps": training.progress.step,
        "splits": training.training_splits,
        "data": data,
        **({"objectives": {k: v for k, v in objectives.items() if v}} if objectives else {}),
    }
    return [entry, *training.pretraining]


def for_record(pretraining: list[JsonObject]) -> list[JsonObject]:
    """Return these trainings without the folders of this machine."""
    return [{**entry, "data": without_folders(entry["data"])} for entry in pretraining]


def without_folders(parts: list[JsonObject]) -> list[JsonObject]:
    """Return data that were trained on without the folders of this machine."""
    return [{k: v for k, v in part.items() if k != ROOT} for part in parts]


def shared_pictures(pretraining: list[JsonObject], data: PreparedData, split: str) -> int | None:
    """Count the pictures of a split that these trainings have seen, by COCO's and other ids.

    Returns:
        None: not known, since their data are not there any more, are others, or do not say which
        of COCO's pictures they have.
    """
    parts = [
        (opened(part), "+".join(entry["splits"])) for entry in pretraining for part in entry["data"]
    ]
    return most_shared(parts, data, split)


def opened(part: JsonObject) -> PreparedData | None:
    """Open a prepared folder that was trained on; None if it is not there, or is another."""
    try:
        there = open_prepared(Path(part[ROOT]))
    except (RequestError, KeyError, OSError):
        return None
    return there if there.manifest.hash == part["manifest_hash"] else None


def most_shared(
    parts: Iterable[tuple[PreparedData | None, str]], data: PreparedData, split: str
) -> int | None:
    """Count the pictures of a split that data with their splits have: the most of one of them."""
    counts: list[int | None] = []
    for there, splits in parts:
        try:
            counts.append(None if there is None else in_both(there, splits, data, split))
        except (RequestError, OSError):
            counts.append(None)
    known = [count for count in counts if count is not None]
    most = max(known, default=0)
    return most if most or len(known) == len(counts) else None


def say_mixed(
    parts: Iterable[PreparedData | None], trained: str, data: PreparedData, split: str, say: bool
) -> int | None:
    """Count the pictures of a split that the mixed data train on, and say it if there are some.

    Args:
        parts: each of the mixed data (`data.mix`); None for one that is not there any more.
        trained: the splits that are trained on.
    """
    shared = most_shared([(part, trained) for part in parts], data, split)
    if shared != 0 and say:
        words = (
            f"whether its pictures are in {trained} of the mixed data (data.mix) is not known: "
            "those are not where they were, have changed, or do not say which of COCO's pictures "
            "they have"
            if shared is None
            else f"{shared:,} of its pictures are trained on, in {trained} of the mixed data "
            "(data.mix): its score is contaminated"
        )
        print(f"{split} of {data.root}: {words}", file=sys.stderr)
    return shared


def seen_before(
    training: Training | None, data: PreparedData, split: str, accelerator: Accelerator
) -> bool | None:
    """Return whether mixed data or a start have pictures of a split, and say how many.

    Returns:
        None: not known, see `shared_pictures`.
    """
    if training is None:
        return False
    say = accelerator.is_main_process
    parts = [opened(part) for part in training.mixed]
    mixed = say_mixed(parts, "+".join(training.training_splits), data, split, say)
    shared = shared_pictures(training.pretraining, data, split)
    if shared != 0 and say:
        words = (
            "whether its pictures were seen in the pre-training is not known: those data are not "
            "where they were, have changed, or do not say which of COCO's pictures they have"
            if shared is None
            else f"{shared:,} of its pictures were seen in the pre-training"
        )
        print(f"{split} of {data.root}: {words}", file=sys.stderr)
    return either(None if count is None else count > 0 for count in (mixed, shared))


def in_words(entry: JsonObject) -> str:
    """Return a training of a record's `pretraining` as a line."""
    data = data_in_words(entry["data"])
    objectives = ", ".join(entry.get("objectives", {}))
    more = f" ({objectives})" if objectives else ""
    return f"{entry['task']}{more}, {entry['steps']:,} steps on {data}"


def data_in_words(parts: list[JsonObject]) -> str:
    """Return data that were trained on: name and hash of each folder, and weight if it has one."""
    return ", ".join(
        f"{name_in(one)} ({one.get('manifest_hash', '')[:8]}"
        + (f", weight {one['weight']:g})" if "weight" in one else ")")
        for one in parts
    )
