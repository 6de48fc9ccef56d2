"""Label maps: the answers that a model chooses from, in order, ours or published ones."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from vle_bench.errors import RequestError
from vle_bench.json_files import parse, read_json, reading, short

Unchecked = Sequence[object]  # the entries of a file that should be answers


def labels_digest(labels: list[str]) -> str:
    """Return the SHA-256 of a label map: the answers in their order."""
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
    """Read the answers by index from one of the published forms.

    JSON: a list of the answers, {"answers": [...]}, {answer: index}, {index: answer} (ViLT's
    vqa_dict.json), or an object with one or both of the two under a name of `ANSWER_TO_INDEX` and
    `INDEX_TO_ANSWER` (a config.json with id2label). A .txt or .jsonl file: an answer a line (mmf's
    answers_vqa.txt), or {"answer": ..., "label": index} a line (BEiT-3's answer2label.txt).

    Raises:
        RequestError: an index that is missing or occurs twice, an answer twice, or another content.
    """
    if path.suffix.lower() not in (".txt", ".jsonl"):
        return checked(path, answers_of_content(path, json_of(path)))
    with reading(path):
        text = path.read_text(encoding="utf-8-sig")
    if (content := one_value(path, text)) is not None:
        return checked(path, answers_of_content(path, content))
    lines = text.rstrip().split(
        "\n"
    )  # not splitlines, which also parts at characters that an answer may hold
    if path.suffix.lower() == ".jsonl" or lines[0].lstrip().startswith('{"'):
        return checked(path, answers_of_records(path, lines))
    if empty := [number for number, line in enumerate(lines, 1) if not line.strip()]:
        raise RequestError(f"{path}: line {empty[0]}: empty; an answer a line is expected")
    return checked(path, [line.strip() for line in lines])


def json_of(path: Path) -> object:
    """Read a file that is taken for JSON, as its name ends neither in .txt nor in .jsonl."""
    try:
        return read_json(path)
    except RequestError as error:
        if path.suffix.lower() == ".json" or not isinstance(error.__cause__, json.JSONDecodeError):
            raise
        raise RequestError(
            f"{error}; a label map is JSON, or an answer a line in a file that ends in .txt or "
            ".jsonl"
        ) from error


def one_value(path: Path, text: str) -> object:
    """Return the list or object that a whole text is; None for lines, also for a single record."""
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    # Not the decoder above: text with a double key is no list of lines, it must be refused.
    return None if isinstance(content, dict) and "answer" in content else parse(text, path)


def answers_of_records(path: Path, lines: list[str]) -> Unchecked:
    """Read lines: answers as strings, {"answer": ...}, or all {"answer": ..., "label": index}."""
    values = [
        (n, parse(line, f"{path}: line {n}")) for n, line in enumerate(lines, 1) if line.strip()
    ]
    if all(isinstance(value, dict) and {"answer", "label"} <= value.keys() for _, value in values):
        return in_order(
            path, "the file", [(value["answer"], value["label"]) for _, value in values]
        )
    answers: list[object] = []
    for number, value in values:
        answer = value.get("answer") if isinstance(value, dict) and "label" not in value else value
        if not isinstance(answer, str):
            expected = 'an answer, or {"answer": ..., "label": index}, is expected on every line'
            raise RequestError(f"{path}: line {number}: {str(value)[:60]}: {expected}")
        answers.append(answer)
    return answers


def answers_of_content(path: Path, content: object) -> Unchecked:
    if not isinstance(content, dict | list) or not content:
        raise RequestError(
            f"{path}: no label map: a list of answers, or an object with answers, label2id or "
            "id2label, or of answers and indices"
        )
    if isinstance(content, list):
        return content
    if isinstance(content.get("answers"), list):
        answers = checked(path, content["answers"])
        if content.get("sha256", labels_digest(answers)) != labels_digest(answers):
            raise RequestError(f"{path}: answers: not those that its sha256 was computed of")
        return answers
    named: dict[str, Unchecked] = {
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
        all(re.fullmatch(r"\d{1,9}", str(label)) for label in labels)
        and in_order(path, "the file", answers_first) != labels
    ):
        raise RequestError(
            f"{path}: which are the answers and which the indices? both are numbers; give a list "
            "of the answers"
        )
    return labels


def by_index(path: Path, name: str, content: list[object] | dict[str, object]) -> Unchecked:
    """Read a list of answers, or {index: answer}."""
    if isinstance(content, list):
        return content
    return in_order(path, name, [(label, index) for index, label in content.items()])


def in_order(path: Path, name: str, pairs: list[tuple[object, object]]) -> Unchecked:
    """Sort (answer, index) pairs; the indices must be 0..n-1, as numbers or as keys of JSON."""
    numbered: dict[int, object] = {}
    for label, index in pairs:
        number = (
            int(str(index))
            if re.fullmatch(r"\d{1,9}", str(index)) and not isinstance(index, bool)
            else None
        )
        if number is None:
            raise RequestError(
                f"{path}: {name}: the index of {short(label)} is {short(index)}, not a whole "
                "number from 0"
            )
        if number in numbered:
            raise RequestError(
                f"{path}: {name}: index {number} stands for both "
                f"{short(numbered[number])} and {short(label)}"
            )
        numbered[number] = label
    if missing := sorted(set(range(len(numbered))) - set(numbered)):
        raise RequestError(
            f"{path}: {name}: index {missing[0]} is missing, and {max(numbered)} is there"
        )
    return [numbered[i] for i in range(len(numbered))]


def checked(path: Path, labels: Unchecked) -> list[str]:
    answers: dict[str, None] = {}  # in their order
    for label in labels:
        if not isinstance(label, str):
            raise RequestError(
                f"{path}: {short(label)} is not a string; of two dictionaries, answers by index "
                "and the reverse, give one"
                if isinstance(label, dict)
                else f"{path}: {short(label)} is not a string"
            )
        if label in answers:
            raise RequestError(f"{path}: the answer {short(label)} occurs twice")
        if re.search("[\ud800-\udfff]", label):
            raise RequestError(
                f"{path}: the answer {short(label)} has half of a surrogate pair, which is no text"
            )
        answers[label] = None
    if not answers:
        raise RequestError(f"{path}: has no answer")
    if all(label == f"LABEL_{i}" for i, label in enumerate(answers)):
        raise RequestError(
            f"{path}: its labels are transformers' placeholders (LABEL_0, ...), not answers"
        )
    return list(answers)
