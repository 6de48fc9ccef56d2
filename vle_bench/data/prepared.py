"""The prepared form of a dataset: Arrow tables of images and questions, a label map, a manifest."""

import hashlib
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from vle_bench.atomic import file_sha256
from vle_bench.data.sources import SOURCES, Form
from vle_bench.data.splits import tables
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, read_json
from vle_bench.metrics.answers import ALL_ACCURACIES

# Opened tables need the library, which imports torch. `prepare` and its processes start without it,
# in a tenth of the time.
if TYPE_CHECKING:
    from datasets import Dataset

SCHEMA_VERSION = 2
REQUIRED = ("source", "splits", "files", "images", "hash")
PIXEL_STORE = "pixels-"  # begins the name of a folder of pixels, see `vle_bench.data.pixels`
# The hash covers the prepared content alone: not how it was made, nor what was left out.
NOT_HASHED = ("hash", "name", "turned", "report", "left_out", "inputs", "notes")


@dataclass(frozen=True)
class Manifest:
    """The manifest.json of prepared data.

    Args:
        source: name of the dataset, a row of `vle_bench.data.sources`.
        splits: split → `questions`, `images`, `labelled`, `ids_sha256`, and `answerable` for VQA.
        files: file name → `bytes` and `sha256`.
        images: names of the image shards, in order.
        labels: of the label map: `count`, `sha256` and its origin; None without classes.
        targets: `normalised` or `published`, how answers were looked up; None without classes.
        metric: the accuracy of a question, one of `ALL_ACCURACIES` of vle_bench.metrics.answers;
            None: VQA v2's.
        hash: SHA-256 of the fields above.
        name: what the user calls their own data; None for a dataset of `sources`.
        form: the form of the questions if it is one of the source's `further_forms`; else None.
        turned: number of images with an EXIF orientation, which were turned as it says; None for
            data of versions that did not count them.
        report: split → statistics of the preparation (for VCR under `splits`), among them how many
            questions the split lacks: `left_out_with_their_image` because their image is missing
            or unreadable, `left_out_as_bad_records` because the record is wrong.
        left_out: the records and images that `prepare` skipped.
        inputs: the official files and options that the data were made from.
        notes: remarks on the label map and on the annotations as a whole.
    """

    schema_version: int
    source: str
    splits: dict[str, JsonObject]
    files: dict[str, JsonObject]
    images: list[str]
    labels: JsonObject | None = None
    targets: str | None = None
    metric: str | None = None
    hash: str = ""
    name: str | None = None
    form: Form | None = None
    turned: int | None = None
    report: JsonObject = field(default_factory=dict)
    left_out: JsonObject = field(default_factory=dict)
    inputs: JsonObject | None = None
    notes: JsonObject | None = None

    def as_json(self) -> JsonObject:
        """Return the fields that are given."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def identity(self) -> dict[str, str]:
        """Return `source`, `manifest_hash` and, for users' own data, `name`."""
        name = {} if self.name is None else {"name": self.name}
        return {"source": self.source, **name, "manifest_hash": self.hash}

    def content_hash(self) -> str:
        """Return the SHA-256 of the prepared content."""
        content = {k: v for k, v in self.as_json().items() if k not in NOT_HASHED}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.json of this schema version; unknown keys are ignored.

    Raises:
        RequestError: it cannot be read, lacks a key or has another schema version.
    """
    try:
        content = read_json(path)
    except RequestError as error:
        raise RequestError(f"{error}; prepare the data again") from error
    if not isinstance(content, dict):
        raise RequestError(f"{path}: not a manifest; prepare the data again")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise RequestError(
            f"{path}: schema_version {content.get('schema_version')}, this version reads "
            f"{SCHEMA_VERSION}; prepare again"
        )
    if missing := [key for key in REQUIRED if key not in content]:
        raise RequestError(f"{path}: has no {missing[0]!r}; prepare the data again")
    if (metric := content.get("metric")) not in (None, *ALL_ACCURACIES):
        raise RequestError(
            f"{path}: metric {metric!r} is none of {', '.join(ALL_ACCURACIES)}; prepare the data "
            "again"
        )
    known = {f.name for f in fields(Manifest)}
    return Manifest(**{key: value for key, value in content.items() if key in known})


@dataclass(frozen=True)
class PreparedData:
    """An opened prepared folder.

    Args:
        labels: the answers in the order of the classes; empty for a dataset without classes, such
            as VCR.
        images: columns image_id, file_name, bytes (the encoded file), width, height.

    A questions table of VQA has question_id, image_id, image_row (row of `images`), question,
    question_type, answer_type, multiple_choice_answer, answers (the annotators'), label_ids and
    label_scores (soft targets), answerable (it has a soft target and can be trained on).
    `vle_bench.data.tables` has the columns of all tables.
    """

    root: Path
    manifest: Manifest
    labels: list[str]
    images: "Dataset"

    @property
    def form(self) -> Form:
        """The form of the questions."""
        return self.manifest.form or SOURCES[self.manifest.source].form

    @property
    def tagged(self) -> bool:
        """Tell whether texts tag objects with boxes, each question its own."""
        first = next(iter(self.manifest.splits), None)
        return (
            self.form == "choice"
            and first is not None
            and "boxes" in self.questions(first).column_names
        )

    def questions(self, split: str) -> "Dataset":
        """Return the questions of a split or of several (`train+val-minival`)."""
        from datasets import Dataset, concatenate_datasets

        names = tables(split, set(self.manifest.splits))
        if len(set(names)) != len(names):
            raise RequestError(f"split {split!r}: names a split twice, and so every question in it")
        parts = []
        for name in names:
            if name not in self.manifest.splits:
                known = ", ".join(self.manifest.splits)
                raise RequestError(f"{self.root}: has no split {name!r}; it has {known}")
            parts.append(Dataset.from_file(str(self.root / f"questions-{name}.arrow")))
        return concatenate_datasets(parts) if len(parts) > 1 else parts[0]


def picture_id(content: bytes) -> int:
    """Return the id of a picture of users' own data: 63 bits of the SHA-256 of its bytes."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1


def open_prepared(root: Path) -> PreparedData:
    """Open a folder that `vle-bench prepare` wrote, after checking that its files are complete."""
    from datasets import Dataset, concatenate_datasets

    path = root / "manifest.json"
    if not path.is_file():
        raise RequestError(
            f"{root}: no prepared data there; run `vle-bench prepare SOURCE --output {root}`"
        )
    manifest = read_manifest(path)
    if problem := damage(root, manifest):
        raise RequestError(f"{problem}; prepare the data again")
    labels = []
    if "label_map.json" in manifest.files:
        labels = read_json(root / "label_map.json")["answers"]
    shards = [Dataset.from_file(str(root / name)) for name in manifest.images]
    return PreparedData(root, manifest, labels, concatenate_datasets(shards))


def damage(root: Path, manifest: Manifest) -> str | None:
    """Describe the first file that differs from what was prepared; None if all are complete."""
    for name, file in manifest.files.items():
        path = root / name
        if not path.is_file():
            return f"{path}: missing"
        if (size := path.stat().st_size) != file["bytes"]:
            return f"{path}: {size} bytes long instead of {file['bytes']}"
        # Image shards are too large to read at every start; decoding finds a damaged picture.
        if name not in manifest.images and file_sha256(path) != file["sha256"]:
            return f"{path}: not what was prepared, its SHA-256 is another"
    return None


def check_labelled(data: PreparedData, split: str) -> None:
    """Refuse a split without labels, which can be neither trained on nor scored."""
    for name in tables(split, set(data.manifest.splits)):
        if not data.manifest.splits.get(name, {}).get("labelled", True):
            raise RequestError(
                f"{data.root}: split {name!r} has no labels; `vle-bench predict` writes the "
                "answers to it"
            )


def check_whole(data: PreparedData, split: str) -> None:
    """Refuse a split that lacks questions: the server only accepts complete files."""
    reports = data.manifest.report.get("splits", data.manifest.report)
    for name in tables(split, set(data.manifest.splits)):
        report = reports.get(name, {})
        keys = ("left_out_with_their_image", "left_out_as_bad_records")
        if count := sum(report.get(key, 0) for key in keys):
            raise RequestError(
                f"{data.root}: {count:,} questions of {name} were left out when it was prepared "
                "(manifest.json, left_out): the official file needs them all; prepare the data "
                "again without skipping"
            )
