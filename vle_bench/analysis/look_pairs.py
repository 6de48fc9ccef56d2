"""Show pairs of a picture and a text on the page of `vle-bench look`, as pre-training gets them."""

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from vle_bench.analysis.examples import Picture, embedded
from vle_bench.analysis.look_examples import TypedTokens, token_rows
from vle_bench.analysis.look_pictures import Object, Tensors, color, denormalised, mask_path
from vle_bench.data.pairs import IGNORED, PairCollator
from vle_bench.json_files import Row
from vle_bench.models.vle.pretraining_heads import black_out
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.pages.charts import histogram
from vle_bench.pages.html import Grid, count_grid
from vle_bench.tasks.base import Collate, Task

ID = "pair_id"
ITEMS = "pairs"
NOT_TRAINED_ON = "which its weight leaves out"  # why training leaves a pair out
PHRASE = "phrase"
MEASURED = 100_000  # pairs that charts and counts are drawn of, at most


def heading(row: Row) -> str:
    """Return the text."""
    return str(row["caption"])


def about(row: Row) -> str:
    """Return the id of the picture, and how many objects may be painted over."""
    objects = len(row["object_classes"] or [])
    return f"picture {row['image_id']}" + (
        f", {objects} object{'s' * (objects > 1)}" if objects else ""
    )


def boxes(row: Row) -> list[list[float]]:
    """Return the box of the phrase, if there is one, and those of the objects."""
    return [*([row["box"]] if row["box"] else []), *(row["object_boxes"] or [])]


def names(row: Row, labels: list[str]) -> list[str]:
    """Return the names of these boxes on the page."""
    classes = [labels[number] for number in row["object_classes"] or []]
    return [*([PHRASE] if row["box"] else []), *classes]


def pairs_of(collate: Collate) -> PairCollator:
    assert isinstance(collate, PairCollator)
    return collate


def painted(row: Row, collate: PairCollator) -> tuple[int, NDArray[np.bool_]] | None:
    """Return the object that the collator paints over and its patches (P,); None: none."""
    if "mpc" not in collate.objectives:
        return None
    rows = {name: [value] for name, value in row.items()}
    return collate.painted_object(
        rows, 0, collate.sizes(rows)[0], collate.generators(rows, "mpc")[0]
    )


def tagged(row: Row, collate: Collate | None) -> list[list[int]]:
    """Return the boxes that a model is asked about: the phrase's, and the painted object's."""
    phrase = [0] if row["box"] else []
    if collate is None:
        return [phrase]
    drawn = painted(row, pairs_of(collate))
    asked = [*phrase, *([] if drawn is None else [len(phrase) + drawn[0]])]
    return [asked] * (2 if "mlm" in pairs_of(collate).objectives else 1)


def said(row: Row) -> list[tuple[str, str, bool]]:
    """Return texts beside the heading: none."""
    return []


def titles(task: Task | None, inputs: Tensors) -> list[tuple[str, bool]]:
    """Return the title of each text of a pair."""
    whole = [("the text", False)]
    if "mlm_input_ids" not in inputs:
        return whole
    return [("MLM: with masked words, as evaluation masks them", False), *whole]


def limits(inputs: Tensors) -> list[int]:
    """Return for each text the one of the same length that has every word."""
    return [1, 1] if "mlm_input_ids" in inputs else [0]


def targets(
    row: Row, labels: list[str], task: Task | None = None, inputs: Tensors | None = None
) -> list[tuple[str, str]]:
    """Return the target of each objective, as evaluation draws it."""
    if inputs is None:
        return []
    asked = []
    if "mlm_words" in inputs:
        masked = int((inputs["mlm_words"][0] != IGNORED).sum())
        asked.append(("MLM", f"{masked} masked token{'s' * (masked != 1)} to find"))
    if "itm_images" in inputs:
        words = "its own picture: a match" if matches(inputs) else "a stranger's picture"
        asked.append(("ITM", words))
    if "mpc_labels" in inputs:
        label = int(inputs["mpc_labels"][0])
        asked.append(("MPC", "nothing: no object in view" if label == IGNORED else labels[label]))
    if "pbc_patches" in inputs:
        patches = inputs["pbc_patches"][0]
        words = f"{int((patches == 1).sum())} of {len(patches)} patches"
        asked.append(("PBC", "nothing: no phrase in view" if patches[0] == IGNORED else words))
    return asked


def matches(inputs: Tensors) -> bool:
    """Tell whether the one text of these inputs sees its own picture in ITM."""
    return bool(inputs["itm_images"][0] == inputs["image_index"][0])


def problems(row: Row) -> list[str]:
    """Return no reason: training leaves out no pair."""
    return []


def lengths(rows: list[Row], limited: Collate, unlimited: Collate) -> list[list[TypedTokens]]:
    """Return the tokens of each text of these rows, as the model gets them and without a limit."""
    texts = [row["caption"] for row in rows]
    return [
        token_rows({name: torch.tensor(ids) for name, ids in encoded.items()})
        for encoded in (pairs_of(collate).encode(texts) for collate in (limited, unlimited))
    ]


def sampled(questions: Dataset) -> Dataset:
    """At most MEASURED pairs, evenly spread: Visual Genome has millions."""
    step = -(-len(questions) // MEASURED)
    return questions.select(range(0, len(questions), step)) if step > 1 else questions


def charts(questions: Dataset, images: Dataset, rows: Sequence[int]) -> list[tuple[str, Markup]]:
    """Return histograms of the split.

    Args:
        rows: rows of the images that the split has.
    """
    words = [len(text.split()) for text in sampled(questions)["caption"][:]]
    _, counts = np.unique(np.asarray(questions["image_row"]), return_counts=True)
    drawn = (
        ("words", "Words a text", words, "words"),
        ("pairs", "Texts a picture", counts, "texts"),
    )
    return [
        (title, histogram(name, title, values, x_label)) for name, title, values, x_label in drawn
    ]


def tables(questions: Dataset, images: Dataset, rows: Sequence[int]) -> list[Grid]:
    """Return the most frequent texts."""
    return [count_grid("most frequent text", "texts", sampled(questions)["caption"][:])]


def marked(row: Row, collate: Collate, inputs: Tensors, labels: list[str]) -> list[Object]:
    """Return the patches of the phrase, and those of the object that is painted over.

    Args:
        inputs: tensors of this pair alone.
    """
    processor = pairs_of(collate).processor
    columns = inputs["pixel_values"].shape[-1] // processor.patch_size

    def drawn(name: str, place: int, mask: NDArray[np.bool_]) -> Object:
        path = mask_path(mask, columns, processor.patch_size)
        return Object(name, color(place), path, int(mask.sum()), hidden=False)

    found = []
    pbc = inputs.get("pbc_patches")
    if pbc is not None and pbc[0, 0] != IGNORED:
        found.append(drawn("PBC: the phrase", 0, (pbc[0] == 1).numpy()))
    if (chosen := painted(row, pairs_of(collate))) is not None:
        name = labels[row["object_classes"][chosen[0]]]
        # coloured as the boxes of the stored picture, where the phrase's comes first
        found.append(drawn(f"MPC: {name}, painted over", bool(row["box"]), chosen[1]))
    return found


def painted_picture(inputs: Tensors, processor: VLEProcessor) -> Image.Image | None:
    """Return the picture with its object painted over, as MPC gets it; None: it has no object."""
    if "mpc_labels" not in inputs or inputs["mpc_labels"][0] == IGNORED:
        return None
    assert processor.patch_size
    pixels = inputs["pixel_values"][inputs["image_index"][inputs["mpc_texts"]]]
    black = black_out(pixels, inputs["mpc_patches"], processor.patch_size)
    return denormalised(black[0], processor.image_processor)


def views(
    index: int,
    inputs: Tensors,
    collators: Sequence[Collate],
    processor: VLEProcessor,
    labels: list[str],
    longest: int,
) -> list[tuple[str, Picture]]:
    """Return the pictures of a pair for MPC and ITM in an evaluation, and for MPC in the first
    epochs.

    Args:
        inputs: tensors of this pair alone, as evaluation draws them.
        collators: of the first epochs of training.
    """
    shown: list[tuple[str, Image.Image]] = []
    if "itm_images" in inputs:
        pixels = inputs["pixel_values"][inputs["itm_images"][0]]
        words = "its own picture" if matches(inputs) else "a stranger's picture"
        shown.append((f"ITM: {words}", denormalised(pixels, processor.image_processor)))
    batches = [inputs, *(collate(np.array([index]))["inputs"] for collate in collators)]
    for place, batch in enumerate(batches):
        if (image := painted_picture(batch, processor)) is not None:
            name = labels[int(batch["mpc_labels"][0])]
            when = f" in epoch {place - 1}" if place else ""
            shown.append((f"MPC{when}: {name}", image))
    return [(caption, embedded(image, longest)) for caption, image in shown]
