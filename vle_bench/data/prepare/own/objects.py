"""Objects of users' own multiple-choice questions: names and boxes that the texts tag."""

import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vle_bench.data.prepare.own.read import cell_value
from vle_bench.data.prepare.own.text import kind_of, text
from vle_bench.data.tagged_text import TAG, check_text, record_of
from vle_bench.data.vcr_text import tagged
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, short

FORM = '[{"name": "dog", "box": [x1, y1, x2, y2]}, ...]'
ROUNDING = 1.0  # pixels by which a box may leave its picture
MOST_PIXELS = 1 << 31  # JSON's whole numbers know no limit
COCO = "bbox"  # of COCO's files: x, y, width, height


def objects_of(value: object, cells: bool) -> list[JsonObject]:
    """Return the objects of a question, each `name` and `box`; none for an empty or missing value.

    Raises:
        ValueError: another form.
    """
    if cells and isinstance(value, str):
        value = cell_value(value) if value.strip() else None
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{kind_of(value)}; objects are written as {FORM}")
    objects = []
    for place, one in enumerate(value):
        try:
            objects.append(object_of(one))
        except ValueError as error:
            raise ValueError(f"object {place}: {error}") from error
    return objects


def object_of(one: Any) -> JsonObject:
    """Return `name` and `box` of an object."""
    if not isinstance(one, dict):
        raise ValueError(f"{kind_of(one)}; objects are written as {FORM}")
    for key in ("name", "box"):
        if one.get(key) is None:
            coco = f"; {COCO} is x, y, width, height" if key == "box" and COCO in one else ""
            raise ValueError(f"has no {key!r}; objects are written as {FORM}{coco}")
    try:
        name = text(one["name"])
    except ValueError as error:
        raise ValueError(f"name: {error}") from error
    box = one["box"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_finite, box)):
        raise ValueError(f"box {short(box)}: four finite numbers x1, y1, x2, y2 are expected")
    x1, y1, x2, y2 = map(float, box)
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"box {short(box)}: x1 < x2 and y1 < y2 are expected in x1, y1, x2, y2")
    return {"name": name, "box": [x1, y1, x2, y2]}


def is_finite(value: object) -> bool:
    """Tell whether a value is a number of pixels."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < MOST_PIXELS


def check_tags(value: str | list[str], objects: list[JsonObject]) -> None:
    """Refuse texts with a tag that names no object; raises ValueError."""
    for one in [value] if isinstance(value, str) else value:
        check_text(one, len(objects))


def beyond(objects: list[JsonObject], size: tuple[int, int] | None) -> str | None:
    """Say which box leaves its picture of width × height; None: none, or the size is not known."""
    if size is None:
        return None
    width, height = size
    for place, one in enumerate(objects):
        x1, y1, x2, y2 = one["box"]
        if min(x1, y1) < -ROUNDING or x2 > width + ROUNDING or y2 > height + ROUNDING:
            return (
                f"object {place}: box {one['box']} leaves its picture of {width} × {height} pixels"
            )
    return None


def has_boxes(rows: pa.Table) -> bool:
    """Tell whether rows come with boxes, be they empty."""
    return bool(rows["boxes"].null_count < len(rows))


def refuse_untagged(rows: pa.Table, names: list[str]) -> None:
    """Refuse boxes of which a model would see none, since only tagged objects become tokens."""
    texts = pa.chunked_array([*rows["question"].chunks, *pc.list_flatten(rows["choices"]).chunks])
    if not pc.any(pc.match_substring_regex(texts, TAG)).as_py():
        raise RequestError(
            f"{', '.join(names)}: no text tags an object of its boxes, as [0] does, so that none "
            "would be seen; columns: {boxes: null} leaves them out"
        )


def count_objects(questions: pa.Table) -> dict[str, int]:
    """Return how many objects there are, and how many of them a text tags."""
    objects = named = 0
    for row in questions.select(["question_id", "question", "choices", "object_names"]).to_pylist():
        record = record_of(row)
        objects += len(record["objects"])
        named += len(set().union(*map(tagged, (record["question"], *record["answer_choices"]))))
    return {"objects": objects, "tagged": named}
