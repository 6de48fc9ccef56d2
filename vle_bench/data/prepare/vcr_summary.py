"""The report that `vle-bench prepare` prints for data of VCR's form."""

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vle_bench.data.boxes import outside
from vle_bench.data.official.vcr import CHOICES
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.shards import in_processes
from vle_bench.data.prepare.vqa_summary import listed, load_tokenizer, turned_lines
from vle_bench.data.prepared import Manifest
from vle_bench.data.tables import map_table
from vle_bench.data.vcr_text import encode_record, is_private
from vle_bench.json_files import JsonObject
from vle_bench.progress import Bar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RECORDS_AT_A_TIME = 1_000
TASKS = {"q2a": "Q2A", "qa2r": "QA2R"}
Part = tuple[str, int, str | None, int]  # table, first record, tokenizer, max_length


def count_boxes(
    counts: JsonObject, boxes: np.ndarray, row: JsonObject, metadata: JsonObject
) -> None:
    """Count the boxes of one image; `boxes` (K, 4) are in pixels of the picture."""
    width, height = row["width"], row["height"]
    gone = outside(boxes, width, height)
    beyond = ((boxes < 0) | (boxes > [width, height, width, height])).any(1)
    for name, value in {
        "images": 1,
        "objects": len(boxes),
        "wholly_outside": int(gone.sum()),
        "partly_outside": int((beyond & ~gone).sum()),
        "other_size": (metadata["width"], metadata["height"]) != (width, height),
    }.items():
        counts[name] = counts.get(name, 0) + int(value)
    counts["most_objects"] = max(counts.get("most_objects", 0), len(boxes))


def sum_of_shards(counts: Iterable[JsonObject]) -> JsonObject:
    total = {
        "images": 0,
        "objects": 0,
        "most_objects": 0,
        "partly_outside": 0,
        "wholly_outside": 0,
        "other_size": 0,
    }
    for shard in counts:
        for name in total:
            value = shard.get(name, 0)
            total[name] = max(total[name], value) if name == "most_objects" else total[name] + value
    return total


def text_report(
    table: Path, questions: int, name: str, choices: Choices, usual_length: int
) -> JsonObject:
    """Count private-use words of a questions table, and with a tokenizer long choices."""
    length = choices.max_text_length or usual_length
    tokenizer = None if choices.tokenizer is None else str(choices.tokenizer)
    parts: list[Part] = [
        (str(table), start, tokenizer, length) for start in range(0, questions, RECORDS_AT_A_TIME)
    ]
    total: Counter[str] = Counter()
    with Bar(f"texts of {name}", questions) as bar:
        for part, counts in zip(
            parts, in_processes(count_part, parts, choices.workers if tokenizer else 1), strict=True
        ):
            total.update(counts)
            bar.advance(min(RECORDS_AT_A_TIME, questions - part[1]))
    report: JsonObject = {"private_use_tokens": total["private"]}
    if tokenizer is not None:
        report["max_text_length"] = length
        for task in TASKS:
            report[task] = {"choices": total[task], "shortened": total[f"{task} shortened"]}
    return report


def count_part(part: Part) -> Counter[str]:
    """Count choices as they are encoded: 4 a question, but 16 rationales without a label."""
    path, start, tokenizer, length = part
    loaded = None if tokenizer is None else cached_tokenizer(tokenizer)
    counts: Counter[str] = Counter()
    for text in map_table(Path(path))["record"][start : start + RECORDS_AT_A_TIME].to_pylist():
        record = json.loads(text)
        tokens = (
            t
            for segment in (
                record["question"],
                *record["answer_choices"],
                *record["rationale_choices"],
            )
            for t in segment
        )
        counts["private"] += sum(isinstance(token, str) and is_private(token) for token in tokens)
        if loaded is not None:
            given = [None] if "answer_label" in record else range(CHOICES)
            encoded = {
                "q2a": encode_record(record, loaded, "q2a", length),
                "qa2r": [
                    choice
                    for answer in given
                    for choice in encode_record(record, loaded, "qa2r", length, answer)
                ],
            }
            for task, choices in encoded.items():
                counts[task] += len(choices)
                counts[f"{task} shortened"] += sum(choice["shortened"] for choice in choices)
    return counts


@functools.cache
def cached_tokenizer(folder: str) -> "PreTrainedTokenizerBase":
    return load_tokenizer(Path(folder))


def lines(manifest: Manifest) -> Iterator[str]:
    """Yield the lines of a manifest's report."""
    report = manifest.report
    images, splits = report["images"], {name: report["splits"][name] for name in manifest.splits}
    for name, counts in manifest.splits.items():
        unlabelled = "" if counts["labelled"] else "  without labels"
        questions, pictures = counts["questions"], counts["images"]
        yield f"{name:12} {questions:>9,} questions  {pictures:>8,} images{unlabelled}"
    for name in report["missing_splits"]:
        yield f"{name:12} not there: the folder has no {name}.jsonl"
    yield (
        f"objects an image: {images['objects'] / images['images']:.1f} on average, "
        f"{images['most_objects']} at most"
    )
    yield (
        f"boxes: {images['objects']:,}, of which {images['partly_outside']:,} reach beyond their "
        f"picture and {images['wholly_outside']:,} lie wholly outside (the nearest patches stand "
        "for them)"
    )
    yield (
        f"images of another size than their metadata say: {images['other_size']:,}; "
        "their boxes are scaled to the true size"
    )
    yield from turned_lines(manifest)
    private = ", ".join(f"{name} {split['private_use_tokens']:,}" for name, split in splits.items())
    yield f"tokens with private-use characters, which encoding drops: {private}"
    yield from lengths(splits)
    yield from what_is_left_out(report, manifest.left_out)


def lengths(splits: JsonObject) -> Iterator[str]:
    for name, split in splits.items():
        if "max_text_length" in split:
            parts = ", ".join(
                f"{title} {split[t]['shortened']:,} of {split[t]['choices']:,}"
                for t, title in TASKS.items()
            )
            most = split["max_text_length"]
            yield f"{name}: choices that are shortened at {most} tokens: {parts}"
    if not any("max_text_length" in split for split in splits.values()):
        yield (
            "how many choices are longer than a model reads, only its tokenizer can tell: "
            "--tokenizer DIR"
        )


def what_is_left_out(report: JsonObject, left_out: JsonObject) -> Iterator[str]:
    questions = sum(split["left_out_with_their_image"] for split in report["splits"].values())
    if images := left_out["images"]:
        yield (
            f"left out: {len(images):,} images that cannot be read, and with them {questions:,} "
            "questions"
        )
        yield from listed(
            [f"{bad['file']} ({bad['asked_by']}): {bad['problem']}" for bad in images]
        )
    if records := left_out["records"]:
        yield (
            f"left out: {len(records):,} bad records, {report['tags_out_of_range']:,} of them for "
            "a tag out of range"
        )
        yield from listed(
            [
                f"{bad['file']}: line {bad['line']}: {bad['annot_id']}: {bad['problem']}"
                for bad in records
            ]
        )
