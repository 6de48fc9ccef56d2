"""The models, as Hugging Face classes; nothing here knows of tasks, recipes or loops.

Importing this package registers `model_type: vle` with the Auto classes. Attributes are loaded when first asked for, so
that reading a configuration does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vle_bench.models.vle.configuration import SIZES, VLEConfig
    from vle_bench.models.vle.heads import (
        VLEForITM,
        VLEForMLM,
        VLEForMPC,
        VLEForPBC,
        VLEForVCRJoint,
        VLEForVCRQ2A,
        VLEForVCRQA2R,
        VLEForVCRSecondStage,
        VLEForVQA,
    )
    from vle_bench.models.vle.modeling import VLEModel, VLEPreTrainedModel
    from vle_bench.models.vle.processing import VLEProcessor

_HEADS = (
    "VLEForITM",
    "VLEForMLM",
    "VLEForMPC",
    "VLEForPBC",
    "VLEForVCRJoint",
    "VLEForVCRQ2A",
    "VLEForVCRQA2R",
    "VLEForVCRSecondStage",
    "VLEForVQA",
)
_MODULES = {
    **dict.fromkeys(("SIZES", "VLEConfig"), "configuration"),
    **dict.fromkeys(("VLEModel", "VLEPreTrainedModel"), "modeling"),
    **dict.fromkeys(_HEADS, "heads"),
    "VLEProcessor": "processing",
}
__all__ = [
    "SIZES",
    "VLEConfig",
    "VLEForITM",
    "VLEForMLM",
    "VLEForMPC",
    "VLEForPBC",
    "VLEForVCRJoint",
    "VLEForVCRQ2A",
    "VLEForVCRQA2R",
    "VLEForVCRSecondStage",
    "VLEForVQA",
    "VLEModel",
    "VLEPreTrainedModel",
    "VLEProcessor",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return getattr(importlib.import_module(f"vle_bench.models.vle.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
