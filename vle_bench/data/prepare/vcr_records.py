"""The records of VCR's annotation files: checked, compared and kept as Arrow tables."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa

from vle_bench.data.official.vcr import annot_id_of, bad_record, check_official_record
from vle_bench.data.official.vqa import OnBad
from vle_bench.data.prepare.shards import BadImage
from vle_bench.data.tables import VCR_RECORDS, record_batches, write_table
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, jsonl_lines, parse_record
from vle_bench.progress import Bar

SPLITS = ("train", "val", "test")
LABELLED = ("train", "val")  # test has labels or not, but one of the two throughout
IMAGES = "vcr1images"
KEPT = ("annot_id", "objects", "question", "answer_choices", "rationale_choices")
LABELS = ("answer_label", "rationale_label")
# Between the two passes, a line number goes with each record.
LINES = VCR_RECORDS.append(pa.field("line", pa.int64()))


class Asked(NamedTuple):
    """The first record about an image, with which the others must agree; `objects` is JSON."""

    objects: str
    metadata_fn: str
    path: Path
    line: int
    annot_id: str

    @property
    def name(self) -> str:
        return f"{self.path}: line {self.line}: VCR record {self.annot_id!r}"


@dataclass
class Known:
    """Everything that is compared across lines and files; some hundred bytes a record.

    Args:
        images: img_fn → first record about the image.
        ids: image_id → img_fn.
        annot_ids: annot_id → file and line.
    """

    policy: OnBad
    images: dict[str, Asked] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=dict)
    annot_ids: dict[str, str] = field(default_factory=dict)
    left_out: list[JsonObject] = field(default_factory=list)
    tags_out_of_range: int = 0

    def refuse(self, path: Path, line: int, error: RequestError, annot_id: object) -> None:
        if self.policy == "error":
            raise record_error(f"{path}: line {line}: {error}") from error
        self.left_out.append(left_out_record(path, line, annot_id, str(error).split(": ", 1)[1]))


def image_id(img_fn: str) -> int:
    """Return 63 bits of the name's SHA-256: the same number whichever splits are prepared."""
    return int.from_bytes(hashlib.sha256(img_fn.encode()).digest()[:8], "big") >> 1


def read_split(path: Path, name: str, target: Path, known: Known) -> None:
    """Write the records of one file as a table of LINES; metadata are checked later."""
    with Bar(f"read {path.name}", path.stat().st_size, in_bytes=True) as bar:
        write_table(target, LINES, record_batches(rows_of(path, name, known, bar), LINES))
    if not bar.done:
        raise RequestError(f"{path}: empty, there is no record in it")


def rows_of(path: Path, name: str, known: Known, bar: Bar) -> Iterator[JsonObject]:
    # None: the first record decides.
    labelled = True if name in LABELLED else None
    for line, content in jsonl_lines(path):
        bar.advance(len(content))
        record: JsonObject = {}
        try:
            record = parse_record(content, f"VCR record {annot_id_of(content)!r}")
            row = row_of(record)
            labelled = check_labels(record, labelled)
            remember(record, path, line, known)
        except RequestError as error:
            known.tags_out_of_range += "names none of its" in str(error)
            known.refuse(path, line, error, record.get("annot_id", annot_id_of(content)))
            continue
        yield {**row, "line": line}


def row_of(record: JsonObject) -> JsonObject:
    """Return the columns of VCR_RECORDS; refuse a record that is wrong or cannot be stored."""
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


def check_file_name(record: JsonObject, key: str) -> None:
    """Refuse everything but a file name inside the folder of images, before it is opened."""
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


def check_labels(record: JsonObject, labelled: bool | None) -> bool:
    """Return whether the record has labels; refuse it if that differs from `labelled`."""
    lacking = [key for key in LABELS if record.get(key) is None]
    if lacking and (labelled or len(lacking) == 1):
        raise bad_record(record, f"has no {lacking[0]!r}")
    if not lacking and labelled is False:
        raise bad_record(record, "has labels, and the records before it have none")
    return not lacking


def remember(record: JsonObject, path: Path, line: int, known: Known) -> None:
    """Refuse a record with a known id, or one that contradicts another about the same image."""
    annot_id, name = record["annot_id"], record["img_fn"]
    if (before := known.annot_ids.get(annot_id)) is not None:
        raise bad_record(record, f"annot_id: occurs in {before} already")
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


def record_error(text: str) -> RequestError:
    return RequestError(f"{text}; --on-bad-record skip leaves such records out")


def left_out_record(path: Path, line: int, annot_id: object, text: str) -> JsonObject:
    return {
        "file": path.name,
        "line": line,
        "annot_id": annot_id if isinstance(annot_id, str) else None,
        "problem": text,
    }


def in_order(records: list[JsonObject]) -> list[JsonObject]:
    return sorted(
        records, key=lambda r: (SPLITS.index(r["file"].removesuffix(".jsonl")), r["line"])
    )


def left_out_images(bad: dict[int, BadImage], known: Known) -> list[JsonObject]:
    images = []
    for number, problem_ in bad.items():
        if "metadata" not in problem_:
            name = known.ids[number]
            first = known.images[name]
            asked_by = f"{first.path.name}: line {first.line}: annot_id {first.annot_id}"
            images.append(
                {
                    "file": name,
                    "image_id": number,
                    "asked_by": asked_by,
                    "problem": problem_["problem"],
                }
            )
    return sorted(images, key=lambda image: image["file"])
