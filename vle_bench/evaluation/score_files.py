"""Score an official results file, whoever wrote it."""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vle_bench.data.official.vcr import CHOICES, COLUMNS
from vle_bench.data.official.vqa import annotation_records, records
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, jsonl_records, reading
from vle_bench.metrics.toolkits import TOOLKITS, Comparison, compare
from vle_bench.metrics.vcr import VCRAccuracy, check_ids, vcr_accuracy
from vle_bench.metrics.vqa import VQAAccuracies, lack_ids, numbered, vqa_accuracy, whole

SHOWN = 5  # ids or records with the same problem in one line
# VQA.loadRes (GT-Vision-Lab/VQA, vqa.py) compares sets of ids, and its index by id keeps the last
# record of each. A set holds 11 and 11.0 as one.
REPEATED = "question ids more than once; the official reader scores the last answer of each"
NOT_WHOLE = (
    "question ids are not written as whole numbers; the official reader takes each for the number "
    "that it equals"
)

A_LIST = 'a JSON list is expected: [{"question_id": 1, "answer": "yes"}, ...]'


class ScoredFiles(VQAAccuracies):
    """The accuracies of a results file, and facts about its content.

    Args:
        image_of: question id -> image id.
        numbered: number of questions whose answers had no `answer_id`.
        notes: see `read_results`.
        toolkits: name of a toolkit -> its accuracy of the same answers.
    """

    image_of: dict[int, int]
    numbered: int
    notes: list[str]
    toolkits: dict[str, Comparison]


def score_vqa_files(
    questions: Path, annotations: Path, predictions: Path, toolkits: Sequence[str] = ()
) -> ScoredFiles:
    """Compute the official accuracy of a results file.

    Each file is read once, so that a pipe will do. Answers without `answer_id` are numbered by
    their place.

    Args:
        toolkits: those of `TOOLKITS` whose accuracy is computed too.
    """
    for file in (questions, annotations):
        if file.is_dir():
            raise RequestError(
                f"{file}: a folder, not an official file; `vle-bench record vqa --data DIR` scores "
                "predictions on prepared data"
            )
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
            f"{questions} and {annotations}: {len(different)} question ids are in one of them "
            f"only, such as {min(different)}"
        )
    given, notes = read_results(predictions)
    try:
        scores = vqa_accuracy(given, truths)
    except RequestError as error:
        raise RequestError(f"{predictions}: {error}") from error
    image_of = {record["question_id"]: record["image_id"] for record in truths}
    answers = {r["question_id"]: [a["answer"] for a in r["answers"]] for r in truths}
    return {
        **scores,
        "image_of": image_of,
        "numbered": len(without_ids),
        "notes": notes,
        "toolkits": {name: compare(TOOLKITS[name].rules, given, answers) for name in toolkits},
    }


def read_results(path: Path) -> tuple[dict[int, str], list[str]]:
    """Read a VQA results file: question id -> answer, as the official reader takes it.

    Returns:
        The answers, and a line for each thing that the official reader takes in its own way.
    """
    given: dict[int, str] = {}
    odd, repeated = [], set()
    if path.is_dir():
        raise RequestError(f"{path}: a folder, not a file; {A_LIST}")
    if path.suffix.lower() in (".jsonl", ".csv", ".tsv"):
        raise RequestError(f"{path}: {path.suffix} is not read; {A_LIST}")
    for number, record in enumerate(records(path, None, {"answer": str})):
        if "question_id" not in record:
            raise RequestError(f"{path}: record {number}: has no 'question_id'")
        written = record["question_id"]
        question_id = whole(written)
        if question_id is None:
            raise RequestError(
                f"{path}: record {number}: question_id: {written!r} is not a whole number"
            )
        if type(written) is not int:
            odd.append(f"record {number} ({json.dumps(written)} for {question_id})")
        if question_id in given:
            repeated.add(question_id)
        given[question_id] = record["answer"]
    notes = []
    if odd:
        notes.append(f"{len(odd):,} {NOT_WHOLE}: {first_of(odd)}")
    if repeated:
        notes.append(f"{len(repeated):,} {REPEATED}: {first_of(sorted(repeated))}")
    return given, notes


def first_of(items: Sequence[object]) -> str:
    """List the first items."""
    return ", ".join(map(str, items[:SHOWN])) + (", ..." if len(items) > SHOWN else "")


def score_vcr_files(annotations: Path, predictions: Path) -> VCRAccuracy:
    """Compute the accuracies of a leaderboard file against an official file with labels."""
    labels, scores = read_labels(annotations), read_leaderboard(predictions)
    if not labels:
        raise RequestError(f"{annotations}: has no records")
    check_ids(str(predictions), scores, labels)
    # A tie goes to the lowest index.
    answers = {annot_id: int(row[:CHOICES].argmax()) for annot_id, row in scores.items()}
    rationales = {}
    for annot_id, (right, _) in labels.items():
        after_right_answer = CHOICES * (1 + right)
        rationales[annot_id] = int(
            scores[annot_id][after_right_answer : after_right_answer + CHOICES].argmax()
        )
    return vcr_accuracy(answers, rationales, labels)


def annotated(path: Path) -> Iterator[tuple[str, str, JsonObject]]:
    """Iterate over (place in the file, annot_id, record) of an official JSON-lines file."""
    for number, record in jsonl_records(path):
        place, annot_id = f"{path}: line {number}", record.get("annot_id")
        if not isinstance(annot_id, str):
            raise RequestError(f"{place}: annot_id: {annot_id!r} is not a string")
        yield place, annot_id, record


def read_labels(path: Path) -> dict[str, tuple[int, int]]:
    """Read an official JSON-lines file: annot_id -> (answer_label, rationale_label)."""
    labels: dict[str, tuple[int, int]] = {}
    for place, annot_id, record in annotated(path):
        name = f"{place} (annot_id {annot_id!r})"
        if annot_id in labels:
            raise RequestError(f"{name}: a second time")
        labels[annot_id] = (
            _label(record, "answer_label", name),
            _label(record, "rationale_label", name),
        )
    return labels


def _label(record: JsonObject, key: str, name: str) -> int:
    if key not in record:
        raise RequestError(f"{name}: has no {key!r}; the test split has no labels to score against")
    label = record[key]
    if type(label) is not int or label not in range(CHOICES):
        raise RequestError(f"{name}: {key}: {label!r} is not a number of 0 to {CHOICES - 1}")
    return label


def read_leaderboard(path: Path, text: str | None = None) -> dict[str, NDArray[np.float64]]:
    """Read a leaderboard CSV: annot_id -> its 20 scores, in the order of `COLUMNS`.

    Args:
        text: the content, if the file was read before.
    """
    scores: dict[str, NDArray[np.float64]] = {}
    for number, cells in _csv_rows(path, text):
        name = f"{path}: line {number}"
        if len(cells) != len(COLUMNS):
            raise RequestError(f"{name}: {len(COLUMNS)} columns are expected, not {len(cells)}")
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
    """Iterate over (line number from 1, cells) below the header, which must be `COLUMNS`.

    Empty lines are skipped.
    """
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
        return f"{len(COLUMNS)} columns are expected, not {len(header)}"
    wrong = next(
        i for i, (ours, theirs) in enumerate(zip(COLUMNS, header, strict=True)) if ours != theirs
    )
    return f"column {wrong + 1}: {COLUMNS[wrong]!r} is expected, not {header[wrong][:40]!r}"


def _score(cell: str, name: str) -> float:
    try:
        value = float(cell)
    except ValueError as error:
        raise RequestError(f"{name}: {cell[:40]!r} is not a number") from error
    if not math.isfinite(value):
        raise RequestError(f"{name}: {cell[:40]!r} is not finite")
    return value
