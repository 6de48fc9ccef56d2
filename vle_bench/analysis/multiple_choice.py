"""Multiple-choice examples for a report: a mistake is a wrong choice."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from PIL import Image

from vle_bench.analysis.examples import LONGEST_SIDE, Examples, shaded
from vle_bench.analysis.vcr import Scene, scene
from vle_bench.data.tagged_text import object_labels, tagged_in, words_of
from vle_bench.json_files import Row
from vle_bench.metrics.error_analysis import confusion
from vle_bench.pages.html import Grid, GridCell, plain_grid
from vle_bench.tasks.predictions import Prediction, Scores
from vle_bench.tasks.vcr import length_group


@dataclass(frozen=True)
class Choice:
    css: Literal["right", "wrong", ""]
    text: str
    probability: float


@dataclass(frozen=True)
class Card:
    """A mistake as `card_choice.html` shows it; `words` is the question with its objects' names."""

    scene: Scene
    words: str
    question: Row
    choices: list[Choice]


def examples(rows: list[Prediction], questions: list[Row], scores: Scores) -> Examples:
    """Return the examples of a report.

    Args:
        questions: in the columns of `data.tables.CHOICE_QUESTIONS`.
        scores: as the task gives them.
    """
    row_of = {row.id: row for row in rows}
    ids = [question["question_id"] for question in questions]
    predictions = [row_of[i] for i in ids]
    score = np.array([scores.per_example[i] for i in ids])
    confidence = np.array([row["scores"][row["chosen"]] for row in predictions])
    return Examples(
        ids=ids,
        image_rows=[q["image_row"] for q in questions],
        images=np.array([q["image_id"] for q in questions]),
        score=score,
        confidence=confidence,
        calibrated={"Calibration": (confidence, score)},
        kinds={
            "words in the question": [length_group(len(q["question"].split())) for q in questions]
        },
        confusion=[
            position_table(
                [q["right_choice"] for q in questions], [row["chosen"] for row in predictions]
            )
        ],
        confidence_is="Confidence is the probability of the choice among those of its question.",
        mistake_is="A mistake is a wrong choice.",
        card=partial(card, predictions, questions),
        card_template="analysis/card_choice.html",
    )


def position_table(right: Sequence[int], chosen: Sequence[int]) -> Grid:
    """Count places of right against chosen choices, which shows a preference for a place."""
    count = 1 + max(*right, *chosen)
    counts = confusion(right, chosen, range(count))[:count, :count]
    rows: list[list[str | GridCell]] = []
    for place, row in enumerate(counts.tolist()):
        total = sum(row)
        cells = [shaded(n, n / max(total, 1)) for n in row]
        rows.append([f"right: {place + 1}", *cells, f"{total:,}"])
    return plain_grid(
        "The place of the right choice (rows) and of the prediction (columns): questions",
        ["place", *(f"chosen: {place + 1}" for place in range(count)), "all"],
        rows,
    )


def card(
    predictions: list[Prediction], questions: list[Row], index: int, image: Image.Image, stored: Row
) -> Card:
    """Return the card of one mistake; `stored` is the row of its image."""
    question, prediction = questions[index], predictions[index]
    words, texts = words_of(question)
    css: dict[int, Literal["right", "wrong"]] = {
        prediction["chosen"]: "wrong",
        question["right_choice"]: "right",
    }
    choices = [
        Choice(css.get(place, ""), text, probability)
        for place, (text, probability) in enumerate(zip(texts, prediction["scores"], strict=True))
    ]
    return Card(scene_of(question, image, stored), words, question, choices)


def scene_of(question: Row, image: Image.Image, stored: Row, longest: int = LONGEST_SIDE) -> Scene:
    """Return the picture with the boxes of the question, if it has some.

    Args:
        stored: the row of the image.
        longest: longest side of the embedded picture, in pixels.
    """
    if "boxes" not in question:
        return scene(image, stored | {"boxes": []}, [], [], longest)
    tags = sorted(set().union(*tagged_in(question)))
    boxes = {"boxes": question["boxes"]}
    return scene(image, stored | boxes, object_labels(question["object_names"]), tags, longest)
