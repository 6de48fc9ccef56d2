"""Register VLE with the Auto classes and pipelines of transformers.

`import vle_bench.models` imports this module, and so does every import of a submodule of it. This
is the one place that registers anything.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVisualQuestionAnswering,
    AutoProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY

from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.heads import VLEForVQA
from vle_bench.models.vle.modeling import VLEModel
from vle_bench.models.vle.pipelines import ITMPipeline, PBCPipeline, VQAPipeline
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.models.vle.vcr_pipeline import AutoModelForVCR, VCRPipeline

AutoConfig.register("vle", VLEConfig)
AutoModel.register(VLEConfig, VLEModel)
AutoModelForVisualQuestionAnswering.register(VLEConfig, VLEForVQA)
AutoProcessor.register(VLEConfig, VLEProcessor)
for task, pipeline, model in (
    ("vle-vqa", VQAPipeline, VQAPipeline.architecture),
    ("vle-itm", ITMPipeline, ITMPipeline.architecture),
    ("vle-pbc", PBCPipeline, PBCPipeline.architecture),
    ("vle-vcr", VCRPipeline, AutoModelForVCR),
):
    PIPELINE_REGISTRY.register_pipeline(task, pipeline, pt_model=model, type="multimodal")
