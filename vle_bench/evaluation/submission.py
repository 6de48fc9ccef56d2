"""What an official server would reject about a submission, and what it would take but nobody wants."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vle_bench.data.official.vcr import CHOICES
from vle_bench.data.official.vqa import records_of
from vle_bench.errors import RequestError
from vle_bench.evaluation.score_files import read_leaderboard
from vle_bench.json_files import jsonl_records, read_json, reading

SUM_TOLERANCE = 1e-3  # files are written with as few as four decimals
SHOWN = 5  # of the ids or records with the same problem
# VQA.loadRes (GT-Vision-Lab/VQA, vqa.py) compares sets of ids, and its index by id keeps the last record of each.
LAST_COUNTS = "the official reader scores the last answer of each"


@dataclass
class Findings:
    """About one file: its number of records, what the server would reject, what it would take."""

    count: int = 0
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def problem(self, found: Sequence[Any], what: str) -> None:
        if found:
            self.problems.append(f"{len(found):,} {what}: {shown(found)}")

    def warning(self, found: Sequence[Any], what: str) -> None:
        if found:
            self.warnings.append(f"{len(found):,} {what}: {shown(found)}")

    def ids(
        self,
        given: Sequence[Any],
        expected: Collection[Any],
        name: str,
        repeated: str | None = None,
    ) -> None:
        """Every expected id, none beyond them.

        Args:
            repeated: what the server does with an id that is there more than once, where it does not reject it.
        """
        counts, wanted = Counter(given), set(expected)
        self.problem(sorted(wanted - counts.keys()), f"{name}s missing")
        several = sorted(i for i, count in counts.items() if count > 1)
        if repeated is None:
            self.problem(several, f"{name}s more than once")
        else:
            self.warning(several, f"{name}s more than once; {repeated}")
        self.problem(sorted(counts.keys() - wanted), f"{name}s unknown")


def shown(found: Sequence[Any]) -> str:
    return ", ".join(map(str, found[:SHOWN])) + (", ..." if len(found) > SHOWN else "")


def check_vqa_submission(path: Path, questions: Path) -> Findings:
    """A VQA results file against the official questions file that it answers.

    Raises:
        RequestError: a file that cannot be read as JSON, or a questions file that is none.
    """
    asked_file = read_json(questions)
    asked = [
        record["question_id"]
        for record in records_of(questions, asked_file, "questions", {"question_id": int})
    ]
    content = read_json(path)
    findings = Findings()
    if not isinstance(content, list):
        kind = (
            "an object"
            if isinstance(content, dict)
            else "a string"
            if isinstance(content, str)
            else repr(content)
        )
        findings.problems.append(
            f'the file is {kind}, not a list of {{"question_id": ..., "answer": ...}}'
        )
        return findings
    findings.count = len(content)
    objects = [(n, record) for n, record in enumerate(content) if isinstance(record, dict)]
    findings.problem(
        [n for n, record in enumerate(content) if not isinstance(record, dict)],
        "records that are no objects",
    )
    numbered = [
        (n, record, number)
        for n, record in objects
        if (number := whole(record.get("question_id"))) is not None
    ]
    findings.problem(
        [
            f"record {n} ({record['question_id']!r})"
            if "question_id" in record
            else f"record {n} (none)"
            for n, record in objects
            if whole(record.get("question_id")) is None
        ],
        "records whose question_id is not a whole number",
    )
    findings.warning(
        [
            f"record {n} ({json.dumps(record['question_id'])} for {number})"
            for n, record, number in numbered
            if type(record["question_id"]) is not int
        ],
        "question ids are not written as whole numbers; the official reader takes each for the number that it equals",
    )
    findings.problem(
        [_name(n, r) for n, r in objects if "answer" not in r], "records without an answer"
    )
    findings.problem(
        [_name(n, r) for n, r in objects if not isinstance(r.get("answer", ""), str)],
        "answers that are not strings",
    )
    ids = [number for _, _, number in numbered]
    findings.ids(ids, asked, "question id", repeated=LAST_COUNTS)
    empty = [
        _name(n, r)
        for n, r in objects
        if isinstance(r.get("answer"), str) and not r["answer"].strip()
    ]
    findings.warning(empty, "answers are empty")
    if asked_file.get("data_subtype") == "test-dev2015":
        findings.warnings.append(
            f"{questions} holds test-dev only; the server wants every question of test2015, for test-dev too"
        )
    return findings


def whole(question_id: Any) -> int | None:
    """The whole number that an id equals, as Python's sets and dictionaries compare: 11, 11.0 and, for 1, true."""
    if isinstance(question_id, int):
        return int(question_id)
    return int(question_id) if isinstance(question_id, float) and question_id.is_integer() else None


def _name(number: int, record: dict[str, Any]) -> str:
    return (
        str(record["question_id"]) if type(record.get("question_id")) is int else f"record {number}"
    )


def check_vcr_submission(path: Path, annotations: Path) -> Findings:
    """A VCR leaderboard CSV against the official JSON-lines file, of the test split too, that it answers.

    Raises:
        RequestError: a file that cannot be read as text, or a line of the annotations that is no record.
    """
    expected = []
    for number, record in jsonl_records(annotations):
        if not isinstance(record.get("annot_id"), str):
            raise RequestError(
                f"{annotations}: line {number}: annot_id: {record.get('annot_id')!r} is not a string"
            )
        expected.append(record["annot_id"])
    with reading(path):
        text = path.read_text(encoding="utf-8-sig")
    findings = Findings()
    try:
        scores = read_leaderboard(path, text)
    except RequestError as error:  # the file could be read, so what is wrong is its content
        findings.problems.append(str(error).removeprefix(f"{path}: "))
        return findings
    findings.count = len(scores)
    findings.ids(list(scores), expected, "annot_id")
    fours = {annot_id: row.reshape(-1, CHOICES) for annot_id, row in scores.items()}
    wrong = [
        i
        for i, four in fours.items()
        if four.min() < 0 or np.any(np.abs(four.sum(1) - 1) > SUM_TOLERANCE)
    ]
    findings.problem(
        wrong,
        "annot_ids whose scores are no probabilities (each of 0 to 1, every four of a sum of 1)",
    )
    return findings
