"""Rate and peak memory of `prepare vcr` on simulated data of VCR's size; run by hand.

    python -m tests.long.benchmark_prepare_vcr --scale 0.1 --folder /tmp/simulated [--workers 2] [--tokenizer DIR]

Scale 1 is 264,720 questions about 110,000 images of about 10 kB, with ten objects and 25 kB of metadata each. VCR's images have
about 500 kB: reading and decoding them takes longer.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.long.benchmark_prepare import PICTURES, jpeg

SIZES = {
    "train": (212_923, 88_000),
    "val": (26_534, 11_000),
    "test": (25_263, 11_000),
}  # official counts of questions
OBJECTS = [
    "person",
    "person",
    "person",
    "person",
    "chair",
    "chair",
    "cup",
    "cup",
    "diningtable",
    "tie",
]
SIZE = (240, 180)  # of benchmark_prepare's pictures
OUTLINE = 160  # points of a segment
WORDS = "is thinking about what will happen next because the man near her holds a glass and looks at his watch".split()
OFFICIAL = {  # fields that preparation passes over
    "movie": "0001_Movie",
    "interesting_scores": [0, 1],
    "answer_likelihood": "possible",
    "question_orig": "What is 1 doing?",
    "answer_orig": "1 is waiting for 2.",
    "rationale_orig": "1 looks at the watch.",
    "answer_match_iter": [3, 0, 2, 1],
    "answer_sources": [1, 2, 3, 4],
    "rationale_sources": [1, 2, 3, 4],
    "rationale_match_iter": [0, 1, 2, 3],
    "match_fold": "train-0",
}


def simulate(folder: Path, scale: float) -> None:
    rng = np.random.default_rng(0)
    pictures, about = [jpeg(rng) for _ in range(PICTURES)], [metadata(rng) for _ in range(PICTURES)]
    for split, (questions, images) in SIZES.items():
        questions, images = int(questions * scale), int(images * scale)
        for i in range(images):
            path = folder / "vcr1images" / f"{stem(split, i)}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pictures[i % PICTURES])
            path.with_suffix(".json").write_text(about[i % PICTURES], encoding="utf-8")
        with open(folder / f"{split}.jsonl", "w", encoding="utf-8") as file:
            file.writelines(
                json.dumps(record(rng, split, n, n * images // questions)) + "\n"
                for n in range(questions)
            )


def stem(split: str, i: int) -> str:
    return f"lsmdc_{i // 500:04d}_Movie/{split}_00.01.46.736-00.01.50.168@{i}"


def metadata(rng: np.random.Generator) -> str:
    corners = np.sort(rng.uniform(-5, 235, (len(OBJECTS), 2, 2)), axis=1).reshape(-1, 4).round(4)
    outlines = rng.uniform(0, 180, (len(OBJECTS), 1, OUTLINE, 2)).round(1).tolist()
    found = {
        "boxes": [[*box, 0.9] for box in corners.tolist()],
        "segms": outlines,
        "names": OBJECTS,
    }
    return json.dumps({**found, "width": SIZE[0], "height": SIZE[1]})


def record(rng: np.random.Generator, split: str, n: int, image: int) -> dict[str, Any]:
    def text(words: int) -> list[Any]:
        return [[int(rng.integers(len(OBJECTS)))], *rng.choice(WORDS, words).tolist(), "."]

    found = {
        **OFFICIAL,
        "objects": OBJECTS,
        "img_fn": f"{stem(split, image)}.jpg",
        "metadata_fn": f"{stem(split, image)}.json",
        "question": text(5),
        "answer_choices": [text(6) for _ in range(4)],
        "rationale_choices": [text(14) for _ in range(4)],
        "annot_id": f"{split}-{n}",
        "img_id": f"{split}-{image}",
        "question_number": n,
        "match_index": n,
    }
    return (
        found
        if split == "test"
        else {**found, "answer_label": n % 4, "rationale_label": n // 4 % 4}
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tokenizer", type=Path)
    given = parser.parse_args()
    source = given.folder / f"official-{given.scale}"
    if not source.is_dir():
        simulate(source, given.scale)
    command = [
        "prepare",
        "vcr",
        "--source",
        source,
        "--output",
        given.folder / "out",
        "--workers",
        given.workers,
    ]
    command += [] if given.tokenizer is None else ["--tokenizer", given.tokenizer]
    shutil.rmtree(
        given.folder / "out", ignore_errors=True
    )  # finished data would be left as they are
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "vle_bench", *map(str, command)], check=True)
    seconds = time.monotonic() - started
    questions, images = (sum(int(s[i] * given.scale) for s in SIZES.values()) for i in (0, 1))
    peak = (
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    )  # Linux counts in KiB; the largest process
    print(
        f"{questions:,} questions, {images:,} images: {seconds:.1f} s, {questions / seconds:,.0f} questions/s, "
        f"largest process {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
