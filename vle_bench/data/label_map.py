"""The answers that a model chooses from, in their order: ours, or those of a published checkpoint."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from vle_bench.errors import RequestError
from vle_bench.json_files import loads, read_json, reading


def labels_digest(labels: list[str]) -> str:
    """Digest of a label map: the answers in their order."""
    return hashlib.sha256(json.dumps(labels, ensure_ascii=False).encode()).hexdigest()


# Names that published files give to answer → index and index → answer.
ANSWER_TO_INDEX = (
    "label2id",
    "ans2label",
    "answer2label",
    "ans2id",
    "answer2id",
    "answer2idx",
    "ans2idx",
)
INDEX_TO_ANSWER = (
    "id2label",
    "label2ans",
    "label2answer",
    "id2ans",
    "id2answer",
    "idx2answer",
    "idx2ans",
)


def read_label_map(path: Path) -> list[str]:
    """The answers by index, of one of the published forms.

    JSON: a list of the answers, {"answers": [...]}, {answer: index}, {index: answer} (ViLT's vqa_dict.json), or an object with
    one of the two or both under a name of `ANSWER_TO_INDEX` and `INDEX_TO_ANSWER` (a config.json with id2label). A .txt or .jsonl
    file: an answer a line (mmf's answers_vqa.txt), or {"answer": ..., "label": index} a line (BEiT-3's answer2label.txt).

    Raises:
        RequestError: an index that is missing or stands twice, an answer twice, or another content.
    """
    if path.suffix.lower() not in (".txt", ".jsonl"):
        return checked(path, answers_of_content(path, read_json(path)))
    with reading(path):
        text = path.read_text(encoding="utf-8-sig")
    try:
        content = one_value(text)
    except ValueError as error:
        raise RequestError(f"{path}: {error}") from error
    if content is not None:
        return checked(path, answers_of_content(path, content))
    lines = text.rstrip().split(
        "\n"
    )  # not splitlines, which also parts at characters that an answer may hold
    if path.suffix.lower() == ".jsonl" or lines[0].lstrip().startswith('{"'):
        return checked(path, answers_of_records(path, lines))
    if empty := [number for number, line in enumerate(lines, 1) if not line.strip()]:
        raise RequestError(f"{path}: line {empty[0]}: empty; an answer a line is expected")
    return checked(path, [line.strip() for line in lines])


def one_value(text: str) -> Any:
    """The list or object that a text holds as a whole, of any form but a record; None for lines.

    Raises:
        ValueError: a key stands twice.
    """
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        content = loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return None if isinstance(content, dict) and "answer" in content else content


def answers_of_records(path: Path, lines: list[str]) -> list[Any]:
    """A line each: an answer as a string, {"answer": ...}, or all lines {"answer": ..., "label": index} in any order."""
    values = [
        (n, parsed(line, f"{path}: line {n}")) for n, line in enumerate(lines, 1) if line.strip()
    ]
    if all(isinstance(value, dict) and {"answer", "label"} <= value.keys() for _, value in values):
        return in_order(
            path, "the file", [(value["answer"], value["label"]) for _, value in values]
        )
    answers = []
    for number, value in values:
        answer = value.get("answer") if isinstance(value, dict) and "label" not in value else value
        if not isinstance(answer, str):
            expected = 'an answer, or {"answer": ..., "label": index}, is expected on every line'
            raise RequestError(f"{path}: line {number}: {str(value)[:60]}: {expected}")
        answers.append(answer)
    return answers


def parsed(line: str, name: str) -> Any:
    try:
        return loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RequestError(f"{name}: broken or cut-off JSON ({type(error).__name__})") from error
    except ValueError as error:  # a key twice, a number of thousands of digits
        raise RequestError(f"{name}: {error}") from error


def answers_of_content(path: Path, content: Any) -> list[Any]:
    if not isinstance(content, dict | list) or not content:
        raise RequestError(
            f"{path}: no label map: a list of answers, or an object with answers, label2id or id2label, or of answers and indices"
        )
    if isinstance(content, list):
        return content
    if isinstance(content.get("answers"), list):
        labels = checked(path, content["answers"])
        if content.get("sha256", labels_digest(labels)) != labels_digest(labels):
            raise RequestError(f"{path}: answers: not those that its sha256 was computed of")
        return labels
    named = {
        name: by_index(path, name, content[name])
        for name in INDEX_TO_ANSWER
        if isinstance(content.get(name), dict | list)
    }
    named |= {
        name: in_order(path, name, list(content[name].items()))
        for name in ANSWER_TO_INDEX
        if isinstance(content.get(name), dict)
    }
    if named:
        (first, labels), *others = named.items()
        for name, other in others:
            if other != labels:
                raise RequestError(f"{path}: {first} and {name} contradict each other")
        return labels
    answers_first = list(content.items())
    numbers = [bool(re.fullmatch(r"\d{1,9}", key)) for key in content]
    if not all(numbers) or not all(isinstance(value, str) for value in content.values()):
        return in_order(path, "the file", answers_first)
    labels = by_index(path, "the file", content)
    if (
        all(re.fullmatch(r"\d{1,9}", label) for label in labels)
        and in_order(path, "the file", answers_first) != labels
    ):
        raise RequestError(
            f"{path}: which are the answers and which the indices? both are numbers; give a list of the answers"
        )
    return labels


def by_index(path: Path, name: str, content: list[Any] | dict[str, Any]) -> list[Any]:
    """A list of answers, or {index: answer}."""
    if isinstance(content, list):
        return content
    return in_order(path, name, [(label, index) for index, label in content.items()])


def in_order(path: Path, name: str, pairs: list[tuple[Any, Any]]) -> list[Any]:
    """(answer, index) in any order → the answers by index; the indices must be 0..n-1, as numbers or as JSON's keys."""
    numbered: dict[int, Any] = {}
    for label, index in pairs:
        number = (
            int(index)
            if re.fullmatch(r"\d{1,9}", str(index)) and not isinstance(index, bool)
            else None
        )
        if number is None:
            raise RequestError(
                f"{path}: {name}: the index of {label!r} is {index!r}, not a whole number from 0"
            )
        if number in numbered:
            raise RequestError(
                f"{path}: {name}: index {number} stands for both {numbered[number]!r} and {label!r}"
            )
        numbered[number] = label
    if missing := sorted(set(range(len(numbered))) - set(numbered)):
        raise RequestError(
            f"{path}: {name}: index {missing[0]} is missing, and {max(numbered)} is there"
        )
    return [numbered[i] for i in range(len(numbered))]


def checked(path: Path, labels: list[Any]) -> list[str]:
    seen = set()
    for label in labels:
        if not isinstance(label, str):
            raise RequestError(f"{path}: {label!r} is not a string")
        if label in seen:
            raise RequestError(f"{path}: the answer {label!r} stands there twice")
        if re.search("[\ud800-\udfff]", label):
            raise RequestError(
                f"{path}: the answer {label!r} has half of a surrogate pair, which is no text"
            )
        seen.add(label)
    if not labels:
        raise RequestError(f"{path}: has no answer")
    if all(label == f"LABEL_{i}" for i, label in enumerate(labels)):
        raise RequestError(
            f"{path}: its labels are transformers' place holders (LABEL_0, ...), not answers"
        )
    return labels
