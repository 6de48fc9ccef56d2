"""VQA's examples for a report: official accuracy 0 is a mistake; confusion between the most frequent answers."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from vle_bench.analysis.examples import Examples, shrunk
from vle_bench.analysis.html import Html, attribute, table, text
from vle_bench.metrics.error_analysis import confusion, most_frequent
from vle_bench.metrics.rounding import percent
from vle_bench.metrics.vqa import normalize_answer
from vle_bench.tasks.predictions import Prediction, Scores
from vle_bench.tasks.vcr import length_group

FREQUENT = 12  # answers in the table of confusions
OTHER = "other"


def examples(rows: list[Prediction], questions: list[dict[str, Any]], scores: Scores) -> Examples:
    """Args: questions: in the columns of `data.tables.QUESTIONS`; scores: as `VQA.score` gives them."""
    found = {row.id: row for row in rows}
    ids = [question["question_id"] for question in questions]
    predicted = [found[i] for i in ids]
    score = np.array([scores.per_example[i] for i in ids])
    confidence = np.array([row["score"] for row in predicted])
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
                [row["answer"] for row in predicted],
            )
        ],
        confidence_is="Confidence is the sigmoid of the answer's logit; the score is the official accuracy, which may lie between "
        "0 and 1.",
        mistake_is="A mistake is an answer of official accuracy 0: no annotator gave it. The truth shown is the most frequent "
        "answer.",
        card=partial(card, predicted, questions),
    )


def reading(answer: str) -> str:
    """As the official program reads answers; what it makes nothing of ("the") stays."""
    return normalize_answer(answer) or answer


def confusion_table(truths: Sequence[str], predictions: Sequence[str]) -> Html:
    """The most frequent true answers × what was answered; both as the official program reads them."""
    truths, predictions = [list(map(reading, values)) for values in (truths, predictions)]
    names = most_frequent(truths, FREQUENT)
    counts = confusion(truths, predictions, names)
    shown = [*names, OTHER] if counts[-1].any() or counts[:, -1].any() else names
    counts = counts[: len(shown), : len(shown)]
    rows = [
        [name, *(f"{n:,}" for n in (*row, sum(row)))]
        for name, row in zip(shown, counts.tolist(), strict=True)
    ]
    return table(
        f"The {len(names)} most frequent true answers (rows) and what was answered (columns): questions",
        ["true answer", *shown, "all"],
        rows,
        shades=(counts / np.maximum(counts.sum(1), 1)[:, None]).tolist(),
    )


def card(
    predicted: list[Prediction],
    questions: list[dict[str, Any]],
    k: int,
    image: Image.Image,
    stored: dict[str, Any],
) -> Html:
    row, question = predicted[k], questions[k]
    address, kind = shrunk(image)
    given = sorted(Counter(question["answers"]).items(), key=lambda found: (-found[1], found[0]))
    answers = ", ".join(
        text(answer) + (f" ×&nbsp;{count}" if count > 1 else "") for answer, count in given
    )
    sure = f"({percent(row['score'])}&nbsp;%)"
    return Html(
        f'<article class="card"><img class="{kind}" width="{image.width}" height="{image.height}" src="{address}" '
        f'alt="picture {attribute(stored["file_name"])}"><h3>{text(question["question"])}</h3><dl>'
        f'<dt>answered</dt><dd class="wrong">✗ {text(row["answer"])} <span class="small">{sure}</span></dd>'
        f'<dt>truth</dt><dd class="right">✓ {text(question["multiple_choice_answer"])}</dd>'
        f"<dt>annotators</dt><dd>{answers}</dd></dl>"
        f'<p class="small">question {row.id}, {text(question["answer_type"])}, {text(question["question_type"])}</p></article>'
    )
