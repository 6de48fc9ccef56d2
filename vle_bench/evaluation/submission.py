"""Check a submission: problems that the official server rejects, and warnings for the rest."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vle_bench.data.official.vcr import CHOICES
from vle_bench.data.official.vqa import records_of
from vle_bench.data.prepare.by_name import official_questions
from vle_bench.data.sources import RESULTS, SOURCES
from vle_bench.errors import RequestError
from vle_bench.evaluation.score_files import (
    NOT_WHOLE,
    REPEATED,
    annotated,
    first_of,
    read_leaderboard,
)
from vle_bench.json_files import read_json, reading
from vle_bench.metrics.vqa import whole
from vle_bench.tasks.predictions import Id, Row

SUM_TOLERANCE = 1e-3  # files are written with as few as four decimals


@dataclass
class Findings:
    """Problems and warnings about one file.

    Args:
        count: number of records in the file.
        problems: reasons for the server to reject the file.
        warnings: content that the server accepts but that is probably a mistake.
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
        missing, unknown = sorted(wanted - counts.keys()), sorted(counts.keys() - wanted)
        self.reject(missing, f"{named(name, missing)} missing")
        several = sorted(i for i, count in counts.items() if count > 1)
        if repeated is None:
            self.reject(several, f"{named(name, several)} more than once")
        else:
            self.warn(several, repeated)
        self.reject(unknown, f"{named(name, unknown)} unknown")


def named(name: str, ids: Sequence[object]) -> str:
    """Return the name of an id, in the plural if there are several."""
    return f"{name}{'s' * (len(ids) != 1)}"


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
    findings = check_results(read_json(path), asked, RESULTS)
    if questions_file.get("data_subtype") == "test-dev2015":
        findings.warnings.append(
            f"{questions} holds test-dev only; the server wants every question of test2015, for "
            "test-dev too"
        )
    return findings


def check_submission_of(path: Path, source: str, questions: Path) -> Findings:
    """Check a results file of a dataset by name against the official file that it answers.

    Raises:
        RequestError: a file that cannot be read, or a questions file of another dataset.
    """
    ids, choices = official_questions(source, questions)
    id_key, answer_key = results = SOURCES[source].results
    content = read_json(path)
    findings = check_results(content, ids, results)
    if choices is not None and isinstance(content, dict) and not id_key:
        among = dict(zip(ids, choices, strict=True))
        given = {i: row.get(answer_key) for i, row in content.items() if isinstance(row, dict)}
        wrong = [i for i, answer in given.items() if i in among and answer not in among[i]]
        findings.reject(wrong, "answers that are none of the question's choices")
    return findings


def check_results(
    content: object, asked: Collection[Id], results: tuple[str, str], *, once: bool = False
) -> Findings:
    """Check that the content of a results file has one answer for each question.

    Args:
        asked: the ids of the questions, all of them numbers or all of them strings.
        results: see `Source`.
        once: reject an id that is given twice, of which the official reader takes the last.
    """
    id_key, answer_key = results
    findings = Findings()
    form = f'a list of {{"{id_key}": ..., "{answer_key}": ...}}'
    if not id_key:
        form = f'an object of {{"{answer_key}": ...}} by id of the question'
    if not isinstance(content, list if id_key else dict):
        names: dict[type, str] = {dict: "an object", str: "a string", list: "a list"}
        kind = names.get(type(content), repr(content))
        findings.problems.append(f"the file is {kind}, not {form}")
        return findings
    findings.count = len(content)
    rows: list[tuple[Any, Any]]
    rows = list(content.items() if isinstance(content, dict) else enumerate(content))
    objects = [(n, record) for n, record in rows if isinstance(record, dict)]
    findings.reject(
        [n for n, record in rows if not isinstance(record, dict)], "records that are no objects"
    )
    ids: list[Any]
    if not id_key:
        ids = list(content)
    elif all(type(i) is int for i in asked):
        ids = check_question_ids(findings, objects)
    else:
        wrong = [n for n, record in objects if not isinstance(record.get(id_key), str)]
        findings.reject([f"record {n}" for n in wrong], f"records whose {id_key} is not a string")
        ids = [record[id_key] for _, record in objects if isinstance(record.get(id_key), str)]
    check_answers(findings, objects, id_key, answer_key)
    repeated = REPEATED if id_key == RESULTS[0] else f"{id_key}s more than once"
    findings.check_ids(ids, asked, "question id", repeated=None if once else repeated)
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


def check_answers(
    findings: Findings, objects: list[tuple[Any, Row]], id_key: str, answer_key: str
) -> None:
    """Check that every record has an answer, a string."""

    def name(number: object, record: Row) -> str:
        given = record.get(id_key)
        return str(given) if type(given) in (int, str) else f"record {number}"

    findings.reject(
        [name(n, record) for n, record in objects if answer_key not in record],
        f"records without {'an answer' if answer_key == RESULTS[1] else answer_key}",
    )
    findings.reject(
        [name(n, r) for n, r in objects if not isinstance(r.get(answer_key, ""), str)],
        "answers that are not strings",
    )
    empty = [
        name(n, record)
        for n, record in objects
        if isinstance(answer := record.get(answer_key), str) and not answer.strip()
    ]
    findings.warn(empty, "answers are empty")


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
    except RequestError as error:  # the file could be read, so the problem is its content
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
