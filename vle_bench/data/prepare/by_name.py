"""Prepare datasets of VQA form by name, from a layout of their official files.

Sources of the facts: OK-VQA okvqa.allenai.org; VizWiz vizwiz.org/tasks-and-datasets/vqa; TextVQA
textvqa.org; AdVQA adversarialvqa.org; VQA-Rephrasings facebookresearch.github.io/VQA-Rephrasings;
VQA-CP v2 Agrawal et al., "Don't Just Assume; Look and Answer" (2018) and its README; GQA
gqadataset.org, visualreasoning.net; A-OKVQA github.com/allenai/aokvqa. Sizes and metrics are in
docs/datasets.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from vle_bench.data.download.archives import Archive
from vle_bench.data.official import further
from vle_bench.data.official.vqa import BadRecords, read_official
from vle_bench.data.prepare.manifest import Choices, Options
from vle_bench.data.prepare.questions import prepare_questions
from vle_bench.data.prepare.split import Split
from vle_bench.data.prepare.vqav2 import COCO_URL, coco_name
from vle_bench.data.prepared import Manifest
from vle_bench.errors import RequestError

Read = Callable[[Path, Path | None, BadRecords], pa.Table]


@dataclass(frozen=True)
class Files:
    """The official files of one split, named within the folder of --source.

    Args:
        annotations: file of the answers, which may be that of the questions; None: no labels.
        images: folders, of which one has an image.
        image_name: maps a folder and an image id to the file's name; None: the records name it.
    """

    questions: str
    annotations: str | None
    images: tuple[str, ...]
    image_name: Callable[[str], Callable[[int], str]] | None = None


@dataclass(frozen=True)
class Layout:
    """The official files of a dataset.

    Args:
        home: the page that they come from.
        min_count: majority answers that make a class, see `prepare_questions`.
        counted: the split whose answers make up the label map; of others if it is not there.
        metric: see `Manifest`; None: VQA v2's.
        as_given: answers are classes as the annotators gave them, since the metric compares them
            so; else they are normalised.
        archives: those that `download` fetches.
    """

    home: str
    splits: Mapping[str, Files]
    read: Read = read_official
    min_count: int = 1
    counted: str = "train"
    metric: str | None = None
    as_given: bool = False
    archives: Sequence[Archive] = field(default=())


def coco(folder: str, questions: str, annotations: str | None) -> Files:
    """Return a split about images of COCO 2014 or 2015."""
    return Files(questions, annotations, (folder,), coco_name)


def coco_2017(folder: str) -> Callable[[int], str]:
    return lambda image_id: f"{image_id:012d}.jpg"


def one_file(name: str, images: str, labelled: bool = True) -> Files:
    return Files(name, name if labelled else None, (images,))


OKVQA_URL = "https://okvqa.allenai.org/static/data"
OKVQA_FILES = tuple(
    f"{name.format(split)}.json"
    for split in ("train2014", "val2014")
    for name in ("OpenEnded_mscoco_{}_questions", "mscoco_{}_annotations")
)
GQA_URL = "https://downloads.cs.stanford.edu/nlp/data/gqa"
# The splits that one may train on or score, and the file of all questions that the server scores
GQA_FILES = {
    "train": "train_balanced",
    "val": "val_balanced",
    "testdev": "testdev_balanced",
    "test": "test_balanced",
    "challenge": "challenge_balanced",
    "submission": "submission_all",
}
GQA_LABELLED = ("train", "val", "testdev")

AOKVQA_HOME = "https://github.com/allenai/aokvqa"
AOKVQA_FILES = {
    split: Files(
        f"aokvqa_v1p0_{split}.json",
        None if split == "test" else f"aokvqa_v1p0_{split}.json",
        (f"{split}2017",),
        coco_2017,
    )
    for split in ("train", "val", "test")
}

LAYOUTS = {
    "okvqa": Layout(
        home="https://okvqa.allenai.org/download.html",
        splits={
            split: coco(f"{split}2014", *files)
            for split, files in (("train", OKVQA_FILES[:2]), ("val", OKVQA_FILES[2:]))
        },
        read=partial(read_official, complete=further.completed),
        min_count=2,
        archives=(
            *(Archive(f"{OKVQA_URL}/{name}.zip", (name,), growth=25) for name in OKVQA_FILES),
            Archive(f"{COCO_URL}/train2014.zip", ("train2014/",), "about 13.5 GB"),
            Archive(f"{COCO_URL}/val2014.zip", ("val2014/",), "about 6.6 GB"),
        ),
    ),
    "vizwiz": Layout(
        home="https://vizwiz.org/tasks-and-datasets/vqa/",
        splits={
            split: one_file(f"{split}.json", split, split != "test")
            for split in ("train", "val", "test")
        },
        read=further.read_one_file(
            further.listed(None),
            further.of_vizwiz,
            [further.OFFICIAL_ID, further.IMAGE, further.UNANSWERABLE],
        ),
        metric="vizwiz",
        min_count=3,
    ),
    "textvqa": Layout(
        home="https://textvqa.org/dataset/",
        splits={
            "train": one_file("TextVQA_0.5.1_train.json", "train_images"),
            "val": one_file("TextVQA_0.5.1_val.json", "train_images"),
            "test": one_file("TextVQA_0.5.1_test.json", "test_images", labelled=False),
        },
        read=further.read_one_file(further.listed("data"), further.of_textvqa, [further.IMAGE]),
        metric="textvqa",
        min_count=2,
    ),
    "advqa": Layout(
        home="https://adversarialvqa.org/download.html",
        splits={
            "val": coco(
                "val2014",
                "v1_OpenEnded_mscoco_val2017_advqa_questions.json",
                "v1_mscoco_val2017_advqa_annotations.json",
            ),
            "test-dev": coco(
                "test2015", "v1_OpenEnded_mscoco_testdev2015_advqa_questions.json", None
            ),
        },
        read=partial(read_official, complete=further.completed),
    ),
    "vqa-rephrasings": Layout(
        home="https://facebookresearch.github.io/VQA-Rephrasings/",
        splits={
            "val": coco(
                "val2014",
                "v2_OpenEnded_mscoco_valrep2014_humans_og_questions.json",
                "v2_mscoco_valrep2014_humans_og_annotations.json",
            ),
        },
        read=further.read_rephrasings,
    ),
    "vqa-cp-v2": Layout(
        home="https://computing.ece.vt.edu/~aish/vqacp/",
        splits={
            split: Files(
                f"vqacp_v2_{split}_questions.json",
                f"vqacp_v2_{split}_annotations.json",
                ("train2014", "val2014"),  # each split has images of both
                coco_name,
            )
            for split in ("train", "test")
        },
        read=partial(read_official, keys=(None, None)),
        min_count=9,  # as for VQA v2
    ),
    "gqa": Layout(
        home="https://cs.stanford.edu/people/dorarad/gqa/download.html",
        splits={
            split: one_file(f"{name}_questions.json", "images", split in GQA_LABELLED)
            for split, name in GQA_FILES.items()
        },
        read=further.read_one_file(
            further.by_id, further.of_gqa, [further.OFFICIAL_ID, further.IMAGE, *further.GQA_KINDS]
        ),
        metric="gqa",
        as_given=True,
        archives=(
            Archive(
                f"{GQA_URL}/questions1.2.zip",
                tuple(f"{name}_questions.json" for name in GQA_FILES.values()),
                "1.4 GB",
                growth=25,
            ),
            Archive(f"{GQA_URL}/images.zip", ("images/",), "20.3 GB"),
        ),
    ),
    "aokvqa": Layout(
        home=AOKVQA_HOME,
        splits=AOKVQA_FILES,
        read=further.read_one_file(further.listed(None), further.of_aokvqa, [further.OFFICIAL_ID]),
        min_count=2,
        metric="direct_answer",
        as_given=True,
    ),
    "aokvqa-choices": Layout(
        home=AOKVQA_HOME,
        splits=AOKVQA_FILES,
        read=further.read_one_file(
            further.listed(None),
            further.of_aokvqa_choices,
            [further.OFFICIAL_ID, further.CHOICES],
        ),
        metric="multiple_choice",
        as_given=True,
    ),
}


def prepare_named(
    name: str, official: Path, output: Path, choices: Choices, options: Options
) -> Manifest:
    """Prepare those splits of a dataset whose questions are in the folder.

    Raises:
        RequestError: none of them is, or a file or folder that a split needs besides is missing.
    """
    layout = LAYOUTS[name]
    there = {
        split: files
        for split, files in layout.splits.items()
        if (official / files.questions).exists()
    }
    if not there:
        wanted = " or ".join(files.questions for files in layout.splits.values())
        raise RequestError(f"{official}: holds no {wanted}; {where_from(layout)}")
    for files in there.values():
        check_files(official, files, layout)
    counted = {split for split in there if split == layout.counted} or {*there}
    splits = {
        split: Split(
            official / files.questions,
            None if files.annotations is None else official / files.annotations,
            image_path(official, files),
            vocabulary=split in counted and files.annotations is not None,
            read=layout.read,
            folder=None if files.image_name else official / files.images[0],
        )
        for split, files in there.items()
    }
    if layout.as_given:
        choices = replace(choices, published_targets=True)
    return prepare_questions(
        name,
        splits,
        output,
        layout.min_count,
        choices,
        normalised=not layout.as_given,
        metric=layout.metric,
    )


def check_files(official: Path, files: Files, layout: Layout) -> None:
    wanted = [(files.annotations, "is_file")] if files.annotations else []
    for name, kind in [*wanted, *((folder, "is_dir") for folder in files.images)]:
        if not getattr(official / name, kind)():
            missing = "no such folder" if kind == "is_dir" else "no such file"
            raise RequestError(f"{official / name}: {missing}; {where_from(layout)}")


def where_from(layout: Layout) -> str:
    return f"the official files are at {layout.home}, and docs/datasets.md names them"


def image_path(official: Path, files: Files) -> Callable[[int], Path] | None:
    """Return the function from an image id to its file: of several folders, the one that has it."""
    if files.image_name is None:
        return None
    names = {folder: files.image_name(folder) for folder in files.images}

    def path(image_id: int) -> Path:
        paths = [official / folder / name(image_id) for folder, name in names.items()]
        return next((one for one in paths if one.is_file()), paths[-1])

    return path


def official_questions(
    name: str, questions: Path
) -> tuple[list[int | str], list[list[str]] | None]:
    """Return the ids of the questions in an official file, as a results file must have them.

    Returns:
        the ids, numbers or strings, and the choices of each question; None if any answer will do.

    Raises:
        RequestError: the file cannot be read, is one of another dataset, or has a wrong record.
    """
    asked = LAYOUTS[name].read(questions, None, BadRecords())
    ids = further.OFFICIAL_ID.name
    choices = further.CHOICES.name
    return (
        asked[ids if ids in asked.column_names else "question_id"].to_pylist(),
        asked[choices].to_pylist() if choices in asked.column_names else None,
    )


def archives_of(name: str, output: Path, given: Mapping[str, str]) -> Sequence[Archive]:
    """Return the official archives; all of them are public, so that `given` is empty."""
    return LAYOUTS[name].archives


okvqa, vizwiz, textvqa = (partial(prepare_named, name) for name in ("okvqa", "vizwiz", "textvqa"))
advqa, rephrasings = (partial(prepare_named, name) for name in ("advqa", "vqa-rephrasings"))
cp_v2, gqa = (partial(prepare_named, name) for name in ("vqa-cp-v2", "gqa"))
aokvqa, aokvqa_choices = (partial(prepare_named, name) for name in ("aokvqa", "aokvqa-choices"))
okvqa_archives, gqa_archives = (partial(archives_of, name) for name in ("okvqa", "gqa"))
