"""Prepare VQA v2: the addresses and names of its files, and the images of each split."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vle_bench.data.download.archives import Archive
from vle_bench.data.official.visual_genome import read_visual_genome
from vle_bench.data.official.vqa import problem_of, record_name
from vle_bench.data.prepare.manifest import AS_USUAL, Choices, Options
from vle_bench.data.prepare.questions import prepare_questions
from vle_bench.data.prepare.split import Choose, Split
from vle_bench.data.prepare.targets import normal
from vle_bench.data.prepared import Manifest
from vle_bench.errors import RequestError
from vle_bench.json_files import stream

VQA_URL = "https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa"  # https://visualqa.org/download.html
# No https: the certificate is that of the storage behind the name.
COCO_URL = "http://images.cocodataset.org/zips"


def json_archive(part: str, *files: str) -> Archive:
    """Return an archive of JSON, whose repeated keys shrink almost twentyfold: 25 is safe."""
    return Archive(f"{VQA_URL}/v2_{part}_mscoco.zip", files, growth=25)


VQAV2 = (
    json_archive("Questions_Train", "v2_OpenEnded_mscoco_train2014_questions.json"),
    json_archive("Questions_Val", "v2_OpenEnded_mscoco_val2014_questions.json"),
    json_archive(
        "Questions_Test",
        "v2_OpenEnded_mscoco_test2015_questions.json",
        "v2_OpenEnded_mscoco_test-dev2015_questions.json",
    ),
    json_archive("Annotations_Train", "v2_mscoco_train2014_annotations.json"),
    json_archive("Annotations_Val", "v2_mscoco_val2014_annotations.json"),
    Archive(f"{COCO_URL}/train2014.zip", ("train2014/",), "about 13.5 GB"),
    Archive(f"{COCO_URL}/val2014.zip", ("val2014/",), "about 6.6 GB"),
    Archive(f"{COCO_URL}/test2015.zip", ("test2015/",), "about 13.2 GB"),
)

MIN_ANSWER_COUNT = 9  # METER, `write_vqa.py`: 3,129 answers remain of train and val
MINIVAL_IMAGES = 1_000  # as many as METER and VLE hold out of the validation images


def archives(output: Path, given: Mapping[str, str]) -> Sequence[Archive]:
    """Return the official archives; all of them are public, so that `given` is empty."""
    return VQAV2


def by_hash(image_id: int) -> bytes:
    return hashlib.sha256(str(image_id).encode()).digest()


def held_out(image_id: int) -> bool:
    """Hold out every tenth image by a hash of its id: reproducible by anyone, in any order."""
    return int.from_bytes(by_hash(image_id)[:8], "big") % 10 == 0


def minival(image_ids: Iterable[int]) -> list[int]:
    """Return the 1,000 images with the smallest SHA-256 of their decimal ids.

    Of fewer than 10,000 images it is a tenth.
    """
    ids = sorted(map(int, image_ids), key=by_hash)
    return ids[: min(MINIVAL_IMAGES, max(1, len(ids) // 10))]


def coco_name(folder: str) -> Callable[[int], str]:
    """Map an image id to the official file name, `COCO_val2014_000000000042.jpg`."""
    return lambda image_id: f"COCO_{folder}_{image_id:012d}.jpg"


def prepare(official: Path, output: Path, choices: Choices, options: Options) -> Manifest:
    questions, images = options["--visual-genome"], options["--vg-image-data"]
    if (questions is None) != (images is None):
        raise RequestError("prepare: --visual-genome and --vg-image-data go together")
    return prepare_vqav2(
        official, output, choices, None if questions is None else (questions, images)
    )


def prepare_vqav2(
    source: Path,
    output: Path,
    choices: Choices = AS_USUAL,
    visual_genome: tuple[Path, Path] | None = None,
) -> Manifest:
    """Prepare the official folder layout of VQA v2 and return the manifest.

    Args:
        visual_genome: its question_answers.json and image_data.json, for the splits `vg` (about
            images of train and val-minival) and `vg-minival`.
    """

    check_source(source, visual_genome or ())

    def split(
        folder: str,
        name: str,
        annotated: bool,
        choose: Choose = lambda ids, before: ids,
        within: str | None = None,
    ) -> Split:
        file_name = coco_name(folder)
        return Split(
            source / f"v2_OpenEnded_mscoco_{name}_questions.json",
            source / f"v2_mscoco_{name}_annotations.json" if annotated else None,
            lambda image_id: source / folder / file_name(image_id),
            choose,
            vocabulary=annotated,
            within=within,
        )

    splits = {
        "train": split("train2014", "train2014", True),
        "minival": split("val2014", "val2014", True, choose=lambda ids, before: minival(ids)),
        "val-minival": split(
            "val2014",
            "val2014",
            True,
            choose=lambda ids, before: np.setdiff1d(ids, before["minival"]),
        ),
        "test-dev": split("test2015", "test-dev2015", False, within="test"),
        "test": split("test2015", "test2015", False),
    }
    if visual_genome is not None:
        for name, of in (("vg", ("train", "val-minival")), ("vg-minival", ("minival",))):
            splits[name] = Split(
                *visual_genome, None, about_images_of(of), read=read_visual_genome, extra=True
            )
    return prepare_questions("vqav2", splits, output, MIN_ANSWER_COUNT, choices)


def check_source(source: Path, others: Iterable[Path]) -> None:
    """Refuse missing files before the work, with the command that brings them."""
    for name in ("./", *(name for archive in VQAV2 for name in archive.holds)):
        path, is_folder = source / name, name.endswith("/")
        if not (path.is_dir() if is_folder else path.is_file()):
            missing = (
                "no such folder"
                if is_folder
                else "a folder, not a file"
                if path.is_dir()
                else "no such file"
            )
            raise RequestError(
                f"{path}: {missing}; `vle-bench download vqav2 --output {source}` brings the "
                "official files"
            )
    for path in others:
        if not path.is_file():
            raise RequestError(
                f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}"
            )


def about_images_of(names: tuple[str, ...]) -> Choose:
    return lambda ids, before: np.intersect1d(ids, np.concatenate([before[name] for name in names]))


def published_vocabulary(source: Path, min_count: int = MIN_ANSWER_COUNT) -> list[str]:
    """Return the answers in the order of METER's and VLE's classes.

    That is the order in which they first occur in the official annotations, train before val. The
    rule of VLE's `write_vqa.py`, which is ViLT's (METER takes its data): the normalised majority
    answers that occur at least nine times in both files together, 3,129 of them.

    Args:
        source: folder with the official annotations files.
    """
    counts: Counter[str] = Counter()  # it keeps the order in which answers came
    for name in ("train2014", "val2014"):
        path = source / f"v2_mscoco_{name}_annotations.json"
        if not path.is_file():
            raise RequestError(
                f"{path}: no such file; `vle-bench download vqav2 --output {source}` brings the "
                "official files"
            )
        for number, record in enumerate(stream(path, "annotations")):
            if problem := problem_of(record, {"multiple_choice_answer": str}):
                raise RequestError(f"{path}: {record_name(number, record)}: {problem}")
            counts[normal(record["multiple_choice_answer"])] += 1
    return [answer for answer, count in counts.items() if count >= min_count]
