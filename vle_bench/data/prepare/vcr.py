"""VCR's official files → the prepared form: every record and metadata file checked, every image decoded once."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vle_bench import atomic
from vle_bench.data.download.archives import Archive, is_unpacked
from vle_bench.data.official.vcr import check_metadata, picture_boxes, read_metadata
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
from vle_bench.data.prepared import SCHEMA_VERSION
from vle_bench.data.tables import VCR_IMAGES, VCR_QUESTIONS, VCR_RECORDS, write_table
from vle_bench.errors import RequestError

ANNOTATIONS = "vcr1annots"
MAX_TEXT_LENGTH = 80  # VLE's, for VCR
VCR_FORM = "https://visualcommonsense.com/download/"
VCR = (  # its metadata files are JSON, a part of the images' archive that shrinks
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
    """VCR's two archives, each from a URL or a file that the user gives, or else from `output`.

    Args:
        given: --annotations and --images, as far as they were given.

    Raises:
        RequestError: an archive is missing; the lines say how to get it.
    """
    found = []
    for archive, option in zip(VCR, ("--annotations", "--images"), strict=True):
        place = given.get(option)
        if place is None:
            if not is_unpacked(archive, output) and not archive.path(output).is_file():
                missing = f"download vcr: {archive.name} is not in {output}, and no {option} says where it is"
                raise RequestError("\n".join([missing, *archive_lines(output)]))
            found.append(archive)
        elif place.startswith(("http://", "https://")):
            found.append(replace(archive, url=place))
        elif Path(place).is_file():
            found.append(replace(archive, file=Path(place)))
        else:
            raise RequestError(
                f"download vcr: {option} {place}: no such file, and no URL with http:// or https://"
            )
    return found


def archive_lines(output: Path | None) -> list[str]:
    """How one comes by VCR's archives."""
    command = f"vle-bench download vcr --output {'FOLDER' if output is None else output}"
    return [
        f"VCR is given out under its own licence, to those who accept it in the form at {VCR_FORM}",
        "The page then links to two archives:",
        *(f"  {archive.name}: {archive.about} ({', '.join(archive.holds)})" for archive in VCR),
        "With the links, or with the archives wherever they lie:",
        f"  {command} --annotations URL|FILE --images URL|FILE",
        "With both archives in the folder:",
        f"  {command}",
        "What is unpacked already goes straight to `vle-bench prepare vcr --source FOLDER`.",
    ]


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
