"""Find the pictures of a split that a model was trained on: by their bytes, not their names."""

import sys
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from vle_bench.data.prepared import PreparedData, open_prepared, picture_id
from vle_bench.data.splits import same_dataset
from vle_bench.errors import RequestError
from vle_bench.strict_yaml import read_group


def copies(
    folder: Path,
    trained: dict[str, str],
    training_splits: list[str],
    data: PreparedData,
    split: str,
) -> int | None:
    """Count the pictures of a split that a model of users' own data was trained on.

    Only in own data are the ids of pictures made from their bytes.

    Args:
        folder: of the checkpoint.
        trained: which data it was trained on, see `Manifest.identity`.

    Returns:
        None: not known, because the training data were removed or replaced.
    """
    if "name" not in trained or same_dataset(trained, data.manifest.identity):
        return 0
    recipe = folder.parent / "recipe.yaml"
    try:
        there = open_prepared(Path(read_group(recipe)["data"]["root"]))
        if there.manifest.hash != trained["manifest_hash"]:
            return None
        seen = set(there.questions("+".join(training_splits))["image_id"])
    except (RequestError, KeyError, OSError):
        return None
    return len(seen & contents(data, split))


def contents(data: PreparedData, split: str) -> set[int]:
    """Return the `picture_id` of each picture of a split."""
    questions = data.questions(split)
    if data.manifest.name is not None:
        return set(questions["image_id"])
    rows = np.unique(np.asarray(questions["image_row"][:]))
    return {picture_id(image["bytes"]) for image in data.images.select(rows)}


def say_copies(shared: int | None, scored: str, accelerator: Accelerator) -> None:
    """Print how many pictures of the split were trained on, or that this could not be checked."""
    if shared == 0 or not accelerator.is_main_process:
        return
    words = (
        "it was not checked whether its pictures are among those of the training: the training "
        "data are not where the recipe names them, or have changed"
        if shared is None
        else f"{shared:,} of its pictures are among those of the training, byte for byte"
    )
    print(f"{scored}: {words}", file=sys.stderr)
