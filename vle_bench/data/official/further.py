"""Read the official files of further datasets of VQA form to the columns of OFFICIAL.

Where a file has less than VQA v2's annotations, the rest is made of its answers: the majority
answer is the most frequent one, of several the first; the type of answer follows from it. One right
answer counts as the answer of all ten annotators.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa

from vle_bench.data.official.vqa import (
    BadRecords,
    Kinds,
    problem_of,
    problem_of_annotation,
    problem_of_question,
    record_name,
    table,
)
from vle_bench.data.tables import ASKED, IMAGE_FILE, OFFICIAL
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, stream, stream_items
from vle_bench.metrics.vqa import NUMBER_OF_ANSWERS

OFFICIAL_ID = pa.field("official_id", pa.string())  # a question's id in the official files
IMAGE = pa.field(IMAGE_FILE, pa.string())
UNANSWERABLE = pa.field("unanswerable", pa.bool_())
REPHRASING_OF = pa.field("rephrasing_of", pa.int64())
NO_TYPE = "none of the above"  # VQA v2's name for questions of no type
# Added to the ids of rephrasings, which are ten times the original's plus 0 to 3 and so may be the
# ids of other originals.
REPHRASED = 10_000_000_000


def numbered(name: str) -> int:
    """Return the number of an id that is a string: the first 63 bits of its SHA-256."""
    return (
        int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:8], "big") >> 1
    )


def completed(record: JsonObject) -> JsonObject:
    """Add the types and the majority answer that an annotation lacks."""
    answers = record.get("answers")
    if not isinstance(answers, list):
        return record
    texts = [one["answer"] for one in answers if not problem_of(one, {"answer": str})]
    return truths(texts or [""]) | record


def truths(answers: Sequence[str], question_type: str = NO_TYPE) -> JsonObject:
    """Return the columns of the annotation that these answers make up."""
    majority = Counter(answers).most_common(1)[0][0]
    return {
        "question_type": question_type,
        "answer_type": answer_type(majority),
        "multiple_choice_answer": majority,
        "answers": list(answers),
    }


def answer_type(answer: str) -> str:
    if answer.strip().lower() in ("yes", "no"):
        return "yes/no"
    return "number" if answer.strip().isdecimal() else "other"


UNLABELLED = dict.fromkeys(["question_type", "answer_type", "multiple_choice_answer", "answers"])


def read_rephrasings(questions: Path, annotations: Path | None, bad: BadRecords) -> pa.Table:
    """Read VQA-Rephrasings, whose two files have their records in the same order.

    The order tells rephrasings and originals of the same id apart. `rephrasing_of` of an original
    is its own id.
    """
    assert annotations is not None
    schema = pa.schema([*OFFICIAL, REPHRASING_OF])
    return table(questions, rephrasings(questions, annotations, bad), schema, bad)


def rephrasings(questions: Path, annotations: Path, bad: BadRecords) -> Iterator[JsonObject]:
    pairs = zip_longest(stream(questions, "questions"), stream(annotations, "annotations"))
    for number, (asked, truth) in enumerate(pairs):
        if problem := problem_of_question(asked) or problem_of_rephrasing(asked):
            bad.add(questions, record_name(number, asked), problem, asked)
            continue
        original = asked.get("rephrasing_of")
        question_id = asked["question_id"] + (0 if original is None else REPHRASED)
        if problem := problem_of_annotation(truth) or other_ids(asked, truth, questions):
            own = {**asked, "question_id": question_id}
            bad.add(annotations, record_name(number, truth), problem, own)
            continue
        given = {name: truth[name] for name in UNLABELLED} | {
            "answers": [one["answer"] for one in truth["answers"]]
        }
        yield (
            {name: asked[name] for name in ASKED.names}
            | given
            | {
                "question_id": question_id,
                "rephrasing_of": asked["question_id"] if original is None else original,
            }
        )


def problem_of_rephrasing(asked: JsonObject) -> str | None:
    return problem_of(asked, {"rephrasing_of": int}) if "rephrasing_of" in asked else None


def other_ids(asked: JsonObject, truth: JsonObject, questions: Path) -> str | None:
    """Describe an annotation at the place of another question."""
    different = [key for key in ("question_id", "image_id") if truth[key] != asked[key]]
    if not different:
        return None
    key = different[0]
    return f"{key} {truth[key]}, but {asked[key]} at this place in {questions.name}"


Records = Iterator[tuple[str, Any]]  # name and record of each question of a file
# A question's record, and whether it has labels → a row; its problem; or None for a
# question that the official program does not score
Row = Callable[[JsonObject, bool], JsonObject | str | None]


def read_one_file(
    records: Callable[[Path], Records],
    row: Row,
    columns: Sequence[pa.Field],
) -> Callable[[Path, Path | None, BadRecords], pa.Table]:
    """Return the reader of a file that has questions and answers together.

    Args:
        records: yields name and record of each question of a file.
        row: see `Row`.
        columns: those that the rows have beside OFFICIAL's.
    """
    schema = pa.schema([*OFFICIAL, *columns])

    def read(questions: Path, annotations: Path | None, bad: BadRecords) -> pa.Table:
        def rows() -> Iterator[JsonObject]:
            for name, record in records(questions):
                made = row(record, annotations is not None)
                if isinstance(made, str):
                    bad.add(questions, name, made, record)
                elif made is None:
                    bad.unscored += 1
                else:
                    yield made

        rows_of_file = table(questions, rows(), schema, bad)
        if not len(rows_of_file) and not bad.listed:
            raise RequestError(f"{questions}: no question")
        return rows_of_file

    return read


def listed(key: str | None) -> Callable[[Path], Records]:
    """Return a function that yields name and record of each record of a list."""
    return lambda path: (
        (record_name(n, record), record) for n, record in enumerate(stream(path, key))
    )


def by_id(path: Path) -> Records:
    """Yield name and record of each record of an object; the key is added as `id`."""
    for key, record in stream_items(path):
        yield f"question {key}", {**record, "id": key} if isinstance(record, dict) else record


def problem_of_image(name: str) -> str | None:
    """Refuse the name of a file that might lie outside of the images' folder."""
    plain = name and name not in (".", "..") and not set("/\\\0") & set(name)
    return None if plain else f"image: {name!r} is not the name of a file"


def of_vizwiz(record: JsonObject, labelled: bool) -> JsonObject | str:
    """Return an image with one question about it, ten answers, and whether it can be answered."""
    fields: Kinds = {"image": str, "question": str}
    if problem := problem_of_question(record, fields) or problem_of_image(record["image"]):
        return problem
    truth = UNLABELLED | {UNANSWERABLE.name: None}
    if labelled:
        fields = {"answers": list, "answer_type": str, "answerable": int}
        if problem := problem_of(record, fields) or ten(record):
            return problem
        if record["answerable"] not in (0, 1):
            return f"answerable: {record['answerable']} is neither 0 nor 1"
        texts = [one["answer"] for one in record["answers"]]
        truth = truths(texts) | {"answer_type": record["answer_type"]}
        truth[UNANSWERABLE.name] = not record["answerable"]
    image = record["image"]
    ids = {"question_id": numbered(image), "image_id": numbered(image), "official_id": image}
    return ids | {IMAGE_FILE: image, "question": record["question"], **truth}


def ten(record: JsonObject) -> str | None:
    answers = record["answers"]
    if len(answers) != NUMBER_OF_ANSWERS:
        return f"answers: {len(answers)} of them, not {NUMBER_OF_ANSWERS}"
    problems = (problem_of(one, {"answer": str}) for one in answers)
    return next((f"answers: {problem}" for problem in problems if problem), None)


def of_textvqa(record: JsonObject, labelled: bool) -> JsonObject | str:
    """Return a question about an image of Open Images, and ten answers as strings."""
    fields: Kinds = {"question_id": int, "image_id": str, "question": str}
    if problem := problem_of_question(record, fields) or problem_of_image(record["image_id"]):
        return problem
    truth = UNLABELLED
    if labelled:
        if problem := problem_of(record, {"answers": list}):
            return problem
        if problem := ten({"answers": [{"answer": one} for one in record["answers"]]}):
            return problem
        truth = truths(record["answers"])
    image = record["image_id"]
    ids = {"question_id": record["question_id"], "image_id": numbered(image)}
    return ids | {IMAGE_FILE: f"{image}.jpg", "question": record["question"], **truth}


GQA_TYPES = ("structural", "semantic")
GQA_KINDS = tuple(pa.field(name, pa.string()) for name in (*GQA_TYPES, "form"))


def of_gqa(record: JsonObject, labelled: bool) -> JsonObject | str:
    """Return a question with one answer and the question types by which GQA's program reports."""
    fields: Kinds = {"id": str, "imageId": str, "question": str}
    if problem := problem_of_question(record, fields) or problem_of_image(record["imageId"]):
        return problem
    truth: JsonObject = UNLABELLED | dict.fromkeys([*GQA_TYPES, "form"])
    if labelled:
        if problem := problem_of(record, {"answer": str, "types": dict}):
            return problem
        kinds = record["types"]
        if problem := problem_of(kinds, dict.fromkeys([*GQA_TYPES, "detailed"], str)):
            return f"types: {problem}"
        truth = truths([record["answer"]] * NUMBER_OF_ANSWERS, kinds["detailed"])
        truth |= {name: kinds[name] for name in GQA_TYPES}
        truth["form"] = "open" if kinds["structural"] == "query" else "binary"
    image = record["imageId"]
    ids = {"question_id": numbered(record["id"]), "image_id": numbered(image)}
    name = {"official_id": record["id"], IMAGE_FILE: f"{image}.jpg"}
    return ids | name | {"question": record["question"], **truth}


CHOICES = pa.field("choices", pa.list_(pa.string()))  # of which a model gives one


def of_aokvqa(record: JsonObject, labelled: bool) -> JsonObject | str | None:
    """Return a question with ten direct answers.

    None for a question that is to be scored and whose direct answers are too different to be: the
    official program leaves those marked as difficult out.
    """
    fields: Kinds = {"question_id": str, "image_id": int, "question": str}
    if problem := problem_of_question(record, fields):
        return problem
    truth = UNLABELLED
    if labelled:
        if problem := problem_of(record, {"direct_answers": list}):
            return problem
        if type(record.get("difficult_direct_answer")) is not bool:
            return "difficult_direct_answer: true or false is expected"
        if problem := ten({"answers": [{"answer": one} for one in record["direct_answers"]]}):
            return f"direct_{problem}"
        if record["difficult_direct_answer"] and record.get("split") != "train":
            return None
        truth = truths(record["direct_answers"])
    return ids_of_aokvqa(record) | truth


def of_aokvqa_choices(record: JsonObject, labelled: bool) -> JsonObject | str:
    """Return a question with four choices, one of them right."""
    fields: Kinds = {"question_id": str, "image_id": int, "question": str, "choices": list}
    if problem := problem_of_question(record, fields):
        return problem
    choices = record["choices"]
    if not choices or not all(isinstance(choice, str) for choice in choices):
        return "choices: a list of strings is expected"
    truth = UNLABELLED
    if labelled:
        if problem := problem_of(record, {"correct_choice_idx": int}):
            return problem
        right = record["correct_choice_idx"]
        if right not in range(len(choices)):
            return f"correct_choice_idx: {right} is none of the choices"
        truth = truths([choices[right]] * NUMBER_OF_ANSWERS)
    return ids_of_aokvqa(record) | {"choices": choices} | truth


def ids_of_aokvqa(record: JsonObject) -> JsonObject:
    ids = {"question_id": numbered(record["question_id"]), "official_id": record["question_id"]}
    return ids | {name: record[name] for name in ("image_id", "question")}
