"""Several prepared folders of pairs, mixed for training by how often an epoch sees each pair."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import numpy as np
from numpy.typing import NDArray

from vle_bench.data.prepared import Manifest, PreparedData
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject

COUNTS = ("questions", "images", "phrases", "with_objects")  # of a split, in the manifest
WEIGHT = "weight"  # the column that mixed pairs have: how often an epoch sees them


@dataclass(frozen=True)
class MixedData(PreparedData):
    """Prepared folders that are trained on as one; their pictures stand one after the other.

    Args:
        parts: each folder, and its weight.
    """

    parts: tuple[tuple[PreparedData, float], ...] = ()

    @property
    def identities(self) -> list[JsonObject]:
        """The identity of each part, its weight and its folder."""
        return [
            {**data.manifest.identity, WEIGHT: weight, "root": str(data.root)}
            for data, weight in self.parts
        ]

    def questions(self, split: str) -> datasets.Dataset:
        """Return the pairs of a split of all parts, with a weight each.

        Rows of pictures, and ids, are moved behind those of the parts before.
        """
        moved, pictures, pairs = [], 0, 0
        for data, weight in self.parts:
            own = data.questions(split)
            columns = {
                "pair_id": numbers(own, "pair_id") + pairs,
                "image_row": numbers(own, "image_row") + pictures,
                WEIGHT: np.full(len(own), weight),
            }
            own = own.remove_columns([name for name in columns if name in own.column_names])
            for name, values in columns.items():
                own = own.add_column(name, values)
            moved.append(own)
            pictures += len(data.images)
            pairs += sum(int(one["questions"]) for one in data.manifest.splits.values())
        return datasets.concatenate_datasets(moved)


def mixed(parts: Sequence[tuple[PreparedData, float]]) -> MixedData:
    """Mix prepared folders of pairs.

    Raises:
        RequestError: two of them have different classes of objects.
    """
    labels: list[str] = []
    named: Path | None = None
    for data, _ in parts:
        if data.labels and labels and data.labels != labels:
            raise RequestError(
                f"data.mix: {data.root} has other classes of objects than {named}; prepare it with "
                f"--label-map {named}/label_map.json"
            )
        if data.labels:
            labels, named = data.labels, data.root
    images = datasets.concatenate_datasets([data.images for data, _ in parts])
    root = Path(" + ".join(str(data.root) for data, _ in parts))
    return MixedData(root, mixed_manifest(parts), labels, images, tuple(parts))


def mixed_manifest(parts: Sequence[tuple[PreparedData, float]]) -> Manifest:
    """Return the first part's manifest with the sums of all splits, and a hash of all parts."""
    first = parts[0][0].manifest
    splits = {
        name: {
            key: sum(int(data.manifest.splits[name].get(key, 0)) for data, _ in parts)
            for key in COUNTS
        }
        for name in first.splits
        if all(name in data.manifest.splits for data, _ in parts)
    }
    hashes = [data.manifest.hash for data, _ in parts]
    digest = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
    return replace(first, splits=splits, hash=digest)


def numbers(questions: datasets.Dataset, column: str) -> NDArray[np.int64]:
    """Return a column of numbers, not as Python's objects, which would fill the memory."""
    values: NDArray[np.int64] = questions.with_format("numpy", columns=[column])[:][column]
    return values


def weighted_rows(weights: NDArray[np.float64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the rows that an epoch sees, as often as their weights say, in ascending order.

    Of the pairs of one weight, say 2.25, each comes twice, and a quarter of them, drawn anew in
    each epoch, once more.
    """
    rng = np.random.default_rng((seed, epoch, 2))
    counts = np.floor(weights).astype(np.int64)
    for weight in np.unique(weights).tolist():
        rows = np.flatnonzero(weights == weight)
        more = round((weight - int(weight)) * len(rows))
        counts[rng.choice(rows, more, replace=False)] += 1
    return np.repeat(np.arange(len(weights)), counts)
