"""One split of a dataset of VQA form: its official files and its images."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vle_bench.data.official.vqa import BadRecords, read_official
from vle_bench.data.prepare.shards import BadImage
from vle_bench.data.tables import IMAGE_FILE
from vle_bench.errors import RequestError

Ids = NDArray[np.int64]  # image ids, each once, sorted
Rows = NDArray[np.bool_]  # which questions of its files belong to a split
Official = dict[tuple[Path, ...], pa.Table]  # a split's files → their records
Choose = Callable[[Ids, dict[str, Ids]], Iterable[int]]


@dataclass(frozen=True)
class Split:
    """One split: official files, its images' paths, and which of them belong to it.

    Args:
        image_path: maps an image id to its file; None: the images are those of earlier splits, or
            in `folder`.
        choose: maps the image ids of the files and the ids of each earlier split to this split's.
        vocabulary: its majority answers make up the label map.
        read: reads the files to the columns of OFFICIAL.
        extra: additional training questions, kept only if their answer is in the vocabulary.
        within: another split that must contain every question of this one unchanged.
        folder: of the images, whose file names the official table has in the column IMAGE_FILE.
    """

    questions: Path
    annotations: Path | None
    image_path: Callable[[int], Path] | None
    choose: Choose = lambda ids, before: ids
    vocabulary: bool = False
    read: Callable[[Path, Path | None, BadRecords], pa.Table] = read_official
    extra: bool = False
    within: str | None = None
    folder: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        if self.annotations is None or self.annotations == self.questions:
            return (self.questions,)
        return (self.questions, self.annotations)

    def image_paths(self, official: pa.Table, chosen: Rows) -> Iterator[tuple[int, Path]]:
        """Yield id and path of each image of the chosen records, by id.

        Args:
            official: (questions,) the records of its files.
            chosen: (questions,) which of them belong to this split.
        """
        ids, first = np.unique(official["image_id"].to_numpy()[chosen], return_index=True)
        if self.folder is not None:
            places = pa.array(np.flatnonzero(chosen)[first])
            names = official[IMAGE_FILE].take(places).to_pylist()
            for image_id, name in zip(ids.tolist(), names, strict=True):
                if not name or not is_below(name):
                    raise RequestError(
                        f"{self.questions}: image {name!r} names no file below {self.folder}"
                    )
                yield image_id, self.folder / name
        elif self.image_path is not None:
            for image_id in ids.tolist():
                yield image_id, self.image_path(image_id)

    def image_of(self, bad: BadImage) -> Path:
        """Return the path of an image that was left out, if it is one of this split."""
        if self.folder is not None:
            return self.folder / str(bad["file"])
        return Path() if self.image_path is None else self.image_path(bad["image_id"])


Splits = dict[str, Split]


def is_below(name: str) -> bool:
    """Tell whether a file's name stays below the folder that it is joined to."""
    path = PurePath(name)
    return not path.is_absolute() and ".." not in path.parts


def image_file(splits: Splits, bad: BadImage) -> Path:
    """Return the path of an image that was left out; of several folders, the one that has it."""
    paths = [split.image_of(bad) for split in splits.values()]
    same = [path for path in paths if path.name == bad["file"]]
    there = [path for path in same if path.is_file()]
    return [*there, *same, Path(bad["file"])][0]
