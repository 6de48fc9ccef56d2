"""A miniature VCR: the official file names and layouts, with the oddities of the real thing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = (60, 40)  # of every picture
FOLDERS = ("lsmdc_0001_Miniature", "movieclips_Small_World")
STEMS = ("0001_Miniature_00.01.46.736-00.01.50.168@{}", "aB-_c01Dz2E@{}")
FIRST_NUMBER = {"train": 0, "val": 100, "test": 200}
QUESTIONS_AN_IMAGE = {"train": (2, 2), "val": (2, 3), "test": (2, 2)}  # of its images in turn
LIKELIHOODS = ("likely", "possible", "unlikely")
OBJECTS = ["person", "person", "dog", "chair", "cellphone"]
BOXES = [
    [2.5, 1, 20, 38, 0.99],
    [30, 5, 50.25, 39, 0.98],
    [-4, 20, 9, 44, 0.7],
    [10, 10, 30, 30, 0.6],
    [41, 3, 44, 6, 0.51],
]
NO_OBJECTS, MANY_OBJECTS, OTHER_SIZE, GREYSCALE, OUTSIDE = (
    1,
    2,
    3,
    4,
    5,
)  # which image of a split is the odd one
PRIVATE = "don\ue000t"
HIDDEN = (
    "answer_label",
    "rationale_label",
    "answer_likelihood",
    "answer_orig",
    "rationale_orig",
    "answer_sources",
    "rationale_sources",
    "answer_match_iter",
    "rationale_match_iter",
)


def write_vcr(folder: Path, train: int = 8, val: int = 6, test: int = 4) -> Path:
    """Write so many images a split, in two movies' folders, with two or three questions each; test has no labels.

    The images of a split in their order: two people, a dog that reaches beyond the picture, two things; no object at all; 14
    objects; half as large as its metadata say; greyscale; a box wholly outside; then ones as the first. Of an image's questions
    the first tags one object, the second two at once, the third none.
    """
    for split, images in (("train", train), ("val", val), ("test", test)):
        records = []
        for i in range(images):
            for k in range(QUESTIONS_AN_IMAGE[split][i % 2]):
                records.append(record(split, i, k, len(records)))
            write_image(folder / "vcr1images", split, i)
        (folder / f"{split}.jsonl").write_text(
            "".join(json.dumps(r) + "\n" for r in records), encoding="utf-8"
        )
    return folder


def stem(split: str, i: int) -> str:
    number = FIRST_NUMBER[split] + i
    return f"{FOLDERS[i % 2]}/{STEMS[i % 2].format(number)}"


def objects(i: int) -> list[str]:
    return {NO_OBJECTS: [], MANY_OBJECTS: (OBJECTS * 3)[:14]}.get(i, OBJECTS)


def boxes(i: int) -> list[list[float]]:
    found = (BOXES * 3)[: len(objects(i))]
    return [*found[:-1], [70, 3, 90, 20, 0.5]] if i == OUTSIDE else found


def write_image(folder: Path, split: str, i: int) -> None:
    path = folder / f"{stem(split, i)}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    number = FIRST_NUMBER[split] + i
    Image.new("RGB", SIZE, (number, 90, 30)).convert("L" if i == GREYSCALE else "RGB").save(path)
    scale = 2 if i == OTHER_SIZE else 1
    scaled = [[*(x * scale for x in box[:4]), box[4]] for box in boxes(i)]
    metadata = {
        "boxes": scaled,
        "segms": [[[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]] for x1, y1, x2, y2, _ in scaled],
        "names": objects(i),
        "width": SIZE[0] * scale,
        "height": SIZE[1] * scale,
    }
    path.with_suffix(".json").write_text(json.dumps(metadata), encoding="utf-8")


def record(split: str, i: int, k: int, n: int) -> dict[str, Any]:
    """Question k of image i, the n-th of its split; the labels are balanced over four records, and over sixteen pairwise."""
    one, two = ([[0]], [[0, 1]]) if objects(i) else (["he"], ["they"])
    question = (
        ["What", "is", *one, "doing", "?"],
        ["Why", "are", *two, "here", "?"],
        ["Where", "is", "this", "?"],
    )[k]
    answers = [
        [*one, "is", "waiting", "."],
        [*two, PRIVATE, "know", "each", "other", "."] if k != 2 else [PRIVATE, "know", "."],
        ["It", "is", "cold", "outside", ",", "and", "nobody", "has", "a", "coat", "."],
        ["Nothing", "."],
    ]
    if k == 2:
        answers[0] = ["At", "home", "."]
    last = [[len(objects(i)) - 1]] if objects(i) else ["it"]
    rationales = [
        ["The", "clock", "says", "so", "."],
        ["Because", *last, "lies", "near", *one, "on", "the", "floor", "."],
        ["Yes", "."],
        ["One", "can", *(["see"] * (90 if i == MANY_OBJECTS else 3)), "it", "."],
    ]
    if k == 2:
        rationales[1] = ["Because", "of", "the", "floor", "."]
    found: dict[str, Any] = {
        "movie": FOLDERS[i % 2].split("_", 1)[1],
        "objects": objects(i),
        "interesting_scores": [0],
        "answer_likelihood": LIKELIHOODS[n % 3],
        "img_fn": f"{stem(split, i)}.jpg",
        "metadata_fn": f"{stem(split, i)}.json",
        "answer_orig": "1 is waiting.",
        "question_orig": "What is 1 doing?",
        "rationale_orig": "Yes.",
        "question": question,
        "answer_match_iter": [0, 1, 2, 3],
        "answer_sources": [n, 1, 2, 3],
        "answer_choices": answers,
        "answer_label": n % 4,
        "rationale_choices": rationales,
        "rationale_sources": [n, 1, 2, 3],
        "rationale_match_iter": [0, 1, 2, 3],
        "rationale_label": (n + n // 4) % 4,
        "img_id": f"{split}-{i}",
        "question_number": k,
        "annot_id": f"{split}-{n}",
        "match_fold": f"{split}-0",
        "match_index": n,
    }
    return {key: value for key, value in found.items() if split != "test" or key not in HIDDEN}


def change_line(path: Path, number: int, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit one record, counted from 0, in place; half a surrogate pair is written as an escape, as JSON can hold it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    content = json.loads(lines[number])
    edit(content)
    lines[number] = json.dumps(content)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
