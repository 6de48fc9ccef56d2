"""VCR's examples for a report: choices with their probabilities, and the boxes of the objects that they tag."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from vle_bench.analysis.examples import Examples, shrunk
from vle_bench.analysis.html import Html, attribute, table, text
from vle_bench.data.boxes import box_array, outside
from vle_bench.data.official.vcr import CHOICES
from vle_bench.data.vcr_text import spoken, tagged
from vle_bench.metrics.error_analysis import confusion, most_frequent
from vle_bench.metrics.rounding import percent
from vle_bench.tasks.predictions import Prediction, Scores

LABELS = {"q2a": "answer_label", "qa2r": "rationale_label"}
TEXTS = {"q2a": "answer_choices", "qa2r": "rationale_choices"}
TITLES = {
    "q2a": "Q2A: the answer",
    "qa2r": "QA2R: the rationale, after the right answer",
    "q2ar": "Q2AR: both; confidence is the product",
}
WORDS = 8  # first words of questions that have a group of their own
COLORS = 6


def examples(
    rows: list[Prediction],
    questions: list[dict[str, Any]],
    scores: Scores,
    parts: Sequence[str],
) -> Examples:
    """Args: questions: in the columns of `data.tables.VCR_QUESTIONS`; scores: as `VCR.score` gives them."""
    found = {row.id: row for row in rows}
    ids = [question["annot_id"] for question in questions]
    predicted, records = (
        [found[i] for i in ids],
        [json.loads(question["record"]) for question in questions],
    )
    chosen = {part: np.array([row[part] for row in predicted]) for part in parts}
    right = {part: np.array([question[LABELS[part]] for question in questions]) for part in parts}
    judged = {
        part: (
            np.array([row[f"{part}_scores"][row[part]] for row in predicted]),
            (chosen[part] == right[part]).astype(float),
        )
        for part in parts
    }
    score = np.array([scores.per_example[i] for i in ids])
    if len(parts) == 2:
        judged = {"q2ar": (judged["q2a"][0] * judged["qa2r"][0], score), **judged}
    first = [first_word(record) for record in records]
    frequent = set(most_frequent(first, WORDS))
    return Examples(
        ids=ids,
        image_rows=[q["image_row"] for q in questions],
        images=np.array([q["image_id"] for q in questions]),
        score=score,
        confidence=next(iter(judged.values()))[0],
        calibrated={TITLES[part]: pair for part, pair in judged.items()},
        kinds={
            "first word of the question": [
                word if word in frequent else "another" for word in first
            ],
            "objects in the picture": [object_group(len(record["objects"])) for record in records],
        },
        confusion=[
            position_table(part, right[part].tolist(), chosen[part].tolist()) for part in parts
        ],
        confidence_is="Confidence is the probability of the choice among its four.",
        mistake_is="A mistake is a wrong choice"
        + (", of the answer or the rationale." if len(parts) == 2 else "."),
        card=partial(card, predicted, records, parts),
    )


def first_word(record: dict[str, Any]) -> str:
    token = record["question"][0] if record["question"] else ""
    return token.lower() if isinstance(token, str) else "(an object)"


def object_group(count: int) -> str:
    return next(
        (name for most, name in ((2, "0 to 2"), (5, "3 to 5"), (10, "6 to 10")) if count <= most),
        "11 or more",
    )


def position_table(part: str, right: list[int], chosen: list[int]) -> Html:
    """Rows and columns are the places of the choices: a model that prefers one whatever it says shows a dark column."""
    counts = confusion(right, chosen, range(CHOICES))[:CHOICES, :CHOICES]
    totals, columns = counts.sum(1), counts.sum(0)
    rows = [[f"right: {k + 1}", *counts[k], totals[k]] for k in range(CHOICES)] + [
        ["all", *columns, totals.sum()]
    ]
    return table(
        f"{TITLES[part]}. Place of the right choice (rows) and of the one chosen (columns): questions",
        ["place", *(f"chosen: {k + 1}" for k in range(CHOICES)), "all"],
        [[name, *(f"{n:,}" for n in cells)] for name, *cells in rows],
        shades=(counts / np.maximum(totals, 1)[:, None]).tolist(),
    )


def card(
    predicted: list[Prediction],
    records: list[dict[str, Any]],
    parts: Sequence[str],
    k: int,
    image: Image.Image,
    stored: dict[str, Any],
) -> Html:
    row, record = predicted[k], records[k]
    names = [f"{name}{number}" for number, name in enumerate(record["objects"], 1)]
    texts = [record["question"], *(choice for part in parts for choice in record[TEXTS[part]])]
    asked = f"<h3>{text(spoken(record['question'], names))}</h3>"
    if parts == ["qa2r"]:
        right = record["answer_choices"][record["answer_label"]]
        texts.append(right)
        asked += f"<p>{text(spoken(right, names))} <strong>Why?</strong></p>"
    named = sorted(set().union(*map(tagged, texts)))
    heading = '<p class="small">{}</p>' if len(parts) > 1 else ""  # which of the two lists is which
    lists = "".join(
        heading.format(TITLES[part]) + choice_list(part, row, record, names) for part in parts
    )
    sure = percent(float(np.prod([row[f"{part}_scores"][row[part]] for part in parts])))
    return Html(
        f'<article class="card">{picture(image, stored, names, named)}{asked}{lists}'
        f'<p class="small">{text(row.id)}, confidence {sure} %</p></article>'
    )


def choice_list(part: str, row: Prediction, record: dict[str, Any], names: list[str]) -> str:
    items = []
    for k, (choice, probable) in enumerate(
        zip(record[TEXTS[part]], row[f"{part}_scores"], strict=True)
    ):
        chosen, right = row[part] == k, record[LABELS[part]] == k
        kind = "right" if right else "wrong" if chosen else ""
        marks = [
            mark
            for mark, holds in (
                ("✗ chosen", chosen and not right),
                ("✓ chosen, right", chosen and right),
                ("✓ right", right and not chosen),
            )
            if holds
        ]
        said = f" <strong>{marks[0]}</strong>" if marks else ""
        items.append(
            f'<li class="{kind}">{text(spoken(choice, names))}{said} <span class="small">{percent(probable)}&nbsp;%</span></li>'
        )
    return f"<ol>{''.join(items)}</ol>"


def picture(image: Image.Image, stored: dict[str, Any], names: list[str], named: list[int]) -> str:
    """The picture with its boxes over it, in the picture's own pixels: the browser scales both together.

    Args:
        named: objects that the texts tag, with names and colours; the others are outlines.
    """
    address, kind = shrunk(image)
    width, height = image.size
    size = max(width, height) / 26
    boxes, away = box_array(stored["boxes"]), outside(stored["boxes"], width, height)
    parts = []
    for k in [k for k in range(len(boxes)) if k not in named] + named:
        if away[k]:
            continue
        x1, y1, x2, y2 = boxes[k]
        color = f"o{named.index(k) % COLORS}" if k in named else "others"
        parts.append(
            f'<rect class="box {color}" x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}"/>'
        )
        if k in named:
            x, y = min(max(x1, 0), width - size), min(max(y1, 0), height - 1.3 * size)
            parts.append(
                f'<text class="{color}" x="{x + size / 5:.1f}" y="{y + size:.1f}">{text(names[k], isolated=False)}</text>'
            )
    shown, hidden = ([names[k] for k in named if away[k] == gone] for gone in (False, True))
    about = f"picture {stored['file_name']}, with boxes of {', '.join(shown) or 'no object that the texts name'}"
    note = (
        f'<p class="small">outside of the picture: {text(", ".join(hidden))}</p>' if hidden else ""
    )
    return (
        f'<svg class="boxes {kind}" role="img" viewBox="0 0 {width} {height}" font-size="{size:.1f}" '
        f'aria-label="{attribute(about)}">'
        f'<image href="{address}" width="{width}" height="{height}" preserveAspectRatio="none"/>{"".join(parts)}</svg>{note}'
    )
