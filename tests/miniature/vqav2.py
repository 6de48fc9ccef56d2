"""A miniature VQA v2: the official file names and layouts, with the oddities of the real thing."""

import json
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

# Ten people: "2" seven times in four spellings, "3" twice, one answer that is in no vocabulary
COUNTS = ["two", "Two", "2", "2", "two", "the 2", "2", "3", "three", "lots"]
COLORS = ["red", "red", "Red.", "a red", "red", "red\n", "red", "maroon", "red", "red, pink"]
QUESTIONS_AN_IMAGE = 3
QUESTIONS_OF_THE_FIRST = 12  # an image that many questions share
FIRST_ID = {"train2014": 1, "val2014": 1001, "test2015": 2001}


def write_vqav2(folder: Path, train: int = 6, val: int = 12, test: int = 4) -> Path:
    """Write so many images a split; test-dev is the first half of test.

    Question 0 of an image asks for a number ("2" is the majority), 1 for a color ("red"), 2 has no answer that anyone else gives;
    and so on in turn for the first image of a split, which has twelve.
    """
    for name, images, number in (
        ("train2014", "train2014", train),
        ("val2014", "val2014", val),
        ("test2015", "test2015", test),
        ("test-dev2015", "test2015", max(1, test // 2)),
    ):
        ids = [FIRST_ID[images] + i for i in range(number)]
        (folder / images).mkdir(parents=True, exist_ok=True)
        for i, image_id in enumerate(ids):
            write_image(folder / images / f"COCO_{images}_{image_id:012d}.jpg", i, image_id)
        asked = [
            question(image_id, k, i)
            for i, image_id in reversed(list(enumerate(ids)))
            for k in range(questions_of(i))
        ]
        about = {
            "info": {"description": "miniature"},
            "license": {"name": "none"},
            "data_subtype": name,
        }
        write(folder / f"v2_OpenEnded_mscoco_{name}_questions.json", {**about, "questions": asked})
        if images != "test2015":
            found = [annotation(q["question_id"], q["image_id"]) for q in asked[::-1]]
            write(
                folder / f"v2_mscoco_{name}_annotations.json",
                {**about, "annotations": found, "data_type": "mscoco"},
            )
    return folder


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def questions_of(number: int) -> int:
    return QUESTIONS_AN_IMAGE if number else QUESTIONS_OF_THE_FIRST


def write_image(path: Path, number: int, image_id: int) -> None:
    """Greyscale, CMYK, turned by EXIF, 1×1, very wide, then plain ones of 60×40."""
    color = (image_id % 256, 90, 30)
    exif = Image.Exif()
    if number == 2:
        exif[ExifTags.Base.Orientation] = 6
    image = {
        0: lambda: Image.new("L", (60, 40), image_id % 256),
        1: lambda: Image.new("CMYK", (60, 40), (*color, 10)),
        3: lambda: Image.new("RGB", (1, 1), color),
        4: lambda: Image.new("RGB", (900, 3), color),
    }.get(number, lambda: Image.new("RGB", (60, 40), color))()
    image.save(path, exif=exif)


def question(image_id: int, k: int, number: int) -> dict[str, Any]:
    text = ("How many are there?", "What color is it?", "¿Qué es “esto” 🦆?")[k % 3]
    if number == 1 and k == 0:
        text = "How many " + "very " * 60 + "small ones are there?"
    return {"question_id": image_id * 1000 + k, "image_id": image_id, "question": text}


def annotation(question_id: int, image_id: int) -> dict[str, Any]:
    k = question_id % 1000 % 3
    answers = (COUNTS, COLORS, [f"thing {question_id} {n}" for n in range(10)])[k]
    return {
        "question_id": question_id,
        "image_id": image_id,
        "question_type": ("how many", "what color is", "none of the above")[k],
        "answer_type": ("number", "other", "other")[k],
        "multiple_choice_answer": answers[0],
        "answers": [
            {"answer_id": i, "answer": a, "answer_confidence": "yes"}
            for i, a in enumerate(answers, 1)
        ],
    }


def write_visual_genome(folder: Path, coco_ids: list[int]) -> tuple[Path, Path]:
    """Three questions about each image, answered "Red.", "two" and "Nobody says so."; and an image that COCO has not."""
    images = [
        {"image_id": 50 + i, "coco_id": coco_id, "width": 60} for i, coco_id in enumerate(coco_ids)
    ]
    write(folder / "image_data.json", [*images, {"image_id": 7, "coco_id": None}])
    asked = [
        {
            "id": image,
            "qas": [
                {
                    "a_objects": [],
                    "question": "Which color?",
                    "image_id": image,
                    "qa_id": 10 * image + k,
                    "answer": answer,
                }
                for k, answer in enumerate(["Red.", "two", "Nobody says so."])
            ],
        }
        for image in (7, *(i["image_id"] for i in images))
    ]
    write(folder / "question_answers.json", asked)
    return folder / "question_answers.json", folder / "image_data.json"


def change(path: Path, edit: Any) -> None:
    """Edit a JSON file in place; half a surrogate pair is written as an escape, as JSON can hold it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")
