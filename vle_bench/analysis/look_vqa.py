"""Show VQA's questions on the page of `vle-bench look`."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from markupsafe import Markup

from vle_bench.analysis.look_examples import TypedTokens, token_rows
from vle_bench.analysis.look_pictures import Tensors
from vle_bench.data.collate import QuestionCollator
from vle_bench.json_files import Row
from vle_bench.pages.charts import histogram
from vle_bench.pages.html import Grid, count_grid
from vle_bench.tasks.base import Collate, Task

ID = "question_id"
ITEMS = "questions"
NOT_TRAINED_ON = "without an answer in the label map"  # why training leaves a question out


def heading(row: Row) -> str:
    """Return the question."""
    return str(row["question"])


def about(row: Row) -> str:
    """Return the types of the question."""
    return ", ".join(row[name] for name in ("answer_type", "question_type") if row[name])


def names(row: Row, labels: list[str]) -> list[str]:
    """Return no names: VQA knows no objects."""
    return []


def tagged(row: Row, collate: Collate | None) -> list[list[int]]:
    """Return no objects: VQA's texts name none."""
    return [[]]


def said(row: Row) -> list[tuple[str, str, bool]]:
    """Return no texts: VQA has none beside the heading."""
    return []


def titles(task: Task, inputs: Tensors) -> list[tuple[str, bool]]:
    """Return the title of each text of an example, and whether it is the right choice."""
    return [("question", False)]


def limits(inputs: Tensors) -> list[int]:
    """Return for each text the one of the same length that has every word."""
    return [0]


def targets(
    row: Row, labels: list[str], task: Task | None = None, inputs: Tensors | None = None
) -> list[tuple[str, str]]:
    """Return the annotators' answers, and the soft targets that the loss gets."""
    if row["answers"] is None:
        return [("answers", "none: the split has no labels")]
    counts = sorted(Counter[str](row["answers"]).items(), key=lambda item: (-item[1], item[0]))
    given = ", ".join(f"{answer} × {count}" if count > 1 else answer for answer, count in counts)
    if inputs is None:
        pairs = list(zip(row["label_ids"] or [], row["label_scores"] or [], strict=True))
    else:
        scores = inputs["labels"][0]
        pairs = [(i, float(scores[i])) for i in scores.nonzero().flatten().tolist()]
    pairs.sort(key=lambda pair: -pair[1])
    soft = ", ".join(f"{labels[i]} {score:.2f}" for i, score in pairs)
    return [("annotators", given), ("target", soft or "none")]


def problems(row: Row) -> list[str]:
    """Return the reasons why training leaves the question out; none if it does not."""
    if row["answers"] is None or row["answerable"]:
        return []
    return [
        "None of its answers is in the label map: training leaves it out, and scoring counts it."
    ]


def lengths(rows: list[Row], limited: Collate, unlimited: Collate) -> list[list[TypedTokens]]:
    """Return the tokens of each text of these rows, as the model gets them and without a limit."""
    assert isinstance(limited, QuestionCollator) and isinstance(unlimited, QuestionCollator)
    texts = [row["question"] for row in rows]
    return [
        token_rows(dict(collate.processor(text=texts, max_length=collate.max_text_length)))
        for collate in (limited, unlimited)
    ]


def charts(questions: Dataset, images: Dataset, rows: Sequence[int]) -> list[tuple[str, Markup]]:
    """Return histograms of the split.

    Args:
        rows: rows of the images that the split has.
    """
    words = [len(question.split()) for question in questions["question"]]
    _, counts = np.unique(np.asarray(questions["image_row"]), return_counts=True)
    drawn = (
        ("words", "Words a question", words, "words"),
        ("questions", "Questions a picture", counts, "questions"),
    )
    return [
        (title, histogram(name, title, values, x_label)) for name, title, values, x_label in drawn
    ]


def tables(questions: Dataset, images: Dataset, rows: Sequence[int]) -> list[Grid]:
    """Return the most frequent values of the columns of types and answers."""
    columns = {
        "multiple_choice_answer": "most frequent answer",
        "answer_type": "type of answer",
        "question_type": "type of question",
    }
    grids = []
    for column, title in columns.items():
        values = [value for value in questions[column] if value is not None]
        if values:
            grids.append(count_grid(title, "questions", values))
    return grids
