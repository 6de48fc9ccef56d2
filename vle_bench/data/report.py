"""What `vle-bench prepare` says at its end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vle_bench.errors import RequestError

LONGEST = 3
SHOWN = 10
TEXTS_AT_A_TIME = 2_000


def split_report(questions: pa.Table, labelled: bool, tokenizer: Path | None, max_text_length: int) -> dict[str, Any]:
    """Coverage of the vocabulary, the longest questions in words, and with a tokenizer how many are shortened."""
    words = pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(questions["question"]))).to_numpy()
    longest = np.argsort(-words, kind="stable")[:LONGEST]
    report: dict[str, Any] = {
        "longest": [{"question_id": questions["question_id"][i].as_py(), "words": int(words[i])} for i in longest]
    }
    if labelled and len(questions):
        report["coverage"] = (pc.sum(questions["answerable"]).as_py() or 0) / len(questions)
    if tokenizer is not None:
        report |= {"max_text_length": max_text_length, "shortened": count_shortened(questions, tokenizer, max_text_length)}
    return report


def count_shortened(questions: pa.Table, tokenizer: Path, max_text_length: int) -> int:
    """Questions of more than so many tokens, special ones counted."""
    loaded = load_tokenizer(tokenizer)
    column = questions["question"]
    starts = range(0, len(column), TEXTS_AT_A_TIME)
    return sum(
        len(ids) > max_text_length for s in starts for ids in loaded(column[s : s + TEXTS_AT_A_TIME].to_pylist())["input_ids"]
    )


def load_tokenizer(folder: Path) -> Any:
    if not folder.is_dir():  # transformers would look for a repository of that name
        raise RequestError(
            f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}; --tokenizer names one on this disk"
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # a broken file raises whatever the reader of its format raises, in paragraphs
        expected = "a folder with tokenizer.json, or with the files of an older tokenizer and a config.json, is expected"
        raise RequestError(f"{folder}: no tokenizer can be loaded from it; {expected}") from error


def lines(manifest: dict[str, Any]) -> Iterator[str]:
    """The report of a manifest, to print."""
    report, left_out = manifest["report"], manifest["left_out"]
    for name, counts in manifest["splits"].items():
        line = f"{name:12} {counts['questions']:>9,} questions  {counts['images']:>8,} images"
        if "coverage" in report[name]:
            without = counts["questions"] - counts["answerable"]
            line += (
                f"  {100 * report[name]['coverage']:6.2f} % have an answer in the vocabulary, {without:,} not: left out of training"
            )
        yield line
    yield f"vocabulary   {manifest['labels']['count']:>9,} answers    sha256 {manifest['labels']['sha256'][:16]}"
    yield from lengths(report)
    yield from what_is_left_out(report, left_out)


def lengths(report: dict[str, Any]) -> Iterator[str]:
    found = [(-q["words"], name, q["question_id"]) for name, split in report.items() for q in split["longest"]]
    shown = ", ".join(f"{-words} words ({name} {question_id})" for words, name, question_id in sorted(found)[:LONGEST])
    yield f"longest questions: {shown}"
    shortened = {name: split for name, split in report.items() if "shortened" in split}
    for name, split in shortened.items():
        yield f"{name}: {split['shortened']:,} questions are longer than {split['max_text_length']} tokens and will be shortened"
    if not shortened:
        yield "how many are longer than a model reads, only its tokenizer can tell: --tokenizer DIR"


def what_is_left_out(report: dict[str, Any], left_out: dict[str, Any]) -> Iterator[str]:
    questions = sum(split["left_out_with_their_image"] for split in report.values())
    if images := left_out["images"]:
        yield f"left out: {len(images):,} images that cannot be read, and with them {questions:,} questions"
        yield from listed([f"{bad['file']} (image_id {bad['image_id']}): {bad['problem']}" for bad in images])
    if records := left_out["records"]:
        yield f"left out: {len(records):,} bad records"
        yield from listed([f"{bad['file']}: {bad['record']}: {bad['problem']}" for bad in records])


def listed(found: list[str]) -> Iterator[str]:
    yield from (f"  {line}" for line in found[:SHOWN])
    if len(found) > SHOWN:
        yield f"  and {len(found) - SHOWN:,} more, in manifest.json under left_out"
