"""Convert the training checkpoints of VLE: Lightning's, or consolidated from DeepSpeed's."""

from collections.abc import Mapping

from torch import Tensor

from vle_bench.errors import RequestError, few
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.convert.converted import Converted, encoder_tensors, infer_config
from vle_bench.models.vle.pretrained_model import FORMER_MPC, FORMER_MPC_PROBLEM

HEADS = {
    "vqa_classifier": "VLEForVQA",
    "choice_logit": "VLEForChoice",
    "vcr_q2a_logit": "VLEForVCRQ2A",
    "vcr_qa2r_logit": "VLEForVCRQA2R",
    "itm_score": "VLEForITM",
    "pbc_classifier": "VLEForPBC",
    "mlm_score": "VLEForMLM",
    "mpc_classifier": "VLEForMPC",
}
_LABELS = {"VLEForVQA": "vqa_classifier.3.weight", "VLEForMPC": "mpc_classifier.3.weight"}
# Buffers of older versions of transformers, and the pooler of a text encoder, which VLE does not
# read.
DROPPABLE = (
    "text_model.embeddings.position_ids",
    "vision_model.embeddings.position_ids",
    "text_model.pooler.",
)


def convert_vle(tensors: Mapping[str, Tensor], config: VLEConfig | None = None) -> Converted:
    """Convert to the model with the checkpoint's head, or to a VLEModel if it has none or several.

    Args:
        tensors: by the published key names, without the trainer's prefix.
        config: configuration to use; None: infer it from the shapes.
    """
    if FORMER_MPC in tensors:
        raise RequestError(FORMER_MPC_PROBLEM)
    heads = {HEADS[name.split(".")[0]] for name in tensors if name.split(".")[0] in HEADS}
    architecture = heads.pop() if len(heads) == 1 else "VLEModel"
    nested = any(name.startswith("vle.") for name in tensors)
    prefix = "vle." if architecture != "VLEModel" else ""
    renamed: dict[str, Tensor] = {}
    dropped, unknown = [], []
    for name, tensor in tensors.items():
        inner = name.removeprefix("vle.").replace("vision_model.vision_model.", "vision_model.", 1)
        if name.split(".")[0] in HEADS:
            if architecture == "VLEModel":
                dropped.append(name)
            else:
                renamed[name] = tensor
        elif nested != name.startswith("vle."):
            unknown.append(name)
        elif inner.startswith(DROPPABLE):
            dropped.append(name)
        else:
            renamed[prefix + inner] = tensor
    if unknown:
        raise RequestError(f"tensors that VLE does not have: {few(unknown)}")
    if config is None:
        config = infer_config(encoder_tensors(renamed))
        positions = tensors.get("vle." * nested + "text_model.embeddings.position_ids")
        # DeBERTa's position buckets depend on this setting, and only the length of this buffer has
        # it.
        if positions is not None:
            config.text_config.max_position_embeddings = positions.shape[-1]
        if architecture in _LABELS:
            config.num_labels = len(tensors.get(_LABELS[architecture], ()))
    return Converted(config, renamed, architecture, sorted(dropped))
