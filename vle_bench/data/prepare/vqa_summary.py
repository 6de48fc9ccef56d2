"""The report that `vle-bench prepare` prints for data of VQA form."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vle_bench.data.official.further import OFFICIAL_ID
from vle_bench.data.prepared import Manifest
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject
from vle_bench.metrics.answers import ALL_IN_WORDS
from vle_bench.metrics.vqa import NUMBERED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST = 3
SHOWN = 10
TEXTS_AT_A_TIME = 2_000


def count(questions: pa.Table, labelled: bool) -> JsonObject:
    """Return a split's entry in the manifest; `answerable`: with an answer in the vocabulary."""
    ids = questions["question_id"].to_pylist()
    entry: JsonObject = {
        "questions": len(ids),
        "images": len(pc.unique(questions["image_id"])),
        "labelled": labelled,
    }
    if "answerable" in questions.schema.names:  # multiple-choice questions have no vocabulary
        entry["answerable"] = pc.sum(questions["answerable"]).as_py() or 0
    return entry | {"ids_sha256": hashlib.sha256(json.dumps(ids).encode()).hexdigest()}


def split_report(questions: pa.Table, labelled: bool) -> JsonObject:
    """Return the coverage of the vocabulary, and the longest questions in words."""
    words = pc.list_value_length(
        pc.utf8_split_whitespace(pc.utf8_trim_whitespace(questions["question"]))
    ).to_numpy()
    longest = np.argsort(-words, kind="stable")[:LONGEST]
    given = OFFICIAL_ID.name in questions.schema.names
    ids = questions[OFFICIAL_ID.name if given else "question_id"]
    report: JsonObject = {
        "longest": [{"question_id": ids[i].as_py(), "words": int(words[i])} for i in longest]
    }
    if labelled and len(questions):
        report["coverage"] = (pc.sum(questions["answerable"]).as_py() or 0) / len(questions)
    return report


def length_report(questions: pa.Table, tokenizer: Path | None, max_text_length: int) -> JsonObject:
    """Count the questions that are shortened; empty without a tokenizer."""
    if tokenizer is None:
        return {}
    return {
        "max_text_length": max_text_length,
        "shortened": count_shortened(questions, tokenizer, max_text_length),
    }


def count_shortened(questions: pa.Table, tokenizer: Path, max_text_length: int) -> int:
    """Count the questions of more tokens, including special ones."""
    loaded = load_tokenizer(tokenizer)
    column = questions["question"]
    starts = range(0, len(column), TEXTS_AT_A_TIME)
    return sum(
        len(ids) > max_text_length
        for s in starts
        for ids in loaded(column[s : s + TEXTS_AT_A_TIME].to_pylist())["input_ids"]
    )


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    if not folder.is_dir():  # transformers would look for a repository of that name
        raise RequestError(
            f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}; --tokenizer "
            "names one on this disk"
        )
    from vle_bench.data import tokenization

    try:
        return tokenization.load_tokenizer(folder, local_files_only=True)
    except (
        Exception
    ) as error:  # a broken file raises whatever the reader of its format raises, in paragraphs
        expected = "tokenizer.json, or the files of an older tokenizer and a config.json"
        raise RequestError(
            f"{folder}: no tokenizer can be loaded from it; a folder with {expected}, is expected"
        ) from error


def lines(manifest: Manifest) -> Iterator[str]:
    """Yield the lines of a manifest's report."""
    report, left_out = manifest.report, manifest.left_out
    unanswerable = 0
    for name, counts in manifest.splits.items():
        line = f"{name:12} {counts['questions']:>9,} questions  {counts['images']:>8,} images"
        if "coverage" in report[name]:
            without = counts["questions"] - counts["answerable"]
            unanswerable += without
            covered = 100 * report[name]["coverage"]
            line += f"  {covered:6.2f} % have an answer in the vocabulary, {without:,} have none"
        yield line
    if unanswerable:
        yield (
            "questions that have none are left out where a split is trained on, "
            "never where it is scored"
        )
    assert manifest.labels is not None
    count, digest = manifest.labels["count"], manifest.labels["sha256"]
    if manifest.metric is not None and manifest.name is None:
        yield f"scored with {manifest.metric}: {ALL_IN_WORDS[manifest.metric]}"
    yield f"vocabulary   {count:>9,} answers    sha256 {digest[:16]}"
    yield from notes_lines(manifest.notes or {})
    yield from turned_lines(manifest)
    yield from lengths({name: report[name] for name in manifest.splits})
    yield from what_is_left_out(left_out)


def notes_lines(notes: JsonObject) -> Iterator[str]:
    if never := notes.get("never_given"):
        first = ", ".join(map(repr, never["first"])) + (
            ", ..." if never["count"] > len(never["first"]) else ""
        )
        one = never["count"] == 1
        yield (
            f"label map: {never['count']:,} {'answer is' if one else 'answers are'} never a "
            f"target, as no normalised answer equals {'it' if one else 'them'}: {first}; "
            "--published-targets looks answers up as they were given"
        )
    if "numbered" in notes:
        count = notes["numbered"]
        yield f"{NUMBERED} ({count:,} question{'s' * (count != 1)})"
    if "unscored" in notes:
        number = notes["unscored"]
        are = "question is" if number == 1 else "questions are"
        yield f"{number:,} {are} left out: the official program does not score them"


def turned_lines(manifest: Manifest) -> Iterator[str]:
    """Yield how many images have an EXIF orientation; none if `prepare` did not count them."""
    if manifest.turned is not None:
        yield (
            f"images turned as their EXIF orientation says: {manifest.turned:,}; the published "
            "programs leave such images as they are stored"
        )


def lengths(report: JsonObject) -> Iterator[str]:
    longest: dict[int, tuple[int, str]] = {}  # a question of test-dev is one of test too
    for name in sorted(report):
        for question in report[name]["longest"]:
            longest.setdefault(question["question_id"], (-question["words"], name))
    first = sorted((words, name, question_id) for question_id, (words, name) in longest.items())[
        :LONGEST
    ]
    words_of = ", ".join(
        f"{-words} words ({name} {question_id})" for words, name, question_id in first
    )
    yield f"longest questions: {words_of}"
    shortened = {name: split for name, split in report.items() if "shortened" in split}
    for name, split in shortened.items():
        yield (
            f"{name}: {split['shortened']:,} questions are longer than {split['max_text_length']} "
            "tokens and will be shortened"
        )
    if not shortened:
        yield "how many are longer than a model reads, only its tokenizer can tell: --tokenizer DIR"


def what_is_left_out(left_out: JsonObject) -> Iterator[str]:
    questions = left_out["questions_of_images"]
    if genome := left_out.get("visual_genome"):
        yield (
            f"left out of Visual Genome: {genome['outside_coco']:,} questions about images that "
            "COCO has not, "
            f"{genome['of_other_splits']:,} about images outside train and val, "
            f"{genome['outside_vocabulary']:,} with answers outside the vocabulary"
        )
    if images := left_out["images"]:
        yield (
            f"left out: {len(images):,} images that cannot be read, and with them {questions:,} "
            "questions"
        )
        yield from listed([f"{bad['file']} ({asker(bad)}): {bad['problem']}" for bad in images])
    if records := left_out["records"]:
        yield f"left out: {len(records):,} bad records"
        yield from listed([f"{bad['file']}: {bad['record']}: {bad['problem']}" for bad in records])


def asker(bad: JsonObject) -> str:
    return bad.get("asked_by") or f"image_id {bad['image_id']}"


def listed(problems: list[str]) -> Iterator[str]:
    yield from (f"  {line}" for line in problems[:SHOWN])
    if len(problems) > SHOWN:
        yield f"  and {len(problems) - SHOWN:,} more, in manifest.json under left_out"
