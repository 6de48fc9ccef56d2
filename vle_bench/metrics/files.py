"""A results file from anywhere, scored."""

from pathlib import Path
from typing import Any

from vle_bench.errors import RequestError
from vle_bench.metrics.vqa import vqa_accuracy
from vle_bench.vqa_files import annotation_records, lack_ids, numbered, records


def score_vqa_files(questions: Path, annotations: Path, predictions: Path) -> dict[str, Any]:
    """The official accuracy of a results file. Each file is read once, so that a pipe will do.

    Answers without `answer_id` are numbered by their place.

    Returns:
        what `vqa_accuracy` does, `image_of`: question id → image id, and `numbered`: how many questions had such answers.
    """
    asked = set()
    for number, record in enumerate(records(questions, "questions", {"question_id": int})):
        if record["question_id"] in asked:
            raise RequestError(f"{questions}: record {number}: question_id {record['question_id']} a second time")
        asked.add(record["question_id"])
    truths = annotation_records(annotations)
    without_ids = [record for record in truths if lack_ids(record["answers"])]
    for record in without_ids:
        record["answers"] = numbered(record["answers"])
    if different := asked ^ {record["question_id"] for record in truths}:
        raise RequestError(f"{questions} and {annotations}: {len(different)} question ids are in one of them only, such as "
                           f"{min(different)}")  # fmt: skip
    given: dict[int, str] = {}
    for number, record in enumerate(records(predictions, None, {"question_id": int, "answer": str})):
        if record["question_id"] in given:
            raise RequestError(f"{predictions}: record {number}: question_id {record['question_id']} a second time")
        given[record["question_id"]] = record["answer"]
    try:
        scores = vqa_accuracy(given, truths)
    except RequestError as error:
        raise RequestError(f"{predictions}: {error}") from error
    image_of = {record["question_id"]: record["image_id"] for record in truths}
    return scores | {"image_of": image_of, "numbered": len(without_ids)}
