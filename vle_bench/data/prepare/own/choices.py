"""Choices of users' own multiple-choice questions, and the right one among them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from vle_bench.data.official.further import OFFICIAL_ID
from vle_bench.data.prepare.own.read import cell_value
from vle_bench.data.prepare.own.text import kind_of, text
from vle_bench.data.prepare.split import Ids
from vle_bench.data.prepared import Manifest
from vle_bench.data.tables import CHOICE_QUESTIONS, OBJECTS

FEWEST, MOST = 2, 26  # as many as letters
INDEX, TEXT = "an index", "a text"


def choices_of(value: object, cells: bool) -> list[str]:
    """Return the choices of a question.

    Raises:
        ValueError: they are no list of 2 to 26 different texts.
    """
    if cells and isinstance(value, str):
        value = cell_value(value)
    if not isinstance(value, list):
        text(value)
        raise ValueError('no list; choices are written as ["red", "dark red"]')
    if not FEWEST <= len(value) <= MOST:
        number = "1 choice" if len(value) == 1 else f"{len(value)} choices"
        raise ValueError(f"{number}; {FEWEST} to {MOST} are expected")
    first: dict[str, int] = {}
    for place, choice in enumerate(value):
        try:
            words = " ".join(text(choice).split())
        except ValueError as error:
            raise ValueError(f"choice {place}: {error}") from error
        if (before := first.setdefault(words, place)) != place:
            raise ValueError(f"choices {before} and {place} are the same, {words!r}")
    return value


def answer_of(value: object, cells: bool) -> int | str:
    """Return the right choice as it is given: an index or a text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{kind_of(value)}, neither the text of a choice nor a whole number")
    return text(value)


class RightChoice:
    """Finds the right choice of each row of a table.

    All rows name it in one way, by index or by text. In a CSV file both are text, and `7` among
    texts would be the eighth choice where it is a mistake.
    """

    def __init__(self, cells: bool) -> None:
        self.cells = cells
        self.kind, self.row = "", 0  # of the first row that tells

    def place(self, answer: int | str, choices: list[str], row: int) -> int:
        """Return the index of the right choice.

        Raises:
            ValueError: it is none of them, or may be two, or is named in another way than before.
        """
        ways = dict(self.ways(answer, choices))
        if len(ways) == 2 and self.kind:
            ways = {self.kind: ways[self.kind]}
        if len(ways) == 2 and len(set(ways.values())) == 2:
            raise ValueError(
                f"may be the index {ways[INDEX]} or the text of choice {ways[TEXT]}; put a row "
                "first that can be only one, or write JSON lines"
            )
        if not ways:
            raise ValueError(self.problem(answer, choices))
        kind, place = next(iter(ways.items()))
        if not self.kind and len(ways) == 1:
            self.kind, self.row = kind, row
        if self.kind and kind != self.kind:
            raise ValueError(f"{kind}, and row {self.row} has {self.kind}")
        return place

    def ways(self, answer: int | str, choices: list[str]) -> Iterator[tuple[str, int]]:
        """Yield how an answer can be read, and the choice that it then is."""
        if isinstance(answer, str) and answer in choices:
            yield TEXT, choices.index(answer)
        index = as_index(answer, self.cells)
        if index is not None and 0 <= index < len(choices):
            yield INDEX, index

    def problem(self, answer: int | str, choices: list[str]) -> str:
        count = len(choices)
        if self.kind != TEXT and as_index(answer, self.cells) is not None:
            return f"no index of its {count} choices, which are 0 to {count - 1}"
        return f"none of its {count} choices"


def as_index(answer: int | str, cells: bool) -> int | None:
    """Return an answer as a number; None for other text."""
    if isinstance(answer, int):
        return answer
    number = answer.strip().removeprefix("-")
    short = number.isascii() and number.isdecimal() and len(number) < 10
    return int(answer) if cells and short else None


def choice_questions(own: pa.Table, images: Ids) -> pa.Table:
    """Return the questions table of rows.

    Args:
        own: rows in the columns of ROWS, with OFFICIAL_ID where ids are text.
        images: ids in the order of the images table, sorted.
    """
    rows = np.searchsorted(images, own["image_id"].to_numpy())
    own = own.append_column("image_row", pa.array(rows, pa.int64()))
    columns = (*CHOICE_QUESTIONS.names, *OBJECTS.names, OFFICIAL_ID.name)
    return own.select([name for name in columns if name in own.schema.names]).combine_chunks()


def count_choices(questions: pa.Table) -> dict[str, int]:
    """Return {number of choices: questions}, ascending."""
    counts = np.bincount([len(choices) for choices in questions["choices"].to_pylist()])
    return {str(number): int(n) for number, n in enumerate(counts) if n}


def lines(manifest: Manifest) -> Iterator[str]:
    """Yield the lines of a report that are of multiple-choice questions alone."""
    for name, counts in manifest.splits.items():
        numbers = manifest.report[name]["choices"]
        of = ", ".join(f"{n:,} of {number}" for number, n in numbers.items())
        labels = "" if counts["labelled"] else "  without labels"
        boxes = manifest.report[name].get("boxes")
        objects = f"  objects: {boxes['tagged']:,} tagged of {boxes['objects']:,}" if boxes else ""
        yield (
            f"{name:12} {counts['questions']:>9,} questions  {counts['images']:>8,} images  "
            f"choices: {of}{objects}{labels}"
        )


def as_shown(row: dict[str, Any]) -> str:
    """Return choices, answer and objects of a question for the examples of `--check`."""
    names = row.get("object_names") or []
    boxes = [f"[{k}] {name} {row['boxes'][k]}" for k, name in enumerate(names)]
    return ", ".join([f"{row['choices']}, right: {row['multiple_choice_answer']!r}", *boxes])
