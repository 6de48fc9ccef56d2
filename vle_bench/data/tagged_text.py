"""Texts in which `[0]` stands for the first object of a question, as users' own data have it.

`What is [0] doing?` names one object, `Why do [0,1] smile?` two.
"""

import re
from collections.abc import Sequence

from vle_bench.data.official.vcr import Record
from vle_bench.data.vcr_text import is_private, spoken, tagged
from vle_bench.json_files import Row

TAG = r"\[\s*[0-9]{1,4}(?:\s*,\s*[0-9]{1,4})*\s*\]"
_TAGS = re.compile(f"({TAG})")

Tokens = list[str | list[int]]  # words, and objects by their indices


def tokens_of(text: str) -> Tokens:
    """Split a text at spaces and around its tags."""
    tokens: Tokens = []
    for place, part in enumerate(_TAGS.split(text)):
        if place % 2:
            tokens.append([int(index) for index in part.strip("[]").split(",")])
        else:
            tokens += part.split()
    return tokens


def check_text(text: str, objects: int) -> None:
    """Refuse a text that cannot be encoded.

    Raises:
        ValueError: it tags an object that is not there, or has a character for private use, which
            stands for a lost one in VCR's files and would be dropped.
    """
    tokens = tokens_of(text)
    for index in sorted(tagged(tokens)):
        if index >= objects:
            there = "its boxes are empty" if not objects else f"its boxes are 0 to {objects - 1}"
            raise ValueError(f"the tag [{index}] names no object; {there}")
    if lost := next((t for t in tokens if isinstance(t, str) and is_private(t)), None):
        raise ValueError(f"{lost!r} has a character for private use")


def record_of(row: Row) -> Record:
    """Return a question as the record that `encode_record` takes.

    Args:
        row: in the columns of `data.tables.CHOICE_QUESTIONS` and `data.tables.OBJECTS`.
    """
    return {
        "annot_id": str(row["question_id"]),
        "objects": row["object_names"],
        "question": tokens_of(row["question"]),
        "answer_choices": [tokens_of(choice) for choice in row["choices"]],
    }


def object_labels(names: Sequence[str]) -> list[str]:
    """Name objects for people by their tags: dog[0], person[1], ..."""
    return [f"{name}[{index}]" for index, name in enumerate(names)]


def words_of(row: Row) -> tuple[str, list[str]]:
    """Return question and choices for people to read, with the names of their objects if any."""
    if "object_names" not in row:
        return row["question"], row["choices"]
    labels, record = object_labels(row["object_names"]), record_of(row)
    choices = [spoken(choice, labels) for choice in record["answer_choices"]]
    return spoken(record["question"], labels), choices


def tagged_in(row: Row) -> list[set[int]]:
    """Return for each choice the objects that it and the question tag."""
    record = record_of(row)
    question = tagged(record["question"])
    return [question | tagged(choice) for choice in record["answer_choices"]]
