"""The datasets, one row each with every fact that the package uses. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Form = Literal["vqa", "choice", "vcr", "retrieval", "captions"]
RESULTS = ("question_id", "answer")  # of VQA v2
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Source:
    """A dataset.

    Args:
        title: the name in tables and pages.
        form: the kind of questions; a task says which form it takes.
        further_forms: forms that its data may have instead; their manifest says (`form`).
        splits: names with labels that a recipe may give.
        unlabelled: names without labels, which `predict` answers.
        aliases: names that stand for several tables of a prepared folder. A table of the same name
            takes precedence.
        images_of: split → splits that have the same images, in addition to the aliases.
        pictures: split → the splits of VQA v2 whose pictures it is about, in whole or in part; a
            model trained on one dataset and scored on another may have seen them. UNKNOWN: no
            document that was read says.
        genome_ids: the names of its pictures' files are ids of Visual Genome.
        sized: splits of known size (`split_sizes` of published.yaml).
        published: splits of published figures; `unstated`: not said, never mixed with others.
        metrics: task → the metrics of published figures.
        prepare: `module:function(official, output, choices, options)` that prepares the official
            files and returns the manifest; "": cannot be prepared here.
        summary: `module:function(manifest)` that yields the lines that `prepare` prints.
        check: `module:function(official, choices)` that prints what `prepare --check` asks for.
        options: options of `vle-bench prepare` that only some datasets take; SPEC: the user's file
            or YAML, in place of the folder of official files.
        made: the official files are drawn, or come with a package; nothing is downloaded.
        archives: `module:function(output, given)` that returns the official archives to download
            to `output`; `given` holds the `archive_options` that the user gave. "": no download.
        archive_lines: `module:function(output)` that returns how to get the archives; "": the URLs.
        archive_options: options of `vle-bench download` that say where an archive is.
        image_size: typical width and height in pixels, for synthetic data.
        questions_per_image: numbers of questions of successive images, for synthetic data.
        num_answers: classes of the label map, for synthetic data; 0: none.
        server_split: the split whose complete file the server wants, whichever part it scores.
        server_sizes: number of questions of each split that only the server can score.
        kinds: columns by which the accuracy is broken down, beside types of question and answer.
        results: keys of a question's id and of its answer in the official results file, which is a
            list; without a key of the id it is an object of records by id.
    """

    title: str
    form: Form
    splits: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    images_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    sized: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prepare: str = ""
    summary: str = ""
    check: str = ""
    options: tuple[str, ...] = ()
    made: bool = False
    archives: str = ""
    archive_lines: str = ""
    archive_options: tuple[str, ...] = ()
    image_size: tuple[int, int] = (640, 480)
    questions_per_image: tuple[int, ...] = (1,)
    num_answers: int = 0
    genome_ids: bool = False
    server_split: str | None = None
    server_sizes: Mapping[str, int] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    results: tuple[str, str] = RESULTS
    further_forms: tuple[Form, ...] = ()

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms that its data may have."""
        return (self.form, *self.further_forms)


_VQA_SUMMARY = "vle_bench.data.prepare.vqa_summary:lines"
_PAIR_SUMMARY = "vle_bench.data.prepare.pairs:summary"
_VCR_SUMMARY = "vle_bench.data.prepare.vcr_summary:lines"
_BY_NAME = "vle_bench.data.prepare.by_name"
_LABEL_OPTIONS = ("--label-map", "--published-targets")
_VQAV2 = (
    *("train", "val-minival", "minival", "val", "trainval", "vg", "vg-minival"),
    *("test-dev", "test"),
)
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
        splits=_VQAV2[:-2],
        unlabelled=_VQAV2[-2:],
        aliases={"val": ("val-minival", "minival"), "trainval": ("train", "val")},
        images_of={
            "vg": ("train", "val-minival"),  # Visual Genome's questions are about COCO images
            "vg-minival": ("minival",),
            "test": ("test-dev", "test-rest"),
        },
        pictures={name: name for name in _VQAV2},
        sized=("train", "val", "test", "test-dev"),
        published=("test-dev", "test-std"),
        metrics={"vqa": ("accuracy", "accuracy_yes_no", "accuracy_number", "accuracy_other")},
        prepare="vle_bench.data.prepare.vqav2:prepare",
        summary=_VQA_SUMMARY,
        options=("--label-map", "--published-targets", "--visual-genome", "--vg-image-data"),
        archives="vle_bench.data.prepare.vqav2:archives",
        image_size=(640, 480),  # COCO's most frequent size
        questions_per_image=(5, 6, 5, 6, 5),  # 443,757 about 82,783 images (train): 5.4
        num_answers=3129,  # METER's and VLE's vocabulary
        server_split="test",
        # Neither ids nor number of test-standard are published, so that no record can be of it.
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
        archives="vle_bench.data.prepare.vcr:archives",
        archive_lines="vle_bench.data.prepare.vcr:archive_lines",
        archive_options=("--annotations", "--images"),
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
    "own": Source(
        title="own data",
        form="vqa",
        splits=("train", "val", "test"),  # a test split may have no labels; its manifest says
        prepare="vle_bench.data.prepare.own.prepare:prepare",
        summary="vle_bench.data.prepare.own.summary:lines",
        check="vle_bench.data.prepare.own.summary:check",
        options=("SPEC", "--check", "--label-map"),
        num_answers=1_000,
        further_forms=("choice",),
    ),
    # Sizes, metrics and where each fact was read: docs/datasets.md
    "okvqa": Source(
        title="OK-VQA",
        form="vqa",
        splits=("train", "val"),
        sized=("train", "val"),
        pictures={"train": "train", "val": "val"},
        prepare=f"{_BY_NAME}:okvqa",
        summary=_VQA_SUMMARY,
        options=_LABEL_OPTIONS,
        archives=f"{_BY_NAME}:okvqa_archives",
        num_answers=2000,
    ),
    "vizwiz": Source(
        title="VizWiz-VQA",
        form="vqa",
        splits=("train", "val"),
        unlabelled=("test",),
        sized=("train", "val"),
        prepare=f"{_BY_NAME}:vizwiz",
        summary=_VQA_SUMMARY,
        results=("image", "answer"),
        options=_LABEL_OPTIONS,
        image_size=(1080, 1440),
        num_answers=3000,
    ),
    "textvqa": Source(
        title="TextVQA",
        form="vqa",
        splits=("train", "val"),
        unlabelled=("test",),
        sized=("train", "val"),
        prepare=f"{_BY_NAME}:textvqa",
        summary=_VQA_SUMMARY,
        options=_LABEL_OPTIONS,
        image_size=(1024, 768),
        questions_per_image=(1, 2),
        num_answers=4000,
    ),
    "advqa": Source(
        title="AdVQA",
        form="vqa",
        splits=("val",),
        unlabelled=("test-dev",),
        pictures={"val": "val", "test-dev": "test"},
        prepare=f"{_BY_NAME}:advqa",
        summary=_VQA_SUMMARY,
        options=_LABEL_OPTIONS,
        questions_per_image=(2,),
        num_answers=3129,
    ),
    "vqa-rephrasings": Source(
        title="VQA-Rephrasings",
        form="vqa",
        splits=("val",),
        pictures={"val": "val"},
        prepare=f"{_BY_NAME}:rephrasings",
        summary=_VQA_SUMMARY,
        options=_LABEL_OPTIONS,
        questions_per_image=(4,),
        num_answers=3129,
    ),
    "vqa-cp-v2": Source(
        title="VQA-CP v2",
        form="vqa",
        splits=("train", "test"),
        pictures={"train": "train+val", "test": "train+val"},
        prepare=f"{_BY_NAME}:cp_v2",
        summary=_VQA_SUMMARY,
        options=_LABEL_OPTIONS,
        questions_per_image=(3, 4),
        num_answers=3129,
    ),
    "gqa": Source(
        title="GQA",
        form="vqa",
        splits=("train", "val", "testdev"),
        unlabelled=("test", "challenge", "submission"),
        sized=("train", "val", "testdev"),
        # Pictures of Visual Genome (GQA's paper), many of which are COCO's (its image_data.json)
        pictures={"train": "train+val", "val": "train+val", "testdev": UNKNOWN},
        genome_ids=True,
        prepare=f"{_BY_NAME}:gqa",
        summary=_VQA_SUMMARY,
        kinds=("structural", "semantic", "form"),
        results=("questionId", "prediction"),
        options=("--label-map",),
        archives=f"{_BY_NAME}:gqa_archives",
        image_size=(500, 375),
        questions_per_image=(13,),  # 943,000 about 72,140 images
        num_answers=1878,
        server_split="submission",
    ),
    "aokvqa": Source(
        title="A-OKVQA",
        form="vqa",
        splits=("train", "val"),
        unlabelled=("test",),
        # COCO 2017 has divided the same pictures in another way.
        pictures={"train": "train+val", "val": "train+val", "test": "test"},
        prepare=f"{_BY_NAME}:aokvqa",
        summary=_VQA_SUMMARY,
        results=("", "direct_answer"),
        options=("--label-map",),
        num_answers=2000,
    ),
    # Pairs of pictures and texts, for pre-training
    "captions": Source(
        title="captions",
        form="captions",
        splits=("train", "val", "test"),
        prepare="vle_bench.data.prepare.captions:prepare",
        summary=_PAIR_SUMMARY,
        options=("SPEC", "--images", "--leave-out"),
    ),
    "visual-genome": Source(
        title="Visual Genome",
        form="captions",
        splits=("train", "val", "test"),
        genome_ids=True,
        prepare="vle_bench.data.prepare.visual_genome:prepare",
        summary=_PAIR_SUMMARY,
        options=("--classes", "--label-map", "--leave-out"),
        image_size=(500, 375),
        questions_per_image=(50,),
        num_answers=1600,
    ),
    "shapes-captions": Source(
        title="shapes-captions",
        form="captions",
        splits=("train", "val", "test"),
        prepare="vle_bench.data.prepare.shapes_captions:prepare",
        summary=_PAIR_SUMMARY,
        options=("--seed", "--pictures"),
        made=True,
        image_size=(240, 260),
        questions_per_image=(23,),
        num_answers=9,
    ),
    # Karpathy's test splits, 1,000 and 5,000 images; published figures only.
    "flickr30k": Source("Flickr30K", "retrieval", published=("test",), metrics=_RECALL),
    "coco": Source("COCO", "retrieval", published=("test",), metrics=_RECALL),
}

SOURCES["aokvqa-choices"] = replace(
    SOURCES["aokvqa"],
    title="A-OKVQA, multiple choice",
    prepare=f"{_BY_NAME}:aokvqa_choices",
    results=("", "multiple_choice"),
)

OWN_FORMS = SOURCES["own"].forms  # of data that users bring; the first if none is named

DOWNLOADED = tuple(name for name, source in SOURCES.items() if source.archives)
# Datasets of VQA's form without published figures here, and those with test questions among them,
# whose results files `check-submission` reads
FURTHER = tuple(name for name, source in SOURCES.items() if source.prepare.startswith(_BY_NAME))
CHECKED = tuple(name for name in FURTHER if SOURCES[name].unlabelled)
PREPARED = tuple(name for name, source in SOURCES.items() if source.prepare)


def prepared_of(form: Form) -> tuple[str, ...]:
    """Return the datasets of a form that can be prepared."""
    return tuple(name for name in PREPARED if SOURCES[name].form == form)
