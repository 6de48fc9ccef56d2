"""What a model was trained on before its training: from the start of a run to its records."""

import sys
from pathlib import Path

from accelerate import Accelerator

from vle_bench.data.picture_ids import picture_ids
from vle_bench.data.prepared import PreparedData, open_prepared
from vle_bench.data.splits import name_in
from vle_bench.errors import RequestError
from vle_bench.evaluation.published_checkpoint import read_training, trained_on
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
    return [
        {**entry, "data": [{k: v for k, v in data.items() if k != ROOT} for data in entry["data"]]}
        for entry in pretraining
    ]


def shared_pictures(pretraining: list[JsonObject], data: PreparedData, split: str) -> int | None:
    """Count the pictures of a split that these trainings have seen, by COCO's and other ids.

    Returns:
        None: not known, since their data are not there any more, are others, or do not say which
        of COCO's pictures they have.
    """
    if not pretraining:
        return 0
    scored = picture_ids(data, split)
    counts: list[int | None] = []
    for entry in pretraining:
        for part in entry["data"]:
            try:
                there = open_prepared(Path(part[ROOT]))
                if there.manifest.hash != part["manifest_hash"]:
                    raise RequestError("other data")
                counts.append(picture_ids(there, "+".join(entry["splits"])).shared(scored))
            except (RequestError, KeyError, OSError):
                counts.append(None)
    known = [count for count in counts if count is not None]
    most = max(known, default=0)
    return most if most or len(known) == len(counts) else None


def seen_before(
    pretraining: list[JsonObject], data: PreparedData, split: str, accelerator: Accelerator
) -> bool | None:
    """Return whether these trainings have seen pictures of a split, and say how many.

    Returns:
        None: not known, see `shared_pictures`.
    """
    shared = shared_pictures(pretraining, data, split)
    if shared != 0 and accelerator.is_main_process:
        words = (
            "whether its pictures were seen in the pre-training is not known: those data are not "
            "where they were, have changed, or do not say which of COCO's pictures they have"
            if shared is None
            else f"{shared:,} of its pictures were seen in the pre-training"
        )
        print(f"{split} of {data.root}: {words}", file=sys.stderr)
    return None if shared is None else shared > 0


def in_words(entry: JsonObject) -> str:
    """Return a training of a record's `pretraining` as a line."""
    data = ", ".join(
        f"{name_in(one)} ({one.get('manifest_hash', '')[:8]})" for one in entry["data"]
    )
    objectives = ", ".join(entry.get("objectives", {}))
    more = f" ({objectives})" if objectives else ""
    return f"{entry['task']}{more}, {entry['steps']:,} steps on {data}"
