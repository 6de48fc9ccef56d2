"""One example as a model gets it, and its texts as tokens with those that were cut off."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from datasets import Dataset
from markupsafe import Markup
from transformers import PreTrainedTokenizerBase

from vle_bench.analysis.examples import Picture
from vle_bench.analysis.look_pictures import Given, Object, Stored, Tensors, color
from vle_bench.data.vcr_text import FIRST_OBJECT_TYPE
from vle_bench.json_files import Row
from vle_bench.pages.html import Grid
from vle_bench.tasks.base import Collate, Task

# No text is longer, so that a collator with this limit shows what is cut off otherwise.
UNLIMITED = 1_000_000
# Markers of tokenizers for a token that begins a word: SentencePiece's and byte-level BPE's.
WORD_STARTS = ("▁", "Ġ")

TypedTokens = list[tuple[int, int]]  # id and fusion type of each token of a text


@dataclass(frozen=True)
class Token:
    """A token of a text.

    Args:
        css: `cut` where the model does not get it, `special`, `unknown`, or the colour of the
            object that it names.
        type: fusion type; 0 for a word that names no object.
        starts: it begins a word.
        masked: the token that has to be found in its place; empty if it is not masked.
    """

    text: str
    id: int
    type: int
    css: str
    starts: bool
    masked: str = ""


@dataclass(frozen=True)
class Text:
    """A text of an example.

    Args:
        cut: number of tokens that were cut off.
        right: it is the right choice.
    """

    title: str
    tokens: list[Token]
    cut: int
    right: bool = False

    @property
    def length(self) -> int:
        """Return the number of tokens that the model gets."""
        return len(self.tokens) - self.cut


@dataclass(frozen=True)
class Example:
    """A card of the page.

    Args:
        said: title, words and whether it is the right choice; shown where there are no tokens.
        targets: names and values.
        views: augmented pictures with their captions.
        problems: the parts of it that the model does not get.
    """

    id: str
    heading: str
    about: str
    stored: Stored
    said: list[tuple[str, str, bool]]
    targets: list[tuple[str, str]]
    given: Given | None = None
    texts: list[Text] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)
    views: list[tuple[str, Picture]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Form(Protocol):
    """The parts of the page for questions of one form of data; each form has its module."""

    @property
    def ID(self) -> str:
        """Column of the id of a question."""
        ...

    @property
    def ITEMS(self) -> str:
        """The word for questions."""
        ...

    @property
    def NOT_TRAINED_ON(self) -> str:
        """Reason for which training leaves a question out."""
        ...

    def heading(self, row: Row) -> str:
        """Return the question in words."""
        ...

    def about(self, row: Row) -> str:
        """Return the remaining facts about an example."""
        ...

    def names(self, row: Row, labels: list[str]) -> list[str]:
        """Return the names of the objects of its picture; labels: the classes of the data."""
        ...

    def tagged(self, row: Row, collate: Collate | None) -> list[list[int]]:
        """Return the objects with a token in each text; without a collator, those of all texts."""
        ...

    def said(self, row: Row) -> list[tuple[str, str, bool]]:
        """Return title and words of the texts beside the heading, and whether they are right."""
        ...

    def titles(self, task: Task, inputs: Tensors) -> list[tuple[str, bool]]:
        """Return the title of each text of an example, and whether it is the right choice."""
        ...

    def limits(self, inputs: Tensors) -> list[int]:
        """Return for each text the one of the same length that has every word."""
        ...

    def targets(
        self, row: Row, labels: list[str], task: Task | None = None, inputs: Tensors | None = None
    ) -> list[tuple[str, str]]:
        """Return the names and values of the targets."""
        ...

    def problems(self, row: Row) -> list[str]:
        """Return the reasons why training leaves the question out; none if it does not."""
        ...

    def lengths(
        self, rows: list[Row], limited: Collate, unlimited: Collate
    ) -> list[list[TypedTokens]]:
        """Return the tokens of each text of these rows, with the model's limit and without one."""
        ...

    def charts(
        self, questions: Dataset, images: Dataset, rows: Sequence[int]
    ) -> list[tuple[str, Markup]]:
        """Return titles and histograms of a split; rows: of its images."""
        ...

    def tables(self, questions: Dataset, images: Dataset, rows: Sequence[int]) -> list[Grid]:
        """Return the counts of the values of its columns."""
        ...


def token_rows(inputs: Tensors) -> list[TypedTokens]:
    """Return id and type of each token of each text of a batch, without the padding.

    Pre-training's texts come twice: with masked words, then as they are.
    """
    ids = inputs["input_ids"].flatten(0, -2)
    mask = inputs["attention_mask"].flatten(0, -2).bool()
    types = inputs.get("token_type_ids", torch.zeros_like(inputs["input_ids"])).flatten(0, -2)
    if "mlm_input_ids" in inputs:
        ids = torch.cat([inputs["mlm_input_ids"], ids])
        mask, types = mask.repeat(2, 1), types.repeat(2, 1)
    return [
        list(zip(i[m].tolist(), t[m].tolist(), strict=True))
        for i, t, m in zip(ids, types, mask, strict=True)
    ]


def masked_tokens(inputs: Tensors) -> dict[int, int]:
    """Return place → id of the tokens of the one masked text that have to be found."""
    if "mlm_positions" not in inputs:
        return {}
    places, words = inputs["mlm_positions"][0].tolist(), inputs["mlm_words"][0].tolist()
    return {place: word for place, word in zip(places, words, strict=True) if word >= 0}


def kept(shortened: Sequence[int], whole: Sequence[int]) -> list[bool]:
    """Tell which tokens of a whole text are in the shortened one, which drops ends of segments.

    Raises:
        ValueError: the shortened text is none of the whole one.
    """
    flags: list[bool] = []
    place = 0
    for token in whole:
        flags.append(place < len(shortened) and token == shortened[place])
        place += flags[-1]
    if place != len(shortened):
        raise ValueError("a shortened text has other tokens than the whole one")
    return flags


def tokens_of(
    tokenizer: PreTrainedTokenizerBase,
    text: Sequence[tuple[int, int]],
    whole: Sequence[tuple[int, int]],
    flags: Sequence[bool],
    colors: dict[int, str],
    masked: dict[int, int] | None = None,
) -> list[Token]:
    """Return the tokens of a text with those that were cut off.

    Args:
        text: id and type of each token that the model gets.
        whole: of the text without a limit.
        flags: which tokens of `whole` are in `text`, see `kept`.
        colors: type → class of the object that it names.
        masked: place in `text` → id of the token that has to be found there.
    """
    rest = iter(text)
    tokens = [
        token_of(tokenizer, *(next(rest) if there else one), not there, colors)
        for one, there in zip(whole, flags, strict=True)
    ]
    kept_places = [place for place, there in enumerate(flags) if there]
    for place, number in (masked or {}).items():
        found = tokens[kept_places[place]]
        hidden = token_of(tokenizer, number, 0, False, {})
        tokens[kept_places[place]] = replace(
            found, css="masked", starts=hidden.starts, masked=hidden.text
        )
    return tokens


def token_of(
    tokenizer: PreTrainedTokenizerBase, number: int, kind: int, cut: bool, colors: dict[int, str]
) -> Token:
    piece = str(tokenizer.convert_ids_to_tokens(number))  # of one id it is a string
    shown = tokenizer.convert_tokens_to_string([piece]).strip() or WORD_STARTS[0]
    if cut:
        css = "cut"
    elif number == tokenizer.unk_token_id:
        css = "unknown"
    elif number in tokenizer.all_special_ids:
        css = "special"
    else:
        css = colors.get(kind, "")
    return Token(shown, number, kind, css, piece.startswith(WORD_STARTS))


def type_colors(indices: Sequence[int], tags: Sequence[int]) -> dict[int, str]:
    """Map the types of a text to the colours of the objects that they stand for."""
    return {FIRST_OBJECT_TYPE + i: color(tags.index(k)) for i, k in enumerate(indices)}
