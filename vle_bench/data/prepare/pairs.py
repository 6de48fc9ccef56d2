"""Prepare pairs of pictures and texts for pre-training; every source of pairs uses this module."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vle_bench import atomic
from vle_bench.data.official.vqa import BadRecords
from vle_bench.data.picture_ids import COCO_IDS
from vle_bench.data.prepare.fingerprint import Fingerprint, fingerprint, stamp
from vle_bench.data.prepare.leave_out import NOTHING, LeaveOut
from vle_bench.data.prepare.manifest import (
    FINISHED_SHARDS,
    WORK,
    Choices,
    finish,
    remove_others,
)
from vle_bench.data.prepare.pair_images import FILES, write_pair_images
from vle_bench.data.prepare.questions import described_labels, write_labels
from vle_bench.data.prepare.shards import BadImage, described
from vle_bench.data.prepare.twins import counts_of, first_of_same_bytes, twin_lines
from vle_bench.data.prepare.vqav2 import MINIVAL_IMAGES, by_hash
from vle_bench.data.prepared import SCHEMA_VERSION, Manifest
from vle_bench.data.sources import SOURCES
from vle_bench.data.tables import PAIR_TEXT, PAIRS, map_table, record_batches, write_table
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, read_json

CHECKS = 2  # to be raised when pairs are read in another way
BLOB = "pictures.bin"  # pictures that come as bytes, one after the other
# A row of a source: a picture's file, and a text about it. `split` is a name, or null if the
# picture's hash decides.
RAW = pa.schema([("split", pa.string()), *FILES, ("coco_id", pa.int64()), *PAIR_TEXT])
HELD_OUT = ("train", "val")  # the splits of pictures that their hashes divide
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class PairSource:
    """Files of pairs.

    Args:
        source: the dataset, a row of `vle_bench.data.sources`.
        rows: reads the pairs of RAW from the start; takes the collector of bad records and the file
            for pictures that come as bytes.
        files: name → file, whose sizes and dates are remembered.
        options: other options that decide the pairs, by name.
        labels: the classes of objects, if pairs have objects.
        made_from: parameters that generated the files, which then stand for them.
    """

    source: str
    rows: Callable[[BadRecords, Path], Iterator[JsonObject]]
    files: dict[str, Path]
    options: JsonObject = field(default_factory=dict)
    labels: Sequence[str] = ()
    made_from: JsonObject | None = None


def prepare_pairs(
    source: PairSource, output: Path, choices: Choices, leave_out: LeaveOut
) -> Manifest:
    """Write prepared pairs to `output`, completely or not at all, and return the manifest.

    The next run with the same files reuses what a killed one has finished: the pairs that were
    read, and shards of pictures. Memory grows by some bytes a pair, never by texts or pictures. For
    data that are already complete, the manifest is a `Standing`.
    """
    request = request_of(source, choices, leave_out)
    if (standing := request.finished(output, recorded_splits(output))) is not None:
        return standing
    with atomic.resumed_folder(output, FINISHED_SHARDS) as folder:
        work = start_or_resume(folder, request)
        raw, bad = read_once(work, source, choices)
        if not len(raw):
            raise RequestError(f"{', '.join(source.files)}: no pair is left to train on")
        kept, evaluated = leave_out.kept(
            raw, ", ".join(source.files), SOURCES[source.source].genome_ids
        )
        ids, shards, bad_images, turned = write_pair_images(folder, work, raw, kept, choices)
        first = first_of_same_bytes((folder / name for name in shards), column(raw, "image_id"))
        splits = splits_of(raw, kept & np.isin(column(raw, "image_id"), ids), first)
        counts = {name: write_pairs(folder, name, rows, raw, ids) for name, rows in splits.items()}
        tables = (folder / f"questions-{name}.arrow" for name in splits)
        files = shards | {path.name: described(path) for path in tables}
        if source.labels:
            files |= write_labels(folder, list(source.labels))
        left_out = {
            "records": bad.listed,
            "images": bad_images,
            "evaluation_pictures": evaluated,
            "pairs_of_images": lost_pairs(raw, kept, ids),
            "objects_of_other_classes": bad.of_other_classes,
        }
        twins = counts_of(raw, splits, first)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            source=source.source,
            splits=counts,
            files=files,
            images=list(shards),
            turned=turned,
            labels=described_labels(list(source.labels), choices, 0) if source.labels else None,
            report={
                name: report_of(folder / f"questions-{name}.arrow") | twins[name] for name in splits
            },
            left_out=left_out,
            inputs=request.as_inputs(left_out),
        )
        manifest = finish(folder, manifest)
        write_coco_ids(folder, splits, raw)
        return manifest


def request_of(source: PairSource, choices: Choices, leave_out: LeaveOut) -> Fingerprint:
    """Return the fingerprint of a request; pictures that were left out are not part of it."""
    request = fingerprint(source.source, (), choices, no_file, source.made_from, None)
    options = request.options | source.options | {"--leave-out": leave_out.in_words}
    files = {} if source.made_from else {name: stamp(path) for name, path in source.files.items()}
    return replace(request, options=options, files=files)


def no_file(bad: BadImage) -> Path:
    return Path(str(bad["file"]))


def recorded_splits(output: Path) -> list[str]:
    """Return the names of the splits of finished data, in the order of training before others."""
    try:
        names = read_json(output / "manifest.json")["splits"]
    except (RequestError, KeyError, TypeError):
        return []
    return in_order(names)


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names of splits: train, val, test."""
    usual = ("train", "val", "test")
    return sorted(names, key=lambda name: (usual.index(name) if name in usual else 9, name))


def start_or_resume(folder: Path, request: Fingerprint) -> Path:
    """Return the folder of intermediate files; those of another request are removed."""
    inputs = {"checks": CHECKS, "files": request.files, "options": request.options}
    text = json.dumps(inputs, sort_keys=True)
    work, note = folder / WORK, folder / WORK / "inputs.json"
    if not note.is_file() or note.read_text(encoding="utf-8") != text:
        remove_others(folder, set())
        work.mkdir()
        atomic.write_text(note, text)
    return work


def read_once(work: Path, source: PairSource, choices: Choices) -> tuple[pa.Table, BadRecords]:
    """Read the source to a table on disk, unless an earlier run has done it."""
    path, note = work / "pairs.arrow", work / "pairs.json"
    bad = BadRecords(choices.on_bad_record)
    if note.is_file():
        bad.add_all(read_json(note))
    else:
        (work / BLOB).unlink(missing_ok=True)
        rows = source.rows(bad, work / BLOB)
        write_table(path, RAW, record_batches(rows, RAW))
        atomic.write_json(note, bad.as_json())
    return map_table(path), bad


def column(table: pa.Table, name: str) -> Ids:
    """Return a column of numbers without nulls."""
    values: Ids = table[name].to_numpy()
    return values


def splits_of(raw: pa.Table, kept: NDArray[np.bool_], first: Ids) -> dict[str, NDArray[np.bool_]]:
    """Return the rows of each split (pairs,).

    Of pictures without a split of their own, the 1,000 with the smallest hashes are `val`, but at
    most a tenth; see `minival` of VQA v2. Pictures with the same bytes count as one, and go to the
    same split.

    Args:
        kept: (pairs,) the rows that are left.
        first: (pairs,) the smallest id of a picture with the same bytes.
    """
    image_ids = column(raw, "image_id")
    given = raw["split"]
    names = [name for name in pc.unique(given).to_pylist() if name is not None]
    rows = {name: kept & pc.equal(given, name).fill_null(False).to_numpy() for name in names}
    undivided = kept & given.is_null().to_numpy()
    if undivided.any():
        pictures = np.unique(first[undivided])
        hashes = np.array([int.from_bytes(by_hash(i)[:8], "big") for i in pictures.tolist()])
        held = min(MINIVAL_IMAGES, max(1, len(pictures) // 10)) if len(pictures) > 1 else 0
        val = pictures[np.argsort(hashes, kind="stable")[:held]]
        in_val = np.isin(first, val)
        for name, chosen in zip(HELD_OUT, (undivided & ~in_val, undivided & in_val), strict=True):
            rows[name] = rows.get(name, np.zeros(len(raw), bool)) | chosen
    found = {name: rows[name] for name in in_order(rows) if rows[name].any()}
    refuse_shared_pictures(found, image_ids)
    return found


def refuse_shared_pictures(rows: dict[str, NDArray[np.bool_]], image_ids: Ids) -> None:
    """Refuse a picture that is in two splits, which would be trained on and scored."""
    pictures = {name: np.unique(image_ids[chosen]) for name, chosen in rows.items()}
    names = list(pictures)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            both = np.intersect1d(pictures[one], pictures[other])
            if len(both):
                raise RequestError(
                    f"splits {one} and {other} share {len(both):,} pictures, the first with "
                    f"image_id {both[0]}; a picture that is scored must not be trained on"
                )


def write_pairs(
    folder: Path, name: str, rows: NDArray[np.bool_], raw: pa.Table, ids: Ids
) -> JsonObject:
    """Write the pairs of a split, batch by batch; return its entry in the manifest.

    A pair's id is the number of its row among all that were read.
    """
    order = np.argsort(ids, kind="stable")
    counts = {"questions": 0, "phrases": 0, "with_objects": 0}
    digest = hashlib.sha256()
    pictures = len(np.unique(column(raw, "image_id")[rows]))

    def batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for batch in raw.to_batches():
            chosen = np.flatnonzero(rows[start : start + len(batch)])
            if len(chosen):
                own = batch.take(pa.array(chosen))
                image_ids = own["image_id"].to_numpy()
                image_rows = order[np.searchsorted(ids[order], image_ids)]
                texts = [own[field.name] for field in PAIR_TEXT]
                pair_ids = chosen + start
                digest.update(pair_ids.tobytes())
                counts["questions"] += len(own)
                counts["phrases"] += len(own) - own["box"].null_count
                lengths = pc.list_value_length(own["object_classes"]).fill_null(0)
                counts["with_objects"] += int(np.count_nonzero(lengths.to_numpy()))
                yield pa.RecordBatch.from_arrays(
                    [pa.array(pair_ids), own["image_id"], pa.array(image_rows), *texts],
                    schema=PAIRS,
                )
            start += len(batch)

    write_table(folder / f"questions-{name}.arrow", PAIRS, batches())
    return {**counts, "images": pictures, "labelled": True, "ids_sha256": digest.hexdigest()}


def write_coco_ids(folder: Path, splits: dict[str, NDArray[np.bool_]], raw: pa.Table) -> None:
    """Write the COCO ids of each split's pictures, if some have one, beside the manifest.

    They tell later whether a model has seen pictures of an evaluation. The content of the data, and
    so its hash, is the same with and without them.
    """
    coco_ids = raw["coco_id"].fill_null(-1).to_numpy()
    listed = {name: np.unique(coco_ids[rows & (coco_ids >= 0)]) for name, rows in splits.items()}
    if any(map(len, listed.values())):
        atomic.write_json(folder / COCO_IDS, {name: ids.tolist() for name, ids in listed.items()})


def lost_pairs(raw: pa.Table, kept: NDArray[np.bool_], ids: Ids) -> int:
    """Count the pairs that are left out for their picture, which cannot be read."""
    return int((kept & ~np.isin(column(raw, "image_id"), ids)).sum())


def report_of(path: Path) -> JsonObject:
    """Return the number of words in the texts of a split: the mean and the most."""
    total, most, texts = 0, 0, 0
    for batch in map_table(path).to_batches():
        words = pc.list_value_length(pc.utf8_split_whitespace(batch["caption"]))
        total, most = total + pc.sum(words).as_py(), max(most, pc.max(words).as_py())
        texts += len(batch)
    return {"words": {"mean": round(total / max(texts, 1), 2), "most": most}}


def summary(manifest: Manifest) -> Iterator[str]:
    """Yield the lines that `vle-bench prepare` prints."""
    for name, split in manifest.splits.items():
        words = manifest.report[name]["words"]
        more = f", {split['phrases']:,} phrases with boxes" if split["phrases"] else ""
        more += f", {split['with_objects']:,} with objects" if split["with_objects"] else ""
        yield (
            f"{name}: {split['questions']:,} pairs of {split['images']:,} pictures{more}; "
            f"{words['mean']:g} words a text, at most {words['most']}"
        )
        yield from twin_lines(name, manifest.report[name])
    if manifest.labels:
        labels = manifest.labels
        yield f"classes of objects: {labels['count']:,}, SHA-256 {labels['sha256'][:16]}"
    if manifest.turned:
        yield f"{manifest.turned:,} pictures were turned as their EXIF orientation says"
    pictures = sum(split["images"] for split in manifest.splits.values())
    yield from left_out_lines(manifest.left_out, pictures)


def left_out_lines(left_out: JsonObject, pictures: int) -> Iterator[str]:
    """Yield the lines about what is left out.

    Args:
        pictures: the number of those that are kept.
    """
    evaluated = left_out["evaluation_pictures"]
    asked = evaluated["of"]
    if asked not in ("", NOTHING) and not (evaluated["with_coco_id"] or evaluated["pictures"]):
        ids = "one of these ids" if "by_genome_id" in evaluated else "a COCO id"
        yield (
            f"0 of {pictures:,} pictures have {ids}: --leave-out {asked} leaves out nothing here"
        )
    if evaluated["with_coco_id"] or evaluated["pictures"]:
        yield (
            f"{evaluated['with_coco_id']:,} pictures are COCO's; left out, since they are "
            f"evaluated on: {evaluated['pictures']:,} pictures with {evaluated['pairs']:,} pairs"
        )
    if by_genome := evaluated.get("by_genome_id"):
        yield f"{by_genome:,} of these are known by their Visual Genome ids"
    if others := left_out.get("objects_of_other_classes"):
        yield f"left out: {others:,} objects whose names are none of the classes"
    for key, what in (("records", "records"), ("images", "pictures")):
        if left_out[key]:
            yield f"left out: {len(left_out[key]):,} {what} (manifest.json lists them)"
