"""Convert ten answers to soft targets over the vocabulary."""

import functools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from vle_bench.data.tables import IMAGE_FILE, OFFICIAL, QUESTIONS, ROWS_A_BATCH
from vle_bench.metrics import vqa
from vle_bench.metrics.vqa import normalize_answer

# The same few answers come millions of times and normalising is slow; bounded, their number is not.
Target = Callable[[int], float]
normal = functools.lru_cache(maxsize=1 << 17)(normalize_answer)


def with_targets(
    official: pa.Table,
    images: np.ndarray,
    label_ids: dict[str, int],
    published: bool,
    only_answerable: bool,
    target: Target | None = None,
) -> tuple[pa.Table, np.ndarray]:
    """Convert OFFICIAL to QUESTIONS; also return the ids that are left out for their image.

    Columns that a dataset has of its own are kept.

    Args:
        images: (images,) ids in the order of the rows of the images table, sorted.
        published: look the answers up as they were given, as METER and VLE do, not normalised.
        only_answerable: leave out what has no answer in the vocabulary.
        target: number of annotators who gave an answer → its soft target; `soft_target` if None.
    """
    known = np.isin(official["image_id"].to_numpy(), images)
    kept = official if known.all() else official.filter(pa.array(known))
    own = [field for field in kept.schema if field.name not in (*OFFICIAL.names, IMAGE_FILE)]
    schema = pa.schema([*QUESTIONS, *own])
    batches = [
        batch_with_targets(b, schema, images, label_ids, published, target or soft_target)
        for b in kept.to_batches(ROWS_A_BATCH)
    ]
    table = pa.Table.from_batches(batches, schema)
    if only_answerable:
        table = table.filter(table["answerable"])
    return table.combine_chunks(), official["question_id"].to_numpy()[~known]


def batch_with_targets(
    batch: pa.RecordBatch,
    schema: pa.Schema,
    images: np.ndarray,
    label_ids: dict[str, int],
    published: bool,
    target: Target,
) -> pa.RecordBatch:
    targets = [
        None if a is None else soft_targets(a, label_ids, published, target)
        for a in batch.column("answers").to_pylist()
    ]
    new = {
        "image_row": np.searchsorted(images, batch.column("image_id").to_numpy()),
        "label_ids": [None if t is None else [label for label, _ in t] for t in targets],
        "label_scores": [None if t is None else [score for _, score in t] for t in targets],
        "answerable": [bool(t) for t in targets],
    }
    columns = [
        pa.array(new[f.name], f.type) if f.name in new else batch.column(f.name) for f in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def soft_target(matches: int) -> float:
    """Return METER's and VLE's training target for an answer that so many annotators gave.

    This is not the official accuracy.
    """
    return (0.0, 0.3, 0.6, 0.9, 1.0)[min(matches, 4)]


# The target of an answer by the accuracy of the data, so that training aims at the score: the
# published targets for the official one.
TARGETS: dict[str, Target] = {
    vqa.OFFICIAL: soft_target,
    vqa.EXACT: lambda matches: 1.0,
    vqa.SOFT: lambda matches: min(1.0, matches / 3),
}


def soft_targets(
    answers: list[str],
    label_ids: dict[str, int],
    published: bool = False,
    target: Target = soft_target,
) -> list[tuple[int, float]]:
    """Return (label id, soft target) of each answer in the vocabulary, by id."""
    matches = Counter(answers if published else map(normal, answers))
    return sorted((label_ids[a], target(n)) for a, n in matches.items() if a in label_ids)
