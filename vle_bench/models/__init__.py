"""The models, as Hugging Face classes. Nothing in this package knows of tasks, recipes or loops.

Importing it registers `model_type: vle` with the Auto classes of transformers, and the pipelines
`vle-vqa`, `vle-itm`, `vle-pbc` and `vle-vcr`. That needs torch and transformers, so commands that
start without them import nothing from here.
"""

from vle_bench.models import auto as auto
from vle_bench.models.vle.configuration import SIZES, VLEConfig
from vle_bench.models.vle.heads import (
    VLEForChoice,
    VLEForVCRJoint,
    VLEForVCRQ2A,
    VLEForVCRQA2R,
    VLEForVQA,
)
from vle_bench.models.vle.modeling import VLEModel
from vle_bench.models.vle.pretrained_model import VLEPreTrainedModel
from vle_bench.models.vle.pretraining import VLEForPreTraining
from vle_bench.models.vle.pretraining_heads import (
    VLEForITM,
    VLEForMLM,
    VLEForMPC,
    VLEForPBC,
    VLEForVCRSecondStage,
)
from vle_bench.models.vle.processing import VLEProcessor

__all__ = [
    "SIZES",
    "VLEConfig",
    "VLEForChoice",
    "VLEForITM",
    "VLEForMLM",
    "VLEForMPC",
    "VLEForPBC",
    "VLEForPreTraining",
    "VLEForVCRJoint",
    "VLEForVCRQ2A",
    "VLEForVCRQA2R",
    "VLEForVCRSecondStage",
    "VLEForVQA",
    "VLEModel",
    "VLEPreTrainedModel",
    "VLEProcessor",
]
