"""Pictures with the same bytes under several names, and pairs that occur twice."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vle_bench.data.tables import map_table
from vle_bench.json_files import JsonObject

Ids = NDArray[np.int64]
Rows = NDArray[np.bool_]


def first_of_same_bytes(shards: Iterable[Path], image_ids: Ids) -> Ids:
    """Return for each id the smallest id of a stored picture with the same bytes.

    Args:
        shards: the stored pictures.
        image_ids: (pairs,) of any pictures; one that is not stored is its own.
    """
    ids, digests = [np.array([], np.int64)], [np.array([], np.int64)]
    for path in shards:
        for batch in map_table(path).to_batches():
            ids.append(batch["image_id"].to_numpy())
            found = (digest_of(content.as_buffer()) for content in batch["bytes"])
            digests.append(np.fromiter(found, np.int64, len(batch)))
    stored, contents = np.concatenate(ids), np.concatenate(digests)
    order = np.argsort(stored)
    stored, contents = stored[order], contents[order]
    _, first, group = np.unique(contents, return_index=True, return_inverse=True)
    result: Ids = image_ids.copy()
    if len(first) < len(stored):
        places = np.searchsorted(stored, image_ids).clip(max=len(stored) - 1)
        known = stored[places] == image_ids
        result[known] = stored[first[group]][places[known]]
    return result


def digest_of(content: pa.Buffer) -> int:
    """Return 64 bits of the SHA-256 of a picture, which is not copied."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big", signed=True)


def counts_of(raw: pa.Table, splits: dict[str, Rows], pictures: Ids) -> dict[str, JsonObject]:
    """Count for each split what is in it twice, or in another split too; without the zeros.

    `repeated_pairs` have picture, text and box of an earlier pair of the split;
    `pictures_of_other_splits` are those whose bytes a split before has too.

    Args:
        pictures: (pairs,) see `first_of_same_bytes`.
    """
    pairs, start = np.empty(len(raw), np.int64), 0
    for batch in raw.select(["caption", "box"]).to_batches():
        texts, boxes = batch["caption"].to_pylist(), batch["box"].to_pylist()
        of = pictures[start : start + len(batch)].tolist()
        pairs[start : start + len(batch)] = [
            hash((picture, text, box and tuple(box)))
            for picture, text, box in zip(of, texts, boxes, strict=True)
        ]
        start += len(batch)
    counts: dict[str, JsonObject] = {}
    before = np.array([], np.int64)
    for name, rows in splits.items():
        own = np.unique(pictures[rows])
        both = len(np.intersect1d(own, before))
        before = np.union1d(before, own)
        found = {
            "repeated_pairs": int(rows.sum()) - len(np.unique(pairs[rows])),
            "pictures_of_other_splits": both,
        }
        counts[name] = {key: count for key, count in found.items() if count}
    return counts


def twin_lines(name: str, report: JsonObject) -> Iterable[str]:
    """Yield the lines about a split's report that `vle-bench prepare` prints."""
    if count := report.get("repeated_pairs"):
        yield f"{name}: {count:,} pairs occur again: the same picture (by its bytes) and text"
    if count := report.get("pictures_of_other_splits"):
        yield (
            f"{name}: {count:,} of its pictures are in another split too, under other names (by "
            "their bytes); a picture that is scored should not be trained on"
        )
