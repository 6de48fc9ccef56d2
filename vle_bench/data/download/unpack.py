"""Unpack zip archives with distrust: nothing outside the folder, no links, no excess bytes."""

import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vle_bench.errors import RunFailed
from vle_bench.progress import Bar, in_words

BLOCK = 1 << 20  # bytes
DISK_BLOCK = 4096  # bytes that the usual file systems round a file up to
MOST_GROWTH = 100  # deflate packs up to 1,032 times; JSON and pictures stay far below 100
# Control characters, Windows' separator, and what Windows cannot store or reads as a drive
MARKS = re.compile(r'[\x00-\x1f\x7f\\<>"|?*:]')


def check_space(output: Path, needed: int) -> None:
    """Raise RunFailed if the disk of `output` has less than `needed` bytes left."""
    free = shutil.disk_usage(output).free
    if needed > free:
        raise RunFailed(
            f"{output}: archives and unpacked files need {in_words(needed)} more, and "
            f"{in_words(free)} are free there"
        )


def missing_bytes(infos: Sequence[zipfile.ZipInfo], output: Path) -> int:
    """Return the bytes on disk that the missing entries will take."""
    sizes = (
        info.file_size for info in infos if not has_size(output / info.filename, info.file_size)
    )
    return sum(-(-size // DISK_BLOCK) * DISK_BLOCK for size in sizes)


def has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def unpack(path: Path, output: Path, holds: Sequence[str]) -> dict[str, int]:
    """Unpack entry by entry beside the final name, then rename; all names are checked first.

    Files of the right size and CRC stay. The archive brings no links, so a folder that is a link is
    its owner's choice.

    Args:
        holds: what to unpack and what must be there: files, and folders with a slash at the end.

    Returns:
        Names and sizes in bytes of the files.

    Raises:
        RunFailed: the archive is damaged or unsafe, or the disk is too small.
    """
    with opened(path) as content:
        infos = members(path, content, holds)
        check_space(output, missing_bytes(infos, output))
        with Bar(
            f"unpack {path.name}", sum(info.file_size for info in infos), in_bytes=True
        ) as bar:
            for info in infos:
                target = output / info.filename
                if not (has_size(target, info.file_size) and crc(target) == info.CRC):
                    unpack_entry(content, info, target)
                bar.advance(info.file_size)
    return {info.filename: info.file_size for info in infos}


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Turn any error of a damaged archive, also inside the block, into RunFailed with its name."""
    try:
        with zipfile.ZipFile(path) as content:
            yield content
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        ValueError,
        OverflowError,
        struct.error,
        NotImplementedError,
    ) as error:
        raise RunFailed(
            f"{path}: damaged ({error}); remove it and run the same command again"
        ) from error


def unpack_entry(content: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Unpack an entry; zipfile compares the CRC, but missing bytes only show in the count."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with content.open(info) as source, open(partial, "wb") as file:
            shutil.copyfileobj(source, file, BLOCK)
        if partial.stat().st_size != info.file_size:
            raise zipfile.BadZipFile(
                f"{info.filename}: {partial.stat().st_size} bytes instead of {info.file_size}"
            )
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def members(path: Path, content: zipfile.ZipFile, holds: Sequence[str]) -> list[zipfile.ZipInfo]:
    """Return the files to unpack; RunFailed if any entry is not that of an official archive."""
    for info in content.infolist():
        if problem := entry_problem(info):
            raise RunFailed(
                f"{path}: nothing was unpacked, because the entry {info.orig_filename!r} {problem}"
            )
    infos = [
        info
        for info in content.infolist()
        if not info.is_dir() and any(belongs(info.filename, h) for h in holds)
    ]
    for held in holds:
        if not any(belongs(info.filename, held) for info in infos):
            raise RunFailed(f"{path}: no {held} in it; remove it and run the same command again")
    # Some file systems do not tell capitals apart.
    name, times = Counter(info.filename.casefold() for info in infos).most_common(1)[0]
    if times > 1:
        raise RunFailed(
            f"{path}: nothing was unpacked, because the entry {name!r} occurs {times} times"
        )
    if (size := sum(info.file_size for info in infos)) > MOST_GROWTH * path.stat().st_size:
        raise RunFailed(f"{path}: nothing was unpacked, because it claims to hold {in_words(size)}")
    return infos


def belongs(name: str, held: str) -> bool:
    return name.startswith(held) if held.endswith("/") else name == held


def entry_problem(info: zipfile.ZipInfo) -> str | None:
    """Return why an entry must not be unpacked, by its original name, which zipfile corrects."""
    name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
    parts = name.removesuffix("/").split("/")
    if name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name):
        return "has an absolute name"
    if ".." in re.split(r"[/\\]", name):
        return "leads out of the folder"
    if MARKS.search(name) or "" in parts or "." in parts:
        return "has a name that no official file has"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in another way than the official ones"
    return None


def crc(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            value = zlib.crc32(block, value)
    return value
