"""Rate and peak memory of `prepare vqav2` on simulated data of VQA v2's size; run by hand.

    python -m tests.long.benchmark_prepare --scale 0.05 --folder /tmp/simulated [--workers 2]

Scale 1 is 1.1 million questions and 204,721 images of about 10 kB (COCO's have 160 kB: reading them takes longer, not more memory).
"""

import argparse
import io
import json
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# official counts: questions, images
SIZES = {
    "train2014": (443_757, 82_783),
    "val2014": (214_354, 40_504),
    "test2015": (447_793, 81_434),
    "test-dev2015": (107_394, 36_807),
}
FIRST_ID = {"train2014": 1, "val2014": 200_000, "test2015": 400_000, "test-dev2015": 400_000}
PICTURES = 64  # different ones; their files are written again and again
WORDS = "what color is the man holding a big red bus near how many people are there in this picture of left side".split()


def simulate(folder: Path, scale: float) -> None:
    rng = np.random.default_rng(0)
    pictures = [jpeg(rng) for _ in range(PICTURES)]
    answers = [f"answer {i}" for i in range(3_500)] + [
        "yes",
        "no",
    ] * 900  # a long tail, as the real ones have
    for name, (questions, images) in SIZES.items():
        questions, images = int(questions * scale), int(images * scale)
        place = folder / name.replace("test-dev", "test")
        place.mkdir(parents=True, exist_ok=True)
        for i in range(images if name != "test-dev2015" else 0):
            (place / f"COCO_{place.name}_{FIRST_ID[name] + i:012d}.jpg").write_bytes(
                pictures[i % PICTURES]
            )
        ids = [(FIRST_ID[name] + k % images, k // images) for k in range(questions)]
        asked = (
            {"image_id": i, "question": text(i * 1000 + k), "question_id": i * 1000 + k}
            for i, k in ids
        )
        write(folder / f"v2_OpenEnded_mscoco_{name}_questions.json", "questions", asked)
        if not name.startswith("test"):
            write(
                folder / f"v2_mscoco_{name}_annotations.json",
                "annotations",
                (annotation(rng, answers, i, k) for i, k in ids),
            )


def text(question_id: int) -> str:
    """The same for a question of test-dev as in test."""
    return " ".join(random.Random(question_id).choices(WORDS, k=6)) + "?"


def jpeg(rng: np.random.Generator) -> bytes:
    coarse = Image.fromarray(rng.integers(0, 255, (20, 26, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((240, 180)).save(buffer, "jpeg", quality=90)
    return buffer.getvalue()


def annotation(
    rng: np.random.Generator, answers: list[str], image_id: int, k: int
) -> dict[str, Any]:
    few = [answers[int(i)] for i in rng.integers(0, len(answers), 3)]
    given = [few[int(i)] for i in rng.choice(3, 10, p=[0.7, 0.2, 0.1])]
    return {
        "question_type": "what",
        "multiple_choice_answer": few[0],
        "answer_type": "other",
        "image_id": image_id,
        "answers": [
            {"answer": a, "answer_confidence": "yes", "answer_id": n}
            for n, a in enumerate(given, 1)
        ],
        "question_id": image_id * 1000 + k,
    }


def write(path: Path, key: str, records: Iterator[dict[str, Any]]) -> None:
    """On one line, as the official files are."""
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"info": {}, "' + key + '": [')
        for number, record in enumerate(records):
            file.write((", " if number else "") + json.dumps(record))
        file.write("]}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=0.05)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    source = given.folder / f"official-{given.scale}"
    if not source.is_dir():
        simulate(source, given.scale)
    command = [
        "prepare",
        "vqav2",
        "--source",
        source,
        "--output",
        given.folder / "out",
        "--workers",
        given.workers,
    ]
    shutil.rmtree(
        given.folder / "out", ignore_errors=True
    )  # finished data would be left as they are
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "vle_bench", *map(str, command)], check=True)
    seconds = time.monotonic() - started
    questions, images = (
        sum(int(s[i] * given.scale) for n, s in SIZES.items() if i == 0 or n != "test-dev2015")
        for i in (0, 1)
    )
    peak = (
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    )  # Linux counts in KiB; the largest process
    print(
        f"{questions:,} questions, {images:,} images: {seconds:.1f} s, {questions / seconds:,.0f} questions/s, "
        f"largest process {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
