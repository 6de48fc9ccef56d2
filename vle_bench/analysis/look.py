"""`vle-bench look`: one page that shows a model's inputs, made by the code that trains."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix
from pathlib import Path

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from vle_bench.analysis import look_choice, look_pairs, look_pretraining, look_vcr, look_vqa
from vle_bench.analysis import look_examples as one
from vle_bench.analysis import look_numbers as numbers
from vle_bench.analysis import look_pictures as pictures
from vle_bench.data.prepared import PreparedData
from vle_bench.data.splits import tables
from vle_bench.errors import RequestError, closest
from vle_bench.json_files import Row
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.pages.charts import histogram
from vle_bench.pages.html import Grid, write_page
from vle_bench.progress import track
from vle_bench.tasks.base import Collate
from vle_bench.training.feed import Feed

EXAMPLES = 24
EPOCHS = 3  # of training whose views are shown
AFTER_ANSWER = "qa2r"  # the part whose texts hold the right answer
NEAR = 50  # known ids that are offered in place of an unknown one


@dataclass(frozen=True)
class Look:
    """The data, recipe and processor that a page of `look` is made of.

    Args:
        questions: the table of the split.
        feed: the batches that a recipe makes of the data; None: only the data are known.
    """

    data: PreparedData
    split: str
    questions: Dataset
    feed: Feed | None

    @property
    def form(self) -> one.Form:
        """Return the parts of the page for questions of this form."""
        if self.data.form == "captions":
            return look_pairs
        if self.data.form == "choice":
            return look_choice
        return look_vqa if self.data.form == "vqa" else look_vcr

    @property
    def processor(self) -> VLEProcessor | None:
        """The processor of the recipe's model."""
        return None if self.feed is None else self.feed.processor

    @property
    def trained(self) -> bool:
        """Tell whether training reads the split."""
        if self.feed is None:
            return False
        there = set(self.data.manifest.splits)
        return {*tables(self.split, there)} <= {*tables(self.feed.recipe.data.train, there)}

    def collator(self, **settings: int) -> Collate:
        """Return the task's collator without augmentation; `settings` replace the feed's."""
        assert self.feed is not None
        reading = self.feed.reading(self.questions)
        changed = reading.input_settings | settings
        return self.feed.task.collator(replace(reading, input_settings=changed))


def open_look(data: PreparedData, split: str | None, feed: Feed | None) -> Look:
    """Choose the split: the one that the recipe trains on if none is named.

    Raises:
        RequestError: there is no such split, it has no examples, or the texts of the recipe's task
            hold right answers that the split does not have.
    """
    known = data.manifest.splits
    split = split or (feed.recipe.data.train if feed else "train" if "train" in known else "")
    split = split or next(iter(known), "train")
    questions = data.questions(split)
    if not len(questions):
        raise RequestError(f"{data.root}: split {split!r} has no examples")
    labelled = all(known[name].get("labelled", True) for name in tables(split, set(known)))
    if feed and not labelled and AFTER_ANSWER in getattr(feed.task, "parts", ()):
        raise RequestError(
            f"{data.root}: split {split!r} has no labels, and the texts of {feed.task.name} hold "
            f"the right answer; `vle-bench look {data.root} --split {split}` shows it without a "
            "recipe"
        )
    return Look(data, split, questions, feed)


def chosen_examples(look: Look, ids: Sequence[str], count: int, seed: int) -> NDArray[np.int64]:
    """Return the rows of the ids in their order, or of `count` examples that the seed draws.

    Raises:
        RequestError: an id is not in the split; names the nearest.
    """
    if not ids:
        drawn = np.random.default_rng(seed).permutation(len(look.questions))[:count]
        return np.sort(drawn)
    places = {str(i): place for place, i in enumerate(look.questions[look.form.ID])}
    for wanted in ids:
        if wanted not in places:
            elsewhere = next((n for n in look.data.manifest.splits if holds(look, n, wanted)), None)
            way_out = f"nearest: {nearest_id(wanted, list(places))}"
            raise RequestError(
                f"--ids: {wanted!r} is no {look.form.ID} of {look.split} in {look.data.root}; "
                + (f"it is of {elsewhere}: --split {elsewhere}" if elsewhere else way_out)
            )
    return np.array([places[wanted] for wanted in dict.fromkeys(ids)])


def holds(look: Look, split: str, wanted: str) -> bool:
    """Tell whether a split has an example of this id."""
    return wanted in map(str, look.data.questions(split)[look.form.ID])


def nearest_id(wanted: str, known: Sequence[str]) -> str:
    """Find the id most like `wanted` among those that begin alike."""

    def alike(other: str) -> int:
        return len(commonprefix((wanted, other)))

    return closest(wanted, sorted(known, key=alike, reverse=True)[:NEAR])


def write_look(look: Look, output: Path, rows: NDArray[np.int64], seed: int) -> None:
    """Write the page.

    Args:
        rows: rows of the questions that are shown.
        seed: chooses the questions whose texts are measured.

    Raises:
        RequestError: a picture or a record cannot be read.
    """
    form, feed, processor = look.form, look.feed, look.processor
    image_rows = np.unique(np.asarray(look.questions["image_row"]))
    sides = [np.asarray(look.data.images[name])[image_rows] for name in ("width", "height")]
    sizes = np.stack(sides, 1)
    facts = numbers.question_facts(look.data, look.split, look.questions, look.trained, form.ITEMS)
    charts = [*form.charts(look.questions, look.data.images, image_rows.tolist())]
    steps: list[list[numbers.MicroBatch]] = []
    if feed is not None:
        why = form.NOT_TRAINED_ON
        facts += numbers.training_facts(feed, look.questions, look.trained, why, form.ITEMS)
        limit = feed.input_settings["max_text_length"]
        unlimited = look.collator(max_text_length=one.UNLIMITED)
        unknown = feed.processor.tokenizer.unk_token_id
        measured = numbers.measure_lengths(
            look.questions, seed, look.collator(), unlimited, form, unknown
        )
        facts += numbers.text_facts(measured, limit, len(look.questions), form.ITEMS)
        facts += numbers.picture_facts(sizes, feed.processor)
        title = "Tokens a text; the line is the limit"
        charts.insert(0, (title, histogram("tokens", title, measured.whole, "tokens", limit)))
        steps = numbers.first_steps(feed)
    if "boxes" in look.data.images.column_names:
        boxes = look.data.images.select(image_rows)["boxes"]
        facts += numbers.object_facts(boxes, sizes, processor)
    elif "boxes" in look.questions.column_names:  # each question its own
        place = np.searchsorted(image_rows, np.asarray(look.questions["image_row"]))
        boxes = look.questions["boxes"]
        facts += numbers.object_facts(boxes, sizes[place], processor)
        facts += numbers.tag_facts(look.questions)
    if look.data.form == "captions":
        facts += look_pretraining.facts(look.data, look.split, look.questions, feed)
    write_page(
        output,
        "analysis/look.html",
        title=f"{look.data.root.name}, {look.split}: what the model gets",
        look=look,
        facts=facts,
        examples=examples(look, rows),
        steps=steps,
        strangers=[] if feed is None else look_pretraining.strangers(feed),
        tables=None if not steps else step_tables(steps, form.ITEMS),
        drawn=numbers.DRAWN_TEXTS,
        charts=[*charts, *numbers.size_charts(sizes)],
        counts=form.tables(look.questions, look.data.images, image_rows.tolist()),
    )


def step_tables(steps: list[list[numbers.MicroBatch]], items: str) -> tuple[Grid, Grid]:
    return numbers.steps_table(steps, items), numbers.batches_table(steps, items)
    """Return the tables of steps and of micro-batches."""


def examples(look: Look, rows: NDArray[np.int64]) -> list[one.Example]:
    """Return the cards of the page."""
    collators = views_of(look)
    return [
        example(look, int(row), collators, len(rows)) for row in track(rows, "examples", len(rows))
    ]


def views_of(look: Look) -> list[Collate]:
    """Return the collators of the first epochs of training; none where it changes nothing."""
    if look.feed is None or not look.trained:
        return []
    settings = look.feed.recipe.augment.model_dump()
    if look.feed.task.augmentation(settings, 0, 0) is None:
        return []
    split = replace(look.feed, questions=look.questions)
    return [split.collator(epoch) for epoch in range(EPOCHS)]


def example(look: Look, index: int, collators: list[Collate], count: int) -> one.Example:
    """Return one card.

    Args:
        index: row of the question.
        collators: see `views_of`.
        count: number of examples on the page.
    """
    form, feed, labels, processor = look.form, look.feed, look.data.labels, look.processor
    row: Row = look.questions[index]
    image: Row = look.data.images[row["image_row"]] | own_boxes(row)
    names = form.names(row, labels)
    collate = None if feed is None else look.collator()
    tagged = form.tagged(row, collate)
    tags = sorted(set().union(*tagged))
    stored = pictures.stored_picture(
        image,
        str(look.data.root),
        names,
        tags,
        processor,
        pictures.side(pictures.STORED_SIDE, count),
    )
    card = one.Example(
        str(row[form.ID]),
        form.heading(row),
        form.about(row),
        stored,
        form.said(row),
        form.targets(row, labels),
        problems=form.problems(row),
    )
    if feed is None or collate is None or processor is None:
        return card
    inputs = collate(np.array([index]))["inputs"]
    whole = look.collator(max_text_length=one.UNLIMITED)(np.array([index]))["inputs"]
    pixels = pictures.denormalised(inputs["pixel_values"][0], processor.image_processor)
    objects: list[pictures.Object] = []
    if "object_patch_mask" in inputs and processor.patch_size:
        hidden = pictures.hidden_boxes(image["boxes"], image["width"], image["height"], processor)
        objects = pictures.pooled_objects(inputs, tagged, names, hidden, processor.patch_size)
    view_side = pictures.side(pictures.VIEW_SIDE, count)
    if look.data.form == "captions":
        objects = look_pairs.marked(row, collate, inputs, labels)
        views = look_pairs.views(index, inputs, collators, processor, labels, view_side)
    else:
        views = pictures.view_pictures(collators, index, processor.image_processor, view_side)
    return replace(
        card,
        targets=form.targets(row, labels, feed.task, inputs),
        given=pictures.given_picture(
            pixels, processor.patch_size, pictures.side(pictures.MODEL_SIDE, count)
        ),
        texts=texts(look, inputs, whole, tagged, tags),
        objects=objects,
        views=views,
    )


def own_boxes(row: Row) -> Row:
    """Return the boxes that come with an example, not with its picture."""
    if "object_boxes" in row:
        return {"boxes": look_pairs.boxes(row)}
    return {"boxes": row["boxes"]} if "boxes" in row else {}


def texts(
    look: Look,
    inputs: pictures.Tensors,
    whole: pictures.Tensors,
    tagged: list[list[int]],
    tags: list[int],
) -> list[one.Text]:
    """Return the texts of an example as tokens, with those that were cut off.

    Args:
        whole: the tensors of the example without a limit of the length.
        tagged, tags: the objects that each text names, and all of them.
    """
    assert look.feed is not None
    rows, wholes = one.token_rows(inputs), one.token_rows(whole)
    tokenizer = look.feed.processor.tokenizer
    texts_shown = []
    for k, (title, right) in enumerate(look.form.titles(look.feed.task, inputs)):
        like = look.form.limits(inputs)[k]
        short, long = ([token for token, _ in texts[like]] for texts in (rows, wholes))
        flags = one.kept(short, long)
        colors = one.type_colors(tagged[k], tags)
        masked = one.masked_tokens(inputs) if k == 0 else None
        tokens = one.tokens_of(tokenizer, rows[k], wholes[like], flags, colors, masked)
        texts_shown.append(one.Text(title, tokens, flags.count(False), right))
    return texts_shown
