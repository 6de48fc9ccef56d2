"""VCR's examples for a report: a mistake is a wrong choice."""

import json
from collections.abc import Sequence
from functools import partial

import numpy as np

from vle_bench.analysis.examples import Examples, shaded
from vle_bench.analysis.vcr_cards import LABELS, PART_TITLES, card
from vle_bench.data.official.vcr import CHOICES
from vle_bench.json_files import Row
from vle_bench.metrics.error_analysis import confusion, most_frequent
from vle_bench.pages.html import Grid, GridCell, plain_grid
from vle_bench.tasks.predictions import Prediction, Scores

FIRST_WORDS = 8  # first words of questions that are groups of their own


def examples(
    rows: list[Prediction], questions: list[Row], scores: Scores, parts: Sequence[str]
) -> Examples:
    """The examples of a report.

    Args:
        questions: in the columns of `data.tables.VCR_QUESTIONS`.
        scores: as `VCR.score` gives them.
    """
    row_of = {row.id: row for row in rows}
    ids = [question["annot_id"] for question in questions]
    predictions = [row_of[i] for i in ids]
    records = [json.loads(question["record"]) for question in questions]
    chosen = {part: np.array([row[part] for row in predictions]) for part in parts}
    right = {part: np.array([question[LABELS[part]] for question in questions]) for part in parts}
    judged = {
        part: (
            np.array([row[f"{part}_scores"][row[part]] for row in predictions]),
            (chosen[part] == right[part]).astype(float),
        )
        for part in parts
    }
    score = np.array([scores.per_example[i] for i in ids])
    if len(parts) == 2:
        judged = {"q2ar": (judged["q2a"][0] * judged["qa2r"][0], score), **judged}
    words = [first_word(record) for record in records]
    frequent = set(most_frequent(words, FIRST_WORDS))
    return Examples(
        ids=ids,
        image_rows=[q["image_row"] for q in questions],
        images=np.array([q["image_id"] for q in questions]),
        score=score,
        confidence=next(iter(judged.values()))[0],
        calibrated={PART_TITLES[part]: pair for part, pair in judged.items()},
        kinds={
            "first word of the question": [
                word if word in frequent else "another" for word in words
            ],
            "objects in the picture": [object_group(len(record["objects"])) for record in records],
        },
        confusion=[
            position_table(part, right[part].tolist(), chosen[part].tolist()) for part in parts
        ],
        confidence_is="Confidence is the probability of the choice among its four.",
        mistake_is="A mistake is a wrong choice"
        + (", of the answer or the rationale." if len(parts) == 2 else "."),
        card=partial(card, predictions, records, parts),
        card_template="analysis/card_vcr.html",
    )


def first_word(record: Row) -> str:
    token = record["question"][0] if record["question"] else ""
    return token.lower() if isinstance(token, str) else "(an object)"


def object_group(count: int) -> str:
    groups = ((2, "0 to 2"), (5, "3 to 5"), (10, "6 to 10"))
    return next((name for most, name in groups if count <= most), "11 or more")


def position_table(part: str, right: list[int], chosen: list[int]) -> Grid:
    """Positions of the right choice against those of the chosen one.

    A model that prefers a position whatever the choice says shows a dark column.
    """
    counts = confusion(right, chosen, range(CHOICES))[:CHOICES, :CHOICES]
    rows: list[list[str | GridCell]] = []
    for k, row in enumerate(counts.tolist()):
        total = sum(row)
        rows.append([f"right: {k + 1}", *(shaded(n, n / max(total, 1)) for n in row), f"{total:,}"])
    return plain_grid(
        f"{PART_TITLES[part]}. Place of the right choice (rows) and of the chosen one (columns): "
        "questions",
        ["place", *(f"chosen: {k + 1}" for k in range(CHOICES)), "all"],
        [*rows, ["all", *(f"{n:,}" for n in counts.sum(0)), f"{counts.sum():,}"]],
    )
