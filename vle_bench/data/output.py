"""What every source's preparation shares: how it may be asked, where it may write, and how it ends."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vle_bench import atomic
from vle_bench.data.official import OnBad
from vle_bench.data.shards import SHARD_BYTES
from vle_bench.errors import RequestError

WORK = "work"  # folder of what only an unfinished run needs
FINISHED_SHARDS = f"{WORK}/images-*.json"


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


def check_output(output: Path, source: str) -> None:
    """Only an empty folder, or prepared data of the same source and nothing beside it, is replaced."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    try:
        manifest = json.loads((output / "manifest.json").read_text())
        ours = manifest["source"] == source
        others = sorted({p.name for p in output.iterdir()} - {"manifest.json", *manifest["files"]})
    except (OSError, ValueError, KeyError, TypeError):
        ours, others = False, []
    if not ours:
        raise RequestError(f"{output}: holds something else than prepared {source}; give another --output")
    if others:  # the folder is replaced as a whole: what someone put beside the data would be gone
        raise RequestError(f"{output}: holds {others[0]!r} beside the prepared data; move it or give another --output")


def remove_others(folder: Path, keep: set[str]) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in keep:
            path.unlink()


def finish(folder: Path, manifest: dict[str, Any], report: dict[str, Any], left_out: dict[str, Any]) -> None:
    """Write the manifest, with its hash, the report and what was left out, and remove what only the work needed."""
    manifest["hash"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    manifest |= {"report": report, "left_out": left_out}
    atomic.write_json(folder / "manifest.json", manifest)
    remove_others(folder, {"manifest.json", *manifest["files"]})
