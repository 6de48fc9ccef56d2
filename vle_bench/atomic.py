"""Files and folders that appear under their final name complete, or not at all; checksums."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vle_bench.errors import RequestError

BLOCK = 1 << 20  # bytes


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


def write_json(path: Path, value: object) -> None:
    """Write JSON with sorted keys: equal content is equal bytes; NaN and infinity are refused."""
    write_text(
        path,
        json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n",
    )


@contextmanager
def folder(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield an empty folder beside `path`, which takes the name `path` if the block succeeds.

    A folder of that name is replaced.

    Args:
        durable: flush the files to disk before the rename, so that a crash of the machine leaves no
            empty files; False for thousands of files that are soon written again.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _make(partial, path)
    try:
        yield partial
        if durable:
            for file in (*partial.rglob("*"), partial):
                if file.is_file():
                    file.chmod(
                        0o666 & ~_umask()
                    )  # safetensors makes files that their owner alone can read
                flush(file)
        _take_name(partial, path)
        if durable:
            flush(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def resumed_folder(path: Path, worth_keeping: str) -> Iterator[Path]:
    """Do the same as `folder`, but start with the files that an earlier, interrupted block left.

    Args:
        worth_keeping: a pattern; after an error the folder stays only if a file matches it. A
            killed process leaves it anyway.

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


def _umask() -> int:
    """Return the umask; the system only tells it in exchange for another."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _make(partial: Path, path: Path) -> None:
    """Create the folder to write to; an error names the path that the user asked for."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(exist_ok=True)
    except OSError as error:
        above = isinstance(error, FileExistsError | NotADirectoryError)
        raise RequestError(
            f"{path}: cannot be created: {'a file is in the way' if above else error.strerror}"
        ) from error


def _take_name(partial: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        os.rename(path, old)
    os.rename(partial, path)
    shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left beside the final names; no other process may be writing."""
    for left in (*folder.glob(".*.partial"), *folder.glob(".*.old")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):  # a platform that cannot open folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Create `folder` and keep other processes out while this one lives; remove it if it is empty.

    Raises:
        RequestError: another process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        try:
            yield
        finally:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


_held: set[int] = set()  # handles of the locks


def _let_go() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


# A forked process (a DataLoader's worker) shares its parent's lock and would keep it for the
# seconds that it lives longer.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder while this process lives; does nothing on systems without locks."""
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
    _held.add(handle)
    try:
        yield
    finally:
        if handle in _held:  # else this is a forked process, which has let it go
            _held.remove(handle)
            os.close(handle)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
