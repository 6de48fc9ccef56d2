"""Write pictures and questions of users' own data, and count them for the manifest."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vle_bench.data.official.further import OFFICIAL_ID
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.own.choices import choice_questions, count_choices
from vle_bench.data.prepare.own.objects import count_objects, has_boxes
from vle_bench.data.prepare.own.problems import Problems
from vle_bench.data.prepare.questions import count, texts_of
from vle_bench.data.prepare.shards import (
    Source,
    described,
    images_only,
    plan,
    turned_of,
    write_shards,
)
from vle_bench.data.prepare.split import Ids, Rows
from vle_bench.data.prepare.targets import TARGETS, with_targets
from vle_bench.data.prepare.vqa_summary import split_report
from vle_bench.data.tables import OBJECTS, OFFICIAL, ROWS_A_BATCH, write_table
from vle_bench.json_files import JsonObject

CHOICES = "choices"  # the column that only multiple-choice questions have


def write_images(
    folder: Path,
    work: Path,
    rows: pa.Table,
    pictures: pa.Table,
    choices: Choices,
    problems: Problems,
) -> tuple[Ids, JsonObject, int]:
    """Store the pictures that a question asks about, in the order of their ids.

    Returns:
        the ids in the order of the rows, {shard: {"bytes", "sha256"}}, and the number of pictures
        that were turned.
    """
    asked = pictures.filter(pc.is_in(pictures["image_id"], pc.unique(rows["image_id"])))
    asked = asked.sort_by("image_id")
    shards, missing = plan((Source(**row) for row in asked.to_pylist()), choices.shard_bytes)
    notes = write_shards(folder, work, shards, choices.workers, images_only(True))
    bad = [*missing, *(bad for note in notes for bad in note["bad"])]
    for picture in sorted(bad, key=lambda one: one["asked_by"]):
        path = Path(picture["file"])
        file = "its bytes" if path.is_relative_to(work) else picture["file"]
        problems.image(file, picture["asked_by"], picture["problem"])
    ids = np.setdiff1d(asked["image_id"].to_numpy(), [picture["image_id"] for picture in bad])
    files = {shard.name: note["file"] for shard, note in zip(shards, notes, strict=True)}
    return ids, files, turned_of(notes)


def questions_of(
    rows: pa.Table, chosen: Rows, images: Ids, labels: list[str], metric: str | None
) -> pa.Table:
    """Return the questions table of a split, with the ids as they were given if they are text.

    Args:
        metric: None for multiple-choice questions, which have no labels.
    """
    target = {label: number for number, label in enumerate(labels)}
    columns = [*OFFICIAL.names]
    ids = rows["id"].drop_null()
    numbers = pc.match_substring_regex(ids, "^(0|[1-9][0-9]{0,17})$")
    if len(ids) and not pc.all(numbers).as_py():
        rows = rows.append_column(OFFICIAL_ID.name, rows["id"])
        columns.append(OFFICIAL_ID.name)
    if metric is None:
        columns += ["choices", "right_choice", *OBJECTS.names * has_boxes(rows)]
    own = rows.filter(pa.array(chosen)).select(columns)
    if metric is None:
        return choice_questions(own, images)
    return with_targets(own, images, target, False, False, TARGETS[metric])[0]


def write_questions(folder: Path, parts: dict[str, pa.Table]) -> JsonObject:
    """Write the questions tables; returns {file: {"bytes", "sha256"}}."""
    files: JsonObject = {}
    for name, questions in parts.items():
        path = folder / f"questions-{name}.arrow"
        write_table(path, questions.schema, iter(questions.to_batches(ROWS_A_BATCH)))
        files[path.name] = described(path)
    return files


def counted(questions: pa.Table) -> JsonObject:
    """Return a split's entry in the manifest."""
    return count(questions, has_labels(questions))


def reported(questions: pa.Table, choices: Choices) -> JsonObject:
    """Return a split's part of the manifest's report."""
    if CHOICES in questions.schema.names:
        report = split_report(questions, False) | {"choices": count_choices(questions)}
        tagged = "boxes" in questions.schema.names
        return report | ({"boxes": count_objects(questions)} if tagged else {})
    return split_report(questions, has_labels(questions)) | texts_of(questions, choices)


def has_labels(questions: pa.Table) -> bool:
    """Return whether any question has an answer."""
    return bool(questions["multiple_choice_answer"].null_count < len(questions))
