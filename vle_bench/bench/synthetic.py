"""Synthetic prepared data in the shapes of the real ones, to measure speed without any data."""

import io
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from vle_bench import atomic
from vle_bench.data.official.vcr import CHOICES
from vle_bench.data.prepare.shards import described
from vle_bench.data.prepared import SCHEMA_VERSION, Manifest
from vle_bench.data.sources import SOURCES
from vle_bench.data.tables import (
    CHOICE_QUESTIONS,
    IMAGES,
    PAIRS,
    QUESTIONS,
    VCR_IMAGES,
    VCR_QUESTIONS,
    record_batches,
    write_table,
)
from vle_bench.json_files import JsonObject, Row

# Tokens are words here. Assumptions of ours: a question of VQA v2 has 6 to 12 beside [CLS] and
# [SEP], of VCR 5 to 9; the texts of VCR's Q2A have 20 to 60 in all, most near 28; rationales 8 to
# 45, most near 18. (VCR's paper has means of 6.6, 7.5 and 16.2 words for questions, answers and
# rationales; a tokenizer makes more tokens of them.)
VQA_WORDS = (6, 12)
VCR_QUESTION_WORDS = (5, 9)
Q2A_TOKENS = (28, 20, 60)  # median, fewest, most
RATIONALE_WORDS = (18, 8, 45)
# Of users' own multiple-choice questions: four on average, of a few words
NUMBER_OF_CHOICES = (3, 5)
CHOICE_WORDS = (4, 1, 12)
# Of pre-training: captions have ten words or so, and the longest of a batch of 64 about twice that.
PAIR_WORDS = (10, 3, 40)
SPREAD = 0.3  # of the logarithm of a length
# A choice tags two to four of them.
OBJECTS = ("person", "person", "person", "person", "chair", "dog")
WORDS = (
    "a the is are what where why how many there on in of to and with man woman he she they it "
    "this that was has one two left near table going about because looking"
).split()
WORD_CHANCES = 1 / np.arange(2, len(WORDS) + 2)
PICTURES_DRAWN = 128  # of a split
FIRST_ID = 1_000_000  # images of one split to the next


def write_synthetic(
    folder: Path,
    source: str,
    splits: dict[str, int],
    seed: int,
    together: dict[str, int] | None = None,
    choices: bool = False,
) -> None:
    """Write a prepared folder of `source`; the same bytes for the same seed.

    Texts are frequent words in random order, images are noise, and answers are random.

    Args:
        splits: number of questions of each table.
        together: for some tables, the most questions of an image that stay together in a batch. The
            images have no more questions than that: in real data two groups of a batch never share
            an image, and among a few hundred synthetic questions they would.
        choices: of users' own data, multiple-choice questions instead of open ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image_schema, schema, make_question = shapes(source, choices)
    tables: dict[str, list[Row]] = {}
    images: list[Row] = []
    for number, (split, count) in enumerate(splits.items()):
        rng = np.random.default_rng((seed, number))
        counts = list(image_counts(source, count, (together or {}).get(split)))
        rows = list(image_rows(rng, source, len(counts), FIRST_ID * (number + 1)))
        tables[f"questions-{split}.arrow"] = [
            make_question(rng, source, f"{split}-{n}", rows[i]["image_id"], len(images) + int(i))
            for n, i in enumerate(np.repeat(np.arange(len(rows)), counts))
        ]
        images += rows
    write_rows(folder / "images.arrow", image_schema, images)
    for name, questions in tables.items():
        write_rows(folder / name, schema, questions)
    names = ["images.arrow", *tables]
    if SOURCES[source].num_answers and schema in (QUESTIONS, PAIRS):
        answers = [f"answer {i}" for i in range(SOURCES[source].num_answers)]
        atomic.write_json(folder / "label_map.json", {"answers": answers})
        names.append("label_map.json")
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        source=source,
        splits={name: counts_of(tables[f"questions-{name}.arrow"]) for name in splits},
        files={name: described(folder / name) for name in names},
        images=["images.arrow"],
        form="choice" if choices else None,
    )
    manifest = replace(manifest, hash=manifest.content_hash())
    atomic.write_json(folder / "manifest.json", manifest.as_json())


def counts_of(questions: list[Row]) -> JsonObject:
    """Return the entry of a split in the manifest."""
    counts: JsonObject = {"questions": len(questions), "labelled": True}
    if questions and "pair_id" in questions[0]:
        counts["images"] = len({row["image_row"] for row in questions})
        counts["phrases"] = sum(row["box"] is not None for row in questions)
        counts["with_objects"] = sum(bool(row["object_classes"]) for row in questions)
    return counts


def shapes(source: str, choices: bool) -> tuple[pa.Schema, pa.Schema, Callable[..., Row]]:
    """Return the tables of images and of questions, and the function that makes a question."""
    if SOURCES[source].form == "vcr":
        return VCR_IMAGES, VCR_QUESTIONS, vcr_question
    if SOURCES[source].form == "captions":
        return IMAGES, PAIRS, pair
    if choices:
        return IMAGES, CHOICE_QUESTIONS, choice_question
    return IMAGES, QUESTIONS, vqa_question


def write_rows(path: Path, schema: pa.Schema, rows: list[Row]) -> None:
    """Write an Arrow table."""
    write_table(path, schema, record_batches(iter(rows), schema))


def image_counts(source: str, questions: int, together: int | None = None) -> Iterator[int]:
    """Yield the number of questions of each image, `questions` in all.

    Args:
        together: see `write_synthetic`; an image with more questions becomes several.
    """
    for count in itertools.cycle(SOURCES[source].questions_per_image):
        for start in range(0, count, together or count):
            if questions <= 0:
                return
            part = min(count - start, together or count, questions)
            yield part
            questions -= part


def image_rows(rng: np.random.Generator, source: str, images: int, first_id: int) -> Iterator[Row]:
    """Yield rows of the images table.

    The encoded images repeat after `PICTURES_DRAWN`, which does not change the time that they take.
    """
    width, height = SOURCES[source].image_size
    drawn: list[bytes] = []
    for number in range(images):
        if len(drawn) < PICTURES_DRAWN:
            drawn.append(picture(rng, width, height))
        row = {
            "image_id": first_id + number,
            "file_name": f"{first_id + number}.jpg",
            "bytes": drawn[number % PICTURES_DRAWN],
            "width": width,
            "height": height,
        }
        if SOURCES[source].form == "vcr":
            boxes = boxes_of(rng, source, len(OBJECTS))
            row |= {"boxes": boxes, "class_names": list(OBJECTS)}
        yield row


def boxes_of(rng: np.random.Generator, source: str, count: int) -> list[list[float]]:
    """Draw boxes of 10 to 40 % of the sides of a picture."""
    width, height = SOURCES[source].image_size
    corners = rng.random((count, 2)) * 0.6
    sizes = 0.1 + rng.random((count, 2)) * 0.3
    boxes = np.concatenate([corners, corners + sizes], 1) * [width, height, width, height]
    drawn: list[list[float]] = boxes.tolist()
    return drawn


def picture(rng: np.random.Generator, width: int, height: int) -> bytes:
    """Encode smooth noise with some grain: it takes about as long to decode as a photograph."""
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = rng.normal(0, 8, (height, width, 1))
    content = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).save(
        content, "JPEG", quality=90
    )
    return content.getvalue()


def words(rng: np.random.Generator, count: int) -> list[str]:
    """Draw frequent words."""
    return [str(word) for word in rng.choice(WORDS, count, p=WORD_CHANCES / WORD_CHANCES.sum())]


def length(rng: np.random.Generator, limits: tuple[int, int, int]) -> int:
    """Draw a log-normal length; limits: median, least, most."""
    median, fewest, most = limits
    return int(np.clip(round(median * np.exp(SPREAD * rng.standard_normal())), fewest, most))


def vqa_question(
    rng: np.random.Generator, source: str, name: str, image_id: int, image_row: int
) -> Row:
    count = int(rng.integers(VQA_WORDS[0], VQA_WORDS[1] + 1))
    answers = rng.choice(SOURCES[source].num_answers, 3, replace=False)
    number = image_id * 1000 + int(name.rpartition("-")[2])
    return {
        "question_id": number,
        "image_id": image_id,
        "image_row": image_row,
        "question": " ".join(words(rng, count)),
        "question_type": "synthetic",
        "answer_type": "other",
        "multiple_choice_answer": f"answer {answers[0]}",
        "answers": [f"answer {answers[0]}"] * 10,
        "label_ids": answers.tolist(),
        "label_scores": [1.0, 0.6, 0.3],
        "answerable": True,
    }


def choice_question(
    rng: np.random.Generator, source: str, name: str, image_id: int, image_row: int
) -> Row:
    count = int(rng.integers(VQA_WORDS[0], VQA_WORDS[1] + 1))
    choices = [
        " ".join(words(rng, length(rng, CHOICE_WORDS)))
        for _ in range(int(rng.integers(NUMBER_OF_CHOICES[0], NUMBER_OF_CHOICES[1] + 1)))
    ]
    right = int(rng.integers(len(choices)))
    return {
        "question_id": image_id * 1000 + int(name.rpartition("-")[2]),
        "image_id": image_id,
        "image_row": image_row,
        "question": " ".join(words(rng, count)),
        "question_type": "synthetic",
        "choices": choices,
        "right_choice": right,
        "multiple_choice_answer": choices[right],
    }


def pair(rng: np.random.Generator, source: str, name: str, image_id: int, image_row: int) -> Row:
    """A text and, if the source has classes, a box that it speaks of with an object in it."""
    row: Row = {
        "pair_id": image_id * 1000 + int(name.rpartition("-")[2]),
        "image_id": image_id,
        "image_row": image_row,
        "caption": " ".join(words(rng, length(rng, PAIR_WORDS))),
        "box": None,
        "object_boxes": [],
        "object_classes": [],
    }
    if classes := SOURCES[source].num_answers:
        box = boxes_of(rng, source, 1)[0]
        row |= {
            "box": box,
            "object_boxes": [box],
            "object_classes": [int(rng.integers(classes))],
        }
    return row


def vcr_question(
    rng: np.random.Generator, source: str, name: str, image_id: int, image_row: int
) -> Row:
    question = text(
        rng, int(rng.integers(VCR_QUESTION_WORDS[0], VCR_QUESTION_WORDS[1] + 1)), [0, 1]
    )
    before = len(question) + 3  # and [CLS], [SEP], [SEP]
    answers, rationales = [], []
    for _ in range(CHOICES):
        more = rng.permutation(np.arange(2, len(OBJECTS)))[: rng.integers(0, 3)].tolist()
        answers.append(text(rng, length(rng, Q2A_TOKENS) - before, more))
        rationales.append(text(rng, length(rng, RATIONALE_WORDS), more))
    labels = {
        "answer_label": int(rng.integers(CHOICES)),
        "rationale_label": int(rng.integers(CHOICES)),
    }
    record = {
        "annot_id": name,
        "objects": list(OBJECTS),
        "question": question,
        "answer_choices": answers,
        "rationale_choices": rationales,
        **labels,
    }
    return {
        "annot_id": name,
        "image_id": image_id,
        "image_row": image_row,
        "record": json.dumps(record),
        "answer_likelihood": "possible",
        **labels,
    }


def text(rng: np.random.Generator, count: int, tags: Sequence[int]) -> list[str | list[int]]:
    """Draw `count` tokens, some of which tag an object each."""
    tokens: list[str | list[int]] = [*words(rng, count)]
    for place, tag in zip(rng.permutation(count), tags, strict=False):
        tokens[place] = [tag]
    return tokens
