"""Official VQA files, read with care: whatever is wrong with one is a line that names the file and the record."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vle_bench.errors import RequestError


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Millions of new objects, none of them garbage, would be looked through again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_json(path: Path) -> Any:
    """A JSON file; whatever is wrong with it is one line that names it."""
    try:
        with _no_garbage_collection():
            return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise RequestError(f"{path}: a folder, not a file") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}: broken or cut-off JSON at line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise RequestError(f"{path}: JSON nested too deep to be an official file") from error
    except (OSError, ValueError) as error:  # no permission, a path below a file, a number of thousands of digits
        raise RequestError(f"{path}: cannot be read: {error}") from error


def records(path: Path, key: str | None, fields: dict[str, type | tuple[type, ...]]) -> list[dict[str, Any]]:
    """The list under `key` (None: the file is the list), each record with the given fields of the given types."""
    return records_of(path, read_json(path), key, fields)


def records_of(path: Path, content: Any, key: str | None, fields: dict[str, type | tuple[type, ...]]) -> list[dict[str, Any]]:
    """As `records`, of the content of a file that was read before."""
    if key is not None:
        if not isinstance(content, dict) or key not in content:
            raise RequestError(f"{path}: has no key {key!r}; is it the official file?")
        content = content[key]
    if not isinstance(content, list):
        raise RequestError(f"{path}: {key or 'the file'} is no list of records")
    for number, record in enumerate(content):
        if problem := problem_of(record, fields):
            raise RequestError(f"{path}: {record_name(number, record)}: {problem}")
    return content


def record_name(number: int, record: Any) -> str:
    known = isinstance(record, dict) and "question_id" in record
    return f"record {number} (question_id {record['question_id']!r})" if known else f"record {number}"


def problem_of(record: Any, fields: dict[str, type | tuple[type, ...]]) -> str | None:
    """The first field that is missing or of a wrong type; None for a record as it should be."""
    if not isinstance(record, dict):
        return "not an object"
    for field, kind in fields.items():
        if field not in record:
            return f"has no {field!r}"
        if not isinstance(record[field], kind) or isinstance(record[field], bool):
            return f"{field}: {record[field]!r} is not a {_name(kind)}"
    return None


def _name(kind: type | tuple[type, ...]) -> str:
    return {int: "whole number", str: "string", list: "list"}[kind if isinstance(kind, type) else kind[0]]


QUESTION = {"question_id": int, "image_id": int, "question": str}
# Scoring needs no majority answer, and OK-VQA's official annotations have none.
SCORED = {"question_id": int, "image_id": int, "question_type": str, "answer_type": str, "answers": list}
ANNOTATION = {**SCORED, "multiple_choice_answer": str}


NUMBER_OF_ANSWERS = 10  # official: every question was answered by ten people


def annotation_records(path: Path) -> list[dict[str, Any]]:
    """Official annotations to score against, each question once, with the texts of ten answers."""
    found = records(path, "annotations", dict(SCORED))
    seen = set()
    for number, record in enumerate(found):
        problem = problem_of_answers(record["answers"])
        if problem is None and len(record["answers"]) != NUMBER_OF_ANSWERS:
            problem = f"answers: {len(record['answers'])} of them, not {NUMBER_OF_ANSWERS}"
        if problem is None and record["question_id"] in seen:
            problem = "a second time"
        if problem:
            raise RequestError(f"{path}: {record_name(number, record)}: {problem}")
        seen.add(record["question_id"])
    return found


NUMBERED = "answers without answer_id are numbered by their place"


def lack_ids(answers: list[dict[str, Any]]) -> bool:
    """Whether one of the answers has no answer_id, by which the official program tells equal answers of two people apart."""
    return any(answer.get("answer_id") is None for answer in answers)


def numbered(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers to a question with their place, from 1, as answer_id."""
    return [{**answer, "answer_id": place} for place, answer in enumerate(answers, 1)]


def problem_of_answers(answers: list[Any]) -> str | None:
    if answers and all(isinstance(a, dict) and isinstance(a.get("answer"), str) for a in answers):
        return None
    if not answers:
        return "answers: an empty list"
    number, answer, problem = next((n, a, p) for n, a in enumerate(answers, 1) if (p := problem_of(a, {"answer": str})))
    return f"answers: number {number} of {len(answers)}: " + (
        problem if isinstance(answer, dict) else f"{answer!r} is not an object"
    )
