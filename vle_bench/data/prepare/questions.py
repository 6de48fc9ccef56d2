"""Prepare official files of VQA form; every dataset of questions and answers uses this module."""

import json
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vle_bench import atomic
from vle_bench.data.label_map import labels_digest, read_label_map
from vle_bench.data.official.visual_genome import ID_OFFSET
from vle_bench.data.official.vqa import BadRecords, only_within
from vle_bench.data.prepare.fingerprint import fingerprint, stamp
from vle_bench.data.prepare.manifest import (
    AS_USUAL,
    FINISHED_SHARDS,
    WORK,
    Choices,
    finish,
    remove_others,
)
from vle_bench.data.prepare.shards import (
    BadImage,
    Source,
    described,
    image_error,
    images_only,
    plan,
    turned_of,
    write_shards,
)
from vle_bench.data.prepare.split import Ids, Official, Rows, Splits, image_file
from vle_bench.data.prepare.targets import with_targets
from vle_bench.data.prepare.vocabulary import never_given, vocabulary
from vle_bench.data.prepare.vqa_summary import count, length_report, load_tokenizer, split_report
from vle_bench.data.prepared import SCHEMA_VERSION, Manifest
from vle_bench.data.tables import ROWS_A_BATCH, map_table, write_table
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, read_json

# To be raised when the official files are read in another way, so that an unfinished run's tables
# of them are read anew.
OFFICIAL_CHECKS = 4
NAMED_ANSWERS = 5  # of a label map that are never given, in the report
MAX_TEXT_LENGTH = 50  # METER's and VLE's, for VQA


def prepare_questions(
    source: str,
    splits: Splits,
    output: Path,
    min_count: int,
    choices: Choices = AS_USUAL,
    made_from: JsonObject | None = None,
    normalised: bool = True,
    metric: str | None = None,
) -> Manifest:
    """Write prepared data to `output`, completely or not at all, and return the manifest.

    The next run with the same files reuses finished parts of a killed one: tables of official
    records, shards of images. For data that are already complete, the manifest is a `Standing`.

    Args:
        min_count: minimum number of normalised majority answers in the splits with `vocabulary`
            for an answer to become a class.
        made_from: parameters that generated the official files, see `fingerprint`.
        normalised: the classes are normalised answers; False: answers as they were given.
    """
    if choices.tokenizer is not None:
        load_tokenizer(choices.tokenizer)  # its errors should come before the work
    given = None if choices.label_map is None else read_label_map(choices.label_map)
    file_of = partial(image_file, splits)
    request = fingerprint(source, official_files(splits), choices, file_of, made_from, given)
    if (standing := request.finished(output, splits)) is not None:
        request.count_again(output, standing, standing.report, partial(lengths_of, output, choices))
        return standing
    with atomic.resumed_folder(output, FINISHED_SHARDS) as folder:
        work = start_or_resume(folder, splits, choices)
        official, bad = read_all(work, splits, choices)
        rows = rows_of_splits(splits, official)
        labels = given or counted_labels(splits, official, rows, min_count, normalised)
        images, shards, bad_images, turned = write_images(folder, splits, official, rows, choices)
        counts, report, left_out = write_questions(
            folder, splits, official, rows, images, labels, choices
        )
        for name in splits:
            lost = bad_questions(name, splits, official, rows, bad)
            report[name]["left_out_as_bad_records"] = lost
        list_left_out(left_out, bad, bad_images)
        tables = (folder / f"questions-{name}.arrow" for name in splits)
        files = shards | write_labels(folder, labels) | {p.name: described(p) for p in tables}
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            source=source,
            splits=counts,
            files=files,
            images=list(shards),
            turned=turned,
            labels=described_labels(labels, choices, min_count),
            targets="published" if choices.published_targets else "normalised",
            report=report,
            left_out=left_out,
            inputs=request.as_inputs(left_out),
            notes=remarks(labels, bad, choices),
            metric=metric,
        )
        return finish(folder, manifest)


def list_left_out(left_out: JsonObject, bad: BadRecords, images: list[BadImage]) -> None:
    """Add the wrong records and the unreadable images to what the manifest lists, in place."""
    left_out["records"] = bad.listed
    left_out["images"] = [{**image, "file": Path(image["file"]).name} for image in images]
    if "visual_genome" in left_out:
        left_out["visual_genome"]["outside_coco"] = bad.outside_coco


def official_files(splits: Splits) -> list[Path]:
    return sorted({path for split in splits.values() for path in split.files})


def lengths_of(output: Path, choices: Choices, name: str) -> JsonObject:
    return texts_of(map_table(output / f"questions-{name}.arrow"), choices)


def texts_of(questions: pa.Table, choices: Choices) -> JsonObject:
    """Report the longest questions of a split, and with a tokenizer those that are shortened."""
    return length_report(questions, choices.tokenizer, choices.max_text_length or MAX_TEXT_LENGTH)


def described_labels(labels: list[str], choices: Choices, min_count: int) -> JsonObject:
    file = choices.label_map
    origin = {"min_count": min_count} if file is None else {"file": file.name}
    return {"count": len(labels), "sha256": labels_digest(labels), **origin}


def write_labels(folder: Path, labels: list[str]) -> JsonObject:
    path = folder / "label_map.json"
    atomic.write_json(path, {"answers": labels, "sha256": labels_digest(labels)})
    return {path.name: described(path)}


def remarks(labels: list[str], bad: BadRecords, choices: Choices) -> JsonObject | None:
    """Return the notes of the manifest; None if there is nothing to remark."""
    counts = {"numbered": bad.numbered, "unscored": bad.unscored}
    notes: JsonObject = {name: number for name, number in counts.items() if number}
    looked_up_as_given = choices.label_map is None or choices.published_targets
    if not looked_up_as_given and (foreign := never_given(labels)):
        notes["never_given"] = {"count": len(foreign), "first": foreign[:NAMED_ANSWERS]}
    return notes or None


def write_questions(
    folder: Path,
    splits: Splits,
    official: Official,
    rows: dict[str, Rows],
    images: Ids,
    labels: list[str],
    choices: Choices,
) -> tuple[JsonObject, JsonObject, JsonObject]:
    """Write the questions tables.

    Returns:
        for the manifest: contents and report of each split; and the questions left out for their
        image or of Visual Genome.
    """
    targets = {label: i for i, label in enumerate(labels)}
    counts: JsonObject = {}
    report: JsonObject = {}
    lost, unknown = [], 0
    for name, split in splits.items():
        chosen = official[split.files]
        if not rows[name].all():
            chosen = chosen.filter(pa.array(rows[name]))
        questions, without_image = with_targets(
            chosen, images, targets, choices.published_targets, split.extra
        )
        if not len(questions) and not split.extra:
            raise RequestError(
                f"{split.questions}: no question is left for the split {name!r}: none of its "
                "images can be read"
            )
        batches = iter(questions.to_batches(ROWS_A_BATCH))
        write_table(folder / f"questions-{name}.arrow", questions.schema, batches)
        labelled = split.annotations is not None
        counts[name] = count(questions, labelled)
        report[name] = split_report(questions, labelled) | texts_of(questions, choices)
        report[name]["left_out_with_their_image"] = len(without_image)
        lost.append(without_image)
        unknown += len(chosen) - len(without_image) - len(questions)
    # Each question once: those of test-dev are in test too.
    left_out: JsonObject = {"questions_of_images": len(np.unique(np.concatenate(lost)))}
    if extra := [name for name, split in splits.items() if split.extra]:
        others = len(rows[extra[0]]) - sum(int(rows[name].sum()) for name in extra)
        left_out["visual_genome"] = {"of_other_splits": others, "outside_vocabulary": unknown}
    return counts, report, left_out


def start_or_resume(folder: Path, splits: Splits, choices: Choices) -> Path:
    """Return the folder of intermediate files; those of other files or versions are removed."""
    inputs: JsonObject = {
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


def read_all(work: Path, splits: Splits, choices: Choices) -> tuple[Official, BadRecords]:
    """Read each official file once, to tables on disk, and collect the bad records."""
    official: Official = {}
    all_bad = BadRecords(choices.on_bad_record)
    for split in splits.values():
        if split.files in official:
            continue
        path = work / f"official-{len(official)}.arrow"
        note = path.with_suffix(".json")
        if not note.is_file():
            bad = BadRecords(choices.on_bad_record)
            table = split.read(split.questions, split.annotations, bad)
            write_table(path, table.schema, iter(table.to_batches()))
            del table
            atomic.write_json(note, bad.as_json())
        official[split.files] = map_table(path)
        all_bad.add_all(read_json(note))
    for split in splits.values():
        if split.within is not None:
            whole = splits[split.within]
            official[split.files] = only_within(
                split.questions,
                official[split.files],
                whole.questions,
                official[whole.files],
                all_bad,
            )
    return official, all_bad


def bad_questions(
    name: str,
    splits: Splits,
    official: Official,
    rows: dict[str, Rows],
    bad: BadRecords,
) -> int:
    """Count the questions that a split lacks because of bad records.

    Splits share files: a record counts for the split that has its image, and for each of them if
    no split is known to. A question without an id counts as one. An annotation without an id does
    not count, since its question is missed by its own id.
    """
    split = splits[name]
    table = official[split.files]
    files = {path.name for path in split.files}
    listed = [record for record in bad.listed if record["file"] in files]
    if not listed:
        return 0
    image_ids = table["image_id"].to_numpy()
    elsewhere: set[int] = set()
    for other, other_split in splits.items():
        if other_split.files == split.files and other != name:
            elsewhere.update(np.unique(image_ids[rows[other]]).tolist())
    ours = [record for record in listed if record["image_id"] not in elsewhere]
    known = [record["question_id"] for record in ours if record["question_id"] is not None]
    lost = len(np.setdiff1d(np.array(known, np.int64), table["question_id"].to_numpy()))
    unnamed: int = sum(
        record["question_id"] is None and record["file"] == split.questions.name for record in ours
    )
    return lost + unnamed


def rows_of_splits(splits: Splits, official: Official) -> dict[str, Rows]:
    """Return for each split a mask over the questions of its files: which belong to it."""
    chosen: dict[str, Ids] = {}
    rows: dict[str, Rows] = {}
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
        highest = table["question_id"].to_numpy().max(initial=0)
        if mixed and not split.extra and highest >= ID_OFFSET:
            raise RequestError(
                f"{split.questions}: question_id {highest}: with --visual-genome, ids from "
                f"{ID_OFFSET} on are Visual Genome's"
            )
    return rows


def counted_labels(
    splits: Splits, official: Official, rows: dict[str, Rows], min_count: int, normalised: bool
) -> list[str]:
    """Count the majority answers of the splits with `vocabulary`."""
    counts: Counter[str] = Counter()
    for name, split in splits.items():
        if split.vocabulary:
            answers = official[split.files]["multiple_choice_answer"].filter(pa.array(rows[name]))
            for answer in pc.value_counts(answers).to_pylist():
                counts[answer["values"]] += answer["counts"]
    return vocabulary(counts, min_count, normalised)


def write_images(
    folder: Path,
    splits: Splits,
    official: Official,
    rows: dict[str, Rows],
    choices: Choices,
) -> tuple[Ids, JsonObject, list[JsonObject], int]:
    """Store every image that a question asks about, once, by id.

    Returns:
        the ids in the order of the rows, {shard: {"bytes", "sha256"}}, the unreadable images, and
        the number of those that were turned.
    """
    paths: dict[int, str] = {}
    for name, split in splits.items():
        for image_id, file in split.image_paths(official[split.files], rows[name]):
            path = str(file)
            if (first := paths.setdefault(image_id, path)) != path:
                raise RequestError(f"image_id {image_id} stands for two files, {first} and {path}")
    images = (Source(image_id, paths[image_id]) for image_id in sorted(paths))
    shards, missing = plan(images, choices.shard_bytes)
    skip = choices.on_bad_image == "skip"
    if missing and not skip:
        raise image_error(missing[0])
    notes = write_shards(folder, folder / WORK, shards, choices.workers, images_only(skip))
    unreadable = [bad for note in notes for bad in note["bad"]]
    all_bad = sorted([*missing, *unreadable], key=lambda image: image["image_id"])
    bad_ids = [image["image_id"] for image in all_bad]
    ids = np.setdiff1d(np.fromiter(paths, np.int64, len(paths)), bad_ids)
    files = {shard.name: note["file"] for shard, note in zip(shards, notes, strict=True)}
    return ids, files, all_bad, turned_of(notes)
