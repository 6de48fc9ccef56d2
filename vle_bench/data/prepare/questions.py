"""Official files of VQA form → the prepared form; every dataset of questions and answers takes this way."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vle_bench import atomic
from vle_bench.data.label_map import labels_digest, read_label_map
from vle_bench.data.official.visual_genome import ID_OFFSET
from vle_bench.data.official.vqa import BadRecords, only_within, read_official
from vle_bench.data.prepare.fingerprint import making_of, stamp
from vle_bench.data.prepare.manifest import (
    AS_USUAL,
    FINISHED_SHARDS,
    WORK,
    Choices,
    finish,
    remove_others,
)
from vle_bench.data.prepare.shards import (
    Problem,
    Source,
    described,
    image_error,
    images_only,
    plan,
    write_shards,
)
from vle_bench.data.prepare.targets import with_targets
from vle_bench.data.prepare.vocabulary import never_given, vocabulary
from vle_bench.data.prepare.vqa_summary import length_report, load_tokenizer, split_report
from vle_bench.data.prepared import SCHEMA_VERSION
from vle_bench.data.tables import OFFICIAL, ROWS_A_BATCH, map_table, write_table
from vle_bench.errors import RequestError

# Raised when the official files are read in another way: tables of an unfinished run are then read anew.
OFFICIAL_CHECKS = 3
NAMED_ANSWERS = 5  # of a label map that are never given, in the report
MAX_TEXT_LENGTH = 50  # METER's and VLE's, for VQA

Ids = np.ndarray[Any, np.dtype[np.int64]]  # image ids, each once, sorted
Official = dict[tuple[Path, ...], pa.Table]  # a split's files → their records
Choose = Callable[[Ids, dict[str, Ids]], Iterable[int]]


@dataclass(frozen=True)
class Split:
    """One split: official files, where its images lie, and which of them belong to it."""

    questions: Path
    annotations: Path | None
    image_path: Callable[[int], Path] | None  # None: its images are those of splits before it
    choose: Choose = lambda ids, before: (
        ids
    )  # (ids in the files, ids of the splits before) → ids of this split
    vocabulary: bool = False  # its majority answers make up the label map
    read: Callable[[Path, Path | None, BadRecords], pa.Table] = read_official
    extra: bool = False  # more training questions: only those with an answer in the vocabulary
    within: str | None = None  # another split, in which every question must stand as it does here

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.questions,) if self.annotations is None else (self.questions, self.annotations)


def prepare_questions(
    source: str,
    splits: dict[str, Split],
    output: Path,
    min_count: int,
    choices: Choices = AS_USUAL,
    made_from: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Official files → tables. Nothing appears under `output` unless all of it could be written; returns the manifest.

    What a killed run has finished (a table of official records, a shard of images) the next one with the same files takes over. An
    output that is finished stands: its manifest comes back as a `Standing`.

    Args:
        min_count: how often a normalised majority answer must occur in the vocabulary's splits to become a class.
        made_from: as `making_of` takes it.
    """
    if choices.tokenizer is not None:
        load_tokenizer(choices.tokenizer)  # what is wrong with it should show before the work
    given = None if choices.label_map is None else read_label_map(choices.label_map)
    making = making_of(
        source, official_files(splits), choices, partial(image_file, splits), made_from, given
    )
    if (there := making.standing(output, splits)) is not None:
        making.count_again(
            output, there, there["report"], lambda name: lengths_of(output, name, choices)
        )
        return there
    with atomic.resumed_folder(output, FINISHED_SHARDS) as folder:
        work = start_or_resume(folder, splits, choices)
        official, bad = read_all(work, splits, choices)
        rows = rows_of_splits(splits, official)
        labels, origin = label_map(splits, official, rows, min_count, choices, given)
        images, shards, bad_images = write_images(folder, work, splits, official, rows, choices)
        counts, report, left_out = write_questions(
            folder, splits, official, rows, images, labels, choices
        )
        for name in splits:
            report[name]["left_out_as_bad_records"] = bad_questions(
                name, splits, official, rows, bad
            )
        atomic.write_json(
            folder / "label_map.json", {"answers": labels, "sha256": labels_digest(labels)}
        )
        names = ["label_map.json", *(f"questions-{name}.arrow" for name in splits)]
        manifest: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "source": source,
            "splits": counts,
            "files": {**shards, **{name: described(folder / name) for name in names}},
            "images": list(shards),
            "labels": {"count": len(labels), "sha256": labels_digest(labels), **origin},
            "targets": "published" if choices.published_targets else "normalised",
        }
        left_out |= {
            "records": bad.listed,
            "images": [{**image, "file": Path(image["file"]).name} for image in bad_images],
        }
        if "visual_genome" in left_out:
            left_out["visual_genome"]["outside_coco"] = bad.outside_coco
        notes: dict[str, Any] = {"numbered": bad.numbered} if bad.numbered else {}
        if (
            choices.label_map is not None
            and not choices.published_targets
            and (foreign := never_given(labels))
        ):
            notes["never_given"] = {"count": len(foreign), "first": foreign[:NAMED_ANSWERS]}
        finish(folder, manifest, report, left_out, making.noted(left_out), notes)
    return manifest


def official_files(splits: dict[str, Split]) -> list[Path]:
    return sorted({path for split in splits.values() for path in split.files})


def image_file(splits: dict[str, Split], bad: Problem) -> Path:
    """Where an image lies that was left out."""
    paths = (
        split.image_path(bad["image_id"])
        for split in splits.values()
        if split.image_path is not None
    )
    return next((path for path in paths if path.name == bad["file"]), Path(bad["file"]))


def lengths_of(output: Path, name: str, choices: Choices) -> dict[str, Any]:
    questions = map_table(output / f"questions-{name}.arrow")
    return length_report(questions, choices.tokenizer, choices.max_text_length or MAX_TEXT_LENGTH)


def write_questions(
    folder: Path,
    splits: dict[str, Split],
    official: Official,
    rows: dict[str, np.ndarray],
    images: Ids,
    labels: list[str],
    choices: Choices,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The questions tables.

    Returns:
        for the manifest, by split: what is in it, and its report; and what was left out with images or of Visual Genome.
    """
    targets = {label: i for i, label in enumerate(labels)}
    counts: dict[str, Any] = {}
    report: dict[str, Any] = {}
    lost, unknown = [], 0
    for name, split in splits.items():
        chosen = (
            official[split.files].filter(pa.array(rows[name]))
            if not rows[name].all()
            else official[split.files]
        )
        questions, without_image = with_targets(
            chosen, images, targets, choices.published_targets, split.extra
        )
        if not len(questions) and not split.extra:
            raise RequestError(
                f"{split.questions}: no question is left for the split {name!r}: none of its images can be read"
            )
        write_table(
            folder / f"questions-{name}.arrow",
            questions.schema,
            iter(questions.to_batches(ROWS_A_BATCH)),
        )
        labelled = split.annotations is not None
        counts[name] = count(questions, labelled)
        report[name] = split_report(questions, labelled)
        report[name] |= length_report(
            questions, choices.tokenizer, choices.max_text_length or MAX_TEXT_LENGTH
        )
        report[name]["left_out_with_their_image"] = len(without_image)
        lost.append(without_image)
        unknown += len(chosen) - len(without_image) - len(questions)
    left_out: dict[str, Any] = {
        "questions_of_images": len(np.unique(np.concatenate(lost)))
    }  # those of test-dev are test's too
    if extra := [name for name, split in splits.items() if split.extra]:
        others = len(rows[extra[0]]) - sum(int(rows[name].sum()) for name in extra)
        left_out["visual_genome"] = {"of_other_splits": others, "outside_vocabulary": unknown}
    return counts, report, left_out


def start_or_resume(folder: Path, splits: dict[str, Split], choices: Choices) -> Path:
    """The folder of intermediate files; what is there of other official files, or of another version, is removed."""
    inputs: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "checks": OFFICIAL_CHECKS,
        "on_bad_record": choices.on_bad_record,
    }
    inputs |= {str(path.absolute()): stamp(path) for path in official_files(splits)}
    work, note = folder / WORK, folder / WORK / "inputs.json"
    if not note.is_file() or note.read_text(encoding="utf-8") != json.dumps(inputs):
        remove_others(folder, set())
        work.mkdir()
        atomic.write_text(note, json.dumps(inputs))
    return work


def read_all(work: Path, splits: dict[str, Split], choices: Choices) -> tuple[Official, BadRecords]:
    """The official files as tables on disk, each file read once; and the records that were left out."""
    found: Official = {}
    all_bad = BadRecords(choices.on_bad_record)
    for split in splits.values():
        if split.files in found:
            continue
        path = work / f"official-{len(found)}.arrow"
        note = path.with_suffix(".json")
        if not note.is_file():
            bad = BadRecords(choices.on_bad_record)
            table = split.read(split.questions, split.annotations, bad)
            write_table(path, OFFICIAL, iter(table.to_batches()))
            del table
            atomic.write_json(
                note,
                {"listed": bad.listed, "outside_coco": bad.outside_coco, "numbered": bad.numbered},
            )
        found[split.files] = map_table(path)
        noted = json.loads(note.read_text(encoding="utf-8"))
        all_bad.listed += noted["listed"]
        all_bad.outside_coco += noted["outside_coco"]
        all_bad.numbered += noted["numbered"]
    for split in splits.values():
        if split.within is not None:
            whole = splits[split.within]
            found[split.files] = only_within(
                split.questions, found[split.files], whole.questions, found[whole.files], all_bad
            )
    return found, all_bad


def bad_questions(
    name: str,
    splits: dict[str, Split],
    official: Official,
    rows: dict[str, np.ndarray],
    bad: BadRecords,
) -> int:
    """How many questions a split lacks for bad records.

    Splits share files: a record counts for the split that has its image, and for each of them where none is known to. A question
    without an id counts as one; an annotation without an id is missed by its question, which has one.
    """
    split = splits[name]
    table = official[split.files]
    listed = [
        record for record in bad.listed if record["file"] in {path.name for path in split.files}
    ]
    shared = (
        [rows[other] for other, of in splits.items() if of.files == split.files and other != name]
        if listed
        else []
    )
    elsewhere = {
        i for others in shared for i in np.unique(table["image_id"].to_numpy()[others]).tolist()
    }
    ours = [record for record in listed if record["image_id"] not in elsewhere]
    ids = np.array(
        [record["question_id"] for record in ours if record["question_id"] is not None],
        dtype=np.int64,
    )
    lost = len(np.setdiff1d(ids, table["question_id"].to_numpy()))
    return lost + sum(
        record["question_id"] is None and record["file"] == split.questions.name for record in ours
    )


def rows_of_splits(splits: dict[str, Split], official: Official) -> dict[str, np.ndarray]:
    """Split → (questions of its files,) bool, which of them are its own."""
    chosen: dict[str, Ids] = {}
    rows: dict[str, np.ndarray] = {}
    mixed = any(split.extra for split in splits.values())
    for name, split in splits.items():
        table = official[split.files]
        ids = table["image_id"].to_numpy()
        chosen[name] = np.unique(
            np.asarray(list(split.choose(np.unique(ids), chosen)), dtype=np.int64)
        )
        rows[name] = np.isin(ids, chosen[name])
        if not rows[name].any() and not split.extra:
            raise RequestError(f"{split.questions}: no question for the split {name!r}")
        if (
            mixed
            and not split.extra
            and (highest := table["question_id"].to_numpy().max()) >= ID_OFFSET
        ):
            raise RequestError(
                f"{split.questions}: question_id {highest}: with --visual-genome, ids from {ID_OFFSET} on are Visual Genome's"
            )
    return rows


def label_map(
    splits: dict[str, Split],
    official: Official,
    rows: dict[str, np.ndarray],
    min_count: int,
    choices: Choices,
    given: list[str] | None,
) -> tuple[list[str], dict[str, Any]]:
    """The answers in their order, those of `choices.label_map` if there is one, and where they come from."""
    if given is not None and choices.label_map is not None:
        return given, {"file": choices.label_map.name}
    counts: Counter[str] = Counter()
    for name, split in splits.items():
        if split.vocabulary:
            counted = pc.value_counts(
                official[split.files]["multiple_choice_answer"].filter(pa.array(rows[name]))
            )
            for answer in counted.to_pylist():
                counts[answer["values"]] += answer["counts"]
    return vocabulary(counts, min_count), {"min_count": min_count}


def write_images(
    folder: Path,
    work: Path,
    splits: dict[str, Split],
    official: Official,
    rows: dict[str, np.ndarray],
    choices: Choices,
) -> tuple[Ids, dict[str, Any], list[dict[str, Any]]]:
    """Every image that a question asks about, once, by id.

    Returns:
        the ids in the order of the rows, {shard: {"bytes", "sha256"}}, and the images that cannot be read.
    """
    paths: dict[int, str] = {}
    for name, split in splits.items():
        if split.image_path is None:
            continue
        for image_id in np.unique(
            official[split.files]["image_id"].to_numpy()[rows[name]]
        ).tolist():
            path = str(split.image_path(image_id))
            if (first := paths.setdefault(image_id, path)) != path:
                raise RequestError(f"image_id {image_id} stands for two files, {first} and {path}")
    shards, missing = plan(
        (Source(image_id, paths[image_id]) for image_id in sorted(paths)), choices.shard_bytes
    )
    skip = choices.on_bad_image == "skip"
    if missing and not skip:
        raise image_error(missing[0])
    notes = write_shards(folder, work, shards, choices.workers, images_only(skip))
    unreadable = [bad for note in notes for bad in note["bad"]]
    bad = sorted([*missing, *unreadable], key=lambda image: image["image_id"])
    ids = np.setdiff1d(
        np.fromiter(paths, np.int64, len(paths)), [image["image_id"] for image in bad]
    )
    return ids, {shard.name: note["file"] for shard, note in zip(shards, notes, strict=True)}, bad


def count(questions: pa.Table, labelled: bool) -> dict[str, Any]:
    """What the manifest says of a split; `answerable` questions have an answer in the vocabulary and can be trained on."""
    ids = questions["question_id"].to_pylist()
    return {
        "questions": len(ids),
        "images": len(pc.unique(questions["image_id"])),
        "labelled": labelled,
        "answerable": pc.sum(questions["answerable"]).as_py() or 0,
        "ids_sha256": hashlib.sha256(json.dumps(ids).encode()).hexdigest(),
    }
