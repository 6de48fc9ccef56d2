"""Convert METER's checkpoints, pre-trained or fine-tuned for VQA, with a CLIP image encoder."""

import re
from collections.abc import Mapping

from torch import Tensor

from vle_bench.errors import RequestError, few
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.convert.converted import Converted, encoder_tensors, infer_config

# Tensors that VLEModel and VLEForVQA do not have. METER keeps parts of CLIP's text encoder in
# `vit_model`, which it never reads.
DROPPABLE = (
    "mlm_score.",
    "itm_score.",
    "nlvr2_classifier.",
    "snli_classifier.",
    "rank_output.",
    "text_transformer.pooler.",
    "text_transformer.embeddings.position_ids",
    "vit_model.token_embedding.weight",
    "vit_model.positional_embedding",
    "vit_model.ln_final.",
)
_BLOCK = r"^vit_model\.visual\.transformer\.resblocks\.(\d+)\."
_LAYER = r"vision_model.encoder.layers.\1."
_RENAMED = [
    (r"^text_transformer\.", "text_model."),
    (r"^cross_modal_(text|image)_transform\.", r"\1_projection_layer."),
    (r"^(cross_modal_(?:text|image)_(?:layers|pooler)\.|token_type_embeddings\.)", r"\1"),
    (r"^vit_model\.visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (
        r"^vit_model\.visual\.positional_embedding$",
        "vision_model.embeddings.position_embedding.weight",
    ),
    (r"^vit_model\.visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^vit_model\.visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^vit_model\.visual\.ln_post\.", "vision_model.post_layernorm."),
    (_BLOCK + r"attn\.out_proj\.", _LAYER + "self_attn.out_proj."),
    (_BLOCK + r"ln_([12])\.", _LAYER + r"layer_norm\2."),
    (_BLOCK + r"mlp\.c_fc\.", _LAYER + "mlp.fc1."),
    (_BLOCK + r"mlp\.c_proj\.", _LAYER + "mlp.fc2."),
]
_FUSED = re.compile(_BLOCK + r"attn\.in_proj_(weight|bias)$")
# Text and image. A third type, which METER adds for NLVR2's second image, would be our first
# object.
_FIRST_TYPES = 2


def convert_meter(
    tensors: Mapping[str, Tensor], config: VLEConfig | None = None, tokenizer: str = ""
) -> Converted:
    """Convert to a VLEForVQA if the checkpoint has METER's `vqa_classifier`, else to a VLEModel.

    Args:
        tensors: by METER's key names.
        config: configuration to use; None: infer it from the shapes.
        tokenizer: name of METER's tokenizer in its hyper-parameters; empty if unknown.
    """
    if "vit_model.visual.conv1.weight" not in tensors:
        raise RequestError(
            "METER without vit_model.visual.conv1.weight: "
            "only its CLIP image encoders can be converted, not Swin"
        )
    with_head = any(name.startswith("vqa_classifier.") for name in tensors)
    prefix = "vle." if with_head else ""
    renamed: dict[str, Tensor] = {}
    dropped, unknown = [], []
    for name, tensor in tensors.items():
        if name.startswith("vqa_classifier."):
            renamed[name] = tensor
        elif name.startswith(DROPPABLE):
            dropped.append(name)
        elif fused := _FUSED.match(name):
            layer, kind = fused.groups()
            attention = f"{prefix}vision_model.encoder.layers.{layer}.self_attn"
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{attention}.{part}_proj.{kind}"] = piece.clone()
        elif new := rename(name):
            renamed[prefix + new] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise RequestError(f"tensors that METER does not have: {few(unknown)}")
    types = renamed.get(prefix + "token_type_embeddings.weight")
    if types is not None and len(types) > _FIRST_TYPES:
        renamed[prefix + "token_type_embeddings.weight"] = types[:_FIRST_TYPES].clone()
        dropped.append(f"token_type_embeddings.weight[{_FIRST_TYPES}:]")
    if config is None:
        config = infer_config(encoder_tensors(renamed), tokenizer)
        if with_head:
            config.num_labels = len(tensors.get("vqa_classifier.3.weight", ()))
    return Converted(config, renamed, "VLEForVQA" if with_head else "VLEModel", sorted(dropped))


def rename(name: str) -> str | None:
    """Return the name in a VLEModel for METER's name.

    None for a tensor that no encoder has, or that METER fuses with others.
    """
    for pattern, replacement in _RENAMED:
        new, count = re.subn(pattern, replacement, name)
        if count:
            return new
    return None
