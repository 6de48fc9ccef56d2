"""VQA v2's questions and annotations files → one table, each question with its annotation, in the order of the ids."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vle_bench.data.tables import ASKED, OFFICIAL, TRUTHS, record_batches
from vle_bench.errors import RequestError
from vle_bench.json_files import read_json, stream
from vle_bench.metrics.vqa import NUMBER_OF_ANSWERS, lack_ids

OnBad = Literal["error", "skip"]
ANSWER_TYPES = ("yes/no", "number", "other")
ANSWER_ROWS = 5_000


@dataclass
class BadRecords:
    """What happens to a record that is wrong: an error that names it, or it is left out and listed."""

    policy: OnBad = "error"
    listed: list[dict[str, Any]] = field(default_factory=list)
    seen: set[int] = field(
        default_factory=set
    )  # ids of records that are listed: that their other halves lack them is no news
    outside_coco: int = 0  # Visual Genome's questions about images that COCO has not
    numbered: int = 0  # questions whose answers have no answer_id, and got their place as one

    def add(self, path: Path, name: str, problem: str, record: Any = None) -> None:
        """`record` has the ids, as far as it has any."""
        if self.policy == "error":
            raise RequestError(
                f"{path}: {name}: {problem}; --on-bad-record skip leaves such records out"
            )
        ids = {key: id_in(record, key) for key in ("question_id", "image_id")}
        self.listed.append({"file": path.name, "record": name, "problem": problem, **ids})
        if ids["question_id"] is not None:
            self.seen.add(ids["question_id"])

    def add_rows(self, path: Path, rows: pa.Table, problem: str, message: str) -> None:
        """Several of one kind: one error for all (`message`), or each listed."""
        found = rows.select(["question_id", "image_id"]).to_pylist()
        if found and self.policy == "error":
            text = message.format(n=len(found), first=found[0]["question_id"])
            raise RequestError(f"{path}: {text}; --on-bad-record skip leaves such records out")
        for row in found:
            self.listed.append(
                {
                    "file": path.name,
                    "record": f"question_id {row['question_id']}",
                    "problem": problem,
                    **row,
                }
            )


def id_in(record: Any, key: str) -> int | None:
    """The id that stands there, if it is one: JSON may hold anything, also numbers of more than 64 bits."""
    found = record.get(key) if isinstance(record, dict) else None
    return found if type(found) is int and abs(found) < 2**63 else None


def read_official(questions: Path, annotations: Path | None, bad: BadRecords) -> pa.Table:
    """The columns of OFFICIAL; exactly the questions of one file with an annotation in the other, about the same image.

    Takes about as much memory as the table (200 bytes a question), not as the JSON does.
    """
    asked = table(questions, questions_of(questions, bad), ASKED, bad)
    if not len(asked):
        raise RequestError(f"{questions}: no question")
    if annotations is None:
        rest = [pa.nulls(len(asked), type=f.type) for f in list(OFFICIAL)[len(ASKED) :]]
        return pa.Table.from_arrays([*asked.columns, *rest], schema=OFFICIAL)
    truths = table(annotations, annotations_of(annotations, bad), TRUTHS, bad)
    return join(questions, asked, annotations, truths, bad)


def one_answer(
    question_id: int, image_id: int, question: str, answer: str, question_type: str
) -> dict[str, Any]:
    """Return a row of OFFICIAL for a question with a single answer, as if all ten people had given it."""
    return {
        "question_id": question_id,
        "image_id": image_id,
        "question": question,
        "question_type": question_type,
        "answer_type": "other",
        "multiple_choice_answer": answer,
        "answers": [answer] * NUMBER_OF_ANSWERS,
    }


def questions_of(path: Path, bad: BadRecords) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(stream(path, "questions")):
        problem = problem_of(record, dict(QUESTION)) or (
            None if record["question"].strip() else "question: empty"
        )
        if problem:
            bad.add(path, record_name(number, record), problem, record)
        else:
            yield {name: record[name] for name in ASKED.names}


def annotations_of(path: Path, bad: BadRecords) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(stream(path, "annotations")):
        if problem := problem_of_annotation(record):
            bad.add(path, record_name(number, record), problem, record)
        else:
            bad.numbered += lack_ids(record["answers"])
            yield {name: record[name] for name in TRUTHS.names} | {
                "answers": [a["answer"] for a in record["answers"]]
            }


def problem_of_annotation(record: Any) -> str | None:
    if problem := problem_of(record, dict(ANNOTATION)) or problem_of_answers(record["answers"]):
        return problem
    if record["answer_type"] not in ANSWER_TYPES:
        return f"answer_type: {record['answer_type']!r} is none of {', '.join(ANSWER_TYPES)}"
    if len(record["answers"]) != NUMBER_OF_ANSWERS:
        return f"answers: {len(record['answers'])} of them, not {NUMBER_OF_ANSWERS}"
    return problem_of_answer_ids(record["answers"])


def problem_of_answer_ids(answers: list[dict[str, Any]]) -> str | None:
    """What is wrong with ids that are there; answers without them are told apart by their place."""
    if lack_ids(answers):
        return None
    ids = [answer.get("answer_id") for answer in answers]
    if all(type(i) is int for i in ids) and len(set(ids)) == len(ids):
        return None
    for number, answer in enumerate(answers, 1):
        if problem := problem_of(answer, {"answer_id": int}):
            return f"answers: number {number} of {len(answers)}: {problem}"
    return f"answers: answer_id {next(i for i in ids if ids.count(i) > 1)} stands there twice"


def table(
    path: Path, rows: Iterator[dict[str, Any]], schema: pa.Schema, bad: BadRecords
) -> pa.Table:
    """Rows in the order of their question ids; of an id that stands there twice the first."""

    def refuse(row: dict[str, Any], problem: str) -> None:
        bad.add(path, f"question_id {row['question_id']}", problem, row)

    found = pa.Table.from_batches(record_batches(rows, schema, refuse, ANSWER_ROWS), schema)
    ids = found["question_id"].to_numpy()
    order = np.argsort(ids, kind="stable")
    again = np.r_[False, ids[order][1:] == ids[order][:-1]][: len(ids)]
    bad.add_rows(
        path,
        found.take(order[again]),
        "stands there twice",
        "question_id {first} stands there twice",
    )
    return found.take(order[~again])


def join(
    questions: Path, asked: pa.Table, annotations: Path, truths: pa.Table, bad: BadRecords
) -> pa.Table:
    ids, known = (t["question_id"].to_numpy() for t in (asked, truths))
    told = np.fromiter(bad.seen, np.int64, len(bad.seen))
    alone, alone_too = (
        t.filter(pa.array(~np.isin(own, np.r_[others, told])))
        for t, own, others in ((asked, ids, known), (truths, known, ids))
    )
    bad.add_rows(
        annotations,
        alone,
        "question without an annotation",
        "{n} questions have no annotation, such as {first}",
    )
    bad.add_rows(
        annotations,
        alone_too,
        "annotation without a question",
        "{n} annotations without a question, such as {first}",
    )
    asked, truths = (
        asked.filter(pa.array(np.isin(ids, known))),
        truths.filter(pa.array(np.isin(known, ids))),
    )
    images, images_too = (t["image_id"].to_numpy() for t in (asked, truths))
    same = images == images_too
    for row in np.flatnonzero(
        ~same
    ):  # a wrong image would carry answers over the border of a hold-out
        record = asked.slice(row, 1).to_pylist()[0]
        problem = f"image_id {images_too[row]}, but {images[row]} in {questions.name}"
        bad.add(annotations, f"question_id {record['question_id']}", problem, record)
    both = pa.Table.from_arrays([*asked.columns, *truths.columns[2:]], schema=OFFICIAL)
    return both if same.all() else both.filter(pa.array(same))


def only_within(
    questions: Path, asked: pa.Table, whole: Path, there: pa.Table, bad: BadRecords
) -> pa.Table:
    """The questions of one file that stand in another with the same image and text, as those of test-dev do in test."""
    ids, known = (t["question_id"].to_numpy() for t in (asked, there))
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    same = there.select(ASKED.names).take(pa.array(place))
    found = {
        f"not in {whole.name}": known[place] == ids,
        f"another image_id than in {whole.name}": pc.equal(
            same["image_id"], asked["image_id"]
        ).to_numpy(),
        f"another text than in {whole.name}": pc.equal(
            same["question"], asked["question"]
        ).to_numpy(),
    }
    fine = np.logical_and.reduce(list(found.values()))
    for row in np.flatnonzero(~fine):
        problem = next(problem for problem, holds in found.items() if not holds[row])
        record = asked.slice(row, 1).to_pylist()[0]
        bad.add(questions, f"question_id {record['question_id']}", problem, record)
    return asked if fine.all() else asked.filter(pa.array(fine))


def records(
    path: Path, key: str | None, fields: dict[str, type | tuple[type, ...]]
) -> list[dict[str, Any]]:
    """The list under `key` (None: the file is the list), each record with the given fields of the given types."""
    return records_of(path, read_json(path), key, fields)


def records_of(
    path: Path, content: Any, key: str | None, fields: dict[str, type | tuple[type, ...]]
) -> list[dict[str, Any]]:
    """As `records`, of the content of a file that was read before."""
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


def record_name(number: int, record: Any) -> str:
    known = isinstance(record, dict) and "question_id" in record
    return (
        f"record {number} (question_id {record['question_id']!r})" if known else f"record {number}"
    )


def problem_of(record: Any, fields: dict[str, type | tuple[type, ...]]) -> str | None:
    """The first field that is missing or of a wrong type; None for a record as it should be."""
    if not isinstance(record, dict):
        return "not an object"
    for key, kind in fields.items():
        if key not in record:
            return f"has no {key!r}"
        if not isinstance(record[key], kind) or isinstance(record[key], bool):
            return f"{key}: {record[key]!r} is not a {_name(kind)}"
    return None


def _name(kind: type | tuple[type, ...]) -> str:
    return {int: "whole number", str: "string", list: "list"}[
        kind if isinstance(kind, type) else kind[0]
    ]


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


def annotation_records(path: Path) -> list[dict[str, Any]]:
    """Official annotations to score against, each question once, with the texts of ten answers."""
    found = records(path, "annotations", dict(SCORED))
    seen = set()
    for number, record in enumerate(found):
        problem = problem_of_answers(record["answers"])
        if problem is None and len(record["answers"]) != NUMBER_OF_ANSWERS:
            problem = f"answers: {len(record['answers'])} of them, not {NUMBER_OF_ANSWERS}"
        if problem is None and record["question_id"] in seen:
            problem = "a second time"
        if problem:
            raise RequestError(f"{path}: {record_name(number, record)}: {problem}")
        seen.add(record["question_id"])
    return found


def problem_of_answers(answers: list[Any]) -> str | None:
    if answers and all(isinstance(a, dict) and isinstance(a.get("answer"), str) for a in answers):
        return None
    if not answers:
        return "answers: an empty list"
    number, answer, problem = next(
        (n, a, p) for n, a in enumerate(answers, 1) if (p := problem_of(a, {"answer": str}))
    )
    return f"answers: number {number} of {len(answers)}: " + (
        problem if isinstance(answer, dict) else f"{answer!r} is not an object"
    )
