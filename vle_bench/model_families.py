"""The families of models that are scored here, one row each. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from types import ModuleType
from typing import Literal


@dataclass(frozen=True)
class Family:
    """Models that are read and asked in one way.

    Args:
        title: the name that messages print.
        module: has `read` and `load` of `vle_bench.models.base.ModelModule`; imported only for such
            a checkpoint. None: VLE's own, which every part of the package knows.
        model_type: of config.json; None: any.
        architectures: class names of config.json that answer questions; None: any class of
            transformers' AutoModelForImageTextToText.
        answers: `head`, the classes of its head; `listed`, any list that it is given; `free`, words
            of its own.
        protocols: the ways of asking it, the published one first. Those that begin with `CHOOSES`
            choose among a question's own choices.
        trained: a recipe may fine-tune it.
        foreign: recipe keys that mean nothing for it -> why.
    """

    title: str
    module: str | None
    model_type: str | None
    architectures: tuple[str, ...] | None
    answers: Literal["head", "listed", "free"]
    protocols: tuple[str, ...]
    trained: bool = False
    foreign: Mapping[str, str] = field(default_factory=dict)


VLE = "vle"
CHOOSES = "choice-"
FAMILIES = {
    VLE: Family(
        "VLE and METER",
        None,
        "vle",
        (),
        "head",
        ("classification",),
        trained=True,
        foreign={"model.dropout": "it is in its config"},
    ),
    "vilt": Family(
        "ViLT",
        "vle_bench.models.vilt.checkpoint",
        "vilt",
        ("ViltForQuestionAnswering",),
        "head",
        ("classification",),
        trained=True,
        foreign={
            "data.pixels": "its pictures come in many shapes",
            "model.resize": "it keeps the shape of a picture",
            "model.alignment": "it reads no objects",
            "train.lr_mult_cross_modal": "one encoder reads text and picture",
        },
    ),
    "blip": Family(
        "BLIP",
        "vle_bench.models.blip",
        "blip",
        ("BlipForQuestionAnswering",),
        "listed",
        ("ranking-128", "generation"),
    ),
    "generate": Family(
        "a generative model",
        "vle_bench.models.generate",
        None,
        None,
        "free",
        ("generation", "choice-letter", "choice-text"),
    ),
}
TRAINED = tuple(name for name, family in FAMILIES.items() if family.trained)


def module_of(family: str) -> ModuleType:
    """Import the module of a family that is not VLE. Only now is torch imported."""
    module: ModuleType = resolve_name(str(FAMILIES[family].module))
    return module
