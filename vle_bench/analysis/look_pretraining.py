"""Count phrases and objects in view of a whole split, and show the strangers of ITM."""

from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from vle_bench.analysis.examples import Picture, embedded
from vle_bench.analysis.look_numbers import Fact
from vle_bench.analysis.look_pictures import VIEW_SIDE, denormalised, hidden_boxes
from vle_bench.data.pairs import PairCollator
from vle_bench.data.prepared import PreparedData
from vle_bench.data.splits import tables
from vle_bench.metrics.numbers import percent
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.recipe.values import batch_layout
from vle_bench.training.feed import Feed, epoch_batches

MEASURED = 2_000  # pairs whose boxes are compared with the visible part, at most
SHOWN = 8  # texts with a stranger
# Objective → the count in the manifest, and what it counts.
COUNTED = {"pbc": ("phrases", "a phrase with a box"), "mpc": ("with_objects", "objects")}


@dataclass(frozen=True)
class Stranger:
    """A text of a micro-batch that sees another picture in ITM.

    Args:
        seen: the stranger's picture, or the candidates among which the model chooses.
    """

    text: str
    own: Picture
    seen: list[Picture]


def facts(data: PreparedData, split: str, questions: Dataset, feed: Feed | None) -> list[Fact]:
    """Count the pairs with data for MPC and PBC, and name the data that are mixed in."""
    parts = [data.manifest.splits[name] for name in tables(split, set(data.manifest.splits))]
    hidden, measured = out_of_view(data, questions, None if feed is None else feed.processor)
    found = []
    for objective, (column, words) in COUNTED.items():
        count = sum(int(part[column]) for part in parts)
        value = f"{count:,} of {len(questions):,} pairs have {words}"
        asked = feed is not None and bool(feed.input_settings["objectives"].get(objective))
        if lost := hidden[objective]:
            share = percent(lost / measured[objective], 1)
            value += f"; {share} % of {measured[objective]:,} measured have none in view"
        found.append(Fact(objective.upper(), value, lost=lost > 0 or (asked and not count)))
    if feed is not None and feed.recipe.data.mix:
        mix = ", ".join(f"{part.root} (weight {part.weight:g})" for part in feed.recipe.data.mix)
        found.append(Fact("mixed with", mix))
    return found


def out_of_view(
    data: PreparedData, questions: Dataset, processor: VLEProcessor | None
) -> tuple[dict[str, int], dict[str, int]]:
    """Count for each objective the pairs of a sample whose boxes are all out of view.

    Args:
        processor: None: what the model sees is not known, so the whole picture counts.

    Returns:
        objective → pairs without a box in view, and pairs with boxes.
    """
    step = -(-len(questions) // MEASURED)
    hidden, measured = dict.fromkeys(COUNTED, 0), dict.fromkeys(COUNTED, 0)
    sides = data.images.select_columns(["width", "height"])
    for row in questions.select(range(0, len(questions), step)):
        size = sides[row["image_row"]]
        for objective, boxes in (("pbc", [row["box"]]), ("mpc", row["object_boxes"])):
            if boxes and boxes[0] is not None:
                out = hidden_boxes(boxes, size["width"], size["height"], processor)
                measured[objective] += 1
                hidden[objective] += bool(out.all())
    return hidden, measured


def strangers(feed: Feed) -> list[Stranger]:
    """Return texts with strangers of the first micro-batch of training; none without ITM."""
    collate = feed.collator(0)
    if not isinstance(collate, PairCollator) or "itm" not in collate.objectives:
        return []
    rows = first_rows(feed)
    inputs = collate(rows)["inputs"]
    texts = feed.questions[rows.tolist()]["caption"]
    own, seen = inputs["image_index"].tolist(), inputs["itm_images"].tolist()
    choices = {text: [seen[text]] for text in range(len(texts)) if seen[text] != own[text]}
    if "itm_hard_texts" in inputs:
        hard = zip(
            inputs["itm_hard_texts"].tolist(), inputs["itm_candidates"].tolist(), strict=True
        )
        choices |= {text: list(dict.fromkeys(candidates)) for text, candidates in hard}

    def picture(row: int) -> Picture:
        image = denormalised(inputs["pixel_values"][row], feed.processor.image_processor)
        return embedded(image, VIEW_SIDE)

    return [
        Stranger(texts[text], picture(own[text]), [picture(row) for row in rows])
        for text, rows in list(choices.items())[:SHOWN]
    ]


def first_rows(feed: Feed) -> NDArray[np.int64]:
    """Return the rows of the first micro-batch of training."""
    train = feed.recipe.train
    per_image = feed.recipe.data.questions_together or len(feed.questions)
    batches = epoch_batches(
        0,
        0,
        order=lambda epoch: feed.task.training_order(feed.questions, train.seed, epoch, per_image),
        batch_size=train.batch_size,
        parts=batch_layout(train.batch_size, train.micro_batch, 1),
    )
    return batches[0][0]
