"""The prepared form of a data set: images and questions tables in Arrow, a label map, a manifest."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from vle_bench.data.splits import tables
from vle_bench.digests import sha256
from vle_bench.errors import RequestError
from vle_bench.json_files import loads

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class PreparedData:
    """An opened prepared folder.

    `images` has the columns image_id, file_name, bytes (the encoded file), width, height. A questions table of VQA has
    question_id, image_id, image_row (row of `images`), question, question_type, answer_type, multiple_choice_answer, answers (the
    annotators'), label_ids and label_scores (soft targets), answerable (there is such a target: it can be trained on).
    `manifest["report"][split]` (for VCR `manifest["report"]["splits"][split]`) says how many questions the split lacks:
    `left_out_with_their_image` for images that are missing or cannot be read, `left_out_as_bad_records` for records that are wrong,
    both 0 unless `prepare` was told to skip them. `manifest["left_out"]` lists them. `manifest["inputs"]` says what the data were
    made from, and is no part of the hash.
    `labels` is empty for a source without classes, such as VCR; `vle_bench.data.tables` has the columns of its tables.
    """

    root: Path
    manifest: dict[str, Any]
    labels: list[str]
    images: datasets.Dataset

    def questions(self, split: str) -> datasets.Dataset:
        """The questions of a split, or of several (`train+val-minival`); `val` and `trainval` stand for their parts."""
        parts = tables(split, set(self.manifest["splits"]))
        if len(set(parts)) != len(parts):
            raise RequestError(f"split {split!r}: names a split twice, and so every question in it")
        found = []
        for part in parts:
            if part not in self.manifest["splits"]:
                known = ", ".join(self.manifest["splits"])
                raise RequestError(f"{self.root}: has no split {part!r}; it has {known}")
            found.append(datasets.Dataset.from_file(str(self.root / f"questions-{part}.arrow")))
        return datasets.concatenate_datasets(found) if len(found) > 1 else found[0]


def open_prepared(root: Path) -> PreparedData:
    """Open a folder that `vle-bench prepare` wrote; checks that its files are whole."""
    path = root / "manifest.json"
    if not path.is_file():
        raise RequestError(
            f"{root}: no prepared data there; run `vle-bench prepare SOURCE --output {root}`"
        )
    try:
        manifest = loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise RequestError(
            f"{path}: cut off or broken at line {error.lineno}; prepare the data again"
        ) from error
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path}: not UTF-8 text (byte {error.start}); prepare the data again"
        ) from error
    except ValueError as error:
        raise RequestError(f"{path}: {error}; prepare the data again") from error
    if not isinstance(manifest, dict):
        raise RequestError(f"{path}: not a manifest; prepare the data again")
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise RequestError(
            f"{path}: schema_version {manifest.get('schema_version')}, this version reads {SCHEMA_VERSION}; prepare again"
        )
    if missing := [
        key for key in ("source", "splits", "files", "images", "hash") if key not in manifest
    ]:
        raise RequestError(f"{path}: has no {missing[0]!r}; prepare the data again")
    if found := damage(root, manifest):
        raise RequestError(f"{found}; prepare the data again")
    labels = (
        loads((root / "label_map.json").read_text(encoding="utf-8"))["answers"]
        if "label_map.json" in manifest["files"]
        else []
    )
    shards = [datasets.Dataset.from_file(str(root / name)) for name in manifest["images"]]
    return PreparedData(root, manifest, labels, datasets.concatenate_datasets(shards))


def damage(root: Path, manifest: dict[str, Any]) -> str | None:
    """The first file that is not what was prepared, and how it differs; None where all is whole."""
    for name, file in manifest["files"].items():
        size = (root / name).stat().st_size if (root / name).is_file() else None
        if size != file["bytes"]:
            found = "missing" if size is None else f"{size} bytes long instead of {file['bytes']}"
            return f"{root / name}: {found}"
        # The images' shards are too large to read at every start; a picture that was changed is a matter of its decoder.
        if name not in manifest["images"] and sha256(root / name) != file["sha256"]:
            return f"{root / name}: not what was prepared, its SHA-256 is another"
    return None


def check_labels(labels: list[str], data: PreparedData) -> None:
    """A checkpoint must answer with the answers that the data was prepared with."""
    if labels != data.labels:
        raise RequestError(
            f"{data.root}: its label map ({len(data.labels)} answers) is not the checkpoint's ({len(labels)}); "
            "prepare the data with the same label map"
        )


def check_labelled(data: PreparedData, split: str) -> None:
    """A split without answers can be neither trained on nor scored."""
    for part in tables(split, set(data.manifest["splits"])):
        if not data.manifest["splits"].get(part, {}).get("labelled", True):
            raise RequestError(
                f"{data.root}: split {part!r} has no labels; `vle-bench predict` writes the answers to it"
            )


def check_whole(data: PreparedData, split: str) -> None:
    """The server takes no file without the questions that a preparation has left out."""
    report = data.manifest.get("report", {})
    for part in tables(split, set(data.manifest["splits"])):
        found = report.get("splits", report).get(part, {})
        if count := found.get("left_out_with_their_image", 0) + found.get(
            "left_out_as_bad_records", 0
        ):
            raise RequestError(
                f"{data.root}: {count:,} questions of {part} were left out when it was prepared (manifest.json, left_out): the "
                "official file needs them all; prepare the data again without skipping"
            )
