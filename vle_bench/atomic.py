"""Files and folders that appear under their final name complete, or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vle_bench.errors import RequestError


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside the final name, flush to disk, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """JSON with sorted keys, so that equal content is equal bytes; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it takes the name `path` (replacing what was there) when the block ends well."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _make(partial, path)
    try:
        yield partial
        _take_name(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def resumed_folder(path: Path, worth_keeping: str) -> Iterator[Path]:
    """As `folder`, but the folder beside `path` holds what an earlier, broken-off block left there.

    Args:
        worth_keeping: a pattern; after an error the folder stays if a file matches it. A killed process leaves it anyway.

    Raises:
        RequestError: another process is at it, or nothing can be created there.
    """
    partial = path.with_name(f".{path.name}.partial")
    _make(partial, path)
    with _locked(partial):
        try:
            yield partial
            _take_name(partial, path)
        except Exception:
            if not any(partial.glob(worth_keeping)):
                shutil.rmtree(partial, ignore_errors=True)
            raise


def _make(partial: Path, path: Path) -> None:
    """The folder that is written to, if it is not there; an error names what was asked for."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(exist_ok=True)
    except OSError as error:
        above = isinstance(error, FileExistsError | NotADirectoryError)
        raise RequestError(f"{path}: cannot be created: {'a file is in the way' if above else error.strerror}") from error


def _take_name(partial: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        os.rename(path, old)
    os.rename(partial, path)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time, as long as it lives; without a lock where the file system or the platform knows none."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise RequestError(f"{folder}: another process is writing there") from error
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(handle)
