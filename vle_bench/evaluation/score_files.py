"""A results file from anywhere, scored."""

import csv
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vle_bench.data.official.vcr import CHOICES, COLUMNS
from vle_bench.data.official.vqa import annotation_records, records
from vle_bench.errors import RequestError
from vle_bench.json_files import jsonl_records, reading
from vle_bench.metrics.vcr import check_ids, vcr_accuracy
from vle_bench.metrics.vqa import lack_ids, numbered, vqa_accuracy


def score_vqa_files(questions: Path, annotations: Path, predictions: Path) -> dict[str, Any]:
    """The official accuracy of a results file. Each file is read once, so that a pipe will do.

    Answers without `answer_id` are numbered by their place.

    Returns:
        what `vqa_accuracy` does, `image_of`: question id → image id, and `numbered`: how many questions had such answers.
    """
    asked = set()
    for number, record in enumerate(records(questions, "questions", {"question_id": int})):
        if record["question_id"] in asked:
            raise RequestError(
                f"{questions}: record {number}: question_id {record['question_id']} a second time"
            )
        asked.add(record["question_id"])
    truths = annotation_records(annotations)
    without_ids = [record for record in truths if lack_ids(record["answers"])]
    for record in without_ids:
        record["answers"] = numbered(record["answers"])
    if different := asked ^ {record["question_id"] for record in truths}:
        raise RequestError(
            f"{questions} and {annotations}: {len(different)} question ids are in one of them only, such as "
            f"{min(different)}"
        )
    given: dict[int, str] = {}
    try:
        rows = records(predictions, None, {"question_id": int, "answer": str})
    except RequestError as error:
        way_out = "; `vle-bench check-submission vqa` says which the official reader takes, and how"
        raise RequestError(f"{error}{way_out if 'question_id: ' in str(error) else ''}") from error
    for number, record in enumerate(rows):
        if record["question_id"] in given:
            raise RequestError(
                f"{predictions}: record {number}: question_id {record['question_id']} a second time; the official reader "
                "scores the last answer of each: leave the others out"
            )
        given[record["question_id"]] = record["answer"]
    try:
        scores = vqa_accuracy(given, truths)
    except RequestError as error:
        raise RequestError(f"{predictions}: {error}") from error
    image_of = {record["question_id"]: record["image_id"] for record in truths}
    return scores | {"image_of": image_of, "numbered": len(without_ids)}


def score_vcr_files(annotations: Path, predictions: Path) -> dict[str, Any]:
    """Accuracies of a leaderboard file against an official JSON-lines file with labels; see `vcr_accuracy`."""
    labels, scores = read_labels(annotations), read_leaderboard(predictions)
    if not labels:
        raise RequestError(f"{annotations}: has no records")
    check_ids(str(predictions), scores, labels)
    answers = {
        annot_id: int(row[:CHOICES].argmax()) for annot_id, row in scores.items()
    }  # a tie goes to the lowest index
    rationales = {}
    for annot_id, (right, _) in labels.items():
        after_right_answer = CHOICES * (1 + right)
        rationales[annot_id] = int(
            scores[annot_id][after_right_answer : after_right_answer + CHOICES].argmax()
        )
    return vcr_accuracy(answers, rationales, labels)


def read_labels(path: Path) -> dict[str, tuple[int, int]]:
    """annot_id → (answer_label, rationale_label) of an official JSON-lines file."""
    labels = {}
    for number, record in jsonl_records(path):
        name, annot_id = f"{path}: line {number}", record.get("annot_id")
        if not isinstance(annot_id, str):
            raise RequestError(f"{name}: annot_id: {annot_id!r} is not a string")
        name += f" (annot_id {annot_id!r})"
        if annot_id in labels:
            raise RequestError(f"{name}: a second time")
        labels[annot_id] = (
            _label(record, "answer_label", name),
            _label(record, "rationale_label", name),
        )
    return labels


def _label(record: Mapping[str, Any], key: str, name: str) -> int:
    if key not in record:
        raise RequestError(f"{name}: has no {key!r}; the test split has no labels to score against")
    label = record[key]
    if type(label) is not int or label not in range(CHOICES):
        raise RequestError(f"{name}: {key}: {label!r} is not a number of 0 to {CHOICES - 1}")
    return label


def read_leaderboard(path: Path, text: str | None = None) -> dict[str, NDArray[np.float64]]:
    """annot_id → its 20 scores, in the order of `COLUMNS`, of a leaderboard CSV.

    Args:
        text: the file's, where it was read before.
    """
    scores: dict[str, NDArray[np.float64]] = {}
    for number, cells in _csv_rows(path, text):
        name = f"{path}: line {number}"
        if len(cells) != len(COLUMNS):
            raise RequestError(f"{name}: {len(COLUMNS)} columns are expected, {len(cells)} came")
        annot_id = cells[0]
        if annot_id in scores:
            raise RequestError(f"{name}: annot_id {annot_id!r} a second time")
        values = [
            _score(cell, f"{name} (annot_id {annot_id!r}): {c}")
            for c, cell in zip(COLUMNS[1:], cells[1:], strict=True)
        ]
        scores[annot_id] = np.array(values)
    return scores


def _csv_rows(path: Path, text: str | None) -> Iterator[tuple[int, list[str]]]:
    """(line number from 1, cells) of the rows below the header, which must be `COLUMNS`; empty lines are passed over."""
    with (
        reading(path),
        path.open(encoding="utf-8-sig", newline="")
        if text is None
        else io.StringIO(text, newline="") as file,
    ):
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            if tuple(header) != COLUMNS:
                raise RequestError(f"{path}: line 1: {_header_problem(header)}")
            yield from ((reader.line_num, cells) for cells in reader if cells)
        except csv.Error as error:
            raise RequestError(
                f"{path}: line {reader.line_num}: not a row of a CSV file: {error}"
            ) from error


def _header_problem(header: list[str]) -> str:
    if len(header) != len(COLUMNS):
        return f"{len(COLUMNS)} columns are expected, {len(header)} came"
    wrong = next(
        i for i, (ours, theirs) in enumerate(zip(COLUMNS, header, strict=True)) if ours != theirs
    )
    return f"column {wrong + 1}: {COLUMNS[wrong]!r} is expected, {header[wrong][:40]!r} came"


def _score(cell: str, name: str) -> float:
    try:
        value = float(cell)
    except ValueError as error:
        raise RequestError(f"{name}: {cell[:40]!r} is not a number") from error
    if not math.isfinite(value):
        raise RequestError(f"{name}: {cell[:40]!r} is not finite")
    return value
