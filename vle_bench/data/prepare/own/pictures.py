"""The pictures that rows of users' own data name; each content is stored once."""

import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from vle_bench.data.images import upright_size
from vle_bench.data.prepare.own.read import Table
from vle_bench.data.prepared import picture_id
from vle_bench.json_files import SHOWN

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://|data:", re.IGNORECASE)  # https://, s3://, hf://


@dataclass
class Pictures:
    """The pictures that rows name; each content is stored once.

    Args:
        store: folder for pictures that come as bytes.
        paths: image id → file.
        asked_by: image id → the first place that names it.
    """

    store: Path
    paths: dict[int, str] = field(default_factory=dict)
    asked_by: dict[int, str] = field(default_factory=dict)
    # (folder, path) → image id, or the problem of the picture
    _known: dict[tuple[Path, str], int | str] = field(default_factory=dict)
    _sizes: dict[int, tuple[int, int] | None] = field(default_factory=dict)

    def id_of(self, value: Any, table: Table, place: str) -> int | str:
        """Return the id of a picture, made of its bytes, or what is wrong with it."""
        if isinstance(value, dict):
            value = value["path"] if value.get("bytes") is None else value["bytes"]
        if isinstance(value, bytes):
            return self._add(value, None, place)
        asked = (table.folder, value)
        if (known := self._known.get(asked)) is None:
            known = self._known[asked] = self._read(table, value, place)
        return known

    def size_of(self, image_id: int) -> tuple[int, int] | None:
        """Return width and height of the upright picture; None if it cannot be read."""
        if image_id not in self._sizes:
            self._sizes[image_id] = upright_size(Path(self.paths[image_id]))
        return self._sizes[image_id]

    def _read(self, table: Table, value: str, place: str) -> int | str:
        if ADDRESS.match(value):
            return "an address, and pictures are read from files: fetch it first, and name the file"
        path = table.folder / value
        try:
            if table.inside and not within(path, table.folder):
                return "leaves the folder of the data"
            content = path.read_bytes()
        except FileNotFoundError:
            return "no such file; `images` in a YAML says where paths start"
        except (OSError, ValueError) as error:  # a zero byte in the name
            return f"cannot be read ({getattr(error, 'strerror', None) or error})"
        return self._add(content, path, place)

    def _add(self, content: bytes, path: Path | None, place: str) -> int | str:
        if not content:
            return "an empty file"
        image_id = picture_id(content)
        if image_id not in self.paths:
            if path is None:
                path = self.store / hashlib.sha256(content).hexdigest()
                self.store.mkdir(exist_ok=True)
                path.write_bytes(content)
            self.paths[image_id] = str(path)
            self.asked_by[image_id] = place
        return image_id


@dataclass
class PictureNames:
    """The files of pictures, for errors.

    Args:
        pictures: table with `image_id` and `path`.
        work: folder of those that came as bytes.
    """

    pictures: pa.Table
    work: Path

    def of(self, image_id: int) -> str:
        path = self._paths[image_id]
        return "(its bytes)" if Path(path).is_relative_to(self.work) else path

    @cached_property
    def _paths(self) -> dict[int, str]:
        columns = (self.pictures[name].to_pylist() for name in ("image_id", "path"))
        return dict(zip(*columns, strict=True))


def within(path: Path, folder: Path) -> bool:
    """Return whether a path stays inside a folder, links followed."""
    return path.resolve().is_relative_to(folder.resolve())


def shown(picture: Any, folder: Path) -> str:
    """Return the file of a picture, or its number of bytes."""
    if isinstance(picture, dict):
        picture = picture.get("path") or picture.get("bytes")
    if not isinstance(picture, str):
        return f"{len(picture):,} bytes"
    return picture[:SHOWN] if ADDRESS.match(picture) else str(folder / picture)
