"""Files of captions that are no tables: COCO's and Karpathy's JSON, and webdataset's tars."""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from vle_bench.data.official.vqa import BadRecords, problem_of, record_name
from vle_bench.data.picture_ids import coco_id_of
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, parse_record, reading, short, stream

# Options of img2dataset, whose default is squares of 256 pixels with a border (its README).
FETCHED_AS = (
    "--image_size 384 --resize_mode keep_ratio --resize_only_if_bigger True "
    "--output_format webdataset --output_folder"
)
PICTURES = ("jpg", "jpeg", "png", "webp")  # endings of members, as img2dataset and others write
KARPATHY = {"restval": "train"}  # trained on too; the other splits keep their names
MISSING = ("NaN", "nan", "null", "None")  # what pandas and others write for a missing value
PREFIX = 1 << 16  # characters in which the kind of a JSON file shows


def pair(
    caption: str,
    *,
    key: bytes,
    path: str,
    asked_by: str,
    part: Sequence[int] | None = None,
    coco_id: int | None = None,
    **more: object,
) -> JsonObject:
    """Return a row of RAW of vle_bench.data.prepare.pairs.

    Args:
        key: names the picture within its source; its hash is the picture's id.
        coco_id: if it is not in the name of the file.
        more: further columns.
    """
    return {
        "image_id": int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1,
        "path": path,
        "part": part,
        "coco_id": coco_id_of(path) if coco_id is None else coco_id,
        "asked_by": asked_by,
        "caption": caption,
        **more,
    }


def text_of(value: object) -> str:
    """Return a caption with single spaces.

    Raises:
        ValueError: no text, an empty one, or one that stands for a missing value.
    """
    if not isinstance(value, str) or not (text := " ".join(value.split())):
        raise ValueError(f"{short(value)}: no caption: a text is expected")
    if text in MISSING:
        raise ValueError(f"{short(value)}: no caption, but what is written for a missing value")
    return text


def is_caption_json(path: Path) -> bool:
    """Tell whether a JSON file is one object, as COCO's and Karpathy's are, and no list."""
    with reading(path), open(path, encoding="utf-8-sig") as file:
        return file.read(PREFIX).lstrip()[:1] == "{" and not is_lines(path)


def is_lines(path: Path) -> bool:
    """Tell whether a file has an object a line."""
    with reading(path), path.open("rb") as file:
        first = file.readline().strip()
    return first.endswith(b"}") and first.startswith(b"{") and b'"images"' not in first


def caption_json(path: Path, images: Path, bad: BadRecords, blob: Path) -> Iterator[JsonObject]:
    """Read COCO's captions (`images` and `annotations`), or Karpathy's file (`sentences`).

    Args:
        images: folder of the pictures; of a picture in a subfolder that the file names, its parent.
    """
    first = next(stream(path, "images"), None)
    if isinstance(first, dict) and "sentences" in first:
        yield from karpathy(path, images, bad)
    else:
        yield from coco(path, images, bad)


def karpathy(path: Path, images: Path, bad: BadRecords) -> Iterator[JsonObject]:
    """Read dataset_coco.json, dataset_flickr30k.json: with the splits that they name."""
    for number, record in enumerate(stream(path, "images")):
        name = record_name(number, record)
        fields = {"filename": str, "split": str, "sentences": list}
        if problem := problem_of(record, fields):
            bad.add(path, name, problem)
            continue
        file = Path(str(record.get("filepath", "")), record["filename"])
        for sentence in record["sentences"]:
            try:
                text = text_of(sentence.get("raw") if isinstance(sentence, dict) else None)
            except ValueError as error:
                bad.add(path, name, str(error))
                continue
            yield pair(
                text,
                key=str(file).encode(),
                path=str(images / file),
                coco_id=record.get("cocoid"),
                asked_by=f"{path}: {name}",
                split=KARPATHY.get(record["split"], record["split"]),
            )


def coco(path: Path, images: Path, bad: BadRecords) -> Iterator[JsonObject]:
    """Read captions_train2014.json and the like."""
    files: dict[int, str] = {}
    for number, record in enumerate(stream(path, "images")):
        problem = problem_of(record, {"id": int, "file_name": str})
        if not problem and record["id"] in files:
            problem = f"the image id {record['id']} is named twice"
        if problem:
            bad.add(path, record_name(number, record), problem)
        else:
            files[record["id"]] = record["file_name"]
    for number, record in enumerate(stream(path, "annotations")):
        name = f"annotation {number}"
        problem = problem_of(record, {"image_id": int, "caption": str})
        if not problem and record["image_id"] not in files:
            problem = f"a caption without a picture: image_id {record['image_id']} is not in images"
        try:
            if problem:
                raise ValueError(problem)
            text = text_of(record["caption"])
        except ValueError as error:
            bad.add(path, name, str(error))
            continue
        file = files[record["image_id"]]
        yield pair(
            text,
            key=file.encode(),
            path=str(images / file),
            asked_by=f"{path}: {name}",
        )


def tars_in(path: Path) -> list[Path]:
    """Return a tar, or those of a folder in order; empty if it is none and has none."""
    if path.is_dir():
        return sorted(path.glob("*.tar"))
    return [path] if path.suffix.lower() == ".tar" else []


def caption_tars(tars: Sequence[Path], bad: BadRecords, blob: Path) -> Iterator[JsonObject]:
    """Read webdataset's tars: KEY.jpg beside KEY.txt, or KEY.json with `caption`.

    Pictures stay where they are; a row holds their place in the tar. Nothing is unpacked, so that
    no name in a tar can become a path.
    """
    for path in tars:
        for key, members in samples(path, bad):
            name = f"member {key}"
            pictures = [ending for ending in PICTURES if ending in members]
            if not pictures:
                bad.add(path, name, f"has no picture (.{', .'.join(PICTURES)})")
                continue
            start, size = members[pictures[0]]
            try:
                caption = caption_of(path, members)
            except (ValueError, RequestError) as error:
                bad.add(path, name, str(error))
                continue
            yield pair(
                caption,
                key=f"{path.name}/{key}".encode(),
                path=str(path),
                part=(start, size),
                asked_by=f"{path}: {name}",
            )


def samples(path: Path, bad: BadRecords) -> Iterator[tuple[str, dict[str, tuple[int, int]]]]:
    """Yield the samples of a tar: the key, and for each ending the place of its member.

    A key is the name up to the first dot after the last slash, as webdataset has it, and the
    members of a sample stand together.
    """
    seen: set[str] = set()
    current = ""
    members: dict[str, tuple[int, int]] = {}
    for name, place in places(path):
        folder, slash, file = name.rpartition("/")
        stem, _, ending = file.partition(".")
        key, ending = f"{folder}{slash}{stem}", ending.lower()
        if key != current:
            if members:
                yield current, members
            current, members = key, {}
            if key in seen:
                bad.add(path, f"member {name}", "is named twice, or apart from its sample")
                continue
            seen.add(key)
        if ending in members:
            bad.add(path, f"member {name}", "is named twice")
            continue
        members[ending] = place
    if members:
        yield current, members


def places(path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield name, and offset and size, of each file in a tar."""
    try:
        with tarfile.open(path, "r:") as tar:
            end = path.stat().st_size
            for member in tar:
                if not member.isfile():
                    continue
                if member.offset_data + member.size > end:
                    raise RequestError(
                        f"{path}: cut off within the member {member.name}; fetch this tar again, "
                        "or remove it"
                    )
                yield member.name, (member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise RequestError(
            f"{path}: cannot be read as a tar ({error}); a compressed one has to be decompressed, "
            "and a cut-off one fetched again or removed"
        ) from error


def caption_of(path: Path, members: dict[str, tuple[int, int]]) -> str:
    """Return the caption of a sample.

    Raises:
        ValueError, RequestError: it has none, or one that cannot be read.
    """
    value: object = None
    if "txt" in members:
        with reading("its .txt"):
            value = part_of(path, members["txt"]).decode()
    elif "json" in members:
        value = parse_record(part_of(path, members["json"]), "its .json").get("caption")
    if not isinstance(value, str) or not value.strip():
        raise ValueError("has no caption: neither a text in .txt nor one in .json")
    return text_of(value)


def part_of(path: Path, place: tuple[int, int]) -> bytes:
    with open(path, "rb") as file:
        file.seek(place[0])
        return file.read(place[1])
