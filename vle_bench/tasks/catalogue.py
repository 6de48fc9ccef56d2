"""The tasks, one row each: every fact about a task that needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vle_bench.data.sources import Form


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
        pooled: the head reads the poolers' output only, so that the last fusion layer may compute one token.
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
    n_is_questions: bool = True
    hub_task: str = "visual-question-answering"
    pipeline_tag: str | None = None


_NO_BOXES = "the boxes would stay behind"
_VQA_KEYS = {
    "data.first_stage": "its questions have no types",
    "data.targets": "a question has one right choice",
    "model.new_head": "its head scores any choice, whatever the data",
    **dict.fromkeys(
        ("augment.flip", "augment.transpose", "augment.shift", "augment.randaugment"), _NO_BOXES
    ),
}
_VCR_KEYS = {
    "model.alignment": "its questions tag no objects",
}


def _vcr(title: str, implementation: str, texts: int = 4) -> TaskFacts:
    return TaskFacts(
        title,
        "vcr",
        implementation,
        keys=_VCR_KEYS,
        texts=texts,
        tokens=40,
        boxes=True,
        hub_task="visual-commonsense-reasoning",
    )


_JOINT = _vcr("VCR, both tasks of one model (Q2AR)", "vle_bench.tasks.vcr:JOINT", texts=8)
CATALOGUE: dict[str, TaskFacts] = {
    "vqa": TaskFacts(
        "visual question answering",
        "vqa",
        "vle_bench.tasks.vqa:VQA_TASK",
        keys=_VQA_KEYS,
        pipeline_tag="visual-question-answering",
    ),
    "vcr_q2a": _vcr("VCR, question to answer (Q2A)", "vle_bench.tasks.vcr:Q2A"),
    "vcr_qa2r": _vcr("VCR, question and answer to rationale (QA2R)", "vle_bench.tasks.vcr:QA2R"),
    "vcr_joint": _JOINT,
    "vcr_q2ar": replace(_JOINT, title="VCR, two runs joined (Q2AR)", trained=False),
    "vcr_second_stage": replace(
        _vcr("VCR, second stage of pre-training", "vle_bench.tasks.vcr_second_stage:SECOND_STAGE"),
        texts=2,
        reported=False,
        pooled=False,
        n_is_questions=False,  # it counts words
    ),
}
TRAINED = tuple(name for name, facts in CATALOGUE.items() if facts.trained)
REPORTED = tuple(name for name, facts in CATALOGUE.items() if facts.reported and facts.trained)


def foreign_keys(task: str) -> dict[str, str]:
    """Recipe keys that mean nothing for a task -> why."""
    own = CATALOGUE[task].keys
    return {
        key: why
        for facts in CATALOGUE.values()
        for key, why in facts.keys.items()
        if key not in own
    }


def tasks_of(form: Form) -> tuple[str, ...]:
    """Tasks that a record on data of this form may be of."""
    return tuple(name for name, facts in CATALOGUE.items() if facts.form == form)
