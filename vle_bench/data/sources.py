"""The datasets, one row each: every fact about a dataset that the package asks for. Imports no torch."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Form = Literal["vqa", "vcr", "retrieval"]


@dataclass(frozen=True)
class Source:
    """A dataset.

    Args:
        title: the name that tables and pages print.
        form: the kind of questions; tasks say which form they take.
        splits: names with labels that a recipe may give.
        unlabelled: names without labels; `predict` answers them.
        aliases: names that stand for several tables of a prepared folder. A table of the name itself wins.
        images_of: which splits' images a split shares, beside the aliases.
        sized: splits whose number of questions is known beforehand (`split_sizes` of published.yaml).
        published: splits that published figures are of. `unstated`: the document does not say, and no table
            may mix it with the others.
        metrics: task -> the metrics of published figures.
        prepare: `module:function` that prepares the official files; "": cannot be prepared here.
        summary: `module:function` that turns the manifest into the lines that `prepare` prints.
        options: options of `vle-bench prepare` that only some sources take.
        made: the files are drawn or come with a package, so that nothing is downloaded.
        archives: `module:function` that lists the official archives; None: nothing to download.
        image_size: typical width and height in pixels, for synthetic data.
        questions_per_image: questions of the images in turn, for synthetic data.
        num_answers: classes of the label map, for synthetic data; 0: none.
        server_split: the split whose complete file the challenge's server wants, whichever part it scores.
        server_sizes: questions of each split that only the server can score.
    """

    title: str
    form: Form
    splits: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    images_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sized: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prepare: str = ""
    summary: str = ""
    options: tuple[str, ...] = ()
    made: bool = False
    archives: str | None = None
    image_size: tuple[int, int] = (640, 480)
    questions_per_image: tuple[int, ...] = (1,)
    num_answers: int = 0
    server_split: str | None = None
    server_sizes: Mapping[str, int] = field(default_factory=dict)


_VQA_SUMMARY = "vle_bench.data.prepare.vqa_summary:lines"
_VCR_SUMMARY = "vle_bench.data.prepare.vcr_summary:lines"
_RECALL = dict.fromkeys(("text_retrieval", "image_retrieval"), ("recall_at_1",))

SOURCES: dict[str, Source] = {
    "easy-vqa": Source(
        title="easy-VQA",
        form="vqa",
        splits=("train", "val", "test"),
        sized=("test",),
        published=("test",),
        metrics={"vqa": ("accuracy", "accuracy_not_yes_no")},
        prepare="vle_bench.data.prepare.easy_vqa:prepare",
        summary=_VQA_SUMMARY,
        options=("--limit-images", "--label-map", "--published-targets"),
        made=True,
        image_size=(64, 64),
        questions_per_image=(9, 10),  # 48,248 about 5,000 images: 9.6
        num_answers=13,
    ),
    "vqav2": Source(
        title="VQA v2",
        form="vqa",
        splits=("train", "val-minival", "minival", "val", "trainval", "vg", "vg-minival"),
        unlabelled=("test-dev", "test"),
        aliases={"val": ("val-minival", "minival"), "trainval": ("train", "val")},
        images_of={
            "vg": ("train", "val-minival"),  # Visual Genome's questions are about COCO images
            "vg-minival": ("minival",),
            "test": ("test-dev", "test-rest"),
        },
        sized=("train", "val", "test", "test-dev"),
        published=("test-dev", "test-std"),
        metrics={"vqa": ("accuracy", "accuracy_yes_no", "accuracy_number", "accuracy_other")},
        prepare="vle_bench.data.prepare.vqav2:prepare",
        summary=_VQA_SUMMARY,
        options=("--label-map", "--published-targets", "--visual-genome", "--vg-image-data"),
        archives="vle_bench.data.download.archives:vqav2_archives",
        image_size=(640, 480),  # COCO's most frequent size
        questions_per_image=(5, 6, 5, 6, 5),  # 443,757 about 82,783 images (train): 5.4
        num_answers=3129,  # METER's and VLE's vocabulary
        server_split="test",
        # Neither ids nor their number are given out of test-standard, so that no record can be of it.
        server_sizes={"test-dev": 107_394},
    ),
    "vcr": Source(
        title="VCR",
        form="vcr",
        splits=("train", "val", "test"),  # a copy of test may have labels; its manifest says
        sized=("train", "val", "test"),
        published=("val", "test", "unstated"),
        metrics=dict.fromkeys(("vcr_q2a", "vcr_qa2r", "vcr_q2ar"), ("accuracy",)),
        prepare="vle_bench.data.prepare.vcr:prepare",
        summary=_VCR_SUMMARY,
        archives="vle_bench.data.download.archives:vcr_archives",
        image_size=(1920, 800),  # a wide film's frame in 1080p
        questions_per_image=(2, 3, 3),  # 290 thousand about 110 thousand images: 2.6
    ),
    "shapes-vcr": Source(
        title="shapes-VCR",
        form="vcr",
        splits=("train", "val", "test"),
        sized=("train", "val", "test"),
        prepare="vle_bench.data.prepare.shapes_vcr:prepare",
        summary=_VCR_SUMMARY,
        options=("--seed",),
        made=True,
        image_size=(96, 96),
        questions_per_image=(3,),
    ),
    # Karpathy's test splits, 1,000 and 5,000 images; published figures only.
    "flickr30k": Source("Flickr30K", "retrieval", published=("test",), metrics=_RECALL),
    "coco": Source("COCO", "retrieval", published=("test",), metrics=_RECALL),
}

PREPARED = tuple(name for name, source in SOURCES.items() if source.prepare)
ALIASES = {name: parts for source in SOURCES.values() for name, parts in source.aliases.items()}
IMAGES_OF = ALIASES | {
    name: parts for source in SOURCES.values() for name, parts in source.images_of.items()
}


def prepared_of(form: Form) -> tuple[str, ...]:
    """Datasets of a form that `prepare` prepares."""
    return tuple(name for name in PREPARED if SOURCES[name].form == form)


def load(place: str) -> Any:
    """Import what a row names as `module:attribute`."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
