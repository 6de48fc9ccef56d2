"""Fingerprints of prepared data: the same request reuses them, a different one is refused."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from vle_bench import atomic
from vle_bench.data.label_map import labels_digest
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.shards import BadImage
from vle_bench.data.prepared import PIXEL_STORE, SCHEMA_VERSION, Manifest, damage, read_manifest
from vle_bench.errors import RequestError, first_of
from vle_bench.json_files import JsonObject, read_json

NAMED = 3  # differences that an error names


class Standing(Manifest):
    """The manifest of data that an earlier command prepared in the same way."""


@dataclass(frozen=True)
class Fingerprint:
    """The official files and the options of one preparation.

    Args:
        files: name → size and date.
        image_file: maps an image that was left out to its file; None if the official files are
            generated for each preparation.
        lengths: tokenizer and length, which only affect the report; None without a tokenizer.
    """

    source: str
    files: dict[str, list[int] | None]
    options: JsonObject
    image_file: Callable[[BadImage], Path] | None
    lengths: JsonObject | None

    def as_inputs(self, left_out: JsonObject) -> JsonObject:
        """Return the `inputs` of the manifest.

        Images that were left out are part of it: with a mended image the data would be others.
        """
        images = {}
        if self.image_file is not None:
            images = {bad["file"]: stamp(self.image_file(bad)) for bad in left_out["images"]}
        return {
            "files": self.files,
            "options": self.options,
            "left_out_images": images,
            "lengths": self.lengths,
        }

    def finished(self, output: Path, splits: Iterable[str]) -> Standing | None:
        """Return the manifest of complete data in `output`; None if they have to be prepared.

        Args:
            splits: names in their order, which the file does not keep.

        Raises:
            RequestError: `output` holds something else, or data prepared in another way.
        """
        if not output.exists() or (output.is_dir() and not any(output.iterdir())):
            return None
        other_files = self._other_files(output)
        manifest = read_manifest(output / "manifest.json")
        assert manifest.inputs is not None
        if changes := differences(manifest.inputs, self.as_inputs(manifest.left_out)):
            raise RequestError(
                f"{output}: was prepared in another way ({first_of(changes, NAMED, '; ')}); "
                "remove the folder or give another --output"
            )
        if damage(output, manifest) is None:
            in_order = {name: manifest.splits[name] for name in splits}
            return Standing(**vars(replace(manifest, splits=in_order)))
        # The folder is replaced as a whole, which would delete files that somebody put there.
        if other_files:
            raise RequestError(
                f"{output}: holds {other_files[0]!r} beside the prepared data; move it or give "
                "another --output"
            )
        return None

    def _other_files(self, output: Path) -> list[str]:
        """Return files of a prepared folder that are not part of it; refuse other folders."""
        try:
            content = read_json(output / "manifest.json")
            known = {"manifest.json", *content["files"]}
            ours = content["source"] == self.source
        except (RequestError, KeyError, TypeError):
            ours = False
        if not ours:
            raise RequestError(
                f"{output}: holds something else than prepared {self.source}; give another --output"
            )
        if content.get("schema_version") != SCHEMA_VERSION or "inputs" not in content:
            raise RequestError(
                f"{output}: was prepared by an earlier version; remove the folder or give another "
                "--output"
            )
        stores = {path.name for path in output.glob(f"{PIXEL_STORE}*")}  # made anew from the data
        return sorted({path.name for path in output.iterdir()} - known - stores)

    def count_again(
        self,
        output: Path,
        manifest: Manifest,
        reports: dict[str, JsonObject],
        count: Callable[[str], JsonObject],
    ) -> None:
        """Update the report of complete data if it was made with another tokenizer.

        Args:
            reports: split → its part of the manifest's report.
            count: split → the part of it that depends on the tokenizer.
        """
        assert manifest.inputs is not None
        if self.lengths in (None, manifest.inputs["lengths"]):
            return
        for split, report in reports.items():
            report |= count(split)
        manifest.inputs["lengths"] = self.lengths
        atomic.write_json(output / "manifest.json", manifest.as_json())


def fingerprint(
    source: str,
    files: Iterable[Path],
    choices: Choices,
    image_file: Callable[[BadImage], Path],
    made_from: JsonObject | None = None,
    answers: list[str] | None = None,
) -> Fingerprint:
    """Return the fingerprint of a request.

    Args:
        made_from: parameters that generated the files, which then stand for them.
        answers: content of `choices.label_map`, which is read only once.
    """
    labels = None
    if answers and choices.label_map:
        labels = f"{choices.label_map.name}, SHA-256 {labels_digest(answers)[:16]}"
    options = {
        "--on-bad-image": choices.on_bad_image,
        "--on-bad-record": choices.on_bad_record,
        "--label-map": labels,
        "--published-targets": choices.published_targets,
        **(made_from or {}),
    }
    stamps = {path.name: stamp(path) for path in files} if made_from is None else {}
    lengths = None
    if choices.tokenizer is not None:
        lengths = {
            "tokenizer": folder_digest(choices.tokenizer),
            "max_text_length": choices.max_text_length,
        }
    return Fingerprint(source, stamps, options, image_file if made_from is None else None, lengths)


def stamp(path: Path) -> list[int] | None:
    """Return size and date, by which a file counts as unchanged; None for a missing file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a zero byte in a name
        return None
    return [status.st_size, status.st_mtime_ns]


def folder_digest(folder: Path) -> str:
    stamps = sorted((path.name, stamp(path)) for path in folder.iterdir())
    return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()


def differences(before: JsonObject, now: JsonObject) -> list[str]:
    """Describe how two `inputs` differ, except in `lengths`."""
    changes = []
    for option in sorted({*before["options"], *now["options"]}):
        old, new = (in_words(side["options"].get(option)) for side in (before, now))
        if old != new:
            changes.append(f"{option}: {old} then, {new} now")
    for name in sorted({*before["files"], *now["files"]}):
        if name not in now["files"]:
            changes.append(f"{name} was among its files")
        elif name not in before["files"]:
            changes.append(f"{name} was not among its files")
        elif before["files"][name] != now["files"][name]:
            changes.append(f"{name} had another size or date")
    for name, old_stamp in before["left_out_images"].items():
        if now["left_out_images"].get(name) != old_stamp:
            changes.append(f"{name}, which was left out, has changed since")
    return changes


def in_words(value: object) -> str:
    if value is None or value is False:
        return "not given"
    return "given" if value is True else str(value)
