"""VCR's official records and metadata, read and checked; errors name the record."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vle_bench.data.boxes import box_array, turn
from vle_bench.errors import RequestError
from vle_bench.json_files import Record, parse, reading, short

CHOICES = 4


def read_metadata(path: Path) -> Any:
    """Read the metadata file of an image, which `check_metadata` checks."""
    with reading(path):
        return parse(path.read_bytes(), path)


def annot_id_of(line: bytes) -> str | None:
    """Find the id in a line that is no JSON."""
    match = re.search(rb'"annot_id": ?"([\w-]+)"', line)
    return None if match is None else match[1].decode()


def check_record(record: Record, task: str = "qa2r") -> None:
    """Refuse a record that cannot be encoded for `task`: missing keys, wrong tags or labels.

    Any number of choices and empty texts pass; `check_official` refuses those.
    """
    tasks = {"q2a": ("answer",), "qa2r": ("answer", "rationale")}
    if task not in tasks:
        raise RequestError(f"task {task!r}: q2a or qa2r is expected")
    if not isinstance(record, Mapping):
        raise RequestError(f"VCR record: {short(record)} is not an object")
    objects = _list(record, "objects")
    for i, name in enumerate(objects):
        if not isinstance(name, str):
            raise bad_record(record, f"objects[{i}]: {short(name)} is not a class name")
    _check_tokens(record, "question", _list(record, "question"), len(objects))
    for kind in tasks[task]:
        key = f"{kind}_choices"
        choices = _list(record, key)
        if not choices:
            raise bad_record(record, f"{key}: empty, there is nothing to choose from")
        for i, tokens in enumerate(choices):
            _check_tokens(record, f"{key}[{i}]", tokens, len(objects))
        label = record.get(f"{kind}_label")
        if label is not None and (type(label) is not int or label not in range(len(choices))):
            raise bad_record(
                record, f"{kind}_label: {short(label)} is not a number of 0 to {len(choices) - 1}"
            )


def check_official(record: Record, metadata: Record) -> None:
    """Refuse what no official record has: other than 4 choices, an empty text, other boxes."""
    check_official_record(record)
    check_metadata(record, metadata)


def check_official_record(record: Record) -> None:
    """Check a record without its metadata, see `check_official`."""
    check_record(record)
    for key in ("answer_choices", "rationale_choices"):
        if len(record[key]) != CHOICES:
            raise bad_record(record, f"{key}: {CHOICES} are expected, not {len(record[key])}")
        if [] in record[key]:
            raise bad_record(record, f"{key}[{record[key].index([])}]: empty")
    if not record["question"]:
        raise bad_record(record, "question: empty")


def check_metadata(record: Record, metadata: Record) -> None:
    """Refuse metadata without a picture's size, or without a box [x1, y1, x2, y2] an object."""
    if not isinstance(metadata, Mapping):
        raise bad_record(record, f"metadata: {short(metadata)} is not an object")
    for key in ("width", "height", "boxes"):
        if key not in metadata:
            raise bad_record(record, f"metadata: has no {key!r}")
    for key in ("width", "height"):
        if not _is_finite(metadata[key]) or metadata[key] <= 0:
            raise bad_record(
                record, f"metadata: {key}: {short(metadata[key])} is not a positive number"
            )
    objects, boxes = _list(record, "objects"), metadata["boxes"]
    if metadata.get("names", objects) != objects:
        raise bad_record(
            record,
            "metadata: names: not the record's objects; is it the metadata of another image?",
        )
    if not isinstance(boxes, list) or len(boxes) != len(objects):
        given = len(boxes) if isinstance(boxes, list) else short(boxes)
        raise bad_record(
            record,
            f"metadata: boxes: one for each of {len(objects)} objects is expected, not {given}",
        )
    for i, box in enumerate(boxes):
        if not isinstance(box, list) or len(box) not in (4, 5) or not all(map(_is_finite, box)):
            raise bad_record(
                record, f"metadata: boxes[{i}]: {short(box)} is not four or five finite numbers"
            )
        if box[0] > box[2] or box[1] > box[3]:
            raise bad_record(
                record,
                f"metadata: boxes[{i}]: {short(box)} is reversed; x1 <= x2 and y1 <= y2 are "
                "expected",
            )


def picture_boxes(
    record: Record,
    metadata: Record,
    width: int,
    height: int,
    orientation: int = 1,
) -> NDArray[np.float64]:
    """Return the metadata's boxes as (K, 4) in pixels of the upright picture, scaled to its size.

    VCR's authors ignored EXIF orientations for the metadata, so that the boxes are turned as the
    picture was. If the metadata's size only fits the upright picture, its boxes are upright.

    Args:
        width, height: of the upright picture.
        orientation: the file's, as EXIF numbers them; 1 for one that was not turned.

    Raises:
        RequestError: the metadata have another aspect ratio (but for rounding) and so are of
            another picture.
    """
    said = metadata["width"], metadata["height"]
    stored = (height, width) if orientation >= 5 else (width, height)
    size, turned = (stored, orientation) if same_aspect(said, stored) else ((width, height), 1)
    with np.errstate(over="ignore", invalid="ignore"):
        boxes = box_array([box[:4] for box in metadata["boxes"]]) * (
            np.array(size * 2) / np.array(said * 2, dtype=float)
        )
    if not np.isfinite(boxes).all():
        raise bad_record(
            record, "metadata: boxes: too large once they are scaled to the picture's true size"
        )
    if not same_aspect(said, size):
        raise bad_record(
            record,
            f"metadata: {said[0]} × {said[1]} is another shape than the picture's {width} × "
            f"{height}; is it the metadata of another image?",
        )
    return turn(boxes, *stored, turned)


def same_aspect(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Return whether a size is the other one resized, each side rounded to whole pixels."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(sum(one), sum(other))


def bad_record(record: Record, problem: str) -> RequestError:
    """Make the error for a record, named by its annot_id."""
    return RequestError(
        f"VCR record {short(record.get('annot_id', 'without annot_id'))}: {problem}"
    )


def _list(record: Record, key: str) -> list[object]:
    if key not in record:
        raise bad_record(record, f"has no {key!r}")
    values = record[key]
    if not isinstance(values, list):
        raise bad_record(record, f"{key}: {short(values)} is not a list")
    return values


def _check_tokens(record: Record, key: str, tokens: object, objects: int) -> None:
    if not isinstance(tokens, list):
        raise bad_record(record, f"{key}: {short(tokens)} is not a list of tokens")
    for token in tokens:
        if isinstance(token, str):
            continue
        if not isinstance(token, list) or not token:
            raise bad_record(record, f"{key}: {short(token)} is neither a word nor a list of tags")
        for tag in token:
            if type(tag) is not int or tag not in range(objects):
                raise bad_record(
                    record, f"{key}: the tag {short(tag)} names none of its {objects} objects"
                )


def _is_finite(value: object) -> bool:
    try:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    except OverflowError:  # JSON's whole numbers know no limit
        return False


# The leaderboard file: 4 answer scores, then 4 rationale scores under each of the 4 answers.
COLUMNS = (
    "annot_id",
    *(f"answer_{i}" for i in range(CHOICES)),
    *(f"rationale_conditioned_on_a{a}_{i}" for a in range(CHOICES) for i in range(CHOICES)),
)
