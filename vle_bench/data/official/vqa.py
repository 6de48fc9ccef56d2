"""Read VQA v2's questions and annotations files to one table in the order of the question ids."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vle_bench.data.tables import ASKED, OFFICIAL, TRUTHS, record_batches
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, read_json, stream
from vle_bench.metrics.vqa import NUMBER_OF_ANSWERS, lack_ids, problem_of_repeated_id

OnBad = Literal["error", "skip"]
Kinds = Mapping[str, type]  # field → its type
Complete = Callable[[JsonObject], JsonObject]
ANSWER_TYPES = ("yes/no", "number", "other")
ANSWER_ROWS = 5_000


@dataclass
class BadRecords:
    """Collect wrong records, or raise an error for the first.

    Args:
        policy: `error` raises, `skip` leaves the record out and lists it.
        listed: `file`, `record`, `problem`, `question_id` and `image_id` of each bad record.
        seen: question ids of bad records, so that the other half of such a record is not reported.
        outside_coco: number of Visual Genome's questions about images that are not COCO's.
        numbered: number of questions whose answers had no answer_id and were numbered.
        unscored: number of questions that are left out as the official program does not score them.
        of_other_classes: number of a picture's objects whose names are no classes.
    """

    policy: OnBad = "error"
    listed: list[JsonObject] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    outside_coco: int = 0
    numbered: int = 0
    unscored: int = 0
    of_other_classes: int = 0

    def add(self, path: Path, name: str, problem: str, record: object = None) -> None:
        """Add a record of a file; `record` may have ids."""
        if self.policy == "error":
            raise RequestError(
                f"{path}: {name}: {problem}; --on-bad-record skip leaves such records out"
            )
        ids = {key: id_in(record, key) for key in ("question_id", "image_id")}
        self.listed.append({"file": path.name, "record": name, "problem": problem, **ids})
        if ids["question_id"] is not None:
            self.seen.add(ids["question_id"])

    def add_rows(self, path: Path, rows: pa.Table, problem: str, message: str) -> None:
        """Add records of one kind; `message` is the error for all of them."""
        records = rows.select(["question_id", "image_id"]).to_pylist()
        if records and self.policy == "error":
            text = message.format(n=len(records), first=records[0]["question_id"])
            raise RequestError(f"{path}: {text}; --on-bad-record skip leaves such records out")
        for row in records:
            name = f"question_id {row['question_id']}"
            self.listed.append({"file": path.name, "record": name, "problem": problem, **row})

    def as_json(self) -> JsonObject:
        return {
            "listed": self.listed,
            "outside_coco": self.outside_coco,
            "numbered": self.numbered,
            "unscored": self.unscored,
            "of_other_classes": self.of_other_classes,
        }

    def add_all(self, note: JsonObject) -> None:
        """Add the records of another file, as `as_json` wrote them."""
        self.listed += note["listed"]
        self.outside_coco += note["outside_coco"]
        self.numbered += note["numbered"]
        self.unscored += note["unscored"]
        self.of_other_classes += note.get("of_other_classes", 0)  # not in notes of before


def id_in(record: object, key: str) -> int | None:
    """Return an id of a record if it is valid; JSON may hold anything, also huge integers."""
    value = record.get(key) if isinstance(record, dict) else None
    return value if type(value) is int and abs(value) < 2**63 else None


def read_official(
    questions: Path,
    annotations: Path | None,
    bad: BadRecords,
    keys: tuple[str | None, str | None] = ("questions", "annotations"),
    complete: Complete | None = None,
) -> pa.Table:
    """Read questions and their annotations to the columns of OFFICIAL.

    Every question must have one annotation about the same image, and no annotation may be left.
    Needs about as much memory as the table (200 bytes a question), not as the JSON.

    Args:
        keys: of the lists in the two files; None: the file is the list.
        complete: adds what a dataset's annotations lack of VQA v2's before they are checked.
    """
    asked = table(questions, questions_of(questions, bad, keys[0]), ASKED, bad)
    if not len(asked):
        raise RequestError(f"{questions}: no question")
    if annotations is None:
        nulls = [pa.nulls(len(asked), type=f.type) for f in list(OFFICIAL)[len(ASKED) :]]
        return pa.Table.from_arrays([*asked.columns, *nulls], schema=OFFICIAL)
    records = annotations_of(annotations, bad, keys[1], complete)
    truths = table(annotations, records, TRUTHS, bad)
    return join(questions, asked, annotations, truths, bad)


def one_answer(
    question_id: int, image_id: int, question: str, answer: str, question_type: str
) -> JsonObject:
    """Return a row of OFFICIAL for a question with one answer, as if all ten people gave it."""
    return {
        "question_id": question_id,
        "image_id": image_id,
        "question": question,
        "question_type": question_type,
        "answer_type": "other",
        "multiple_choice_answer": answer,
        "answers": [answer] * NUMBER_OF_ANSWERS,
    }


def questions_of(
    path: Path, bad: BadRecords, key: str | None = "questions"
) -> Iterator[JsonObject]:
    for number, record in enumerate(stream(path, key)):
        if problem := problem_of_question(record):
            bad.add(path, record_name(number, record), problem, record)
        else:
            yield {name: record[name] for name in ASKED.names}


def problem_of_question(
    record: Any, fields: Kinds | None = None, key: str = "question"
) -> str | None:
    """Describe what is wrong with a question.

    Args:
        fields: those of VQA v2 if not given.
        key: the field of the question's text.
    """
    problem = problem_of(record, QUESTION if fields is None else fields)
    return problem or (None if record[key].strip() else f"{key}: empty")


def annotations_of(
    path: Path,
    bad: BadRecords,
    key: str | None = "annotations",
    complete: Complete | None = None,
) -> Iterator[JsonObject]:
    for number, given in enumerate(stream(path, key)):
        record = given if complete is None or not isinstance(given, dict) else complete(given)
        if problem := problem_of_annotation(record):
            bad.add(path, record_name(number, record), problem, record)
        else:
            bad.numbered += lack_ids(record["answers"])
            yield {name: record[name] for name in TRUTHS.names} | {
                "answers": [a["answer"] for a in record["answers"]]
            }


def problem_of_annotation(record: Any) -> str | None:
    if problem := problem_of(record, ANNOTATION) or problem_of_answers(record["answers"]):
        return problem
    if record["answer_type"] not in ANSWER_TYPES:
        return f"answer_type: {record['answer_type']!r} is none of {', '.join(ANSWER_TYPES)}"
    if len(record["answers"]) != NUMBER_OF_ANSWERS:
        return f"answers: {len(record['answers'])} of them, not {NUMBER_OF_ANSWERS}"
    return problem_of_answer_ids(record["answers"])


def problem_of_answer_ids(answers: list[JsonObject]) -> str | None:
    """Describe a wrong answer_id; answers without ids are identified by their position."""
    if lack_ids(answers):
        return None
    ids = [answer.get("answer_id") for answer in answers]
    if all(type(i) is int for i in ids) and len(set(ids)) == len(ids):
        return None
    for number, answer in enumerate(answers, 1):
        if problem := problem_of(answer, {"answer_id": int}):
            return f"answers: number {number} of {len(answers)}: {problem}"
    return problem_of_repeated_id(answers)


def table(path: Path, rows: Iterator[JsonObject], schema: pa.Schema, bad: BadRecords) -> pa.Table:
    """Return rows in the order of their question ids; of rows with the same id, the first."""

    def refuse(row: JsonObject, problem: str) -> None:
        bad.add(path, f"question_id {row['question_id']}", problem, row)

    batches = record_batches(rows, schema, refuse, ANSWER_ROWS)
    in_file_order = pa.Table.from_batches(batches, schema)
    ids = in_file_order["question_id"].to_numpy()
    order = np.argsort(ids, kind="stable")
    again = np.r_[False, ids[order][1:] == ids[order][:-1]][: len(ids)]
    doubles = in_file_order.take(order[again])
    bad.add_rows(path, doubles, "occurs twice", "question_id {first} occurs twice")
    return in_file_order.take(order[~again])


def join(
    questions: Path, asked: pa.Table, annotations: Path, truths: pa.Table, bad: BadRecords
) -> pa.Table:
    """Join questions and annotations of the same id and image; report all others as bad."""
    ids, known = (t["question_id"].to_numpy() for t in (asked, truths))
    reported = np.fromiter(bad.seen, np.int64, len(bad.seen))
    unanswered = asked.filter(pa.array(~np.isin(ids, np.r_[known, reported])))
    unasked = truths.filter(pa.array(~np.isin(known, np.r_[ids, reported])))
    bad.add_rows(
        annotations,
        unanswered,
        "question without an annotation",
        "{n} questions have no annotation, such as {first}",
    )
    bad.add_rows(
        annotations,
        unasked,
        "annotation without a question",
        "{n} annotations without a question, such as {first}",
    )
    asked = asked.filter(pa.array(np.isin(ids, known)))
    truths = truths.filter(pa.array(np.isin(known, ids)))
    image_ids, annotated_ids = (t["image_id"].to_numpy() for t in (asked, truths))
    same = image_ids == annotated_ids
    # A wrong image would carry answers across the border of a hold-out.
    for row in np.flatnonzero(~same):
        record = asked.slice(row, 1).to_pylist()[0]
        problem = f"image_id {annotated_ids[row]}, but {image_ids[row]} in {questions.name}"
        bad.add(annotations, f"question_id {record['question_id']}", problem, record)
    both = pa.Table.from_arrays([*asked.columns, *truths.columns[2:]], schema=OFFICIAL)
    return both if same.all() else both.filter(pa.array(same))


def only_within(
    questions: Path, asked: pa.Table, whole: Path, all_asked: pa.Table, bad: BadRecords
) -> pa.Table:
    """Return the questions that are in another file unchanged, as those of test-dev are in test."""
    ids, known = (t["question_id"].to_numpy() for t in (asked, all_asked))
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    same = all_asked.select(ASKED.names).take(pa.array(place))
    checks = {
        f"not in {whole.name}": known[place] == ids,
        f"another image_id than in {whole.name}": pc.equal(
            same["image_id"], asked["image_id"]
        ).to_numpy(),
        f"another text than in {whole.name}": pc.equal(
            same["question"], asked["question"]
        ).to_numpy(),
    }
    passed = np.logical_and.reduce(list(checks.values()))
    for row in np.flatnonzero(~passed):
        problem = next(problem for problem, holds in checks.items() if not holds[row])
        record = asked.slice(row, 1).to_pylist()[0]
        bad.add(questions, f"question_id {record['question_id']}", problem, record)
    return asked if passed.all() else asked.filter(pa.array(passed))


def records(path: Path, key: str | None, fields: Kinds) -> list[JsonObject]:
    """Read the list under `key` (None: the file is the list) and check each record's fields."""
    return records_of(path, read_json(path), key, fields)


def records_of(path: Path, content: object, key: str | None, fields: Kinds) -> list[JsonObject]:
    """Do the same as `records` for the content of a file that was read before."""
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


def record_name(number: int, record: object) -> str:
    if isinstance(record, dict) and "question_id" in record:
        return f"record {number} (question_id {record['question_id']!r})"
    return f"record {number}"


def problem_of(record: object, fields: Kinds) -> str | None:
    """Describe the first field that is missing or of a wrong type; None for a correct record."""
    if not isinstance(record, dict):
        return "not an object"
    for key, kind in fields.items():
        if key not in record:
            return f"has no {key!r}"
        if not isinstance(record[key], kind) or isinstance(record[key], bool):
            return f"{key}: {record[key]!r} is not a {KIND_NAMES[kind]}"
    return None


KIND_NAMES = {int: "whole number", str: "string", list: "list", dict: "object"}
QUESTION = {"question_id": int, "image_id": int, "question": str}
# Scoring needs no majority answer, and OK-VQA's official annotations have none.
SCORED = {
    "question_id": int,
    "image_id": int,
    "question_type": str,
    "answer_type": str,
    "answers": list,
}
ANNOTATION = {**SCORED, "multiple_choice_answer": str}


def annotation_records(path: Path) -> list[JsonObject]:
    """Read official annotations to score against: each question once, with ten answers."""
    annotations = records(path, "annotations", SCORED)
    seen = set()
    for number, record in enumerate(annotations):
        problem = problem_of_answers(record["answers"])
        if problem is None and len(record["answers"]) != NUMBER_OF_ANSWERS:
            problem = f"answers: {len(record['answers'])} of them, not {NUMBER_OF_ANSWERS}"
        if problem is None and record["question_id"] in seen:
            problem = "a second time"
        if problem is None and not lack_ids(record["answers"]):
            problem = problem_of_repeated_id(record["answers"])
        if problem:
            raise RequestError(f"{path}: {record_name(number, record)}: {problem}")
        seen.add(record["question_id"])
    return annotations


def problem_of_answers(answers: list[object]) -> str | None:
    if not answers:
        return "answers: an empty list"
    for number, answer in enumerate(answers, 1):
        if problem := problem_of(answer, {"answer": str}):
            if not isinstance(answer, dict):
                problem = f"{answer!r} is not an object"
            return f"answers: number {number} of {len(answers)}: {problem}"
    return None
