"""Show VCR's questions on the page of `vle-bench look`."""

import json
from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from markupsafe import Markup

from vle_bench.analysis.look_examples import TypedTokens
from vle_bench.analysis.look_pictures import Tensors
from vle_bench.analysis.vcr import LABELS, TEXTS, object_labels
from vle_bench.data.collate import ChoiceCollator
from vle_bench.data.official.vcr import CHOICES
from vle_bench.data.vcr_text import spoken
from vle_bench.data.vcr_text import tagged as named
from vle_bench.json_files import Row
from vle_bench.pages.charts import histogram
from vle_bench.pages.html import Grid, count_grid
from vle_bench.tasks.base import Collate, Task
from vle_bench.tasks.vcr import VCR

ID = "annot_id"
ITEMS = "questions"
NOT_TRAINED_ON = "without a label"  # why training leaves a question out
PARTS = {"q2a": "answer", "qa2r": "rationale"}


def record_of(row: Row) -> Row:
    """Return the VCR record of a row."""
    record: Row = json.loads(row["record"])
    return record


def heading(row: Row) -> str:
    """Return the question, with the objects' names."""
    record = record_of(row)
    return spoken(record["question"], object_labels(record))


def about(row: Row) -> str:
    """Return the likelihood that the annotator gave the answer."""
    return str(row["answer_likelihood"] or "")


def names(row: Row, labels: list[str]) -> list[str]:
    """Return the names of the objects of the picture: person1, dog2, ..."""
    return object_labels(record_of(row))


def choices_of(collate: Collate) -> ChoiceCollator:
    """Return the collator of choices inside the task's."""
    choices = getattr(collate, "choices", collate)
    assert isinstance(choices, ChoiceCollator)
    return choices


def tagged(row: Row, collate: Collate | None) -> list[list[int]]:
    """Return the objects with a token in each text; without a collator, all that texts tag."""
    record = record_of(row)
    if collate is None:
        texts = [record["question"], *(text for key in TEXTS.values() for text in record[key])]
        return [sorted(set().union(*map(named, texts)))]
    encoded = [encoding["objects"] for encoding in choices_of(collate).encode(record)]
    if collate is choices_of(collate):
        return encoded
    return [encoded[record["rationale_label"]]] * 2  # the masked copy, and the text itself


def said(row: Row) -> list[tuple[str, str, bool]]:
    """Return the answers and rationales in words, and whether they are right."""
    record = record_of(row)
    called = object_labels(record)
    return [
        (f"{title} {k + 1}", spoken(text, called), row[LABELS[part]] == k)
        for part, title in PARTS.items()
        for k, text in enumerate(record[TEXTS[part]])
    ]


def titles(task: Task | None, inputs: Tensors) -> list[tuple[str, bool]]:
    """Return the title of each text of an example, and whether it is the right choice."""
    if "masked_positions" in inputs:
        return [("with masked words, as evaluation masks them", False), ("the whole text", False)]
    assert isinstance(task, VCR)
    labels = inputs["labels"].flatten().tolist() if "labels" in inputs else [None] * len(task.parts)
    return [
        (f"{PARTS[part]} {k + 1}", k == label)
        for part, label in zip(task.parts, labels, strict=True)
        for k in range(CHOICES)
    ]


def limits(inputs: Tensors) -> list[int]:
    """Return for each text the one of the same length that has every word."""
    texts = inputs["input_ids"].shape[1]
    return [1, 1] if "masked_positions" in inputs else list(range(texts))


def targets(
    row: Row, labels: list[str], task: Task | None = None, inputs: Tensors | None = None
) -> list[tuple[str, str]]:
    """Return the right choices, or what the second stage of pre-training asks for."""
    if inputs is not None and "masked_positions" in inputs:
        match = bool(inputs["matches"][0])
        masked = int((inputs["masked_words"][0] != -100).sum())
        return [
            ("masked words", f"{masked} to find"),
            (
                "picture",
                "the text's own" if match else "another one, which the model has to notice",
            ),
        ]
    choices = (
        [(title, right) for title, _, right in said(row)]
        if inputs is None
        else titles(task, inputs)
    )
    right = ", ".join(title for title, is_right in choices if is_right)
    return [("right choice", right or "none: the split has no labels")]


def problems(row: Row) -> list[str]:
    """Return no reason: training leaves out no question."""
    return []


def lengths(rows: list[Row], limited: Collate, unlimited: Collate) -> list[list[TypedTokens]]:
    """Return the tokens of each text of these rows, as the model gets them and without a limit."""
    return [
        [
            list(zip(text["input_ids"], text["token_type_ids"], strict=True))
            for row in rows
            for text in choices_of(collate).encode(record_of(row))
        ]
        for collate in (limited, unlimited)
    ]


def charts(questions: Dataset, images: Dataset, rows: Sequence[int]) -> list[tuple[str, Markup]]:
    """Return histograms of the split.

    Args:
        rows: rows of the images that the split has.
    """
    objects = np.array([len(classes) for classes in images["class_names"]])[rows]
    _, counts = np.unique(np.asarray(questions["image_row"]), return_counts=True)
    drawn = (
        ("objects", "Objects a picture", objects, "objects"),
        ("questions", "Questions a picture", counts, "questions"),
    )
    return [
        (title, histogram(name, title, values, x_label)) for name, title, values, x_label in drawn
    ]


def tables(questions: Dataset, images: Dataset, rows: Sequence[int]) -> list[Grid]:
    """Return the places of the right choices, and the classes of the objects."""
    grids = []
    for part, title in PARTS.items():
        places = [str(label + 1) for label in questions[LABELS[part]] if label is not None]
        if places:
            grids.append(count_grid(f"place of the right {title}", "questions", places))
    kinds = images["class_names"]
    classes = [name for row in rows for name in kinds[row]]
    if classes:
        grids.append(count_grid("class of object", "objects", classes))
    return grids
