"""Write a pixel store: every picture of prepared data decoded, resized and cropped once."""

import shutil
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import PIL
from numpy.lib.format import open_memmap

from vle_bench import atomic
from vle_bench.data.images import decode
from vle_bench.data.pixels import FACTS, PIXELS, SIZES, Transform, images_digest
from vle_bench.data.prepare.shards import in_processes
from vle_bench.data.prepared import PIXEL_STORE, PreparedData, open_prepared
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, read_json
from vle_bench.progress import Bar

PICTURES = 128  # of a part, the unit in which a killed preparation continues
DONE, REQUEST = "done-*.json", "request.json"


def store_name(image_size: int, resize: str) -> str:
    """Return the name of a store; `published-vcr` has the pixels of `crop`."""
    return f"{image_size}-{'squash' if resize == 'squash' else 'crop'}"


def write_store(root: Path, name: str, transform: Transform, workers: int = 1) -> bool:
    """Write the store `pixels-<name>` of the prepared data in `root`, in parts and atomically.

    The same call goes on with an interrupted one; any number of workers writes the same bytes.

    Returns:
        Whether it was written; False if it was complete already.

    Raises:
        RequestError: a store of that name was made in another way, a picture cannot be decoded, or
            the disk is too small.
    """
    data, folder = open_prepared(root), root / (PIXEL_STORE + name)
    facts: JsonObject = {"transform": transform.settings, "images": images_digest(data.manifest)}
    if (folder / FACTS).is_file():
        before = read_json(folder / FACTS)
        if {key: before.get(key) for key in facts} != facts:
            raise RequestError(
                f"{folder}: was made of other pictures or in another way; remove it first"
            )
        return False
    count = len(data.images)
    if not count:
        raise RequestError(f"{root}: has no pictures to store")
    with atomic.resumed_folder(folder, DONE) as partial_folder:
        start(partial_folder, data, transform, facts)
        starts = range(0, count, PICTURES)
        write = partial(write_part, root, partial_folder, transform)
        as_decoded = True
        with Bar("pixels", count) as bar:
            for first, same in zip(starts, in_processes(write, starts, workers), strict=True):
                as_decoded = as_decoded and same
                bar.advance(min(PICTURES, count - first))
        for array in (PIXELS, SIZES):
            atomic.flush(partial_folder / array)
        for note in (*partial_folder.glob(DONE), partial_folder / REQUEST):
            note.unlink()
        facts |= {"count": count, "as_decoded": as_decoded, "pillow": PIL.__version__}
        atomic.write_json(partial_folder / FACTS, facts)
    return True


def start(folder: Path, data: PreparedData, transform: Transform, facts: JsonObject) -> None:
    """Create the arrays, or keep those of an interrupted call that was the same."""
    request = folder / REQUEST
    if request.is_file() and read_json(request) == facts:
        return
    for path in folder.iterdir():
        path.unlink()
    first = data.images[0]
    pixels = transform([decode(first["bytes"], first["file_name"])])
    shape = (len(data.images), *pixels.shape[1:])
    needed, free = int(np.prod(shape)), shutil.disk_usage(folder).free
    if needed > free:
        raise RequestError(
            f"{folder}: the pixels of {shape[0]:,} pictures take {needed / 1e9:,.1f} GB, and "
            f"{free / 1e9:,.1f} GB of the disk are free"
        )
    open_memmap(folder / PIXELS, mode="w+", dtype=np.uint8, shape=shape).flush()
    open_memmap(folder / SIZES, mode="w+", dtype=np.int32, shape=(shape[0], 2)).flush()
    atomic.write_json(request, facts)


def write_part(root: Path, folder: Path, transform: Transform, first: int) -> bool:
    """Write the pictures from row `first` on; return whether none was resized or cropped."""
    note = folder / DONE.replace("*", f"{first:09d}")
    if note.is_file():
        return bool(read_json(note))
    images = opened(root).images
    rows = range(first, min(first + PICTURES, len(images)))
    pixels, sizes = (open_memmap(folder / name, mode="r+") for name in (PIXELS, SIZES))
    as_decoded = True
    for row in rows:
        stored = images[row]
        picture = decode(stored["bytes"], stored["file_name"])
        made = transform([picture])[0].numpy()
        pixels[row], sizes[row] = made, picture.size
        as_decoded = as_decoded and np.array_equal(made, np.asarray(picture).transpose(2, 0, 1))
    pixels.flush()
    sizes.flush()
    atomic.write_json(note, as_decoded)
    return as_decoded


@lru_cache(maxsize=1)
def opened(root: Path) -> PreparedData:
    """Open prepared data once a process."""
    return open_prepared(root)
