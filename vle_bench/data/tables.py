"""Arrow tables of prepared data: their columns, and how they are written and read."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject

ROWS_A_BATCH = 500
IMAGES = pa.schema(
    [
        ("image_id", pa.int64()),
        ("file_name", pa.string()),
        ("bytes", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)
ASKED = pa.schema(
    [("question_id", pa.int64()), ("image_id", pa.int64()), ("question", pa.string())]
)
TRUTHS = pa.schema(
    [
        ("question_id", pa.int64()),
        ("image_id", pa.int64()),
        ("question_type", pa.string()),
        ("answer_type", pa.string()),
        ("multiple_choice_answer", pa.string()),
        ("answers", pa.list_(pa.string())),
    ]
)
OFFICIAL = pa.schema(
    [*ASKED, *list(TRUTHS)[2:]]
)  # a question with its annotation, which is null where there is none
QUESTIONS = pa.schema(
    [
        *ASKED,
        ("image_row", pa.int64()),
        *list(TRUTHS)[2:],
        ("label_ids", pa.list_(pa.int64())),
        ("label_scores", pa.list_(pa.float32())),
        ("answerable", pa.bool_()),
    ]
)
# A multiple-choice question; without labels the last two are null
CHOICE_QUESTIONS = pa.schema(
    [
        *ASKED,
        ("image_row", pa.int64()),
        ("question_type", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("right_choice", pa.int64()),  # from 0
        ("multiple_choice_answer", pa.string()),  # its text
    ]
)
# Two further columns where texts tag objects, `[0]` the first: boxes (K, 4), x1, y1, x2, y2 in
# pixels of the upright picture, and the names of the K objects
OBJECTS = pa.schema(
    [("boxes", pa.list_(pa.list_(pa.float64()))), ("object_names", pa.list_(pa.string()))]
)
# A column of official records whose image ids are made from the names of the files
IMAGE_FILE = "image_file"
# Boxes (K, 4): x1, y1, x2, y2 in pixels of the stored picture, one for each of the K objects; a
# box may lie outside.
VCR_IMAGES = pa.schema(
    [*IMAGES, ("boxes", pa.list_(pa.list_(pa.float64()))), ("class_names", pa.list_(pa.string()))]
)
VCR_RECORDS = pa.schema(
    [
        ("annot_id", pa.string()),
        ("image_id", pa.int64()),
        ("record", pa.string()),  # JSON for `encode_record`, and labels
        ("answer_label", pa.int8()),
        ("rationale_label", pa.int8()),
        ("answer_likelihood", pa.string()),
    ]
)
VCR_QUESTIONS = VCR_RECORDS.insert(2, pa.field("image_row", pa.int64()))

# A pair of a picture and a text, for pre-training. `box` is that of a phrase, x1, y1, x2, y2 in
# pixels of the picture; null for a text about the whole picture. The objects are those that may be
# painted over beside this text; their classes are indices into the label map.
PAIR_TEXT = pa.schema(
    [
        ("caption", pa.string()),
        ("box", pa.list_(pa.float64())),
        ("object_boxes", pa.list_(pa.list_(pa.float64()))),
        ("object_classes", pa.list_(pa.int64())),
    ]
)
PAIRS = pa.schema(
    [
        ("pair_id", pa.int64()),
        ("image_id", pa.int64()),
        ("image_row", pa.int64()),
        *PAIR_TEXT,
    ]
)

Refuse = Callable[
    [JsonObject, str], None
]  # Called with a row and its problem: raises, or leaves the row out


def refuse_row(row: JsonObject, problem: str) -> None:
    name, value = next(iter(row.items()))
    raise RequestError(f"{name} {value}: {problem}")


def record_batches(
    rows: Iterator[JsonObject],
    schema: pa.Schema,
    refuse: Refuse = refuse_row,
    size: int = ROWS_A_BATCH,
) -> Iterator[pa.RecordBatch]:
    """Convert rows to Arrow, `size` at a time, so that memory does not grow with the data."""
    held: list[JsonObject] = []
    for row in rows:
        held.append(row)
        if len(held) == size:
            yield record_batch(held, schema, refuse)
            held.clear()
    if held:
        yield record_batch(held, schema, refuse)


def record_batch(
    rows: list[JsonObject], schema: pa.Schema, refuse: Refuse = refuse_row
) -> pa.RecordBatch:
    """Convert rows to Arrow.

    Rows that Arrow cannot hold (lone surrogates, integers above 64 bits) are passed to `refuse`.
    """
    try:
        return pa.RecordBatch.from_pylist(rows, schema)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        if len(rows) == 1:
            refuse(rows[0], f"cannot be stored: {error}")
            return pa.RecordBatch.from_pylist([], schema)
    kept = [row for row in rows if len(record_batch([row], schema, refuse))]
    return pa.RecordBatch.from_pylist(kept, schema)


def write_table(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    """Write an Arrow stream, as `datasets.Dataset.from_file` reads it."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def map_table(path: Path) -> pa.Table:
    """Map a table on disk, whose pages are read on access and take no memory of the process."""
    return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
