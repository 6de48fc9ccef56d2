"""Prepare VCR: find its archives, and check and convert its official files."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vle_bench import atomic
from vle_bench.data.download.archives import Archive, is_unpacked
from vle_bench.data.official.vcr import check_metadata, picture_boxes, read_metadata
from vle_bench.data.prepare.fingerprint import fingerprint
from vle_bench.data.prepare.manifest import (
    AS_USUAL,
    FINISHED_SHARDS,
    WORK,
    Choices,
    Options,
    finish,
)
from vle_bench.data.prepare.shards import (
    TURNED,
    BadImage,
    Shard,
    Source,
    Table,
    bad_image,
    described,
    image_error,
    image_row,
    plan,
    turned_of,
    write_shards,
)
from vle_bench.data.prepare.vcr_records import (
    IMAGES,
    SPLITS,
    Asked,
    Known,
    image_id,
    in_order,
    left_out_images,
    left_out_record,
    read_split,
    record_error,
)
from vle_bench.data.prepare.vcr_summary import count_boxes, sum_of_shards, text_report
from vle_bench.data.prepare.vqa_summary import load_tokenizer
from vle_bench.data.prepared import SCHEMA_VERSION, Manifest
from vle_bench.data.tables import VCR_IMAGES, VCR_QUESTIONS, VCR_RECORDS, write_table
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject

ANNOTATIONS = "vcr1annots"
MAX_TEXT_LENGTH = 80  # VLE's, for VCR
Ids = NDArray[np.int64]
VCR_FORM = "https://visualcommonsense.com/download/"
# The images' archive also has metadata files, which shrink.
VCR = (
    Archive(
        "",
        ("train.jsonl", "val.jsonl", "test.jsonl"),
        "the questions",
        growth=25,
        saved_as="vcr1annots.zip",
    ),
    Archive(
        "", ("vcr1images/",), "the images and their boxes", growth=1.3, saved_as="vcr1images.zip"
    ),
)


def archives(output: Path, given: Mapping[str, str]) -> Sequence[Archive]:
    """Return VCR's two archives, each from the user's URL or file, or else from `output`.

    Args:
        given: --annotations and --images, as far as they were given.

    Raises:
        RequestError: an archive is missing; the lines say how to get it.
    """
    chosen: list[Archive] = []
    for archive, option in zip(VCR, ("--annotations", "--images"), strict=True):
        place = given.get(option)
        if place is None:
            if not is_unpacked(archive, output) and not archive.path(output).is_file():
                missing = f"{archive.name} is not in {output}, and no {option} says where it is"
                raise RequestError("\n".join([f"download vcr: {missing}", *archive_lines(output)]))
            chosen.append(archive)
        elif place.startswith(("http://", "https://")):
            chosen.append(replace(archive, url=place))
        elif Path(place).is_file():
            chosen.append(replace(archive, file=Path(place)))
        else:
            raise RequestError(
                f"download vcr: {option} {place}: no such file, and no URL with http:// or https://"
            )
    return chosen


def archive_lines(output: Path | None) -> list[str]:
    """Return how to get VCR's archives."""
    command = f"vle-bench download vcr --output {'FOLDER' if output is None else output}"
    return [
        f"VCR is given out under its own licence, to those who accept it in the form at {VCR_FORM}",
        "The page then links to two archives:",
        *(f"  {archive.name}: {archive.about} ({', '.join(archive.holds)})" for archive in VCR),
        "With the links, or with the archives in any folder:",
        f"  {command} --annotations URL|FILE --images URL|FILE",
        "With both archives in the folder:",
        f"  {command}",
        "Unpacked files go straight to `vle-bench prepare vcr --source FOLDER`.",
    ]


def prepare(official: Path, output: Path, choices: Choices, options: Options) -> Manifest:
    return prepare_vcr(official, output, choices)


def prepare_vcr(
    source: Path,
    output: Path,
    choices: Choices = AS_USUAL,
    name: str = "vcr",
    made_from: JsonObject | None = None,
) -> Manifest:
    """Write prepared data to `output`, completely or not at all, and return the manifest.

    The next run reuses the finished image shards of a killed one. For data that are already
    complete, the manifest is a `Standing`.

    Args:
        source: has train.jsonl, val.jsonl and test.jsonl, or some of them (also in vcr1annots/),
            and vcr1images/.
        name: name of the dataset in the manifest.
        made_from: parameters that generated the official files, see `fingerprint`.
    """
    paths = annotation_files(source)
    if choices.tokenizer is not None:
        load_tokenizer(choices.tokenizer)  # its errors should come before the work
    request = fingerprint(
        name, paths.values(), choices, lambda bad: source / IMAGES / bad["file"], made_from
    )
    if (standing := request.finished(output, paths)) is not None:
        lengths = partial(lengths_of, output, standing, choices)
        request.count_again(output, standing, standing.report["splits"], lengths)
        return standing
    with atomic.resumed_folder(output, FINISHED_SHARDS) as folder:
        work = folder / WORK
        work.mkdir(exist_ok=True)
        known = Known(choices.on_bad_record)
        for split, path in paths.items():
            read_split(path, split, work / f"records-{split}.arrow", known)
        shards, notes, missing = write_images(folder, work, source / IMAGES, known, choices)
        unreadable = [bad for note in notes for bad in note["bad"]]
        bad = {image["image_id"]: image for image in (*missing, *unreadable)}
        all_ids = [image_id(file_name) for file_name in sorted(known.images)]
        stored = np.array([number for number in all_ids if number not in bad], dtype=np.int64)
        counts, report = write_questions(folder, paths, stored, bad, known, choices)
        files = {shard.name: note["file"] for shard, note in zip(shards, notes, strict=True)}
        tables = [f"questions-{split}.arrow" for split in paths]
        left_out = {"records": in_order(known.left_out), "images": left_out_images(bad, known)}
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            source=name,
            splits=counts,
            files=files | {table: described(folder / table) for table in tables},
            images=list(files),
            turned=turned_of(notes),
            report={
                "splits": report,
                "images": sum_of_shards(note["counts"] for note in notes),
                "missing_splits": [split for split in SPLITS if split not in paths],
                "tags_out_of_range": known.tags_out_of_range,
            },
            left_out=left_out,
            inputs=request.as_inputs(left_out),
        )
        return finish(folder, manifest)


def write_questions(
    folder: Path,
    paths: dict[str, Path],
    stored: Ids,
    bad: dict[int, BadImage],
    known: Known,
    choices: Choices,
) -> tuple[JsonObject, JsonObject]:
    """Write the questions tables; return contents and report of each split for the manifest."""
    counts, report = {}, {}
    for split, path in paths.items():
        questions = Questions(path, stored, bad)
        target = folder / f"questions-{split}.arrow"
        records = folder / WORK / f"records-{split}.arrow"
        write_table(target, VCR_QUESTIONS, questions.batches(records))
        if not questions.annot_ids:
            raise RequestError(f"{path}: no record is left for the split {split!r}")
        counts[split] = questions.counts()
        known.left_out += questions.left_out
        wrong = [record["annot_id"] for record in known.left_out if record["file"] == path.name]
        # A record without an id counts as one; a bad record whose id another record has does not.
        bad_records = len({*wrong} - {None, *questions.annot_ids}) + wrong.count(None)
        report[split] = {
            "left_out_with_their_image": questions.with_their_image,
            "left_out_as_bad_records": bad_records,
        }
        count = len(questions.annot_ids)
        report[split] |= text_report(target, count, split, choices, MAX_TEXT_LENGTH)
    return counts, report


def lengths_of(output: Path, manifest: Manifest, choices: Choices, split: str) -> JsonObject:
    questions = manifest.splits[split]["questions"]
    table = output / f"questions-{split}.arrow"
    return text_report(table, questions, split, choices, MAX_TEXT_LENGTH)


def annotation_files(source: Path) -> dict[str, Path]:
    """Return the file of each split that the folder has; refuse a folder that lacks files."""
    files = {}
    for name in SPLITS:
        places = (source / f"{name}.jsonl", source / ANNOTATIONS / f"{name}.jsonl")
        existing = [path for path in places if path.exists()]
        if len(existing) > 1:
            raise RequestError(f"{existing[0]} and {existing[1]}: both exist; remove one")
        if existing:
            files[name] = existing[0]
    for lacking, what, archive in (
        (not files, "no train.jsonl, val.jsonl or test.jsonl", f"{ANNOTATIONS}.zip"),
        (not (source / IMAGES).is_dir(), f"no folder {IMAGES}", f"{IMAGES}.zip"),
    ):
        if lacking:
            packed = f"; {archive} lies there still packed" if (source / archive).is_file() else ""
            raise RequestError(
                f"{source}: {what} there{packed}; `vle-bench download vcr --output {source}` "
                "unpacks the archives"
            )
    return files


def write_images(
    folder: Path, work: Path, images: Path, known: Known, choices: Choices
) -> tuple[list[Shard], list[JsonObject], list[BadImage]]:
    """Store every image that a record asks about, once, by file name.

    Returns:
        the shards, their notes, and the images whose file is missing.
    """
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


def may_stay(skip_images: bool, skip_records: bool, bad: list[BadImage]) -> bool:
    return all(skip_records if "metadata" in problem else skip_images for problem in bad)


def image_rows(
    skip_images: bool, skip_records: bool, shard: Shard, bad: list[BadImage], counts: JsonObject
) -> Iterator[JsonObject]:
    """Yield the rows of VCR_IMAGES.

    Wrong metadata make the records wrong that name them, not the image: the problem has the key
    `metadata`.
    """
    counts[TURNED] = 0
    for image in shard.images:
        stored = image_row(image, bad, skip_images)
        if stored is None:
            continue
        row, orientation = stored
        name, metadata_path, metadata_fn, objects = image.more
        record = {"annot_id": "", "objects": json.loads(objects)}
        try:
            metadata = read_metadata(Path(metadata_path))
            check_metadata(record, metadata)
            boxes = picture_boxes(record, metadata, row["width"], row["height"], orientation)
        except RequestError as error:
            problem = str(error).split("metadata: ", 1)[-1]
            reason = f"{IMAGES}/{metadata_fn}: {problem.removeprefix(f'{metadata_path}: ')}"
            if not skip_records:
                raise record_error(f"{image.asked_by}: {reason}") from error
            bad.append({**bad_image(image, reason), "metadata": metadata_fn})
            continue
        count_boxes(counts, boxes, row, metadata)
        counts[TURNED] += orientation != 1
        yield {**row, "file_name": name, "boxes": boxes.tolist(), "class_names": record["objects"]}


class Questions:
    """Turn the records of a split into its questions table, and count them.

    Args:
        stored: (N,) image ids in the order of the rows of the images table.
        bad: image_id → why the image is not stored.
    """

    def __init__(self, path: Path, stored: Ids, bad: dict[int, BadImage]) -> None:
        self.path, self.bad = path, bad
        self.rows = np.argsort(stored)
        self.ids = stored[self.rows]
        self.annot_ids: list[str] = []
        self.images: set[int] = set()
        self.labelled = False
        self.left_out: list[JsonObject] = []
        self.with_their_image = 0

    def batches(self, records: Path) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(str(records)) as file, pa.ipc.open_stream(file) as batches:
            for batch in batches:
                ids = batch["image_id"].to_numpy()
                place = np.minimum(np.searchsorted(self.ids, ids), max(len(self.ids) - 1, 0))
                kept = self.ids[place] == ids if len(self.ids) else np.zeros(len(ids), bool)
                self.leave_out(batch.filter(pa.array(~kept)))
                questions = batch.filter(pa.array(kept))
                self.annot_ids += questions["annot_id"].to_pylist()
                self.images.update(ids[kept].tolist())
                self.labelled |= questions["answer_label"].null_count < len(questions)
                columns = {name: questions[name] for name in VCR_RECORDS.names}
                columns["image_row"] = pa.array(self.rows[place[kept]])
                yield pa.RecordBatch.from_arrays(
                    [columns[name] for name in VCR_QUESTIONS.names], schema=VCR_QUESTIONS
                )

    def leave_out(self, batch: pa.RecordBatch) -> None:
        for row in batch.select(["image_id", "annot_id", "line"]).to_pylist():
            reason = self.bad[row["image_id"]]
            if "metadata" in reason:
                text = reason["problem"]
                record = left_out_record(self.path, row["line"], row["annot_id"], text)
                self.left_out.append(record)
            else:
                self.with_their_image += 1

    def counts(self) -> JsonObject:
        digest = hashlib.sha256(json.dumps(self.annot_ids).encode()).hexdigest()
        return {
            "questions": len(self.annot_ids),
            "images": len(self.images),
            "labelled": self.labelled,
            "ids_sha256": digest,
        }
