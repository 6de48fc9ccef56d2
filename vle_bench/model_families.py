"""The families of models that are scored here, one row each. Imports no torch."""

from dataclasses import dataclass
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
    """

    title: str
    module: str | None
    model_type: str | None
    architectures: tuple[str, ...] | None
    answers: Literal["head", "listed", "free"]
    protocols: tuple[str, ...]
    trained: bool = False


VLE = "vle"
CHOOSES = "choice-"
FAMILIES = {
    VLE: Family("VLE and METER", None, "vle", (), "head", ("classification",), trained=True),
    "vilt": Family(
        "ViLT",
        "vle_bench.models.vilt",
        "vilt",
        ("ViltForQuestionAnswering",),
        "head",
        ("classification",),
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
