"""Count the questions and tokens that training reads and leaves out; measure batches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from datasets import Dataset
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray

from vle_bench.analysis.look_examples import Form
from vle_bench.analysis.look_pictures import Tensors, hidden_boxes
from vle_bench.data.collate import Batch, padded_text
from vle_bench.data.loader import Indices
from vle_bench.data.prepared import PreparedData
from vle_bench.data.splits import tables
from vle_bench.data.tagged_text import tagged_in
from vle_bench.metrics.numbers import percent
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.pages.charts import histogram
from vle_bench.pages.html import Grid, GridCell, plain_grid
from vle_bench.progress import track
from vle_bench.recipe.schema import Recipe
from vle_bench.recipe.values import batch_layout
from vle_bench.tasks.base import Collate
from vle_bench.training.feed import Feed, lengths

STEPS = 3  # first steps of training whose batches are made
DRAWN_TEXTS = 64  # of the first micro-batch
MEASURED = 2_000  # questions whose texts are measured, at most
STRETCHED = 2  # times as much that one side shrinks, from which the page warns
LAYOUT_TENSORS = ("attention_mask", "input_ids", "image_index", "object_mask")
LEFT_OUT = ("left_out_with_their_image", "left_out_as_bad_records")


@dataclass(frozen=True)
class Fact:
    """A line of the summary; `lost` marks data that the model does not get."""

    name: str
    value: str
    lost: bool = False


@dataclass(frozen=True)
class MicroBatch:
    """The layout of a micro-batch that training would make.

    Args:
        lengths: real tokens of each text.
        places: tokens of each text with its padding.
        image_index: for each text the row of `pixel_values` that it looks at.
        pictures: pictures in it, each encoded once.
        objects, object_places: real objects of all texts, and with their padding.
    """

    questions: int
    lengths: list[int]
    places: int
    image_index: list[int]
    pictures: int
    objects: int = 0
    object_places: int = 0

    @property
    def padding(self) -> float:
        """Share of the tokens that are padding."""
        return 1 - sum(self.lengths) / (len(self.lengths) * self.places)


# Name, further cells, and the micro-batches that the row sums up
LayoutRow = tuple[str, list[str], Sequence[MicroBatch]]


@dataclass(frozen=True)
class WithoutPixels:
    """Collate a micro-batch as training does, and drop the tensors that are large."""

    collate: Collate
    recipe: Recipe
    longest: int
    pad_token_id: int

    def __call__(self, indices: Indices) -> Batch:
        batch = self.collate(indices)
        inputs = batch["inputs"]
        if self.recipe.train.pads_texts:
            inputs = padded_text(inputs, self.longest, self.pad_token_id)
        small = {name: inputs[name] for name in LAYOUT_TENSORS if name in inputs}
        # (N, 0, H, W): the number of pictures stays
        small["pixel_values"] = inputs["pixel_values"][:, :0].clone()
        return {"ids": batch["ids"], "inputs": small}


def layout(questions: int, inputs: Tensors) -> MicroBatch:
    """Read the layout of a micro-batch from its tensors."""
    mask = inputs["attention_mask"].flatten(0, -2)
    index = inputs["image_index"].flatten()
    objects = inputs.get("object_mask")
    return MicroBatch(
        questions,
        mask.sum(-1).tolist(),
        mask.shape[-1],
        index.repeat_interleave(len(mask) // len(index)).tolist(),
        len(inputs["pixel_values"]),
        0 if objects is None else int(objects.sum()),
        0 if objects is None else objects.numel(),
    )


def first_steps(feed: Feed) -> list[list[MicroBatch]]:
    """Make the micro-batches of the first steps of training, on any number of processes."""
    recipe = feed.recipe
    train = recipe.train.model_copy(update={"num_workers": 0})
    alone = replace(feed, recipe=recipe.model_copy(update={"train": train}))
    _, total, stage_steps = lengths(recipe, feed.task, feed.questions)
    pad_token_id = feed.processor.tokenizer.pad_token_id
    steps = alone.load_steps(
        lambda epoch: WithoutPixels(
            feed.collator(epoch), recipe, feed.input_settings["max_text_length"], pad_token_id
        ),
        accumulation=batch_layout(train.batch_size, train.micro_batch, 1),
        stage_steps=stage_steps,
    )
    count = min(STEPS, total)
    # a micro-batch without questions stands in for one that a small data set does not fill
    return [
        [layout(len(batch["ids"]), batch["inputs"]) for batch in batches if batch["ids"]]
        for _, _, batches in track(islice(steps, count), "first steps", count)
    ]


def steps_table(steps: Sequence[Sequence[MicroBatch]], items: str) -> Grid:
    """Return a row a step."""
    rows = [
        (f"step {number}", [f"{len(batches):,}"], batches)
        for number, batches in enumerate(steps, 1)
    ]
    return layout_grid("The first steps", ["step", "micro-batches"], rows, items)


def batches_table(steps: Sequence[Sequence[MicroBatch]], items: str) -> Grid:
    """Return a row a micro-batch."""
    rows: list[LayoutRow] = [
        (f"step {step}, {number}", [], [batch])
        for step, batches in enumerate(steps, 1)
        for number, batch in enumerate(batches, 1)
    ]
    return layout_grid("Their micro-batches", ["micro-batch"], rows, items)


def layout_grid(caption: str, head: list[str], rows: Sequence[LayoutRow], items: str) -> Grid:
    """Return a table of layouts."""
    with_objects = any(batch.object_places for _, _, batches in rows for batch in batches)
    columns = [items, "pictures", "texts", "longest text", "padding, %"]
    cells: list[list[str | GridCell]] = []
    for name, more, batches in rows:
        padding = padding_of(batches)
        counts = [
            sum(batch.questions for batch in batches),
            sum(batch.pictures for batch in batches),
            sum(len(batch.lengths) for batch in batches),
            max(batch.places for batch in batches),
        ]
        row: list[str | GridCell] = [name, *more, *(f"{count:,}" for count in counts)]
        row.append(GridCell(percent(padding, 1), bar=(padding, None)))
        if with_objects:
            row.append(f"{sum(batch.objects for batch in batches):,}")
        cells.append(row)
    return plain_grid(caption, [*head, *columns, *["objects"] * with_objects], cells)


def padding_of(batches: Sequence[MicroBatch]) -> float:
    """Return the share of the tokens of several micro-batches that are padding."""
    places = sum(len(batch.lengths) * batch.places for batch in batches)
    return 1 - sum(sum(batch.lengths) for batch in batches) / places


@dataclass(frozen=True)
class Lengths:
    """Lengths of the texts of some questions in tokens.

    Args:
        questions: number of questions that were measured.
        whole, kept: of each text without a limit, and as the model gets it.
        unknown: tokens that the tokenizer does not know.
    """

    questions: int
    whole: NDArray[np.int64]
    kept: NDArray[np.int64]
    unknown: int

    @property
    def shortened(self) -> int:
        return int((self.kept < self.whole).sum())


def measure_lengths(
    questions: Dataset,
    seed: int,
    limited: Collate,
    unlimited: Collate,
    form: Form,
    unknown: int | None,
) -> Lengths:
    """Measure the texts of the questions, or of a sample of them.

    Args:
        unknown: id of the token that stands for what the tokenizer does not know.
    """
    count = min(MEASURED, len(questions))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(questions))[:count])
    texts, whole = form.lengths(questions.select(chosen).to_list(), limited, unlimited)
    return Lengths(
        count,
        np.array([len(text) for text in whole]),
        np.array([len(text) for text in texts]),
        sum(token == unknown for text in texts for token, _ in text),
    )


def question_facts(
    data: PreparedData, split: str, questions: Dataset, trained: bool, items: str = "questions"
) -> list[Fact]:
    """Count the questions and pictures, and those that `prepare` left out.

    Args:
        trained: training reads the split; `training_facts` then says what it leaves out.
        items: the form's word for questions.
    """
    pictures = len(np.unique(np.asarray(questions["image_row"])))
    facts = [Fact(items, f"{len(questions):,} of {split}, about {pictures:,} pictures")]
    reports = data.manifest.report.get("splits", data.manifest.report)
    parts = tables(split, set(data.manifest.splits))
    left_out = sum(reports.get(name, {}).get(key, 0) for name in parts for key in LEFT_OUT)
    if left_out:
        facts.append(Fact("left out by prepare", f"{left_out:,} {items}", lost=True))
    labelled = all(data.manifest.splits[name].get("labelled", True) for name in parts)
    if "answerable" in questions.column_names and labelled and not trained:
        without = len(questions) - int(np.sum(questions["answerable"]))
        words = f"{without:,} questions have no answer in it ({len(data.labels):,} answers)"
        facts.append(Fact("label map", words, lost=without > 0))
    return facts


def training_facts(
    feed: Feed, questions: Dataset, trained: bool, why: str, items: str = "questions"
) -> list[Fact]:
    """Count the questions of the split that training reads.

    Args:
        trained: training reads the split.
        why: why it leaves questions out.
        items: the form's word for questions.
    """
    recipe = feed.recipe
    if not trained:
        return [Fact("trained on", f"no: the recipe trains on {recipe.data.train}")]
    seen = len(feed.task.training_order(questions, recipe.train.seed, 0, 1))
    facts = [Fact("trained on", f"{seen:,} of {len(questions):,} {items} in each epoch")]
    if lost := len(questions) - seen:
        share = percent(lost / len(questions), 1)
        facts.append(Fact("never trained on", f"{lost:,} {items} ({share} %), {why}", lost=True))
    if stage := recipe.data.first_stage:
        kinds = ", ".join(stage.question_types)
        facts.append(
            Fact(
                "first stage",
                f"the first {percent(stage.fraction, 0)} % of the steps see {kinds}, and "
                f"{percent(stage.other_share, 0)} % others",
            )
        )
    return facts


def text_facts(
    measured: Lengths, limit: int, questions: int, items: str = "questions"
) -> list[Fact]:
    """Count the tokens that are cut off, and those that the tokenizer does not know."""
    texts, cut = len(measured.whole), int((measured.whole - measured.kept).sum())
    share = percent(measured.shortened / texts, 1)
    sample = f" of {measured.questions:,} {items}" * (measured.questions < questions)
    facts = [
        Fact(
            "texts cut off",
            f"{measured.shortened:,} of {texts:,} texts{sample} ({share} %) have more than the "
            f"{limit} tokens that the model reads; {cut:,} tokens are cut off",
            lost=cut > 0,
        )
    ]
    if measured.unknown:
        tokens = int(measured.kept.sum())
        facts.append(
            Fact(
                "unknown tokens",
                f"{measured.unknown:,} of {tokens:,} ({percent(measured.unknown / tokens, 2)} %)",
                lost=True,
            )
        )
    return facts


def picture_facts(sizes: NDArray[np.int64], processor: VLEProcessor) -> list[Fact]:
    """Measure how much of the pictures the transform cuts off or squashes.

    Args:
        sizes: (pictures, 2) width and height of each.
    """
    width, height = processor.square
    facts = [Fact("pictures", f"{width} × {height} pixels for the model ({processor.resize})")]
    if width and processor.patch_size and (rest := width % processor.patch_size):
        words = f"the last {rest} pixels at the right and lower edge are in no whole patch"
        facts.append(Fact("patches", words, lost=True))
    if not processor.image_processor.do_center_crop:
        ratios = sizes.max(1) / sizes.min(1)
        words = (
            f"one side shrinks {np.median(ratios):.2f} times as much as the other in the median, "
            f"{ratios.max():.2f} times at most"
        )
        return [*facts, Fact("squashed", words, lost=bool(ratios.max() > STRETCHED))]
    lost = [1 - seen_share(processor, w, h) for w, h in sizes.tolist()]
    mean, most = percent(float(np.mean(lost)), 1), percent(max(lost), 1)
    words = f"{mean} % of a picture on average, {most} % at most"
    return [*facts, Fact("cropped away", words, lost=max(lost) > 0)]


def seen_share(processor: VLEProcessor, width: int, height: int) -> float:
    """Return the part of a picture's pixels within the crop."""
    x, y, w, h = processor.window(width, height)
    across: float = min(x + w, width) - max(x, 0)
    down: float = min(y + h, height) - max(y, 0)
    return max(0.0, across) * max(0.0, down) / (width * height)


def object_facts(
    boxes: Sequence[ArrayLike], sizes: NDArray[np.int64], processor: VLEProcessor | None
) -> list[Fact]:
    """Count the boxes outside of the visible part; the nearest patches stand for them.

    Args:
        boxes: of each picture, in pixels.
        processor: None: what the model sees is not known, so the whole picture counts.
    """
    hidden = [
        hidden_boxes(corners, width, height, processor)
        for corners, (width, height) in zip(boxes, sizes.tolist(), strict=True)
    ]
    total, lost = sum(map(len, hidden)), sum(int(one.sum()) for one in hidden)
    seen = "the picture" if processor is None else "what the model sees"
    return [Fact("boxes", f"{total:,}, of which {lost:,} lie outside of {seen}", lost=lost > 0)]


def tag_facts(questions: Dataset) -> list[Fact]:
    """Count the objects that no text tags: they get no token."""
    total = unseen = 0
    for row in questions.remove_columns(["boxes"]):
        total += len(row["object_names"])
        unseen += len(row["object_names"]) - len(set().union(*tagged_in(row)))
    words = f"{unseen:,} of {total:,} objects are tagged by no text of their question"
    return [Fact("objects without a tag", words, lost=unseen > 0)]


def size_charts(sizes: NDArray[np.int64]) -> list[tuple[str, Markup]]:
    """Return histograms of the sides of pictures (pictures, 2)."""
    titles = ("Width of the pictures", "Height of the pictures")
    return [
        (title, histogram(f"size-{k}", title, sizes[:, k], "pixels"))
        for k, title in enumerate(titles)
    ]
