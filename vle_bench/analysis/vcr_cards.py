"""Cards of VCR's mistakes: the picture with its boxes, the choices and their probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from vle_bench.analysis.examples import LONGEST_SIDE, Picture, embedded
from vle_bench.data.boxes import box_array, outside
from vle_bench.data.vcr_text import spoken, tagged
from vle_bench.json_files import Row
from vle_bench.tasks.predictions import Prediction

LABELS = {"q2a": "answer_label", "qa2r": "rationale_label"}

TEXTS = {"q2a": "answer_choices", "qa2r": "rationale_choices"}

PART_TITLES = {
    "q2a": "Q2A: the answer",
    "qa2r": "QA2R: the rationale, after the right answer",
    "q2ar": "Q2AR: both; confidence is the product",
}

TAG_COLORS = 6  # in the style sheet: .o0 to .o5


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


def object_labels(record: Row) -> list[str]:
    """The names of all objects on a page: person1, dog2, ..."""
    return [f"{name}{number}" for number, name in enumerate(record["objects"], 1)]


def card(
    predictions: list[Prediction],
    records: list[Row],
    parts: Sequence[str],
    index: int,
    image: Image.Image,
    stored: Row,
) -> Card:
    """The card of one mistake; `stored` is the row of its image."""
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
    """The four choices of a part, with a mark at the chosen and at the right one."""
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
    """A picture with its boxes in its own pixels, so that the browser scales both together.

    Args:
        names: of all objects.
        tags: objects that the texts tag, with names and colours; the others are outlines.
        longest: longest side of the embedded picture, in pixels.
    """
    width, height = image.size
    size = max(width, height) / 26
    boxes, away = box_array(stored["boxes"]), outside(stored["boxes"], width, height)
    drawn = []
    # tagged boxes last, so that they lie above the others
    for k in [k for k in range(len(boxes)) if k not in tags] + tags:
        if away[k]:
            continue
        x1, y1, x2, y2 = boxes[k]
        x, y = min(max(x1, 0), width - size), min(max(y1, 0), height - 1.3 * size)
        css = f"o{tags.index(k) % TAG_COLORS}" if k in tags else "others"
        name = names[k] if k in tags else ""
        drawn.append(DrawnBox(css, x1, y1, x2 - x1, y2 - y1, name, x + size / 5, y + size))
    inside, hidden = ([names[k] for k in tags if away[k] == beyond] for beyond in (False, True))
    objects = ", ".join(inside) or "no object that the texts name"
    description = f"picture {stored['file_name']}, with boxes of {objects}"
    return Scene(embedded(image, longest), description, size, drawn, hidden)
