"""VQA v2's questions and annotations files → one table, each question with its annotation, in the order of the ids."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from vle_bench.data.tables import ASKED, OFFICIAL, TRUTHS, record_batches
from vle_bench.errors import RequestError
from vle_bench.json_stream import stream
from vle_bench.vqa_files import ANNOTATION, NUMBER_OF_ANSWERS, QUESTION, problem_of, problem_of_answers, record_name

OnBad = Literal["error", "skip"]
ANSWER_ROWS = 5_000


@dataclass
class BadRecords:
    """What happens to a record that is wrong: an error that names it, or it is left out and listed."""

    policy: OnBad = "error"
    listed: list[dict[str, Any]] = field(default_factory=list)

    def add(self, path: Path, name: str, problem: str) -> None:
        if self.policy == "error":
            raise RequestError(f"{path}: {name}: {problem}")
        self.listed.append({"file": path.name, "record": name, "problem": problem})

    def add_ids(self, path: Path, ids: list[int], problem: str, message: str) -> None:
        """Several of one kind: one error for all (`message`), or each listed."""
        if ids and self.policy == "error":
            raise RequestError(f"{path}: {message.format(n=len(ids), first=ids[0])}")
        for question_id in ids:
            self.add(path, f"question_id {question_id}", problem)


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


def questions_of(path: Path, bad: BadRecords) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(stream(path, "questions")):
        if problem := problem_of(record, dict(QUESTION)):
            bad.add(path, record_name(number, record), problem)
        else:
            yield {name: record[name] for name in ASKED.names}


def annotations_of(path: Path, bad: BadRecords) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(stream(path, "annotations")):
        problem = problem_of(record, dict(ANNOTATION)) or problem_of_answers(record["answers"])
        if problem is None and len(record["answers"]) != NUMBER_OF_ANSWERS:
            problem = f"answers: {len(record['answers'])} of them, not {NUMBER_OF_ANSWERS}"
        if problem:
            bad.add(path, record_name(number, record), problem)
        else:
            yield {name: record[name] for name in TRUTHS.names} | {"answers": [a["answer"] for a in record["answers"]]}


def table(path: Path, rows: Iterator[dict[str, Any]], schema: pa.Schema, bad: BadRecords) -> pa.Table:
    """Rows in the order of their question ids; of an id that stands there twice the first."""

    def refuse(row: dict[str, Any], problem: str) -> None:
        name = f"question_id {row['question_id']}"
        bad.add(path, name, problem)

    found = pa.Table.from_batches(record_batches(rows, schema, refuse, ANSWER_ROWS), schema)
    ids = found["question_id"].to_numpy()
    order = np.argsort(ids, kind="stable")
    again = np.r_[False, ids[order][1:] == ids[order][:-1]][: len(ids)]
    bad.add_ids(path, ids[order][again].tolist(), "stands there twice", "question_id {first} stands there twice")
    return found.take(order[~again])


def join(questions: Path, asked: pa.Table, annotations: Path, truths: pa.Table, bad: BadRecords) -> pa.Table:
    ids, known = (t["question_id"].to_numpy() for t in (asked, truths))
    bad.add_ids(annotations, np.setdiff1d(ids, known).tolist(), "question without an annotation",
                "{n} questions have no annotation, such as {first}")  # fmt: skip
    bad.add_ids(annotations, np.setdiff1d(known, ids).tolist(), "annotation without a question",
                "{n} annotations without a question, such as {first}")  # fmt: skip
    asked, truths = asked.filter(pa.array(np.isin(ids, known))), truths.filter(pa.array(np.isin(known, ids)))
    images, images_too = (t["image_id"].to_numpy() for t in (asked, truths))
    same = images == images_too
    for row in np.flatnonzero(~same):  # a wrong image would carry answers over the border of a hold-out
        bad.add(annotations, f"question_id {asked['question_id'][row]}",
                f"image_id {images_too[row]}, but {images[row]} in {questions.name}")  # fmt: skip
    both = pa.Table.from_arrays([*asked.columns, *truths.columns[2:]], schema=OFFICIAL)
    return both if same.all() else both.filter(pa.array(same))
