"""What an official server would reject about a submission, and what it would take but nobody wants."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vle_bench.data.official.vcr import CHOICES
from vle_bench.data.official.vqa import QUESTION, records
from vle_bench.errors import RequestError
from vle_bench.evaluation.score_files import read_leaderboard
from vle_bench.json_files import jsonl_records, read_json, reading

SUM_TOLERANCE = 1e-3  # files are written with as few as four decimals

SHOWN = 5  # of the ids or records with the same problem


@dataclass
class Findings:
    """About one file: its number of records, what the server would reject, what it would take."""

    count: int = 0
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def problem(self, found: Sequence[Any], what: str) -> None:
        if found:
            self.problems.append(f"{len(found):,} {what}: {shown(found)}")

    def ids(self, given: Sequence[Any], expected: Collection[Any], name: str) -> None:
        """Every expected id exactly once, none beyond them."""
        counts, wanted = Counter(given), set(expected)
        self.problem(sorted(wanted - counts.keys()), f"{name}s missing")
        self.problem(
            sorted(i for i, count in counts.items() if count > 1), f"{name}s more than once"
        )
        self.problem(sorted(counts.keys() - wanted), f"{name}s unknown")


def shown(found: Sequence[Any]) -> str:
    return ", ".join(map(str, found[:SHOWN])) + (", ..." if len(found) > SHOWN else "")


def check_vqa_submission(path: Path, questions: Path) -> Findings:
    """A VQA results file against the official questions file that it answers.

    Raises:
        RequestError: a file that cannot be read as JSON, or a questions file that is none.
    """
    asked = [record["question_id"] for record in records(questions, "questions", dict(QUESTION))]
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
    numbered = [record for _, record in objects if type(record.get("question_id")) is int]
    findings.problem(
        [
            f"record {n} ({record['question_id']!r})"
            if "question_id" in record
            else f"record {n} (none)"
            for n, record in objects
            if type(record.get("question_id")) is not int
        ],
        "records whose question_id is not a whole number",
    )
    findings.problem(
        [_name(n, r) for n, r in objects if "answer" not in r], "records without an answer"
    )
    findings.problem(
        [_name(n, r) for n, r in objects if not isinstance(r.get("answer", ""), str)],
        "answers that are not strings",
    )
    findings.ids([record["question_id"] for record in numbered], asked, "question id")
    empty = [
        _name(n, r)
        for n, r in objects
        if isinstance(r.get("answer"), str) and not r["answer"].strip()
    ]
    if empty:
        findings.warnings.append(f"{len(empty):,} answers are empty: {shown(empty)}")
    if read_json(questions).get("data_subtype") == "test-dev2015":
        findings.warnings.append(
            f"{questions} holds test-dev only; the server wants every question of test2015, for test-dev too"
        )
    return findings


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
    check_readable(path)
    findings = Findings()
    try:
        scores = read_leaderboard(path)
    except RequestError as error:  # the file can be read, so what is wrong is its content
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


def check_readable(path: Path) -> None:
    with reading(path), path.open(encoding="utf-8-sig") as file:
        while file.read(1 << 20):
            pass
