"""VCR's examples for a report: a mistake is a wrong choice, shown with its boxes and choices."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from PIL import Image

from vle_bench.analysis.examples import LONGEST_SIDE, Examples, Picture, embedded, shaded
from vle_bench.data.boxes import box_array, outside
from vle_bench.data.official.vcr import CHOICES
from vle_bench.data.vcr_text import spoken, tagged
from vle_bench.json_files import Row
from vle_bench.metrics.error_analysis import confusion, most_frequent
from vle_bench.pages.html import Grid, GridCell, plain_grid
from vle_bench.tasks.predictions import Prediction, Scores

LABELS = {"q2a": "answer_label", "qa2r": "rationale_label"}
TEXTS = {"q2a": "answer_choices", "qa2r": "rationale_choices"}

PART_TITLES = {
    "q2a": "Q2A: the answer",
    "qa2r": "QA2R: the rationale, after the right answer",
    "q2ar": "Q2AR: both; confidence is the product",
}

TAG_COLORS = 6  # in the style sheet: .o0 to .o5
LETTER = 0.6  # width of a letter in its font's size
FIRST_WORDS = 8  # first words of questions that are groups of their own


@dataclass(frozen=True)
class DrawnBox:
    """A box in the pixels of its picture; it has a name if the texts tag its object."""

    css: str
    x: float
    y: float
    width: float
    height: float
    name: str
    name_x: float
    name_y: float


@dataclass(frozen=True)
class Scene:
    """A picture with its boxes; `outside` names the tagged objects that lie beyond it."""

    picture: Picture
    description: str
    font_size: float
    boxes: list[DrawnBox]
    outside: list[str]


@dataclass(frozen=True)
class Choice:
    css: Literal["right", "wrong", ""]
    text: str
    mark: str
    probability: float


@dataclass(frozen=True)
class Card:
    """A mistake as `card_vcr.html` shows it; `given` is the right answer of QA2R, else empty."""

    id: str
    scene: Scene
    question: str
    given: str
    parts: list[tuple[str, list[Choice]]]
    confidence: float


def examples(
    rows: list[Prediction], questions: list[Row], scores: Scores, parts: Sequence[str]
) -> Examples:
    """Return the examples of a report.

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
    """Return a table of the positions of the right choice against those of the chosen one.

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


def object_labels(record: Row) -> list[str]:
    """Return the names of all objects on a page: person1, dog2, ..."""
    return [f"{name}{number}" for number, name in enumerate(record["objects"], 1)]


def card(
    predictions: list[Prediction],
    records: list[Row],
    parts: Sequence[str],
    index: int,
    image: Image.Image,
    stored: Row,
) -> Card:
    """Return the card of one mistake; `stored` is the row of its image."""
    row, record = predictions[index], records[index]
    names = object_labels(record)
    texts = [record["question"], *(choice for part in parts for choice in record[TEXTS[part]])]
    answer = record["answer_choices"][record["answer_label"]] if tuple(parts) == ("qa2r",) else []
    tags = sorted(set().union(*map(tagged, [*texts, answer])))
    return Card(
        str(row.id),
        scene(image, stored, names, tags),
        spoken(record["question"], names),
        spoken(answer, names),
        [(PART_TITLES[part], choices(part, row, record, names)) for part in parts],
        float(np.prod([row[f"{part}_scores"][row[part]] for part in parts])),
    )


def choices(part: str, row: Prediction, record: Row, names: list[str]) -> list[Choice]:
    """Return the four choices of a part, with a mark at the chosen and at the right one."""
    chosen, right = row[part], record[LABELS[part]]
    marks = {right: "✓ right", chosen: "✗ chosen"} | (
        {right: "✓ chosen, right"} if chosen == right else {}
    )
    pairs = zip(record[TEXTS[part]], row[f"{part}_scores"], strict=True)
    return [
        Choice(
            "right" if k == right else "wrong" if k == chosen else "",
            spoken(choice, names),
            marks.get(k, ""),
            probability,
        )
        for k, (choice, probability) in enumerate(pairs)
    ]


def scene(
    image: Image.Image,
    stored: Row,
    names: Sequence[str],
    tags: list[int],
    longest: int = LONGEST_SIDE,
) -> Scene:
    """Return a picture with its boxes in its own pixels, so that the browser scales both together.

    Args:
        names: of all objects.
        tags: objects that the texts tag, with names and colours; the others are outlines.
        longest: longest side of the embedded picture, in pixels.
    """
    width, height = image.size
    size = max(width, height) / 26
    boxes, away = box_array(stored["boxes"]), outside(stored["boxes"], width, height)
    drawn: list[DrawnBox] = []
    # tagged boxes last, so that they lie above the others
    for k in [k for k in range(len(boxes)) if k not in tags] + tags:
        if away[k]:
            continue
        x1, y1, x2, y2 = boxes[k]
        x, y = min(max(x1, 0), width - size), min(max(y1, 0), height - 1.3 * size)
        css = f"o{tags.index(k) % TAG_COLORS}" if k in tags else "others"
        name = names[k] if k in tags else ""
        name_x, name_y = x + size / 5, name_height(drawn, name, x + size / 5, y + size, size)
        drawn.append(DrawnBox(css, x1, y1, x2 - x1, y2 - y1, name, name_x, name_y))
    inside, hidden = ([names[k] for k in tags if away[k] == beyond] for beyond in (False, True))
    objects = ", ".join(inside) or "no object that the texts name"
    description = f"picture {stored['file_name']}" + (
        f", with boxes of {objects}" if len(boxes) else ""
    )
    return Scene(embedded(image, longest), description, size, drawn, hidden)


def name_height(drawn: Sequence[DrawnBox], name: str, x: float, y: float, size: float) -> float:
    """Move a name below those that it would cover.

    Args:
        x, y: left end of its base line.
        size: of the font.
    """
    if not name:
        return y
    above = [box for box in drawn if box.name and abs(box.name_x - x) < LETTER * size * len(name)]
    while any(abs(box.name_y - y) < size for box in above):
        y += size
    return y
