"""What prepared data remember of how they were made, so that the same request finds them finished and another is refused."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vle_bench import atomic
from vle_bench.data.label_map import labels_digest
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.shards import Problem
from vle_bench.data.prepared import SCHEMA_VERSION, damage
from vle_bench.errors import RequestError
from vle_bench.json_files import loads

NAMED = 3  # differences that an error names


class Standing(dict[str, Any]):
    """The manifest of data that were there already, made as they are asked for."""


@dataclass(frozen=True)
class Making:
    """The official files and the options of one preparation.

    Args:
        files: name → size and date.
        image_file: an image that was left out → its file; None where the files are written anew each time.
        lengths: tokenizer and length that only the report depends on; None without a tokenizer.
    """

    source: str
    files: dict[str, list[int] | None]
    options: dict[str, Any]
    image_file: Callable[[Problem], Path] | None
    lengths: dict[str, Any] | None

    def noted(self, left_out: dict[str, Any]) -> dict[str, Any]:
        """For the manifest. Images that were left out are noted too: who mends one asks for other data."""
        images = (
            {}
            if self.image_file is None
            else {bad["file"]: stamp(self.image_file(bad)) for bad in left_out["images"]}
        )
        return {
            "files": self.files,
            "options": self.options,
            "left_out_images": images,
            "lengths": self.lengths,
        }

    def standing(self, output: Path, splits: Iterable[str]) -> Standing | None:
        """The manifest of an output that is finished, and whole; None where there is nothing or where it is to be made again.

        Args:
            splits: their names, in the order that the file has lost.

        Raises:
            RequestError: something else is there, or data made in another way.
        """
        if not output.exists() or (output.is_dir() and not any(output.iterdir())):
            return None
        try:
            manifest = loads((output / "manifest.json").read_text(encoding="utf-8-sig"))
            ours = manifest["source"] == self.source
            others = sorted(
                {p.name for p in output.iterdir()} - {"manifest.json", *manifest["files"]}
            )
        except (OSError, ValueError, KeyError, TypeError):
            ours, others = False, []
        if not ours:
            raise RequestError(
                f"{output}: holds something else than prepared {self.source}; give another --output"
            )
        if manifest.get("schema_version") != SCHEMA_VERSION or "inputs" not in manifest:
            raise RequestError(
                f"{output}: was prepared by an earlier version; remove the folder or give another --output"
            )
        if found := differences(manifest["inputs"], self.noted(manifest["left_out"])):
            more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
            what = "; ".join(found[:NAMED]) + more
            raise RequestError(
                f"{output}: was prepared in another way ({what}); remove the folder or give another --output"
            )
        if damage(output, manifest) is None:
            return Standing(
                {**manifest, "splits": {name: manifest["splits"][name] for name in splits}}
            )
        if (
            others
        ):  # the folder is replaced as a whole: what someone put beside the data would be gone
            raise RequestError(
                f"{output}: holds {others[0]!r} beside the prepared data; move it or give another --output"
            )
        return None

    def count_again(
        self, output: Path, manifest: Standing, reports: dict[str, Any], count: Callable[[str], Any]
    ) -> None:
        """With another tokenizer than before the data stand, and only their report changes.

        Args:
            reports: split → its part of the manifest's report.
            count: split → what the tokenizer has to do with, of that part.
        """
        if self.lengths in (None, manifest["inputs"]["lengths"]):
            return
        for split, report in reports.items():
            report |= count(split)
        manifest["inputs"]["lengths"] = self.lengths
        atomic.write_json(output / "manifest.json", manifest)


def making_of(
    source: str,
    files: Iterable[Path],
    choices: Choices,
    image_file: Callable[[Problem], Path],
    made_from: dict[str, Any] | None = None,
    answers: list[str] | None = None,
) -> Making:
    """The request of a preparation.

    Args:
        made_from: what decides the files' content, where they are written anew each time; it stands for them.
        answers: of `choices.label_map`, which is read once.
    """
    labels = (
        answers
        and choices.label_map
        and f"{choices.label_map.name}, SHA-256 {labels_digest(answers)[:16]}"
    )
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
    return Making(source, stamps, options, image_file if made_from is None else None, lengths)


def stamp(path: Path) -> list[int] | None:
    """Size and date, by which a file is taken to be the same; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def folder_digest(folder: Path) -> str:
    return hashlib.sha256(
        json.dumps(sorted((p.name, stamp(p)) for p in folder.iterdir())).encode()
    ).hexdigest()


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In words; `lengths` concern the report alone."""
    found = []
    for option in sorted({*then["options"], *now["options"]}):
        before, after = (shown(side["options"].get(option)) for side in (then, now))
        if before != after:
            found.append(f"{option}: {before} then, {after} now")
    for name in sorted({*then["files"], *now["files"]}):
        if name not in now["files"]:
            found.append(f"{name} was among its files")
        elif name not in then["files"]:
            found.append(f"{name} was not among its files")
        elif then["files"][name] != now["files"][name]:
            found.append(f"{name} had another size or date")
    for name, before in then["left_out_images"].items():
        if now["left_out_images"].get(name) != before:
            found.append(f"{name}, which was left out, has changed since")
    return found


def shown(value: Any) -> str:
    return (
        "not given" if value is None or value is False else "given" if value is True else str(value)
    )
