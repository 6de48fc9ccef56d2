"""VQA v2's official files → the prepared form; easy-VQA goes the same way."""

import functools
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from vle_bench import atomic
from vle_bench.data.prepared import SCHEMA_VERSION, labels_digest
from vle_bench.errors import RequestError
from vle_bench.progress import track
from vle_bench.vqa_answers import normalize_answer, soft_target
from vle_bench.vqa_files import QUESTION, annotation_records, records

MIN_ANSWER_COUNT = 9  # METER, `write_vqa.py`: 3,129 answers remain of train and val
ROWS_A_BATCH = 500
# The same few answers come millions of times, and normalising one is slow; bounded, because their number is not.
normal = functools.lru_cache(maxsize=1 << 17)(normalize_answer)
IMAGES = pa.schema([("image_id", pa.int64()), ("file_name", pa.string()), ("bytes", pa.binary()),
                    ("width", pa.int32()), ("height", pa.int32())])  # fmt: skip
QUESTIONS = pa.schema([
    ("question_id", pa.int64()), ("image_id", pa.int64()), ("image_row", pa.int64()), ("question", pa.string()),
    ("question_type", pa.string()), ("answer_type", pa.string()), ("multiple_choice_answer", pa.string()),
    ("answers", pa.list_(pa.string())), ("label_ids", pa.list_(pa.int64())), ("label_scores", pa.list_(pa.float32())),
])  # fmt: skip


@dataclass(frozen=True)
class Split:
    """One split: official files, where its images lie, and which of them belong to it."""

    questions: Path
    annotations: Path | None
    image_path: Callable[[int], Path]
    keep: Callable[[int], bool] = lambda image_id: True
    vocabulary: bool = False  # its majority answers make up the label map


def held_out(image_id: int) -> bool:
    """Every tenth image, by a hash of its id: anyone can rebuild the split, and no order matters."""
    return int.from_bytes(hashlib.sha256(str(image_id).encode()).digest()[:8], "big") % 10 == 0


def coco_name(folder: str) -> Callable[[int], str]:
    """Image id → official file name, `COCO_val2014_000000000042.jpg`."""
    return lambda image_id: f"COCO_{folder}_{image_id:012d}.jpg"


def prepare_vqav2(source: Path, output: Path) -> None:
    """The official folder layout of VQA v2 → prepared data with train, val, test-dev and test."""

    def split(folder: str, name: str, annotated: bool) -> Split:
        file_name = coco_name(folder)
        return Split(
            source / f"v2_OpenEnded_mscoco_{name}_questions.json",
            source / f"v2_mscoco_{name}_annotations.json" if annotated else None,
            lambda image_id: source / folder / file_name(image_id),
            vocabulary=annotated,
        )

    splits = {
        "train": split("train2014", "train2014", True), "val": split("val2014", "val2014", True),
        "test-dev": split("test2015", "test-dev2015", False), "test": split("test2015", "test2015", False),
    }  # fmt: skip
    prepare_questions("vqav2", splits, output, MIN_ANSWER_COUNT)


def prepare_questions(source: str, splits: dict[str, Split], output: Path, min_count: int) -> None:
    """Official files → tables. Nothing appears under `output` unless all of it could be written.

    Args:
        min_count: how often a normalised majority answer must occur in the vocabulary's splits to become a class.
    """
    check_output(output, source)
    labels = vocabulary([s for s in splits.values() if s.vocabulary], min_count)
    label_ids = {label: i for i, label in enumerate(labels)}
    with atomic.folder(output) as folder:
        rows = write_images(folder / "images.arrow", splits)
        counts = {
            name: write_split(folder / f"questions-{name}.arrow", name, split, rows, label_ids) for name, split in splits.items()
        }
        atomic.write_json(folder / "label_map.json", {"answers": labels, "sha256": labels_digest(labels)})
        files = {p.name: {"bytes": p.stat().st_size, "sha256": digest(p)} for p in sorted(folder.iterdir())}
        manifest: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION, "source": source, "splits": counts, "files": files,
            "labels": {"count": len(labels), "sha256": labels_digest(labels), "min_count": min_count},
        }  # fmt: skip
        manifest["hash"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        atomic.write_json(folder / "manifest.json", manifest)


def check_output(output: Path, source: str) -> None:
    """Only an empty folder, or prepared data of the same source and nothing beside it, is replaced."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    try:
        manifest = json.loads((output / "manifest.json").read_text())
        ours = manifest["source"] == source
        others = sorted({p.name for p in output.iterdir()} - {"manifest.json", *manifest["files"]})
    except (OSError, ValueError, KeyError, TypeError):
        ours, others = False, []
    if not ours:
        raise RequestError(f"{output}: holds something else than prepared {source}; give another --output")
    if others:  # the folder is replaced as a whole: what someone put beside the data would be gone
        raise RequestError(f"{output}: holds {others[0]!r} beside the prepared data; move it or give another --output")


def kept_questions(split: Split) -> list[dict[str, Any]]:
    return [r for r in records(split.questions, "questions", dict(QUESTION)) if split.keep(r["image_id"])]


def vocabulary(splits: list[Split], min_count: int) -> list[str]:
    """Normalised majority answers by (count descending, answer)."""
    counts: Counter[str] = Counter()
    for split in splits:
        assert split.annotations is not None
        found = (r for r in annotation_records(split.annotations) if split.keep(r["image_id"]))
        counts.update(normal(record["multiple_choice_answer"]) for record in found)
    labels = [label for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count >= min_count]
    if not labels:
        raise RequestError(f"no answer occurs {min_count} times: there would be no class to predict")
    return labels


def write_images(path: Path, splits: dict[str, Split]) -> dict[int, int]:
    """Every image that a question asks about, once, by id; returns its row."""
    paths: dict[int, Path] = {}
    for split in splits.values():
        for record in kept_questions(split):
            image_id, path_here = record["image_id"], split.image_path(record["image_id"])
            if (first := paths.setdefault(image_id, path_here)) != path_here:
                raise RequestError(f"image_id {image_id} stands for two files, {first} and {path_here}")
    order = sorted(paths)
    rows = (image_row(image_id, paths[image_id]) for image_id in track(order, "images", len(order)))
    write_table(path, IMAGES, rows)
    return {image_id: row for row, image_id in enumerate(order)}


def image_row(image_id: int, path: Path) -> dict[str, Any]:
    """The encoded file, opened once to be sure that it is an image."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            width, height = image.size
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such image (image_id {image_id})") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, ... by format
        raise RequestError(f"{path}: cannot be read as an image ({error})") from error
    return {"image_id": image_id, "file_name": path.name, "bytes": content, "width": width, "height": height}


def write_split(path: Path, name: str, split: Split, rows: dict[int, int], label_ids: dict[str, int]) -> dict[str, Any]:
    """One questions table in the order of the ids; returns the split's counts."""
    questions = sorted(kept_questions(split), key=lambda record: record["question_id"])
    if not questions:
        raise RequestError(f"{split.questions}: no question for the split {name!r}")
    ids = [record["question_id"] for record in questions]
    check_once(split.questions, ids)
    truths = annotations_of(split, questions)
    rows_of_split = (question_row(q, truths.get(q["question_id"]), rows, label_ids) for q in questions)
    try:
        write_table(path, QUESTIONS, track(rows_of_split, name, len(questions)))
    except RequestError as error:
        raise RequestError(f"{split.annotations or split.questions}: {error}") from error
    return {
        "questions": len(ids), "images": len({q["image_id"] for q in questions}), "labelled": split.annotations is not None,
        "ids_sha256": hashlib.sha256(json.dumps(ids).encode()).hexdigest(),
    }  # fmt: skip


def annotations_of(split: Split, questions: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Question id → its annotation; exactly the split's questions have one, about the same image. {} without a file."""
    if split.annotations is None:
        return {}
    found = [r for r in annotation_records(split.annotations) if split.keep(r["image_id"])]
    check_once(split.annotations, [record["question_id"] for record in found])
    image_ids = {question["question_id"]: question["image_id"] for question in questions}
    truths = {record["question_id"]: record for record in found}
    if without := sorted(set(image_ids) - set(truths)):
        raise RequestError(f"{split.annotations}: {len(without)} questions have no annotation, such as {without[0]}")
    if unknown := sorted(set(truths) - set(image_ids)):
        raise RequestError(f"{split.annotations}: {len(unknown)} annotations without a question, such as {unknown[0]}")
    for question_id, image_id in image_ids.items():  # a wrong image would carry answers over the border of a hold-out
        if truths[question_id]["image_id"] != image_id:
            raise RequestError(f"{split.annotations}: question_id {question_id}: image_id "
                               f"{truths[question_id]['image_id']}, but {image_id} in {split.questions}")  # fmt: skip
    return truths


def check_once(path: Path, ids: list[int]) -> None:
    if len(set(ids)) != len(ids):
        raise RequestError(f"{path}: question_id {Counter(ids).most_common(1)[0][0]} stands there twice")


def question_row(
    question: dict[str, Any], truth: dict[str, Any] | None, rows: dict[int, int], label_ids: dict[str, int]
) -> dict[str, Any]:
    row = {k: question[k] for k in ("question_id", "image_id", "question")} | {"image_row": rows[question["image_id"]]}
    if truth is None:
        return row | dict.fromkeys(
            ("question_type", "answer_type", "multiple_choice_answer", "answers", "label_ids", "label_scores")
        )
    answers = [record["answer"] for record in truth["answers"]]
    matches = Counter(normal(answer) for answer in answers)
    targets = sorted((label_ids[a], soft_target(n)) for a, n in matches.items() if a in label_ids)
    return row | {
        "question_type": truth["question_type"], "answer_type": truth["answer_type"],
        "multiple_choice_answer": truth["multiple_choice_answer"], "answers": answers,
        "label_ids": [label for label, _ in targets], "label_scores": [score for _, score in targets],
    }  # fmt: skip


def write_table(path: Path, schema: pa.Schema, rows: Iterator[dict[str, Any]]) -> None:
    """An Arrow stream, a few hundred rows at a time, so that memory does not grow with the data."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(row)
            if len(batch) == ROWS_A_BATCH:
                writer.write_batch(record_batch(batch, schema))
                batch.clear()
        if batch:
            writer.write_batch(record_batch(batch, schema))


def record_batch(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows → Arrow; half a surrogate pair or a number of more than 64 bits, which JSON may hold, names its row."""
    try:
        return pa.RecordBatch.from_pylist(rows, schema)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        if len(rows) == 1:
            first = schema.names[0]
            raise RequestError(f"{first} {rows[0][first]}: cannot be stored: {error}") from error
        for row in rows:
            record_batch([row], schema)
        raise


def digest(path: Path) -> str:
    result = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            result.update(block)
    return result.hexdigest()
