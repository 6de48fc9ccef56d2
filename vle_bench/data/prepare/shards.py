"""Store image files in Arrow shards, checked by several processes."""

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from vle_bench import atomic
from vle_bench.atomic import file_sha256
from vle_bench.data import images as pictures
from vle_bench.data.tables import IMAGES, record_batches, write_table
from vle_bench.errors import RequestError, RunFailed
from vle_bench.json_files import JsonObject, read_json
from vle_bench.progress import Bar

SHARD_BYTES = 500_000_000
TURNED = "turned"  # key of the counts: images that were turned as their EXIF orientation says
IMAGES_A_BATCH = 100  # 16 MB of COCO's images are held at a time
BadImage = JsonObject  # keys: file, image_id, problem
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Source:
    """An image to store."""

    image_id: int
    path: str
    asked_by: str = (
        ""  # the record that asks about it, for errors; "" where the image's id says enough
    )
    more: tuple[
        str, ...
    ] = ()  # further input of rows, for tables with more columns; files are named as paths
    stamp: str = ""  # changes when a file does that `more` names
    part: tuple[int, int] | None = None  # offset and size of the image in its file; None: all of it

    def read(self) -> bytes:
        """Return the encoded image."""
        if self.part is None:
            return Path(self.path).read_bytes()
        with open(self.path, "rb") as file:
            file.seek(self.part[0])
            return file.read(self.part[1])


@dataclass(frozen=True)
class Shard:
    """Some images in order; `stamp` changes if one of the files does."""

    name: str
    images: Sequence[Source]
    stamp: str


Rows = Callable[[Shard, list[BadImage], JsonObject], Iterator[JsonObject]]


@dataclass(frozen=True)
class Table:
    """Rows of `schema` for a shard's images. Picklable, since processes call it.

    `rows(shard, bad, counts)` yields the rows; it raises for an image that cannot be stored or
    adds it to `bad`, and fills `counts`, which are kept with the shard. `takes_over(bad)` returns
    whether a finished shard without these images can be reused.
    """

    schema: pa.Schema
    rows: Rows
    takes_over: Callable[[list[BadImage]], bool]


def plan(images: Iterable[Source], size: int = SHARD_BYTES) -> tuple[list[Shard], list[BadImage]]:
    """Cut the images, in order, into shards of about `size` bytes; also return missing files."""
    groups: list[list[Source]] = [[]]
    stamps = [hashlib.sha256()]
    missing, held = [], 0
    for image in images:
        try:
            status = os.stat(image.path)
        except OSError as error:
            reason = (
                "no such image"
                if isinstance(error, FileNotFoundError)
                else f"cannot be read: {error.strerror}"
            )
            missing.append(bad_image(image, reason))
            continue
        if held and held + status.st_size > size:
            groups.append([])
            stamps.append(hashlib.sha256())
            held = 0
        held += status.st_size
        groups[-1].append(image)
        text = (
            f"{image.image_id} {image.path} {status.st_size} {status.st_mtime_ns} "
            f"{image.more} {image.stamp}\n"
        )
        stamps[-1].update(text.encode())
    names = [f"images-{i:05d}-of-{len(groups):05d}.arrow" for i in range(len(groups))]
    return [
        Shard(n, tuple(g), s.hexdigest()) for n, g, s in zip(names, groups, stamps, strict=True)
    ], missing


def bad_image(image: Source, text: str) -> BadImage:
    return {
        "file": image.path,
        "image_id": image.image_id,
        "problem": text,
        **({"asked_by": image.asked_by} if image.asked_by else {}),
    }


def write_shards(
    folder: Path, notes: Path, shards: list[Shard], workers: int, table: Table
) -> list[JsonObject]:
    """Write the shards that are not finished yet.

    Args:
        notes: folder for a note beside each finished shard, by which a later run knows that it is.

    Returns:
        a note of each shard: `file` ({"bytes", "sha256"}), `bad` (images left out) and `counts`.
    """
    shard_notes = []
    write = partial(finished_or_written, folder, notes, table)
    with Bar("images", sum(len(shard.images) for shard in shards)) as bar:
        for shard, note in zip(shards, in_processes(write, shards, workers), strict=True):
            shard_notes.append(note)
            bar.advance(len(shard.images))
    return shard_notes


def turned_of(notes: Iterable[JsonObject]) -> int:
    """Count the stored images that were turned as their EXIF orientation says."""
    return sum(note["counts"][TURNED] for note in notes)


def image_error(bad: BadImage) -> RequestError:
    name: str = bad.get("asked_by", f"image_id {bad['image_id']}")
    way_out = "--on-bad-image skip leaves such images out"
    if name.startswith(f"{bad['file']}: "):  # a picture within the file that names it
        return RequestError(f"{name}: its picture: {bad['problem']}; {way_out}")
    return RequestError(f"{bad['file']}: {bad['problem']} ({name}); {way_out}")


def in_processes(function: Callable[[T], U], items: Sequence[T], workers: int) -> Iterator[U]:
    """Yield function(item) of each item in order.

    After an error, started work is finished for the next run and the rest is dropped.
    """
    if min(workers, len(items)) < 2:
        yield from map(function, items)
        return
    # spawn: a fork would copy the threads' locks of Arrow in whatever state they are
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(min(workers, len(items)), context, initializer=end_with_parent)
    try:
        yield from executor.map(function, items)
    except BrokenProcessPool as error:
        raise RunFailed(
            "a process that reads images was killed, perhaps because memory ran out; run the same "
            "command again to continue"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """Exit with the parent: no process may go on writing after it; Ctrl-C is left to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def finished_or_written(folder: Path, notes: Path, table: Table, shard: Shard) -> JsonObject:
    """Return the note of a shard, {"stamp", "file", "bad", "counts"}; write the shard if needed."""
    path, note_path = folder / shard.name, notes / f"{shard.name}.json"
    try:
        note: JsonObject = read_json(note_path)
        if (
            note["stamp"] == shard.stamp
            and path.stat().st_size == note["file"]["bytes"]
            and table.takes_over(note["bad"])
            and TURNED in note["counts"]  # shards of versions that did not count are read again
        ):
            return note
    except (OSError, RequestError, KeyError, TypeError):
        pass
    bad: list[BadImage] = []
    counts: JsonObject = {}
    unfinished = notes / f"{shard.name}.{os.getpid()}"
    try:
        rows = table.rows(shard, bad, counts)
        write_table(
            unfinished, table.schema, record_batches(rows, table.schema, size=IMAGES_A_BATCH)
        )
        note = {"stamp": shard.stamp, "file": described(unfinished), "bad": bad, "counts": counts}
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    atomic.write_json(note_path, note)
    return note


def images_only(skip: bool) -> Table:
    """Return the plain images table. `skip`: leave out unreadable images instead of raising."""
    return Table(IMAGES, partial(image_rows, skip), partial(none_or_skipped, skip))


def none_or_skipped(skip: bool, bad: list[BadImage]) -> bool:
    return skip or not bad


def image_rows(
    skip: bool, shard: Shard, bad: list[BadImage], counts: JsonObject
) -> Iterator[JsonObject]:
    counts[TURNED] = 0
    for image in shard.images:
        if (stored := image_row(image, bad, skip)) is not None:
            row, orientation = stored
            counts[TURNED] += orientation != 1
            yield row


def image_row(image: Source, bad: list[BadImage], skip: bool) -> tuple[JsonObject, int] | None:
    """Return an image's row and its EXIF orientation; decode it once, as training will have to.

    Width and height are those of the upright picture.

    An image that cannot be read is an error, or with `skip` None and one more in `bad`.
    """
    try:
        content = image.read()
        picture = pictures.decode_picture(content, image.path)
    except (OSError, ValueError) as error:
        # a system's error names the path, as the line that shows the problem does
        reason = (
            f"cannot be read: {error.strerror}"
            if isinstance(error, OSError) and error.strerror
            else str(error)
        )
        bad.append(bad_image(image, reason.removeprefix(f"{image.path}: ")))
        if not skip:
            raise image_error(bad[-1]) from error
        return None
    row = {
        "image_id": image.image_id,
        "file_name": Path(image.path).name,
        "bytes": content,
        "width": picture.width,
        "height": picture.height,
    }
    return row, picture.info.get(pictures.TURNED, 1)


def described(path: Path) -> JsonObject:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
