"""Check a submission: problems that the official server rejects, and warnings for the rest."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vle_bench.data.official.vcr import CHOICES
from vle_bench.data.official.vqa import records_of
from vle_bench.errors import RequestError
from vle_bench.evaluation.score_files import (
    NOT_WHOLE,
    REPEATED,
    annotated,
    first_of,
    read_leaderboard,
    whole,
)
from vle_bench.json_files import read_json, reading
from vle_bench.tasks.predictions import Id, Row

SUM_TOLERANCE = 1e-3  # files are written with as few as four decimals


@dataclass
class Findings:
    """Problems and warnings about one file.

    Args:
        count: number of records in the file.
        problems: reasons for the server to reject the file.
        warnings: what the server accepts but nobody wants.
    """

    count: int = 0
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def reject(self, items: Sequence[object], message: str) -> None:
        """Add a problem if there are such ids or records."""
        if items:
            self.problems.append(f"{len(items):,} {message}: {first_of(items)}")

    def warn(self, items: Sequence[object], message: str) -> None:
        """Add a warning if there are such ids or records."""
        if items:
            self.warnings.append(f"{len(items):,} {message}: {first_of(items)}")

    def check_ids(
        self,
        given: Sequence[Id],
        expected: Collection[Id],
        name: str,
        repeated: str | None = None,
    ) -> None:
        """Check that every expected id is given, and no other.

        Args:
            name: of an id.
            repeated: a warning about ids that are given twice; None: the server rejects the file.
        """
        counts, wanted = Counter(given), set(expected)
        self.reject(sorted(wanted - counts.keys()), f"{name}s missing")
        several = sorted(i for i, count in counts.items() if count > 1)
        if repeated is None:
            self.reject(several, f"{name}s more than once")
        else:
            self.warn(several, repeated)
        self.reject(sorted(counts.keys() - wanted), f"{name}s unknown")


def check_vqa_submission(path: Path, questions: Path) -> Findings:
    """Check a VQA results file against the official questions file that it answers.

    Raises:
        RequestError: a file that cannot be read as JSON, or a questions file that is none.
    """
    questions_file = read_json(questions)
    asked = [
        record["question_id"]
        for record in records_of(questions, questions_file, "questions", {"question_id": int})
    ]
    content = read_json(path)
    findings = Findings()
    if not isinstance(content, list):
        names: dict[type, str] = {dict: "an object", str: "a string"}
        kind = names.get(type(content), repr(content))
        findings.problems.append(
            f'the file is {kind}, not a list of {{"question_id": ..., "answer": ...}}'
        )
        return findings
    findings.count = len(content)
    objects = [(n, record) for n, record in enumerate(content) if isinstance(record, dict)]
    findings.reject(
        [n for n, record in enumerate(content) if not isinstance(record, dict)],
        "records that are no objects",
    )
    ids = check_question_ids(findings, objects)
    check_answers(findings, objects)
    findings.check_ids(ids, asked, "question id", repeated=REPEATED)
    if questions_file.get("data_subtype") == "test-dev2015":
        findings.warnings.append(
            f"{questions} holds test-dev only; the server wants every question of test2015, for "
            "test-dev too"
        )
    return findings


def check_question_ids(findings: Findings, objects: list[tuple[int, Row]]) -> list[int]:
    """Return the question ids that are whole numbers."""
    numbers = [whole(record.get("question_id")) for _, record in objects]
    findings.reject(
        [
            f"record {n} ({record['question_id']!r})"
            if "question_id" in record
            else f"record {n} (none)"
            for n, record in objects
            if whole(record.get("question_id")) is None
        ],
        "records whose question_id is not a whole number",
    )
    findings.warn(
        [
            f"record {n} ({json.dumps(record['question_id'])} for {i})"
            for n, record in objects
            if (i := whole(record.get("question_id"))) is not None
            and type(record["question_id"]) is not int
        ],
        NOT_WHOLE,
    )
    return [number for number in numbers if number is not None]


def check_answers(findings: Findings, objects: list[tuple[int, Row]]) -> None:
    """Check that every record has an answer, a string."""
    findings.reject(
        [_name(n, record) for n, record in objects if "answer" not in record],
        "records without an answer",
    )
    findings.reject(
        [_name(n, r) for n, r in objects if not isinstance(r.get("answer", ""), str)],
        "answers that are not strings",
    )
    empty = [
        _name(n, record)
        for n, record in objects
        if isinstance(answer := record.get("answer"), str) and not answer.strip()
    ]
    findings.warn(empty, "answers are empty")


def _name(number: int, record: Row) -> str:
    return (
        str(record["question_id"]) if type(record.get("question_id")) is int else f"record {number}"
    )


def check_vcr_submission(path: Path, annotations: Path) -> Findings:
    """Check a VCR leaderboard CSV against the official JSON-lines file, with labels or without.

    Raises:
        RequestError: a file that cannot be read as text, or a line of the annotations that is no
            record.
    """
    expected = [annot_id for _, annot_id, _ in annotated(annotations)]
    with reading(path):
        text = path.read_text(encoding="utf-8-sig")
    findings = Findings()
    try:
        scores = read_leaderboard(path, text)
    except RequestError as error:  # the file could be read, so what is wrong is its content
        findings.problems.append(str(error).removeprefix(f"{path}: "))
        return findings
    findings.count = len(scores)
    findings.check_ids(list(scores), expected, "annot_id")
    fours = {annot_id: row.reshape(-1, CHOICES) for annot_id, row in scores.items()}
    wrong = [
        i
        for i, four in fours.items()
        if four.min() < 0 or np.any(np.abs(four.sum(1) - 1) > SUM_TOLERANCE)
    ]
    findings.reject(
        wrong,
        "annot_ids whose scores are no probabilities (each of 0 to 1, every four of a sum of 1)",
    )
    return findings
