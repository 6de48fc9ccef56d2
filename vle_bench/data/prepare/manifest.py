"""What every source's preparation shares: how it may be asked, and how it ends."""

import filecmp
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vle_bench import atomic
from vle_bench.data.official.vqa import OnBad
from vle_bench.data.prepare.shards import SHARD_BYTES
from vle_bench.errors import RequestError

WORK = "work"  # folder of what only an unfinished run needs
FINISHED_SHARDS = f"{WORK}/images-*.json"

Manifest = dict[str, Any]
Options = dict[
    str, Any
]  # options of `vle-bench prepare` that only some datasets take; None: not given


@dataclass(frozen=True)
class Choices:
    """How to prepare: see `vle-bench prepare --help`. None of `workers` and `shard_bytes` changes a row."""

    workers: int = 1
    on_bad_image: OnBad = "error"
    on_bad_record: OnBad = "error"
    label_map: Path | None = None
    published_targets: bool = False
    tokenizer: Path | None = None
    max_text_length: int | None = None  # None: as the source's published models
    shard_bytes: int = SHARD_BYTES


AS_USUAL = Choices()


def keep_official(made: Path, folder: Path) -> None:
    """Copy freshly made official files to the folder that --source names; what is there already must be the same.

    Raises:
        RequestError: a file of that name has another content, and nothing was copied.
    """
    files = [path.relative_to(made) for path in sorted(made.rglob("*")) if path.is_file()]
    missing = [name for name in files if not (folder / name).exists()]
    for name in sorted(set(files) - set(missing)):
        if not (folder / name).is_file() or not filecmp.cmp(
            made / name, folder / name, shallow=False
        ):
            raise RequestError(
                f"{folder / name}: exists already, with another content; name a new folder with --source, or remove it"
            )
    for name in missing:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made / name, folder / name)


def remove_others(folder: Path, keep: set[str]) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in keep:
            path.unlink()


def finish(
    folder: Path,
    manifest: dict[str, Any],
    report: dict[str, Any],
    left_out: dict[str, Any],
    inputs: dict[str, Any],
    notes: dict[str, Any] | None = None,
) -> None:
    """Write the manifest, and remove what only the work needed.

    Its hash is one of the content alone: not of the report, of what was left out, or of the files that it was made from.

    Args:
        notes: what the report says of the label map and of the annotations as a whole.
    """
    manifest["hash"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    manifest |= {"report": report, "left_out": left_out, "inputs": inputs} | (
        {"notes": notes} if notes else {}
    )
    atomic.write_json(folder / "manifest.json", manifest)
    remove_others(folder, {"manifest.json", *manifest["files"]})
