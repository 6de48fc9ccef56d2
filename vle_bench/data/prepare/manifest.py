"""The shared parts of every dataset's preparation: its options, and its last step."""

import filecmp
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from vle_bench import atomic
from vle_bench.data.official.vqa import OnBad
from vle_bench.data.prepare.shards import SHARD_BYTES
from vle_bench.data.prepared import Manifest
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject

WORK = "work"  # folder of intermediate files, removed at the end
FINISHED_SHARDS = f"{WORK}/images-*.json"

# Options of `vle-bench prepare` that only some datasets take; None: not given.
Options = JsonObject


@dataclass(frozen=True)
class Choices:
    """Options of every dataset, see `vle-bench prepare --help`.

    `workers` and `shard_bytes` never change a row. `max_text_length` None: that of the published
    models.
    """

    workers: int = 1
    on_bad_image: OnBad = "error"
    on_bad_record: OnBad = "error"
    label_map: Path | None = None
    published_targets: bool = False
    tokenizer: Path | None = None
    max_text_length: int | None = None
    shard_bytes: int = SHARD_BYTES


AS_USUAL = Choices()


def keep_official(made: Path, folder: Path) -> None:
    """Copy generated official files to the folder that --source names.

    Raises:
        RequestError: a file of that name has another content; nothing was copied.
    """
    files = [path.relative_to(made) for path in sorted(made.rglob("*")) if path.is_file()]
    missing = [name for name in files if not (folder / name).exists()]
    for name in sorted(set(files) - set(missing)):
        path = folder / name
        if not path.is_file() or not filecmp.cmp(made / name, path, shallow=False):
            raise RequestError(
                f"{path}: exists already, with another content; name a new folder with --source, "
                "or remove it"
            )
    for name in missing:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made / name, folder / name)


def remove_others(folder: Path, keep: set[str]) -> None:
    """Remove subfolders and all files but those to keep."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in keep:
            path.unlink()


def finish(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest with its hash, and remove the intermediate files."""
    manifest = replace(manifest, hash=manifest.content_hash())
    atomic.write_json(folder / "manifest.json", manifest.as_json())
    remove_others(folder, {"manifest.json", *manifest.files})
    return manifest
