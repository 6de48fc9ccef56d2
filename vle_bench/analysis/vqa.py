"""VQA's examples for a report: a mistake has official accuracy 0."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from vle_bench.analysis.examples import Examples, Picture, embedded, shaded
from vle_bench.json_files import Row
from vle_bench.metrics.error_analysis import confusion, most_frequent
from vle_bench.metrics.vqa import normalize_answer
from vle_bench.pages.html import Grid, GridCell, plain_grid
from vle_bench.tasks.predictions import Prediction, Scores
from vle_bench.tasks.vcr import length_group

FREQUENT = 12  # answers in the confusion table
OTHER = "other"


@dataclass(frozen=True)
class Card:
    """A mistake as `card_vqa.html` shows it; `annotators` counts their answers."""

    picture: Picture
    file_name: str
    question: Row
    prediction: Prediction
    annotators: list[tuple[str, int]]


def examples(rows: list[Prediction], questions: list[Row], scores: Scores) -> Examples:
    """Return the examples of a report.

    Args:
        questions: in the columns of `data.tables.QUESTIONS`.
        scores: as `VQA.score` gives them.
    """
    row_of = {row.id: row for row in rows}
    ids = [question["question_id"] for question in questions]
    predictions = [row_of[i] for i in ids]
    score = np.array([scores.per_example[i] for i in ids])
    confidence = np.array([row["score"] for row in predictions])
    return Examples(
        ids=ids,
        image_rows=[q["image_row"] for q in questions],
        images=np.array([q["image_id"] for q in questions]),
        score=score,
        confidence=confidence,
        calibrated={"Calibration": (confidence, score)},
        kinds={
            "words in the question": [length_group(len(q["question"].split())) for q in questions],
            "an answer in the vocabulary": ["yes" if q["answerable"] else "no" for q in questions],
        },
        confusion=[
            confusion_table(
                [q["multiple_choice_answer"] for q in questions],
                [row["answer"] for row in predictions],
            )
        ],
        confidence_is="Confidence is the sigmoid of the answer's logit; the score is the official "
        "accuracy, which may lie between 0 and 1.",
        mistake_is="A mistake is an answer of official accuracy 0: no annotator gave it. The truth "
        "shown is the most frequent answer.",
        card=partial(card, predictions, questions),
        card_template="analysis/card_vqa.html",
    )


def normalized(answer: str) -> str:
    """Return an answer as the official program reads it; unchanged if nothing is left ("the")."""
    return normalize_answer(answer) or answer


def confusion_table(truths: Sequence[str], predictions: Sequence[str]) -> Grid:
    """Return a table of the most frequent true answers against the predictions, both normalized."""
    truths, predictions = [list(map(normalized, values)) for values in (truths, predictions)]
    frequent = most_frequent(truths, FREQUENT)
    counts = confusion(truths, predictions, frequent)
    rest = counts[-1].any() or counts[:, -1].any()
    names = [*frequent, OTHER] if rest else frequent
    counts = counts[: len(names), : len(names)]
    rows: list[list[str | GridCell]] = []
    for name, row in zip(names, counts.tolist(), strict=True):
        total = sum(row)
        rows.append([name, *(shaded(n, n / max(total, 1)) for n in row), f"{total:,}"])
    return plain_grid(
        f"The {len(frequent)} most frequent true answers (rows) and the predictions (columns): "
        "questions",
        ["true answer", *names, "all"],
        rows,
    )


def card(
    predictions: list[Prediction], questions: list[Row], index: int, image: Image.Image, stored: Row
) -> Card:
    """Return the card of one mistake; `stored` is the row of its image."""
    question = questions[index]
    counts = Counter[str](question["answers"])
    answers = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Card(embedded(image), stored["file_name"], question, predictions[index], answers)
