"""Pictures that several datasets share: by COCO's and Visual Genome's ids, and by their bytes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from vle_bench.data.prepared import PreparedData, picture_id
from vle_bench.data.sources import SOURCES
from vle_bench.data.splits import tables
from vle_bench.json_files import JsonObject, read_json

# Split → the COCO ids of its pictures, in prepared pairs whose names of files do not have them.
COCO_IDS = "coco-ids.json"
# COCO's names of files: COCO_val2014_000000000042.jpg of 2014 and 2015, 000000000042.jpg of 2017.
_NAME = re.compile(r"(?:^|/)(?:COCO_(?:train|val|test)20\d\d_)?(\d{12})\.\w+$")


def coco_id_of(path: str) -> int | None:
    """Return the COCO id in the name of a file; None for other names."""
    match = _NAME.search(path.replace("\\", "/"))
    return int(match[1]) if match else None


def genome_id_of(path: str) -> int | None:
    """Return the id of Visual Genome in the name of a file, such as 2354786.jpg, else None."""
    stem = PurePosixPath(path.replace("\\", "/")).stem
    return int(stem) if stem.isdecimal() else None


@dataclass(frozen=True)
class PictureIds:
    """The ids of some pictures.

    Args:
        coco: COCO's; None: some are COCO's, and it is not known which.
        genome: Visual Genome's.
    """

    coco: frozenset[int] | None
    genome: frozenset[int]

    def shared(self, other: "PictureIds") -> int | None:
        """Count the pictures of both; None: some may be, and the ids do not tell."""
        genome = len(self.genome & other.genome)
        if genome:
            return genome
        if self.coco is None or other.coco is None:
            return None
        one_sided = (self.genome and not self.coco and other.coco and not other.genome) or (
            other.genome and not other.coco and self.coco and not self.genome
        )  # half of Visual Genome's pictures are COCO's
        return None if one_sided else len(self.coco & other.coco)


def picture_ids(data: PreparedData, split: str) -> PictureIds:
    """Return the ids of the pictures of a split."""
    rows = rows_of(data, split).tolist()
    names = [str(name) for name in data.images.select_columns(["file_name"])[rows]["file_name"]]
    coco, own = frozenset[int](), frozenset[int]()
    if SOURCES[data.manifest.source].genome_ids:
        own = frozenset(i for name in names if (i := genome_id_of(name)) is not None)
    else:
        coco = frozenset(i for name in names if (i := coco_id_of(name)) is not None)
    path = data.root / COCO_IDS
    if path.is_file():
        listed: JsonObject = read_json(path)
        parts = tables(split, set(data.manifest.splits))
        return PictureIds(coco | {i for name in parts for i in listed.get(name, [])}, own)
    counted = data.manifest.left_out.get("evaluation_pictures", {}).get("with_coco_id", 0)
    return PictureIds(None if counted and not coco else coco, own)


def in_both(one: PreparedData, splits: str, other: PreparedData, split: str) -> int | None:
    """Count the pictures of a split that splits of other data have, by their bytes and ids.

    Args:
        one, splits: the other data, and some of its splits.
        other, split: the data whose pictures are counted.

    Returns:
        None: no bytes are equal, and the ids do not tell.
    """
    same = same_bytes(one, splits, other, split)
    if one.manifest.hash == other.manifest.hash:
        return same  # what ids are not known is known of both
    by_id = picture_ids(one, splits).shared(picture_ids(other, split))
    return max(same, by_id or 0) or by_id


def same_bytes(one: PreparedData, splits: str, other: PreparedData, split: str) -> int:
    """Count the pictures of a split whose bytes splits of other data have; see `in_both`.

    Only pictures of the same size are read: millions are compared with some thousands.
    """
    rows, scored = rows_of(one, splits), rows_of(other, split)
    sizes, wanted = sizes_of(one)[rows], sizes_of(other)[scored]
    known = set(contents_of(one, rows[np.isin(sizes, wanted)]))
    return sum(i in known for i in contents_of(other, scored[np.isin(wanted, sizes)]))


def rows_of(data: PreparedData, split: str) -> NDArray[np.int64]:
    """Return the rows of the pictures of a split, ascending."""
    return np.unique(np.asarray(data.questions(split)["image_row"][:]))


def sizes_of(data: PreparedData) -> NDArray[np.int64]:
    """Return a number for each picture, equal where bytes, width and height are as many."""
    table = data.images.data
    columns = (
        pc.binary_length(table.column("bytes")),
        table.column("width"),
        table.column("height"),
    )
    length, width, height = (column.to_numpy().astype(np.int64) for column in columns)
    sizes: NDArray[np.int64] = (length << 32) ^ (width << 16) ^ height
    return sizes


def contents_of(data: PreparedData, rows: NDArray[np.int64]) -> Iterator[int]:
    """Yield the `picture_id` of some pictures."""
    for image in data.images.select_columns(["bytes"]).select(rows):
        yield picture_id(image["bytes"])
