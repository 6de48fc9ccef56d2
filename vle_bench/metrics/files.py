"""A results file from anywhere, scored."""

from pathlib import Path
from typing import Any

from vle_bench.errors import RequestError
from vle_bench.metrics.vqa import vqa_accuracy
from vle_bench.vqa_files import QUESTION, annotation_records, records


def score_vqa_files(questions: Path, annotations: Path, predictions: Path) -> dict[str, Any]:
    """The official accuracy of a results file; see `vqa_accuracy` for what it holds, and `image_of`: question id → image id."""
    asked = set()
    for number, record in enumerate(records(questions, "questions", dict(QUESTION))):
        if record["question_id"] in asked:
            raise RequestError(f"{questions}: record {number}: question_id {record['question_id']} a second time")
        asked.add(record["question_id"])
    truths = annotation_records(annotations)
    if different := asked ^ {record["question_id"] for record in truths}:
        raise RequestError(f"{questions} and {annotations}: {len(different)} question ids are in one of them only, such as "
                           f"{min(different)}")  # fmt: skip
    given: dict[int, str] = {}
    for number, record in enumerate(records(predictions, None, {"question_id": int, "answer": str})):
        if record["question_id"] in given:
            raise RequestError(f"{predictions}: record {number}: question_id {record['question_id']} a second time")
        given[record["question_id"]] = record["answer"]
    try:
        return vqa_accuracy(given, truths) | {"image_of": {record["question_id"]: record["image_id"] for record in truths}}
    except RequestError as error:
        raise RequestError(f"{predictions}: {error}") from error
