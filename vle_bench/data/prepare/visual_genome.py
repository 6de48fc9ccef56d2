"""Prepare Visual Genome for pre-training: phrases of regions, objects with classes, captions."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vle_bench.data.boxes import outside
from vle_bench.data.label_map import labels_digest, read_label_map
from vle_bench.data.official.vqa import BadRecords, problem_of
from vle_bench.data.prepare.captions import texts_of
from vle_bench.data.prepare.leave_out import LeaveOut, coco_pictures
from vle_bench.data.prepare.manifest import AS_USUAL, Choices, Options
from vle_bench.data.prepare.pairs import PairSource, prepare_pairs
from vle_bench.data.prepared import Manifest
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, short, stream

IMAGE_DATA, REGIONS, OBJECTS = "image_data.json", "region_descriptions.json", "objects.json"
CAPTIONS = "captions.json"  # of whole pictures, as ALBEF's; not one of Visual Genome's own files
SPLITS = ("train", "val", "test")
FOLDERS, ENDINGS = ("VG_100K", "VG_100K_2"), (".jpg", ".png")
# The most frequent names of objects that are classes: as many as the detector of bottom-up
# attention has (Anderson et al. 2018), which most models before VLE read pictures with.
CLASSES = 1600
IN_REGION = 0.5  # share of an object's area in the box of a phrase that speaks of it
HOME = "https://homes.cs.washington.edu/~ranjay/visualgenome/api.html"
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Picture:
    """A picture of image_data.json, and its objects: boxes (K, 4) and classes (K,)."""

    path: Path
    width: int
    height: int
    coco_id: int | None
    boxes: NDArray[np.float32]
    classes: NDArray[np.int32]


def prepare(official: Path, output: Path, choices: Choices, options: Options) -> Manifest:
    leave_out = coco_pictures(options["--leave-out"] or [])
    classes = CLASSES if options["--classes"] is None else options["--classes"]
    return prepare_visual_genome(official, output, choices, classes=classes, leave_out=leave_out)


def prepare_visual_genome(
    official: Path,
    output: Path,
    choices: Choices = AS_USUAL,
    *,
    classes: int = CLASSES,
    leave_out: LeaveOut | None = None,
    source: str = "visual-genome",
    made_from: JsonObject | None = None,
) -> Manifest:
    """Prepare files in Visual Genome's official form, and return the manifest.

    Args:
        official: a folder of them, or one with such folders `train`, `val` and `test`.
        classes: the number of classes of objects, the most frequent names. With a label map in
            `choices` its names are the classes. Objects of other names are left out and counted.
        source: the dataset, a row of `vle_bench.data.sources`.
        made_from: parameters that generated the files.
    """
    folders = split_folders(official)
    files = {
        f"{folder.name}/{p.name}": p for folder in folders.values() for p in given_files(folder)
    }
    given = None if choices.label_map is None else read_label_map(choices.label_map)
    labels = given or frequent_names(next(iter(folders.values())) / OBJECTS, classes)
    options = {"--label-map": labels_digest(given)[:16]} if given else {"--classes": classes}
    rows = partial(rows_of, folders, labels, choices.label_map)
    pairs = PairSource(source, rows, files, options, labels, made_from)
    nothing = LeaveOut(np.array([], np.int64))
    return prepare_pairs(pairs, output, choices, leave_out or nothing)


def split_folders(official: Path) -> dict[str, Path]:
    """Return the folder of each split, or one with the key "" that has to be divided.

    Raises:
        RequestError: a file is missing.
    """
    folders = {name: official / name for name in SPLITS if (official / name).is_dir()}
    folders = folders or {"": official}
    for folder in folders.values():
        for name in (IMAGE_DATA, REGIONS, OBJECTS):
            if not (folder / name).is_file():
                raise RequestError(
                    f"{folder / name}: no such file; the official files are at {HOME}, and "
                    "docs/pretrain.md names them"
                )
    return folders


def given_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are read."""
    names = (IMAGE_DATA, REGIONS, OBJECTS, CAPTIONS)
    return [folder / name for name in names if (folder / name).is_file()]


def name_of(names: object) -> str:
    """Return the class of an object, its first name in lower case; empty without one."""
    first = names[0] if isinstance(names, list) and names else None
    return " ".join(first.lower().split()) if isinstance(first, str) else ""


def frequent_names(path: Path, classes: int) -> list[str]:
    """Return the most frequent names of objects.json, in the order of their frequencies.

    Names of one frequency are in alphabetical order.
    """
    counts: Counter[str] = Counter()
    for record in stream(path, None):
        for one in record.get("objects", ()) if isinstance(record, dict) else ():
            counts[name_of(one.get("names") if isinstance(one, dict) else None)] += 1
    del counts[""]
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [name for name, _ in ordered[:classes]]


def rows_of(
    folders: Mapping[str, Path],
    labels: Sequence[str],
    label_map: Path | None,
    bad: BadRecords,
    blob: Path,
) -> Iterator[JsonObject]:
    """Yield the pairs of all splits: each phrase with its box, then captions.

    Args:
        labels: the classes of objects.
        label_map: the file that they were read from; None: they are the most frequent names.
    """
    class_of = {name: number for number, name in enumerate(labels)}
    for split, folder in folders.items():
        pictures = read_pictures(folder, bad)
        read_objects(folder / OBJECTS, pictures, class_of, label_map, bad)
        captions = folder / CAPTIONS
        for row in chain(
            region_rows(folder / REGIONS, pictures, bad),
            caption_rows(captions, pictures, bad) if captions.is_file() else (),
        ):
            yield row | ({"split": split} if split else {})


def read_pictures(folder: Path, bad: BadRecords) -> dict[int, Picture]:
    """Read image_data.json; by the ids of the pictures."""
    pictures: dict[int, Picture] = {}
    path = folder / IMAGE_DATA
    none, no_class = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    for number, record in enumerate(stream(path, None)):
        fields = {"image_id": int, "width": int, "height": int}
        coco_id = record.get("coco_id") if isinstance(record, dict) else None
        problem = problem_of(record, fields) or (
            coco_id is not None and problem_of(record, {"coco_id": int})
        )
        if not problem and record["image_id"] in pictures:
            problem = f"image_id {record['image_id']} is named twice"
        if problem:
            bad.add(path, f"record {number}", problem)
            continue
        i = record["image_id"]
        size = record["width"], record["height"]
        pictures[i] = Picture(picture_file(folder, i), *size, coco_id, none, no_class)
    return pictures


def picture_file(folder: Path, image_id: int) -> Path:
    """Return the file of a picture: of the two folders, in the one that has it."""
    places = [folder / name / f"{image_id}{end}" for name in FOLDERS for end in ENDINGS]
    return next((path for path in places if path.is_file()), places[0])


def read_objects(
    path: Path,
    pictures: dict[int, Picture],
    class_of: Mapping[str, int],
    label_map: Path | None,
    bad: BadRecords,
) -> None:
    """Add the objects of objects.json to their pictures, in place.

    Raises:
        RequestError: no object has a name of `label_map`, which is another list then.
    """
    kept, others = 0, Counter[str]()
    for number, record in enumerate(stream(path, None)):
        name = f"record {number}"
        if problem := of_known_picture(record, "image_id", "objects", pictures):
            bad.add(path, name, problem)
            continue
        i = record["image_id"]
        boxes, classes = [], []
        for one in record["objects"]:
            try:
                box = box_of(one, ("x", "y", "w", "h"), pictures[i])
                if not (label := name_of(one.get("names"))):
                    raise ValueError("names: a class is expected")
            except ValueError as error:
                bad.add(path, f"{name} (image {i}): {object_name(one)}", str(error))
                continue
            if label in class_of:
                boxes.append(box)
                classes.append(class_of[label])
            else:
                others[label] += 1
        kept += len(boxes)
        if boxes:
            pictures[i] = replace(
                pictures[i],
                boxes=np.array(boxes, np.float32),
                classes=np.array(classes, np.int32),
            )
    bad.of_other_classes += others.total()
    if label_map is not None and others and not kept:
        raise RequestError(
            f"{path}: none of its {others.total():,} objects has a name of {label_map}; the most "
            f"frequent name is {short(others.most_common(1)[0][0])}, and the map begins with "
            f"{short(next(iter(class_of)))} (names are in lower case)"
        )


def object_name(one: object) -> str:
    """Name an object, for errors."""
    return f"object {one.get('object_id')}" if isinstance(one, dict) else short(one)


def of_known_picture(
    record: object, key: str, items: str, pictures: Mapping[int, Picture]
) -> str | None:
    """Describe what is wrong with the record of a picture; None if nothing is."""
    if problem := problem_of(record, {key: int, items: list}):
        return problem
    assert isinstance(record, dict)
    known = record[key] in pictures
    return None if known else f"image {record[key]} is not in {IMAGE_DATA}"


def box_of(one: object, keys: tuple[str, ...], picture: Picture) -> Box:
    """Return the box x1, y1, x2, y2 of an object or a region.

    Raises:
        ValueError: no numbers, an empty box, or all of it outside of the picture. A box that is
            partly outside is kept as it is.
    """
    values = [one.get(key) for key in keys] if isinstance(one, dict) else []
    if len(values) != 4 or any(type(value) not in (int, float) for value in values):
        raise ValueError(f"{', '.join(keys)}: numbers are expected, not {short(values)}")
    x, y, width, height = numbers = [float(value) for value in values if value is not None]
    given = ", ".join(f"{key} {value:g}" for key, value in zip(keys, numbers, strict=True))
    if width <= 0 or height <= 0:
        raise ValueError(f"its box ({given}) is empty: a width and a height above 0 are expected")
    box = (x, y, x + width, y + height)
    if outside([box], picture.width, picture.height)[0]:
        size = f"{picture.width} × {picture.height}"
        raise ValueError(f"its box ({given}) is outside of the picture of {size}")
    return box


def region_rows(
    path: Path, pictures: Mapping[int, Picture], bad: BadRecords
) -> Iterator[JsonObject]:
    """Yield the phrases of region_descriptions.json, with the objects in their boxes."""
    for number, record in enumerate(stream(path, None)):
        if problem := of_known_picture(record, "id", "regions", pictures):
            bad.add(path, f"record {number}", problem)
            continue
        picture = pictures[record["id"]]
        for region in record["regions"]:
            name = f"region {region.get('region_id')}" if isinstance(region, dict) else "a region"
            name = f"record {number} (image {record['id']}): {name}"
            try:
                box = box_of(region, ("x", "y", "width", "height"), picture)
                (text,) = texts_of(region.get("phrase"), cells=False)
            except ValueError as error:
                bad.add(path, name, str(error))
                continue
            inside = share_inside(picture.boxes, box) >= IN_REGION
            yield row_of(record["id"], picture, text, f"{path}: {name}", inside, box)


def share_inside(boxes: NDArray[np.float32], box: Box) -> NDArray[np.float64]:
    """Return the share (K,) of the area of boxes (K, 4) that is within one box.

    A box without area counts by its place.
    """
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    there = np.clip(high - low, 0, None)
    sides = boxes[:, 2:] - boxes[:, :2]
    # A side without length is inside, or not.
    parts = np.where(sides > 0, there / np.maximum(sides, 1e-9), (high >= low).astype(float))
    shares: NDArray[np.float64] = parts.prod(1)
    return shares


def caption_rows(
    path: Path, pictures: Mapping[int, Picture], bad: BadRecords
) -> Iterator[JsonObject]:
    """Yield the captions of whole pictures, with all of their objects."""
    for number, record in enumerate(stream(path, None)):
        name = f"record {number}"
        try:
            if problem := problem_of(record, {}) or ("image" not in record and "has no 'image'"):
                raise ValueError(problem)
            image = record["image"]
            stem = Path(image).stem if isinstance(image, str) else str(image)
            i = int(stem) if stem.isdecimal() else -1
            if i not in pictures:
                raise ValueError(f"a caption without a picture: {short(image)} is not there")
            texts = texts_of(record.get("caption"), cells=False)
        except ValueError as error:
            bad.add(path, name, str(error))
            continue
        every = np.ones(len(pictures[i].boxes), bool)
        for text in texts:
            yield row_of(i, pictures[i], text, f"{path}: {name}", every, None)


def row_of(
    image_id: int,
    picture: Picture,
    text: str,
    asked_by: str,
    chosen: NDArray[np.bool_],
    box: Box | None,
) -> JsonObject:
    """Return a row of RAW of vle_bench.data.prepare.pairs; `chosen` (K,) are the text's objects."""
    return {
        "image_id": image_id,
        "path": str(picture.path),
        "width": picture.width,
        "height": picture.height,
        "coco_id": picture.coco_id,
        "asked_by": asked_by,
        "caption": text,
        "box": box,
        "object_boxes": picture.boxes[chosen].tolist(),
        "object_classes": picture.classes[chosen].tolist(),
    }
