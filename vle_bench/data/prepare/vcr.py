"""VCR's official files → the prepared form: every record and metadata file checked, every image decoded once."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vle_bench import atomic
from vle_bench.data.official.vcr import (
    annot_id_of,
    bad_record,
    check_metadata,
    check_official_record,
    picture_boxes,
    read_metadata,
)
from vle_bench.data.prepare.fingerprint import making_of
from vle_bench.data.prepare.manifest import (
    AS_USUAL,
    FINISHED_SHARDS,
    WORK,
    Choices,
    Manifest,
    Options,
    finish,
)
from vle_bench.data.prepare.shards import (
    Problem,
    Shard,
    Source,
    Table,
    described,
    image_error,
    image_row,
    plan,
    problem,
    write_shards,
)
from vle_bench.data.prepare.vcr_summary import count_boxes, sum_of_shards, text_report
from vle_bench.data.prepare.vqa_summary import load_tokenizer
from vle_bench.data.prepared import SCHEMA_VERSION
from vle_bench.data.tables import (
    VCR_IMAGES,
    VCR_QUESTIONS,
    VCR_RECORDS,
    record_batches,
    write_table,
)
from vle_bench.errors import RequestError
from vle_bench.json_files import jsonl_lines, parse
from vle_bench.progress import Bar

SPLITS = ("train", "val", "test")
LABELLED = ("train", "val")  # test has labels or not, but one of the two throughout
IMAGES = "vcr1images"
ANNOTATIONS = "vcr1annots"
MAX_TEXT_LENGTH = 80  # VLE's, for VCR
KEPT = ("annot_id", "objects", "question", "answer_choices", "rationale_choices")
LABELS = ("answer_label", "rationale_label")
LINES = VCR_RECORDS.append(
    pa.field("line", pa.int64())
)  # between the two passes, a line number goes with each record


class Asked(NamedTuple):
    """What the first record about an image says of it; the others must agree."""

    objects: str  # JSON
    metadata_fn: str
    path: Path
    line: int
    annot_id: str

    @property
    def name(self) -> str:
        return f"{self.path}: line {self.line}: VCR record {self.annot_id!r}"


@dataclass
class Known:
    """What holds across the lines and files, and so must be remembered: some hundred bytes a record."""

    policy: str
    images: dict[str, Asked] = field(default_factory=dict)  # img_fn → first record
    ids: dict[int, str] = field(default_factory=dict)  # image_id → img_fn
    annot_ids: dict[str, str] = field(default_factory=dict)  # annot_id → file and line
    left_out: list[dict[str, Any]] = field(default_factory=list)
    tags_out_of_range: int = 0

    def refuse(self, path: Path, line: int, error: RequestError, annot_id: Any) -> None:
        if self.policy == "error":
            raise record_error(f"{path}: line {line}: {error}") from error
        self.left_out.append(left_out_record(path, line, annot_id, str(error).split(": ", 1)[1]))


def prepare(official: Path, output: Path, choices: Choices, options: Options) -> Manifest:
    return prepare_vcr(official, output, choices)


def prepare_vcr(
    source: Path,
    output: Path,
    choices: Choices = AS_USUAL,
    name: str = "vcr",
    made_from: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """VCR's files, unpacked → prepared data; returns the manifest.

    Nothing appears under `output` unless all of it could be written. The shards of images that a killed run has finished the next
    one takes over. An output that is finished stands: its manifest comes back as a `Standing`.

    Args:
        source: has train.jsonl, val.jsonl, test.jsonl (or some of them; vcr1annots/ is looked into as well) and vcr1images/.
        name: what the manifest calls the source of the data.
        made_from: as `making_of` takes it.
    """
    paths = annotation_files(source)
    if choices.tokenizer is not None:
        load_tokenizer(choices.tokenizer)  # what is wrong with it should show before the work
    making = making_of(
        name, paths.values(), choices, lambda bad: source / IMAGES / bad["file"], made_from
    )
    if (there := making.standing(output, paths)) is not None:
        making.count_again(
            output,
            there,
            there["report"]["splits"],
            lambda split: lengths_of(output, there, split, choices),
        )
        return there
    with atomic.resumed_folder(output, FINISHED_SHARDS) as folder:
        work = folder / WORK
        work.mkdir(exist_ok=True)
        known = Known(choices.on_bad_record)
        for split, path in paths.items():
            read_split(path, split, work / f"records-{split}.arrow", known)
        shards, notes, missing = write_images(folder, work, source / IMAGES, known, choices)
        bad = {
            found["image_id"]: found
            for found in (*missing, *(b for note in notes for b in note["bad"]))
        }
        stored = np.array(
            [
                image_id(file_name)
                for file_name in sorted(known.images)
                if image_id(file_name) not in bad
            ],
            dtype=np.int64,
        )
        counts, report = write_questions(folder, paths, stored, bad, known, choices)
        files = {shard.name: note["file"] for shard, note in zip(shards, notes, strict=True)}
        tables = {
            f"questions-{split}.arrow": described(folder / f"questions-{split}.arrow")
            for split in paths
        }
        manifest: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "source": name,
            "splits": counts,
            "files": {**files, **tables},
            "images": list(files),
        }
        whole = {
            "splits": report,
            "images": sum_of_shards(note["counts"] for note in notes),
            "missing_splits": [split for split in SPLITS if split not in paths],
            "tags_out_of_range": known.tags_out_of_range,
        }
        left_out = {"records": in_order(known.left_out), "images": left_out_images(bad, known)}
        finish(folder, manifest, whole, left_out, making.noted(left_out))
    return manifest


def write_questions(
    folder: Path,
    paths: dict[str, Path],
    stored: np.ndarray,
    bad: dict[int, Problem],
    known: Known,
    choices: Choices,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The questions tables; for the manifest, by split: what is in it, and its report."""
    counts, report = {}, {}
    for split, path in paths.items():
        questions = Questions(path, stored, bad)
        target = folder / f"questions-{split}.arrow"
        write_table(
            target, VCR_QUESTIONS, questions.batches(folder / WORK / f"records-{split}.arrow")
        )
        if not questions.annot_ids:
            raise RequestError(f"{path}: no record is left for the split {split!r}")
        counts[split] = questions.counts()
        known.left_out += questions.left_out
        wrong = [record["annot_id"] for record in known.left_out if record["file"] == path.name]
        report[split] = {
            "left_out_with_their_image": questions.with_their_image,
            "left_out_as_bad_records": len({*wrong} - {None, *questions.annot_ids})
            + wrong.count(None),
        }
        report[split] |= text_report(
            target, len(questions.annot_ids), split, choices, MAX_TEXT_LENGTH
        )
    return counts, report


def lengths_of(
    output: Path, manifest: dict[str, Any], split: str, choices: Choices
) -> dict[str, Any]:
    questions = manifest["splits"][split]["questions"]
    return text_report(
        output / f"questions-{split}.arrow", questions, split, choices, MAX_TEXT_LENGTH
    )


def annotation_files(source: Path) -> dict[str, Path]:
    """Split → its file, for those that are there; refuses a folder that is not ready to be prepared."""
    found = {}
    for name in SPLITS:
        there = [
            path
            for path in (source / f"{name}.jsonl", source / ANNOTATIONS / f"{name}.jsonl")
            if path.exists()
        ]
        if len(there) > 1:
            raise RequestError(f"{there[0]} and {there[1]}: which is meant? Remove one")
        if there:
            found[name] = there[0]
    for lacking, what, archive in (
        (not found, "no train.jsonl, val.jsonl or test.jsonl", f"{ANNOTATIONS}.zip"),
        (not (source / IMAGES).is_dir(), f"no folder {IMAGES}", f"{IMAGES}.zip"),
    ):
        if lacking:
            packed = f"; {archive} lies there still packed" if (source / archive).is_file() else ""
            raise RequestError(
                f"{source}: {what} there{packed}; `vle-bench download vcr --output {source}` unpacks the archives"
            )
    return found


def image_id(img_fn: str) -> int:
    """63 bits of the name's SHA-256: the same number whichever splits are prepared."""
    return int.from_bytes(hashlib.sha256(img_fn.encode()).digest()[:8], "big") >> 1


def read_split(path: Path, name: str, target: Path, known: Known) -> None:
    """The records of one file, checked as far as they can be without their metadata, as a table of LINES."""
    with Bar(f"read {path.name}", path.stat().st_size, in_bytes=True) as bar:
        write_table(target, LINES, record_batches(rows_of(path, name, known, bar), LINES))
    if not bar.done:
        raise RequestError(f"{path}: empty, there is no record in it")


def rows_of(path: Path, name: str, known: Known, bar: Bar) -> Iterator[dict[str, Any]]:
    labelled = True if name in LABELLED else None  # None: as the first record
    for line, content in jsonl_lines(path):
        bar.advance(len(content))
        record: dict[str, Any] = {}
        try:
            record = parse(content, f"VCR record {annot_id_of(content)!r}")
            row = row_of(record)
            labelled = check_labels(record, labelled)
            remember(record, path, line, known)
        except RequestError as error:
            known.tags_out_of_range += "names none of its" in str(error)
            known.refuse(path, line, error, record.get("annot_id", annot_id_of(content)))
            continue
        yield {**row, "line": line}


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """The columns of VCR_RECORDS; refuses a record that is not an official one, or that cannot be stored."""
    check_official_record(record)
    if not isinstance(record.get("annot_id"), str) or not record["annot_id"]:
        raise bad_record(record, "annot_id: a string is expected")
    for key in ("img_fn", "metadata_fn"):
        check_file_name(record, key)
    likelihood = record.get("answer_likelihood")
    if not isinstance(likelihood, str | None):
        raise bad_record(record, "answer_likelihood: not a string")
    labels = {key: record[key] for key in LABELS if record.get(key) is not None}
    text = json.dumps(
        {**{key: record[key] for key in KEPT}, **labels}, ensure_ascii=False, separators=(",", ":")
    )
    if not all(map(is_text, (text, likelihood or ""))):
        raise bad_record(record, "half a surrogate pair, which no text can hold")
    return {
        "annot_id": record["annot_id"],
        "image_id": image_id(record["img_fn"]),
        "record": text,
        "answer_likelihood": likelihood,
        **{key: labels.get(key) for key in LABELS},
    }


def check_file_name(record: dict[str, Any], key: str) -> None:
    """A name inside the folder of images; what else stands there, no file system should be asked for."""
    name = record.get(key)
    if not isinstance(name, str) or not name or "\0" in name or not is_text(name):
        raise bad_record(record, f"{key}: a file name is expected")
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise bad_record(record, f"{key}: leads out of {IMAGES}")


def is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_labels(record: dict[str, Any], labelled: bool | None) -> bool:
    """Whether the record has its labels, which must be as `labelled` says of its split."""
    lacking = [key for key in LABELS if record.get(key) is None]
    if lacking and (labelled or len(lacking) == 1):
        raise bad_record(record, f"has no {lacking[0]!r}")
    if not lacking and labelled is False:
        raise bad_record(record, "has labels, and the records before it have none")
    return not lacking


def remember(record: dict[str, Any], path: Path, line: int, known: Known) -> None:
    """Refuses a record whose id was there before, or that contradicts an earlier one about the same image."""
    annot_id, name = record["annot_id"], record["img_fn"]
    if (before := known.annot_ids.get(annot_id)) is not None:
        raise bad_record(record, f"annot_id: stands in {before} already")
    asked = Asked(json.dumps(record["objects"]), record["metadata_fn"], path, line, annot_id)
    first = known.images.get(name, asked)
    for key in ("objects", "metadata_fn"):
        if getattr(first, key) != getattr(asked, key):
            raise bad_record(
                record,
                f"{key}: not as in {first.path.name}, line {first.line}, about the same image",
            )
    if (other := known.ids.get(image_id(name), name)) != name:
        raise bad_record(record, f"img_fn: its image_id is that of {other} too; rename one")
    known.images[name], known.ids[image_id(name)] = first, name
    known.annot_ids[annot_id] = f"{path.name}, line {line}"


def write_images(
    folder: Path, work: Path, images: Path, known: Known, choices: Choices
) -> tuple[list[Shard], list[dict[str, Any]], list[Problem]]:
    """Every image that a record asks about, once, by file name: the shards, their notes, and the files that are not there."""
    skip = choices.on_bad_image == "skip"
    shards, missing = plan(
        (source_of(images, name, known.images[name]) for name in sorted(known.images)),
        choices.shard_bytes,
    )
    if missing and not skip:
        raise image_error(missing[0])
    table = Table(
        VCR_IMAGES,
        partial(image_rows, skip, choices.on_bad_record == "skip"),
        partial(may_stay, skip, choices.on_bad_record == "skip"),
    )
    return shards, write_shards(folder, work, shards, choices.workers, table), missing


def source_of(images: Path, name: str, asked: Asked) -> Source:
    metadata = images / asked.metadata_fn
    try:
        status = os.stat(metadata)
        stamp = f"{SCHEMA_VERSION} {status.st_size} {status.st_mtime_ns}"
    except OSError:
        stamp = "missing"
    return Source(
        image_id(name),
        str(images / name),
        asked.name,
        (name, str(metadata), asked.metadata_fn, asked.objects),
        stamp,
    )


def may_stay(skip_images: bool, skip_records: bool, bad: list[Problem]) -> bool:
    return all(skip_records if "metadata" in found else skip_images for found in bad)


def image_rows(
    skip_images: bool, skip_records: bool, shard: Shard, bad: list[Problem], counts: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The rows of VCR_IMAGES. Bad metadata are the matter of the records that name them: `metadata` marks the problem."""
    for image in shard.images:
        found = image_row(image, bad, skip_images)
        if found is None:
            continue
        row, orientation = found
        name, metadata_path, metadata_fn, objects = image.more
        record = {"annot_id": "", "objects": json.loads(objects)}
        try:
            metadata = read_metadata(Path(metadata_path))
            check_metadata(record, metadata)
            boxes = picture_boxes(record, metadata, row["width"], row["height"], orientation)
        except RequestError as error:
            reason = f"{IMAGES}/{metadata_fn}: {str(error).split('metadata: ', 1)[-1].removeprefix(f'{metadata_path}: ')}"
            if not skip_records:
                raise record_error(f"{image.asked_by}: {reason}") from error
            bad.append({**problem(image, reason), "metadata": metadata_fn})
            continue
        count_boxes(counts, boxes, row, metadata)
        yield {**row, "file_name": name, "boxes": boxes.tolist(), "class_names": record["objects"]}


class Questions:
    """One split's records → its questions table, and what there is to say about them.

    Args:
        stored: (N,) image ids in the order of the rows of the images table.
        bad: image_id → why it is not there.
    """

    def __init__(self, path: Path, stored: np.ndarray, bad: dict[int, Problem]) -> None:
        self.path, self.bad = path, bad
        self.rows = np.argsort(stored)
        self.ids = stored[self.rows]
        self.annot_ids: list[str] = []
        self.images: set[int] = set()
        self.labelled = False
        self.left_out: list[dict[str, Any]] = []
        self.with_their_image = 0

    def batches(self, records: Path) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(str(records)) as file, pa.ipc.open_stream(file) as batches:
            for batch in batches:
                ids = batch["image_id"].to_numpy()
                place = np.minimum(np.searchsorted(self.ids, ids), max(len(self.ids) - 1, 0))
                there = self.ids[place] == ids if len(self.ids) else np.zeros(len(ids), bool)
                self.leave_out(batch.filter(pa.array(~there)))
                kept = batch.filter(pa.array(there))
                self.annot_ids += kept["annot_id"].to_pylist()
                self.images.update(ids[there].tolist())
                self.labelled |= kept["answer_label"].null_count < len(kept)
                columns = {name: kept[name] for name in VCR_RECORDS.names} | {
                    "image_row": pa.array(self.rows[place[there]])
                }
                yield pa.RecordBatch.from_arrays(
                    [columns[name] for name in VCR_QUESTIONS.names], schema=VCR_QUESTIONS
                )

    def leave_out(self, batch: pa.RecordBatch) -> None:
        for row in batch.select(["image_id", "annot_id", "line"]).to_pylist():
            found = self.bad[row["image_id"]]
            if "metadata" in found:
                self.left_out.append(
                    left_out_record(self.path, row["line"], row["annot_id"], found["problem"])
                )
            else:
                self.with_their_image += 1

    def counts(self) -> dict[str, Any]:
        digest = hashlib.sha256(json.dumps(self.annot_ids).encode()).hexdigest()
        return {
            "questions": len(self.annot_ids),
            "images": len(self.images),
            "labelled": self.labelled,
            "ids_sha256": digest,
        }


def record_error(text: str) -> RequestError:
    return RequestError(f"{text}; --on-bad-record skip leaves such records out")


def left_out_record(path: Path, line: int, annot_id: Any, text: str) -> dict[str, Any]:
    return {
        "file": path.name,
        "line": line,
        "annot_id": annot_id if isinstance(annot_id, str) else None,
        "problem": text,
    }


def in_order(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(
        records, key=lambda r: (SPLITS.index(r["file"].removesuffix(".jsonl")), r["line"])
    )


def left_out_images(bad: dict[int, Problem], known: Known) -> list[dict[str, Any]]:
    found = []
    for number, problem_ in bad.items():
        if "metadata" not in problem_:
            name = known.ids[number]
            first = known.images[name]
            asked_by = f"{first.path.name}: line {first.line}: annot_id {first.annot_id}"
            found.append(
                {
                    "file": name,
                    "image_id": number,
                    "asked_by": asked_by,
                    "problem": problem_["problem"],
                }
            )
    return sorted(found, key=lambda image: image["file"])
