"""Check the rows of users' own data and collect them in one table; name each problem's row."""

import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from vle_bench.data.prepare.own.choices import RightChoice, answer_of, choices_of
from vle_bench.data.prepare.own.objects import beyond, check_tags, objects_of
from vle_bench.data.prepare.own.pictures import Pictures, shown
from vle_bench.data.prepare.own.problems import Problems
from vle_bench.data.prepare.own.read import FILE_NAME, Table, cell_value
from vle_bench.data.prepare.own.spec import CHOICE_COLUMNS, Spec
from vle_bench.data.prepare.own.text import key, kind_of, text
from vle_bench.data.prepare.targets import normal
from vle_bench.data.tables import OBJECTS
from vle_bench.errors import RequestError, closest, first_of
from vle_bench.json_files import JsonObject, short

ROWS = pa.schema(
    [
        ("question_id", pa.int64()),
        ("image_id", pa.int64()),
        ("question", pa.string()),
        ("question_type", pa.string()),
        ("answer_type", pa.string()),
        ("multiple_choice_answer", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("choices", pa.list_(pa.string())),
        ("right_choice", pa.int64()),
        *OBJECTS,  # null without a column of boxes
        ("id", pa.string()),  # as given; null without a column of ids
        ("group", pa.string()),
        ("table", pa.int16()),  # which of the tables
        ("row", pa.int64()),  # from 1
    ]
)
FIRST_WORDS = frozenset(
    "what who whom whose which where when why how is are was were do does did can could has have "
    "had will would should".split()
)
CONFIDENCE = ("yes", "maybe", "no")  # of VQA v2 and VizWiz
HASHED = 1 << 62  # added to the number of an id that is none itself


def resolve(table: Table, spec: Spec, labelled: bool) -> dict[str, str]:
    """Return the columns of a table that are there, ours → theirs.

    Raises:
        RequestError: one that is needed or named is not there; names the nearest.
    """
    choice = spec.form == "choice"
    named = spec.columns.model_fields_set
    wanted: dict[str, str | None] = spec.columns.model_dump(exclude=CHOICE_COLUMNS)
    if choice:
        # The texts tag boxes, and the answer is one of the choices.
        wanted = {"boxes": spec.columns.boxes, "choices": spec.columns.choices, **wanted}
    if "image" not in named and "image" not in table.columns and FILE_NAME in table.columns:
        wanted["image"] = FILE_NAME
    if "answers" not in named and "answers" not in table.columns and "answer" in table.columns:
        wanted["answers"] = "answer"
    needed = {"image", "question", *["choices"] * choice, *["answers"] * labelled}
    resolved = {}
    for ours, theirs in wanted.items():
        if theirs is not None and theirs in table.columns:
            resolved[ours] = theirs
        elif ours in needed or (ours in named and theirs is not None and ours != "answers"):
            name = theirs or ours
            nearest = closest(name, table.columns)
            raise RequestError(
                f"{table.name}: has no column {name!r} (columns.{ours}); nearest: {nearest!r}, of "
                f"{first_of(list(map(repr, table.columns)))}; a YAML with "
                f"columns: {{{ours}: NAME}} names another"
            )
    return resolved


class Checker:
    """Check the rows of one table.

    Args:
        number: of the table, for the column `table`.
        columns: see `resolve`.
    """

    def __init__(
        self,
        table: Table,
        number: int,
        columns: dict[str, str],
        pictures: Pictures,
        problems: Problems,
    ) -> None:
        self.right = RightChoice(table.cells) if "choices" in columns else None
        self.read = READ | READ_OF_CHOICE if self.right else READ
        self.table, self.number, self.columns = table, number, columns
        self.pictures, self.problems = pictures, problems
        self.kinds: dict[str, tuple[str, int]] = {}  # column → type, row of a sound value

    def rows(self) -> Iterator[JsonObject]:
        """Yield the rows of ROWS that have no problem."""
        for number, row in self.table.rows(list(self.columns.values())):
            if isinstance(row, str):
                self.problems.record(self.table.name, number, "", row)
                continue
            if (checked := self.checked(number, row)) is not None:
                yield checked

    def checked(self, number: int, row: JsonObject) -> JsonObject | None:
        values: JsonObject = {}
        for ours, theirs in self.columns.items():
            value = row.get(theirs)
            problem = self.of_another_kind(ours, value)
            if problem is None:
                try:
                    values[ours] = self.read[ours](value, self.table.cells)
                    # A refused value says nothing about the type.
                    if value is not None and value != []:
                        self.kinds.setdefault(ours, (kind_of(value), number))
                    if "boxes" in values and ours in ("question", "choices"):
                        check_tags(values[ours], values["boxes"])
                    if self.right and ours == "answers":
                        self.choose(values, number)
                except ValueError as error:
                    problem = str(error)
            if problem is not None:
                problem = f"{short(value)}: {problem}{self.hint(ours)}"
                self.problems.record(self.table.name, number, theirs, problem)
                return None
        column = self.columns["image"]
        place = f"{self.table.name}: row {number}: {column}"
        image = self.pictures.id_of(values["image"], self.table, place)
        if isinstance(image, str):
            self.problems.image(shown(values["image"], self.table.folder), place, image)
            self.problems.unanswered += 1
            return None
        objects = values.get("boxes")
        if objects and (problem := beyond(objects, self.pictures.size_of(image))):
            self.problems.record(self.table.name, number, self.columns["boxes"], problem)
            return None
        answers, choices = values.get("answers"), values.get("choices")
        majority = None if answers is None else majority_of(answers)
        question, own = values["question"], values.get("id")
        by_content = own
        if by_content is None:
            by_content = f"{image} {question}{'' if choices is None else json.dumps(choices)}"
        return {
            "question_id": number_of(by_content),
            "image_id": image,
            "question": question,
            "question_type": values.get("question_type") or first_word(question),
            "answer_type": values.get("answer_type") or answer_type(majority),
            "multiple_choice_answer": majority,
            "answers": answers,
            "choices": choices,
            "right_choice": values.get("right_choice"),
            "boxes": None if objects is None else [one["box"] for one in objects],
            "object_names": None if objects is None else [one["name"] for one in objects],
            "id": own,
            "group": values.get("group"),
            "table": self.number,
            "row": number,
        }

    def choose(self, values: JsonObject, number: int) -> None:
        """Add the index of the right choice, and write its text for the answer, in place."""
        assert self.right is not None
        choices = values["choices"]  # which are read before the answer
        values["right_choice"] = self.right.place(values["answers"], choices, number)
        values["answers"] = [choices[values["right_choice"]]]

    def of_another_kind(self, ours: str, value: object) -> str | None:
        """Say that a value is of another type than the first of its column."""
        # A cell is text. The reader of the column reports a missing value; an empty list has any
        # kind.
        if self.table.cells or value is None or value == [] or ours not in self.kinds:
            return None
        kind, (first, row) = kind_of(value), self.kinds[ours]
        return None if kind == first else f"{kind}, and row {row} has {first}"

    def hint(self, ours: str) -> str:
        """Suggest other forms of data for a row without an answer."""
        if ours == "answers" and self.right is None and "choices" in self.table.columns:
            return "; its column 'choices' is read by a YAML with form: choice alone"
        return ""


def kind_of_question(value: object, cells: bool = False) -> str | None:
    return None if value in (None, "") else key(value)


def picture(value: object, cells: bool = False) -> Any:
    if isinstance(value, dict):
        if not isinstance(value.get("bytes"), bytes) and not isinstance(value.get("path"), str):
            raise ValueError("neither a path nor the bytes of a picture")
        return value
    return value if isinstance(value, bytes) else text(value)


def answers_of(value: object, cells: bool) -> list[str]:
    """Return the answers of a question as a list of strings."""
    if cells and isinstance(value, str):
        value = cell_value(value)
    if not isinstance(value, list):
        return [answer_text(value)]
    if not value:
        raise ValueError("an empty list")
    return [one_answer(answer) for answer in value]


def one_answer(answer: object) -> str:
    """Return the answer of {answer, confidence}, or the text itself."""
    if not isinstance(answer, dict):
        return answer_text(answer)
    confidence = answer.get("confidence", answer.get("answer_confidence"))
    number = isinstance(confidence, int | float) and not isinstance(confidence, bool)
    if confidence is not None and confidence not in CONFIDENCE:
        if not number or not 0 <= confidence <= 1:
            raise ValueError(
                f"confidence {short(confidence)} is neither yes, maybe or no nor from 0 to 1"
            )
    return answer_text(answer.get("answer"))


def answer_text(answer: object) -> str:
    """Return an answer; a number is refused, since 1, 1.0 and 01 may be three answers or one."""
    if isinstance(answer, int | float):
        example = json.dumps(json.dumps(answer))
        raise ValueError(f"{kind_of(answer)}, not text; an answer is written as {example}")
    return text(answer)


READ: dict[str, Callable[[Any, bool], Any]] = {
    "image": picture,
    "question": text,
    "answers": answers_of,
    "id": key,
    "group": key,
    "question_type": kind_of_question,
    "answer_type": kind_of_question,
}


READ_OF_CHOICE = {"boxes": objects_of, "choices": choices_of, "answers": answer_of}


def number_of(own: str) -> int:
    """Return the number of an id: itself, or for other text 62 bits of its SHA-256 above those."""
    if own.isdecimal() and own.isascii() and len(own) < 19 and (own[0] != "0" or own == "0"):
        return int(own)
    return HASHED | int.from_bytes(hashlib.sha256(own.encode()).digest()[:8], "big") >> 2


def majority_of(answers: list[str]) -> str:
    """Return the most frequent answer, normalised answers counted; the first of several."""
    if len(answers) == 1:
        return answers[0]
    counts = Counter(map(normal, answers))
    most = max(counts.values())
    return next(answer for answer in answers if counts[normal(answer)] == most)


def first_word(question: str) -> str:
    word = question.split(maxsplit=1)[0].lower().strip("?,")
    return word if word in FIRST_WORDS else "other"


@functools.lru_cache(maxsize=1 << 16)
def answer_type(answer: str | None) -> str | None:
    if answer is None:
        return None
    said = normal(answer)
    if said in ("yes", "no"):
        return "yes/no"
    return "number" if re.fullmatch(r"-?\d+([.,]\d+)?", said) else "other"
