"""The answers that a model chooses from, in their order: ours, or those of a published checkpoint."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from vle_bench.errors import RequestError
from vle_bench.json_files import read_json


def labels_digest(labels: list[str]) -> str:
    """Digest of a label map: the answers in their order."""
    return hashlib.sha256(json.dumps(labels, ensure_ascii=False).encode()).hexdigest()


def read_label_map(path: Path) -> list[str]:
    """[answer, ...] by index, {"answers": [...]}, {answer: index}, {"label2id": {answer: index}}, or a config.json with id2label.

    Raises:
        RequestError: an index that is missing or stands twice, an answer twice, or another content.
    """
    content = read_json(path)
    if not isinstance(content, dict | list) or not content:
        raise RequestError(
            f"{path}: no label map: a list of answers, or an object with answers, label2id or id2label, or of answers and indices"
        )
    if isinstance(content, list):
        labels = content
    elif isinstance(content.get("answers"), list):
        labels = content["answers"]
        if content.get("sha256", labels_digest(labels)) != labels_digest(labels):
            raise RequestError(f"{path}: answers: not those that its sha256 was computed of")
    elif isinstance(content.get("id2label"), dict):
        labels = in_order(
            path, "id2label", [(label, index) for index, label in content["id2label"].items()]
        )
        if (
            isinstance(content.get("label2id"), dict)
            and in_order(path, "label2id", list(content["label2id"].items())) != labels
        ):
            raise RequestError(f"{path}: id2label and label2id contradict each other")
    elif isinstance(content.get("label2id"), dict):
        labels = in_order(path, "label2id", list(content["label2id"].items()))
    else:
        labels = in_order(path, "the file", list(content.items()))
    return checked(path, labels)


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
        seen.add(label)
    if not labels:
        raise RequestError(f"{path}: has no answer")
    if all(label == f"LABEL_{i}" for i, label in enumerate(labels)):
        raise RequestError(
            f"{path}: its labels are transformers' place holders (LABEL_0, ...), not answers"
        )
    return labels
