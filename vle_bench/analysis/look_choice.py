"""Show multiple-choice questions on the page of `vle-bench look`."""

from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from markupsafe import Markup
from numpy.typing import ArrayLike

from vle_bench.analysis.look_examples import TypedTokens, token_rows
from vle_bench.analysis.look_pictures import Tensors
from vle_bench.data.collate import QuestionChoiceCollator, TaggedChoiceCollator
from vle_bench.data.tagged_text import object_labels, tagged_in, words_of
from vle_bench.json_files import Row
from vle_bench.pages.charts import histogram
from vle_bench.pages.html import Grid, count_grid
from vle_bench.tasks.base import Collate, Task

ID = "question_id"
ITEMS = "questions"
NOT_TRAINED_ON = "without a label"  # why training leaves a question out


def heading(row: Row) -> str:
    """Return the question, with the names of its objects."""
    return words_of(row)[0]


def about(row: Row) -> str:
    """Return the type of the question."""
    return str(row["question_type"] or "")


def names(row: Row, labels: list[str]) -> list[str]:
    """Return the names of the objects of the question: dog[0], person[1], ..."""
    return object_labels(row.get("object_names", []))


def tagged(row: Row, collate: Collate | None) -> list[list[int]]:
    """Return the objects with a token in each choice; without a collator, all that texts tag."""
    if collate is None:
        return [sorted(set().union(*tagged_in(row)))] if "boxes" in row else [[]]
    if isinstance(collate, TaggedChoiceCollator):
        return [choice["objects"] for choice in collate.encode(row)]
    return [[] for _ in row["choices"]]


def said(row: Row) -> list[tuple[str, str, bool]]:
    """Return the choices in words, and which is right."""
    return [
        (title(place), text, place == row["right_choice"])
        for place, text in enumerate(words_of(row)[1])
    ]


def title(place: int) -> str:
    """Name a choice by its place, from 1 as on all pages."""
    return f"choice {place + 1}"


def titles(task: Task | None, inputs: Tensors) -> list[tuple[str, bool]]:
    """Return the title of each text of an example, and whether it is the right choice."""
    right = inputs["labels"].tolist() if "labels" in inputs else []
    return [(title(place), place in right) for place in range(len(inputs["input_ids"]))]


def limits(inputs: Tensors) -> list[int]:
    """Return for each text the one of the same length that has every word."""
    return list(range(len(inputs["input_ids"])))


def targets(
    row: Row, labels: list[str], task: Task | None = None, inputs: Tensors | None = None
) -> list[tuple[str, str]]:
    """Return the right choice."""
    choices = said(row) if inputs is None else titles(task, inputs)
    right = [one[0] for one in choices if one[-1]]
    return [("right choice", right[0] if right else "none: the split has no labels")]


def problems(row: Row) -> list[str]:
    """Return no reason: training leaves out no question."""
    return []


def lengths(rows: list[Row], limited: Collate, unlimited: Collate) -> list[list[TypedTokens]]:
    """Return the tokens of each text of these rows, as the model gets them and without a limit."""
    if isinstance(limited, TaggedChoiceCollator) and isinstance(unlimited, TaggedChoiceCollator):
        return [
            [
                list(zip(text["input_ids"], text["token_type_ids"], strict=True))
                for row in rows
                for text in collate.encode(row)
            ]
            for collate in (limited, unlimited)
        ]
    assert isinstance(limited, QuestionChoiceCollator)
    assert isinstance(unlimited, QuestionChoiceCollator)
    texts = [row["question"] for row in rows], [row["choices"] for row in rows]
    return [token_rows(collate.tokens(*texts)) for collate in (limited, unlimited)]


def charts(questions: Dataset, images: Dataset, rows: Sequence[int]) -> list[tuple[str, Markup]]:
    """Return histograms of the split.

    Args:
        rows: rows of the images that the split has.
    """
    words = [len(question.split()) for question in questions["question"][:]]
    _, counts = np.unique(np.asarray(questions["image_row"]), return_counts=True)
    drawn: list[tuple[str, str, ArrayLike, str]] = [
        ("choices", "Choices a question", list(map(len, questions["choices"][:])), "choices"),
        ("words", "Words a question", words, "words"),
        ("questions", "Questions a picture", counts, "questions"),
    ]
    if "object_names" in questions.column_names:
        objects = list(map(len, questions["object_names"][:]))
        drawn.append(("objects", "Objects a question", objects, "objects"))
    return [
        (title, histogram(name, title, values, x_label)) for name, title, values, x_label in drawn
    ]


def tables(questions: Dataset, images: Dataset, rows: Sequence[int]) -> list[Grid]:
    """Return places and texts of the right choices, types of questions, and names of objects."""
    right = [place for place in questions["right_choice"][:] if place is not None]
    counted = {
        "place of the right choice": [str(place + 1) for place in right],
        "right choice": [
            text for text in questions["multiple_choice_answer"][:] if text is not None
        ],
        "type of question": [kind for kind in questions["question_type"][:] if kind is not None],
    }
    grids = [count_grid(name, "questions", values) for name, values in counted.items() if values]
    if "object_names" in questions.column_names:
        objects = [name for own in questions["object_names"][:] for name in own]
        if objects:
            grids.append(count_grid("object", "objects", objects))
    return grids
