"""Official archives: download missing ones and unpack them to the layout that `prepare` reads."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vle_bench import atomic
from vle_bench.data.download.fetch import WAITS, fetch, part_bytes, part_of, persist, remote_bytes
from vle_bench.data.download.unpack import (
    check_space,
    has_size,
    members,
    missing_bytes,
    opened,
    unpack,
)
from vle_bench.errors import RequestError, RunFailed
from vle_bench.json_files import read_json


@dataclass(frozen=True)
class Archive:
    """One official archive.

    Args:
        url: "" for an archive that the user has to get.
        holds: files that it must contain, and folders with a slash at the end. Everything else in
            it is ignored.
        about: its size in words, for people; the check of the disk asks the server.
        growth: estimated bytes on disk per byte of archive, used until the archive itself is there.
            JPEG files do not shrink, but fill their last block.
        sha256: None: unknown; no publisher gives checksums of these archives.
        saved_as: file name, if the URL does not end in it.
        file: an archive outside of the download folder; it is never removed.
    """

    url: str
    holds: tuple[str, ...]
    about: str = ""
    growth: float = 1.02
    sha256: str | None = None
    saved_as: str = ""
    file: Path | None = None

    @property
    def name(self) -> str:
        return self.saved_as or self.url.rsplit("/", 1)[-1]

    def path(self, output: Path) -> Path:
        return self.file or output / self.name


def download(
    archives: Sequence[Archive],
    output: Path,
    *,
    keep_archives: bool = False,
    waits: Sequence[float] = WAITS,
) -> list[str]:
    """Fetch and unpack missing archives; one that is already in `output` needs no network.

    Args:
        waits: seconds before each further attempt after a break.

    Returns:
        Names of the archives that were unpacked; none if everything was there.

    Raises:
        RequestError: `output` cannot be a folder.
        RunFailed: the network, the disk or an archive; the message names the URL or file.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{output}: cannot be the folder to download to: {error.strerror}"
        ) from error
    try:
        missing = [archive for archive in archives if not is_unpacked(archive, output)]
        check_space(output, needed_bytes(missing, output, keep_archives, waits))
        for archive in missing:
            path = archive.path(output)
            if not path.exists():
                fetch(archive.url, path, archive.sha256, waits)
            files = unpack(path, output, archive.holds)
            atomic.write_json(marker_of(archive, output), files)
            if not keep_archives and archive.file is None:
                path.unlink()
    except OSError as error:
        raise RunFailed(f"{error.filename or output}: {error.strerror or error}") from error
    return [archive.name for archive in missing]


def url_lines(archives: Sequence[Archive]) -> list[str]:
    """Return the archives' URLs, each with its size, to print."""
    return [f"{archive.url}  {archive.about}".rstrip() for archive in archives]


def marker_of(archive: Archive, output: Path) -> Path:
    """Return the file with names and sizes of the archive's files; it is written last."""
    return output / f"{archive.name}.unpacked.json"


def is_unpacked(archive: Archive, output: Path) -> bool:
    try:
        files = read_json(marker_of(archive, output))
        return bool(files) and all(has_size(output / name, size) for name, size in files.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def needed_bytes(
    archives: Sequence[Archive], output: Path, keep_archives: bool, waits: Sequence[float]
) -> int:
    """Return the most additional bytes on disk at any moment.

    Exact for archives on disk, otherwise from the server's sizes.
    """
    used = most = 0
    for archive in archives:
        path = archive.path(output)
        if path.exists():
            with opened(path) as content:
                unpacked = missing_bytes(members(path, content, archive.holds), output)
            size, fresh = path.stat().st_size, 0
        else:
            size = persist(archive.url, waits, functools.partial(remote_bytes, archive.url))
            unpacked, fresh = int(size * archive.growth), size - part_bytes(part_of(path))
        used += fresh + unpacked
        most = max(most, used)
        if not keep_archives and archive.file is None:
            used -= size
    return most
