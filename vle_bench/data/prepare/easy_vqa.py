"""easy-VQA (PyPI `easy-vqa`, MIT): real questions and pictures, small enough for a package."""

import itertools
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from vle_bench import atomic
from vle_bench.data.prepare.manifest import AS_USUAL, Choices, Options, keep_official
from vle_bench.data.prepare.questions import prepare_questions
from vle_bench.data.prepare.split import Split
from vle_bench.data.prepare.vqav2 import coco_name, held_out
from vle_bench.data.prepared import Manifest
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject

TEST_OFFSET = 100_000  # the package numbers the images of both splits from 0
COLORS = {"black", "blue", "brown", "gray", "green", "red", "teal", "yellow"}


def prepare(official: Path | None, output: Path, choices: Choices, options: Options) -> Manifest:
    return prepare_easy_vqa(output, official, options["--limit-images"], choices)


def prepare_easy_vqa(
    output: Path,
    source: Path | None = None,
    limit_images: int | None = None,
    choices: Choices = AS_USUAL,
) -> Manifest:
    """Prepare the splits train, val (a tenth of the training images) and test (official).

    Args:
        source: folder in which the files in VQA v2's layout are kept; None: a temporary folder.
        limit_images: number of images of each official split.
    """
    with tempfile.TemporaryDirectory() as temporary:
        paths = {
            name: write_official(Path(temporary), name, limit_images) for name in ("train", "test")
        }
        if source is not None:
            keep_official(Path(temporary), source)
        train_questions, train_annotations, train_images = paths["train"]
        test_questions, test_annotations, test_images = paths["test"]
        train_name, test_name = coco_name("train"), coco_name("test")
        splits = {
            "train": Split(
                train_questions,
                train_annotations,
                lambda i: train_images / train_name(i),
                lambda ids, before: [i for i in ids if not held_out(i)],
                vocabulary=True,
            ),
            "val": Split(
                train_questions,
                train_annotations,
                lambda i: train_images / train_name(i),
                lambda ids, before: [i for i in ids if held_out(i)],
            ),
            "test": Split(test_questions, test_annotations, lambda i: test_images / test_name(i)),
        }
        return prepare_questions(
            "easy-vqa", splits, output, 1, choices, {"--limit-images": limit_images}
        )


def write_official(folder: Path, name: str, limit_images: int | None) -> tuple[Path, Path, Path]:
    """Write a split in VQA v2's layout; return its questions, annotations and image folder."""
    try:
        import easy_vqa
    except ImportError as error:
        raise RequestError("easy-VQA is not installed: pip install 'vle-bench[demo]'") from error
    texts, answers, image_ids = getattr(easy_vqa, f"get_{name}_questions")()
    paths = getattr(easy_vqa, f"get_{name}_image_paths")()
    chosen = set(sorted(paths)[:limit_images])
    offset = TEST_OFFSET if name == "test" else 0
    file_name = coco_name(name)
    numbers: dict[int, Iterator[int]] = defaultdict(itertools.count)
    questions, annotations = [], []
    for text, answer, image_id in zip(texts, answers, image_ids, strict=True):
        if image_id not in chosen:
            continue
        image = image_id + offset
        ids = {"question_id": image * 100 + next(numbers[image]), "image_id": image}
        questions.append({**ids, "question": text})
        annotations.append(
            {
                **ids,
                "question_type": question_type(text),
                "answer_type": "yes/no" if answer in ("yes", "no") else "other",
                "multiple_choice_answer": answer,
                "answers": [
                    {"answer_id": i, "answer": answer, "answer_confidence": "yes"}
                    for i in range(1, 11)
                ],
            }
        )
    images = folder / name
    images.mkdir(parents=True, exist_ok=True)
    for image_id in sorted(chosen):
        shutil.copyfile(paths[image_id], images / file_name(image_id + offset))
    about: JsonObject = {
        "info": {"description": "easy-VQA 1.0"},
        "license": {"name": "MIT"},
        "data_subtype": name,
    }
    files = folder / f"questions-{name}.json", folder / f"annotations-{name}.json"
    # on one line, as the official files are: Python writes indented JSON ten times slower
    atomic.write_text(files[0], json.dumps({**about, "questions": questions}))
    atomic.write_text(files[1], json.dumps({**about, "annotations": annotations}))
    return *files, images


def question_type(text: str) -> str:
    """Return the kind of question: about a shape or a color, or whether one is there."""
    words = set(text.lower().rstrip("?").split())
    if not text.lower().startswith("what"):
        return "is there this color" if words & COLORS else "is there this shape"
    return "what color" if "color" in words else "what shape"
