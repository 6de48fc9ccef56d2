"""Store the pictures of pairs in shards, planned on disk: memory does not grow with them."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.shards import (
    TURNED,
    BadImage,
    Shard,
    Source,
    Table,
    bad_image,
    image_error,
    image_row,
    none_or_skipped,
    turned_of,
    write_shards,
)
from vle_bench.data.tables import IMAGES, map_table, record_batches, write_table
from vle_bench.json_files import JsonObject

# Where a picture is, and the record that names it. `part` is offset and size in the file, null for
# the whole file. Width and height are those that boxes refer to; null without boxes.
FILES = pa.schema(
    [
        ("image_id", pa.int64()),
        ("path", pa.string()),
        ("part", pa.list_(pa.int64())),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("asked_by", pa.string()),
    ]
)
ROWS = 10_000  # of a table that are held as Python objects
Ids = NDArray[np.int64]


def write_pair_images(
    folder: Path, work: Path, raw: pa.Table, kept: NDArray[np.bool_], choices: Choices
) -> tuple[Ids, JsonObject, list[BadImage], int]:
    """Store every picture of the pairs that are kept, once, in the order of their first pairs.

    Returns:
        the ids in the order of the rows, {shard: {"bytes", "sha256"}}, the pictures that were left
        out, and the number of those that were turned.
    """
    image_ids = raw["image_id"].to_numpy()
    rows = np.flatnonzero(kept)
    first = rows[np.sort(np.unique(image_ids[rows], return_index=True)[1])]
    files = work / "files.arrow"
    skip = choices.on_bad_image == "skip"
    missing: list[BadImage] = []
    write_table(files, FILES, record_batches(existing(raw, first, missing, skip), FILES))
    shards = plan(files, choices.shard_bytes)
    table = Table(IMAGES, partial(rows_of, skip), partial(none_or_skipped, skip))
    notes = write_shards(folder, work, shards, choices.workers, table)
    bad = [*missing, *(one for note in notes for one in note["bad"])]
    lost = np.array([one["image_id"] for one in bad], np.int64)
    ids = image_ids[first]
    written = {shard.name: note["file"] for shard, note in zip(shards, notes, strict=True)}
    return ids[~np.isin(ids, lost)], written, bad, turned_of(notes)


def existing(
    raw: pa.Table, first: Ids, missing: list[BadImage], skip: bool
) -> Iterator[JsonObject]:
    """Yield the rows of FILES; a file that is not there is an error, or listed with `skip`."""
    for start in range(0, len(first), ROWS):
        chosen = raw.select(FILES.names).take(pa.array(first[start : start + ROWS]))
        for row in chosen.to_pylist():
            if size_and_date(row["path"]) is None:
                missing.append(bad_image(source_of(row), "no such image"))
                if not skip:
                    raise image_error(missing[-1])
                continue
            yield row


# A tar holds thousands of pictures, one after the other.
@lru_cache(maxsize=64)
def size_and_date(path: str) -> tuple[int, int] | None:
    """Return size and date of a file; None for a missing one."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a zero byte in a name
        return None
    return status.st_size, status.st_mtime_ns


def source_of(row: JsonObject) -> Source:
    size = () if row["width"] is None else (str(row["width"]), str(row["height"]))
    part = None if row["part"] is None else (row["part"][0], row["part"][1])
    return Source(row["image_id"], row["path"], row["asked_by"], size, part=part)


@dataclass(frozen=True)
class Planned(Sequence[Source]):
    """Rows `start` to `end` of a table of FILES, read when they are asked for."""

    files: Path
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def __iter__(self) -> Iterator[Source]:
        table = map_table(self.files)
        for start in range(self.start, self.end, ROWS):
            for row in table.slice(start, min(ROWS, self.end - start)).to_pylist():
                yield source_of(row)

    @overload
    def __getitem__(self, index: int) -> Source: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Source]: ...
    def __getitem__(self, index: int | slice) -> Source | Sequence[Source]:
        return list(self)[index]


def plan(files: Path, size: int) -> list[Shard]:
    """Cut the pictures of a table of FILES, in order, into shards of about `size` bytes."""
    cuts, stamps, held = [0], [hashlib.sha256()], 0
    rows = Planned(files, 0, len(map_table(files)))
    for number, image in enumerate(rows):
        length, date = size_and_date(image.path) or (0, 0)
        own = image.part[1] if image.part else length
        if held and held + own > size:
            cuts.append(number)
            stamps.append(hashlib.sha256())
            held = 0
        held += own
        text = f"{image.image_id} {image.path} {image.part} {image.more} {length} {date}\n"
        stamps[-1].update(text.encode())
    ends = [*cuts[1:], len(rows)]
    return [
        Shard(
            f"images-{i:05d}-of-{len(cuts):05d}.arrow",
            Planned(files, start, end),
            digest.hexdigest(),
        )
        for i, (start, end, digest) in enumerate(zip(cuts, ends, stamps, strict=True))
    ]


def rows_of(
    skip: bool, shard: Shard, bad: list[BadImage], counts: JsonObject
) -> Iterator[JsonObject]:
    """Yield the rows of the images table of a shard; boxes must be those of the stored picture."""
    counts[TURNED] = 0
    for image in shard.images:
        if (stored := image_row(image, bad, skip)) is None:
            continue
        row, orientation = stored
        wrong = ""
        if image.more and orientation != 1:
            wrong = f"has the EXIF orientation {orientation}, which its boxes may not follow"
        elif image.more and image.more != (str(row["width"]), str(row["height"])):
            said = " × ".join(image.more)
            wrong = f"has {row['width']} × {row['height']} pixels, and its boxes are of {said}"
        if wrong:
            bad.append(bad_image(image, wrong))
            if not skip:
                raise image_error(bad[-1])
            continue
        counts[TURNED] += orientation != 1
        yield row
