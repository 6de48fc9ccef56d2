"""How fast pictures are loaded, by the project's own collator, and whether the device waits for
them.
"""

import io
import os
import shutil
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from tests.long.gpu_setting import MAX_TEXT, Report, Setting, forget, one_line, seconds_each
from tests.long.gpu_speed import WORKS, Bench
from vle_bench.data.collate import QuestionCollator, padded_text
from vle_bench.data.loader import in_loader
from vle_bench.models.vle.processing import VLEProcessor

WORDS = (
    "what is the of on a color man doing how many are there in picture this left right dog".split()
)
PICTURES = 64  # different ones


class Table:
    """The part of a prepared table that the collators read: rows by number, as columns."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns = columns

    def __getitem__(self, rows: list[int]) -> dict[str, list[Any]]:
        return {name: [values[row] for row in rows] for name, values in self.columns.items()}


def jpegs(count: int, width: int, height: int) -> list[bytes]:
    """Smooth colours with grain, so that they take about as many bytes as photographs of COCO
    (160 KB).
    """
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        rough = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        grain = rng.normal(0, 9, (height, width, 3))
        picture = Image.fromarray(np.clip(np.asarray(rough) + grain, 0, 255).astype(np.uint8))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    return made


def collator(size: int, patch: int, answers: int, contents: list[bytes]) -> QuestionCollator:
    """One question a picture."""
    rng = np.random.default_rng(1)
    count = len(contents)
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    words = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]"
    )
    questions = Table(
        {
            "question_id": list(range(count)),
            "image_row": list(range(count)),
            "label_ids": [[i % answers] for i in range(count)],
            "label_scores": [[1.0]] * count,
            "question": [" ".join(rng.choice(WORDS, rng.integers(5, 12))) for _ in range(count)],
        }
    )
    images = Table(
        {
            "bytes": contents,
            "file_name": [f"{i}.jpg" for i in range(count)],
            "image_id": list(range(count)),
        }
    )
    return QuestionCollator(
        questions, images, VLEProcessor.from_parts(tokenizer, size, patch), answers, 50
    )


def loader(
    collate: QuestionCollator, batch: int, workers: int, batches: int, pinned: bool
) -> Iterator[dict[str, Any]]:
    """As `vle_bench.training.feed.steps` loads, the same pictures again and again."""
    rows = [
        np.arange(start, start + batch) % PICTURES for start in range(0, batch * batches, batch)
    ]
    return iter(
        DataLoader(
            rows,
            batch_size=None,
            collate_fn=collate,
            num_workers=workers,  # type: ignore[arg-type]
            worker_init_fn=in_loader,
            pin_memory=pinned,
        )
    )


def loading(setting: Setting, report: Report) -> None:
    work = WORKS[1]
    contents = jpegs(PICTURES, *((640, 480) if not setting.tiny else (64, 48)))
    shared = shutil.disk_usage("/dev/shm").free / 2**30 if os.path.isdir("/dev/shm") else 0.0
    size = sum(map(len, contents)) // PICTURES // 1000
    report.say(f"JPEGs of {size} KB, {os.cpu_count()} cores, {shared:.1f} GiB of shared memory")
    bench = Bench(setting, work)
    vision = bench.config.vision_config
    collate = collator(vision.image_size, vision.patch_size, len(bench.config.id2label), contents)
    batch = 4 if setting.tiny else 16
    for workers in (0, 1) if setting.tiny else (0, 1, 4, 16):
        try:
            rate = pictures_a_second(setting, collate, batch, workers)
        except (RuntimeError, OSError) as error:
            report.row(f"pictures, {workers} workers", one_line(error), ok=False)
            continue
        report.row(
            f"pictures, {workers} workers",
            f"{rate:.0f} /s, {rate / max(workers, 1):.0f} a worker",
            workers=workers,
            pictures_per_second=rate,
        )
    workers = 1 if setting.tiny else min(16, os.cpu_count() or 1)
    for training in (True, False):
        waiting(setting, report, bench, collate, training, workers)
    del bench
    forget(setting)


def pictures_a_second(
    setting: Setting, collate: QuestionCollator, batch: int, workers: int
) -> float:
    seconds, passed = (0.2 if setting.tiny else 3.0), 2 * workers + 1
    stream = loader(collate, batch, workers, 100_000 // batch, pinned=False)
    for _ in range(passed):  # what was loaded ahead while the workers started
        next(stream)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        next(stream)
        count += batch
    return count / (time.perf_counter() - started)


def waiting(
    setting: Setting,
    report: Report,
    bench: Bench,
    collate: QuestionCollator,
    training: bool,
    workers: int,
) -> None:
    """Steps on pictures that are loaded meanwhile, beside steps on a batch that is there."""
    size = 4 if setting.tiny else bench.work.recipe_batch
    bench.called.train(training)
    stream = loader(collate, size, workers, 100_000 // size, pinned=setting.on_gpu)

    def fetched() -> dict[str, torch.Tensor]:
        inputs = next(stream)["inputs"]
        if bench.recorded:
            inputs = padded_text(inputs, MAX_TEXT[bench.work.kind], 0)
        return {name: value.to(setting.device, non_blocking=True) for name, value in inputs.items()}

    there = fetched()
    seconds = 0.05 if setting.tiny else 3.0
    alone = seconds_each(setting, lambda _: bench.step(training, there), seconds)
    for _ in range(2 * workers):  # loaded ahead while `alone` was timed
        fetched()
    loaded = seconds_each(setting, lambda _: bench.step(training, fetched()), seconds, warm_up=2)
    rate, needed = size / loaded, size / alone
    report.row(
        f"{'training' if training else 'evaluation'}, batches of {size}, {workers} workers"
        + ", CUDA graphs" * bool(bench.recorded),
        f"{rate:.0f} /s with loading, {needed:.0f} alone: the device waits {max(0.0, 1 - alone / loaded):.0%}",
        workers=workers,
        seconds_with_loading=loaded,
        seconds_alone=alone,
        share_of_time_waiting=max(0.0, 1 - alone / loaded),
    )
