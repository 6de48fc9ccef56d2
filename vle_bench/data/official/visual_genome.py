"""Visual Genome's question answers about COCO's images, as more training questions (UNITER)."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from vle_bench.data.official.vqa import BadRecords, one_answer, problem_of, table
from vle_bench.data.tables import OFFICIAL
from vle_bench.json_files import JsonObject, stream

# Added to Visual Genome's qa_id (below 2 million); VQA v2's ids are image_id * 1000 + k, below 600
# million.
ID_OFFSET = 10_000_000_000
QUESTION_TYPE = "visual genome"


def read_visual_genome(
    question_answers: Path, image_data: Path | None, bad: BadRecords
) -> pa.Table:
    """Read the questions about images with a `coco_id` to the columns of OFFICIAL.

    The one answer is repeated ten times, as if all ten people had given it.

    Args:
        question_answers: `question_answers.json`: [{"id": image, "qas": [{"qa_id", "question",
            "answer", ...}]}].
        image_data: `image_data.json`: [{"image_id": image, "coco_id": number or null, ...}].
    """
    assert image_data is not None
    return table(
        question_answers, rows(question_answers, coco_ids(image_data, bad), bad), OFFICIAL, bad
    )


def coco_ids(image_data: Path, bad: BadRecords) -> dict[int, int]:
    """Map Visual Genome's image ids to COCO's."""
    ids = {}
    for number, record in enumerate(stream(image_data, None)):
        coco_id = record.get("coco_id") if isinstance(record, dict) else None
        problem = problem_of(record, {"image_id": int}) or (
            coco_id is not None and problem_of(record, {"coco_id": int})
        )
        if problem:
            bad.add(image_data, f"record {number}", problem)
        elif coco_id is not None:
            ids[record["image_id"]] = coco_id
    return ids


def rows(path: Path, images: dict[int, int], bad: BadRecords) -> Iterator[JsonObject]:
    for number, record in enumerate(stream(path, None)):
        if problem := problem_of(record, {"id": int, "qas": list}):
            bad.add(path, f"record {number}", problem)
        elif record["id"] not in images:
            bad.outside_coco += len(record["qas"])
        else:
            for asked in record["qas"]:
                if problem := problem_of(asked, {"qa_id": int, "question": str, "answer": str}):
                    bad.add(
                        path,
                        f"record {number} (image {record['id']})",
                        problem,
                        {"image_id": images[record["id"]]},
                    )
                else:
                    yield one_answer(
                        ID_OFFSET + asked["qa_id"],
                        images[record["id"]],
                        asked["question"],
                        asked["answer"],
                        QUESTION_TYPE,
                    )
