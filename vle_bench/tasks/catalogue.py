"""The tasks, one row each: every fact about a task that needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from vle_bench.data.sources import Form

if TYPE_CHECKING:
    from vle_bench.tasks.base import Task


@dataclass(frozen=True)
class TaskFacts:
    """A task.

    Args:
        title: the name that pages print.
        form: the form of data that it takes (`Source.form`).
        implementation: `module:attribute` of the Task.
        trained: a recipe may name it; False: made of the predictions of other tasks.
        keys: recipe keys that are its own -> why a task without them must not set them.
        texts: texts that the model reads for a question.
        tokens: typical tokens of a text, for the memory that a batch takes.
        reported: `report` and `compare` take its runs.
        boxes: its questions have objects with boxes.
        pooled: the head reads the poolers' output only, so that the last fusion layer may compute
            one token.
        parts: the choices that a model of it makes, of those that its form of data has.
        halves: of a task that joins two runs: the task of each, in the order of `parts`.
        text_length: tokens of a text in the published fine-tuning, for checkpoints that do not say;
            None: such a checkpoint cannot be scored.
        label_metric: a metric that needs the model's classes to be those of the data.
        n_is_questions: every metric counts at most one thing a question.
        hub_task: the hub's name for the task.
        pipeline_tag: the hub's pipeline that serves it; None: none.
    """

    title: str
    form: Form
    implementation: str
    trained: bool = True
    keys: Mapping[str, str] = field(default_factory=dict)
    texts: int = 1
    tokens: int = 12
    reported: bool = True
    boxes: bool = False
    pooled: bool = True
    parts: tuple[str, ...] = ()
    halves: tuple[str, ...] = ()
    text_length: int | None = None
    label_metric: str | None = None
    n_is_questions: bool = True
    hub_task: str = "visual-question-answering"
    pipeline_tag: str | None = None


_NO_BOXES = "the boxes would stay behind"
_AUGMENT_KEYS = dict.fromkeys(
    ("augment.flip", "augment.transpose", "augment.shift", "augment.randaugment"), _NO_BOXES
)
_VQA_KEYS = {
    "data.first_stage": "its questions have no types",
    "data.targets": "a question has one right choice",
    "model.new_head": "its head scores any choice, whatever the data",
    **_AUGMENT_KEYS,
}
_PRETRAINING = "it answers questions"
_PRETRAINING_KEYS = dict.fromkeys(
    ("model.objectives", "model.itm_candidates", "data.mix"), _PRETRAINING
)
_VCR_KEYS = {
    "model.alignment": "its questions tag no objects",
}


IN_VOCABULARY = "soft_score_in_vocabulary"
# Tokens of a text in the published fine-tuning: VQA in VLE's `vqa_train_config.json` and METER's
# `config.py`, VCR in VLE's VCR pipeline.
_VQA_LENGTH, _VCR_LENGTH = 50, 80


def _vcr(title: str, implementation: str, *parts: str, texts: int = 4) -> TaskFacts:
    return TaskFacts(
        title,
        "vcr",
        implementation,
        keys=_VCR_KEYS,
        texts=texts,
        tokens=40,
        boxes=True,
        parts=parts,
        text_length=_VCR_LENGTH,
        hub_task="visual-commonsense-reasoning",
    )


_JOINT = _vcr(
    "VCR, both tasks of one model (Q2AR)", "vle_bench.tasks.vcr:JOINT", "q2a", "qa2r", texts=8
)
CATALOGUE: dict[str, TaskFacts] = {
    "vqa": TaskFacts(
        "visual question answering",
        "vqa",
        "vle_bench.tasks.vqa:VQA_TASK",
        keys=_VQA_KEYS,
        text_length=_VQA_LENGTH,
        label_metric=IN_VOCABULARY,
        pipeline_tag="visual-question-answering",
    ),
    "choice": TaskFacts(
        "multiple-choice questions",
        "choice",
        "vle_bench.tasks.choice:CHOICE",
        keys={**_AUGMENT_KEYS, **_VCR_KEYS},
        texts=4,  # own data have 2 to 26
        tokens=20,
    ),
    "vcr_q2a": _vcr("VCR, question to answer (Q2A)", "vle_bench.tasks.vcr:Q2A", "q2a"),
    "vcr_qa2r": _vcr(
        "VCR, question and answer to rationale (QA2R)", "vle_bench.tasks.vcr:QA2R", "qa2r"
    ),
    "vcr_joint": _JOINT,
    "vcr_q2ar": replace(
        _JOINT,
        title="VCR, two runs joined (Q2AR)",
        trained=False,
        halves=("vcr_q2a", "vcr_qa2r"),
    ),
    "vcr_second_stage": replace(
        _vcr("VCR, second stage of pre-training", "vle_bench.tasks.vcr_second_stage:SECOND_STAGE"),
        texts=2,
        reported=False,
        pooled=False,
        text_length=None,
        n_is_questions=False,  # it counts words
    ),
    "pretrain": TaskFacts(
        "pre-training",
        "captions",
        "vle_bench.tasks.pretraining:PRETRAINING",
        keys=_PRETRAINING_KEYS,
        texts=2,
        tokens=20,
        reported=False,
        boxes=True,
        pooled=False,
        n_is_questions=False,  # it counts words
        hub_task="image-text-pretraining",
    ),
}
TRAINED = tuple(name for name, facts in CATALOGUE.items() if facts.trained)
REPORTED = tuple(name for name, facts in CATALOGUE.items() if facts.reported and facts.trained)
# Tasks that a checkpoint from elsewhere can be scored on
SCORED = tuple(
    name for name, facts in CATALOGUE.items() if facts.text_length is not None and facts.trained
)
# The task that joins two runs
JOINED = next(name for name, facts in CATALOGUE.items() if facts.halves)


def foreign_keys(task: str) -> dict[str, str]:
    """Return the recipe keys that mean nothing for a task, and why."""
    own = CATALOGUE[task].keys
    return {
        key: why
        for facts in CATALOGUE.values()
        for key, why in facts.keys.items()
        if key not in own
    }


def tasks_of(form: Form) -> tuple[str, ...]:
    """Return the tasks of this form of data."""
    return tuple(name for name, facts in CATALOGUE.items() if facts.form == form)


def within(task: str) -> tuple[str, ...]:
    """Return the tasks that make the choices of `task`, or some of them; itself among them."""
    own = CATALOGUE[task]
    others = [name for name, facts in CATALOGUE.items() if facts.parts and facts.form == own.form]
    return tuple(name for name in others if {*CATALOGUE[name].parts} <= {*own.parts}) or (task,)


def load_task(name: str) -> "Task":
    """Import a task by its name in the catalogue. Only now is torch imported."""
    task: Task = resolve_name(CATALOGUE[name].implementation)
    return task
