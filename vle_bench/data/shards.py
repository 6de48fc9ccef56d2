"""Image files → Arrow shards, checked by several processes, each shard the same bytes whoever wrote it and whenever."""

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from vle_bench import atomic, pictures
from vle_bench.data.tables import IMAGES, record_batches, write_table
from vle_bench.errors import RequestError, RunFailed
from vle_bench.progress import Bar

SHARD_BYTES = 500_000_000
IMAGES_A_BATCH = 100  # 16 MB of COCO's images are held at a time
Problem = dict[str, Any]  # file, image_id, problem


@dataclass(frozen=True)
class Shard:
    """Some images, in the order of their ids; `stamp` changes when one of the files does."""

    name: str
    images: tuple[tuple[int, str], ...]  # id, path
    stamp: str


def plan(paths: dict[int, str], size: int = SHARD_BYTES) -> tuple[list[Shard], list[Problem]]:
    """Cut the images, by id, into shards of about `size` bytes; and those whose file is not there."""
    groups: list[list[tuple[int, str]]] = [[]]
    stamps = [hashlib.sha256()]
    missing, held = [], 0
    for image_id in sorted(paths):
        try:
            status = os.stat(paths[image_id])
        except OSError as error:
            reason = "no such image" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
            missing.append(problem(image_id, paths[image_id], reason))
            continue
        if held and held + status.st_size > size:
            groups.append([])
            stamps.append(hashlib.sha256())
            held = 0
        held += status.st_size
        groups[-1].append((image_id, paths[image_id]))
        stamps[-1].update(f"{image_id} {paths[image_id]} {status.st_size} {status.st_mtime_ns}\n".encode())
    names = [f"images-{i:05d}-of-{len(groups):05d}.arrow" for i in range(len(groups))]
    return [Shard(n, tuple(g), s.hexdigest()) for n, g, s in zip(names, groups, stamps, strict=True)], missing


def problem(image_id: int, path: str, text: str) -> Problem:
    return {"file": path, "image_id": image_id, "problem": text}


def write_shards(folder: Path, notes: Path, shards: list[Shard], workers: int, skip: bool) -> tuple[dict[str, Any], list[Problem]]:
    """Write the shards that are not finished yet.

    Args:
        notes: folder for a note beside each finished shard, by which a later run knows that it is.
        skip: leave unreadable images out; otherwise the first is an error.

    Returns:
        {shard's name: {"bytes", "sha256"}} and the images that could not be read.
    """
    files: dict[str, Any] = {}
    bad: list[Problem] = []
    write = partial(finished_or_written, folder, notes, skip)
    with Bar("images", sum(len(shard.images) for shard in shards)) as bar:
        for shard, note in zip(shards, in_processes(write, shards, workers), strict=True):
            files[shard.name] = note["file"]
            bad += note["bad"]
            bar.advance(len(shard.images))
    return files, bad


def image_error(bad: Problem) -> RequestError:
    return RequestError(f"{bad['file']}: {bad['problem']} (image_id {bad['image_id']}); --on-bad-image skip leaves such images out")


def in_processes(function: Callable[[Shard], Any], shards: list[Shard], workers: int) -> Iterator[Any]:
    """function(shard) for each, in order. An error drops what has not begun; what has begun is finished, for the next run."""
    if min(workers, len(shards)) < 2:
        yield from map(function, shards)
        return
    # spawn: a fork would copy the threads' locks of Arrow in whatever state they are
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(min(workers, len(shards)), context, initializer=end_with_parent)
    try:
        yield from executor.map(function, shards)
    except BrokenProcessPool as error:
        raise RunFailed("a process that reads images was killed, perhaps for want of memory; run again to go on") from error
    finally:
        executor.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """A killed parent must not leave processes behind that write; Ctrl-C is the parent's to deal with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def finished_or_written(folder: Path, notes: Path, skip: bool, shard: Shard) -> dict[str, Any]:
    """The note of a shard: {"stamp", "file": {"bytes", "sha256"}, "bad"}; the shard is written if it is not there."""
    path, note_path = folder / shard.name, notes / f"{shard.name}.json"
    try:
        note: dict[str, Any] = json.loads(note_path.read_text())
        if note["stamp"] == shard.stamp and path.stat().st_size == note["file"]["bytes"] and (skip or not note["bad"]):
            return note
    except (OSError, ValueError, KeyError, TypeError):
        pass
    bad: list[Problem] = []
    unfinished = notes / f"{shard.name}.{os.getpid()}"
    try:
        write_table(unfinished, IMAGES, record_batches(image_rows(shard, bad, skip), IMAGES, size=IMAGES_A_BATCH))
        note = {"stamp": shard.stamp, "file": described(unfinished), "bad": bad}
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    atomic.write_json(note_path, note)
    return note


def image_rows(shard: Shard, bad: list[Problem], skip: bool) -> Iterator[dict[str, Any]]:
    """The encoded files, each decoded once to be sure that training can; width and height are those of the upright picture."""
    for image_id, path in shard.images:
        try:
            content = Path(path).read_bytes()
            width, height = pictures.decode(content, "").size
        except (OSError, ValueError) as error:
            bad.append(problem(image_id, path, str(error).removeprefix(": ")))
            if not skip:
                raise image_error(bad[0]) from error
            continue
        yield {"image_id": image_id, "file_name": Path(path).name, "bytes": content, "width": width, "height": height}


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def described(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}
