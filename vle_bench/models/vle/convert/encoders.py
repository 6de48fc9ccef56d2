"""Build a fresh VLE from a text encoder and a CLIP, each a `from_pretrained` folder."""

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    CLIPConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedConfig,
    PreTrainedModel,
)

from vle_bench.errors import RequestError, few, first_line
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.convert.converted import Converted, heads
from vle_bench.models.vle.modeling import VLEModel

TEXT_TYPES = ("deberta-v2", "roberta", "bert")
# Heads of the text encoders' pre-training, and the poolers and the text half of CLIP, which VLE
# does not read.
TEXT_DROPPABLE = (
    "lm_head.",
    "lm_predictions.",
    "mask_predictions.",
    "cls.",
    "pooler.",
    "classifier.",
)
VISION_DROPPABLE = ("text_model.", "logit_scale", "text_projection.", "visual_projection.")
SEED = 0


def from_encoders(
    text: Path, vision: Path, config: VLEConfig | None = None, keep_last_vision_layer: bool = False
) -> Converted:
    """Join the weights of the encoders; projections, types and fusion are new, from a fixed seed.

    The published models leave out CLIP's last layer (11 of 12, 23 of 24), and this is the default.

    Args:
        text: folder of the text encoder.
        vision: folder of a CLIP or of its vision encoder.
        config: configuration to use; None: the encoders' own, and a fusion as wide as the text
            encoder, as published.
    """
    text_config, text_model, dropped = _load_text(text)
    vision_config, vision_model, vision_dropped = _load_vision(vision)
    dropped += vision_dropped
    tensors = {
        f"text_model.{name}": t
        for name, t in text_model.state_dict().items()
        if not name.startswith("pooler.")
    }
    last = None if keep_last_vision_layer else vision_config.num_hidden_layers - 1
    for name, tensor in vision_model.state_dict().items():
        if last is not None and name.startswith(f"encoder.layers.{last}."):
            dropped.append(f"vision_model.{name}")
        else:
            tensors[f"vision_model.{name}"] = tensor
    if last is not None:
        if last < 1:
            raise RequestError(
                f"{vision}: its only layer would be dropped; keep it with --keep-last-vision-layer"
            )
        vision_config.num_hidden_layers = last
    if config is None:
        width = text_config.hidden_size
        config = VLEConfig(
            text_config=text_config,
            vision_config=vision_config,
            hidden_size=width,
            num_attention_heads=heads(width),
            intermediate_size=4 * width,
        )
    return Converted(config, _new_weights(config) | tensors, "VLEModel", sorted(dropped))


def _new_weights(config: VLEConfig) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        fresh = VLEModel(config).state_dict()
    return {
        name: tensor
        for name, tensor in fresh.items()
        if not name.startswith(("text_model.", "vision_model."))
    }


def _load_text(folder: Path) -> tuple[PreTrainedConfig, PreTrainedModel, list[str]]:
    config = _read_config(folder)
    if config.model_type not in TEXT_TYPES:
        raise RequestError(
            f"{folder}: expected a text encoder of type {', '.join(TEXT_TYPES)}, "
            f"got {config.model_type}"
        )
    model, dropped = _load(
        AutoModel, folder, copy.deepcopy(config), TEXT_DROPPABLE, may_be_new=("pooler.",)
    )
    return config, model, dropped


def _load_vision(folder: Path) -> tuple[CLIPVisionConfig, PreTrainedModel, list[str]]:
    whole = _read_config(folder)
    config = whole.vision_config if isinstance(whole, CLIPConfig) else whole
    if not isinstance(config, CLIPVisionConfig):
        raise RequestError(
            f"{folder}: expected a CLIP or its vision encoder, got {whole.model_type}"
        )
    model, dropped = _load(
        CLIPVisionModel, folder, copy.deepcopy(config), VISION_DROPPABLE, may_be_new=()
    )
    return config, model, dropped


def _read_config(folder: Path) -> PreTrainedConfig:
    if not (folder / "config.json").is_file():
        raise RequestError(
            f"{folder}: no config.json; expected a folder that from_pretrained can load"
        )
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        return config
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(
            f"{folder}: its config.json cannot be read: {first_line(error)}"
        ) from error


def _load(
    cls: type[AutoModel | CLIPVisionModel],
    folder: Path,
    config: PreTrainedConfig,
    droppable: tuple[str, ...],
    may_be_new: tuple[str, ...],
) -> tuple[PreTrainedModel, list[str]]:
    """Load an encoder and return it with the keys of the folder that it does not have.

    Args:
        droppable: beginnings of keys that the encoder need not have.
        may_be_new: beginnings of keys that the folder need not have.

    Raises:
        RequestError: names other keys that are missing or left over.
    """
    try:
        loaded: Any = cls.from_pretrained(
            str(folder),
            config=config,
            output_loading_info=True,
            local_files_only=True,
            weights_only=True,
            dtype=torch.float32,
        )
        model, info = loaded
    # safetensors and pickle have error types of their own.
    except Exception as error:
        raise RequestError(
            f"{folder}: the weights cannot be loaded: {first_line(error)}"
        ) from error
    missing = [name for name in info["missing_keys"] if not name.startswith(may_be_new)]
    if missing:
        raise RequestError(f"{folder}: tensors are missing: {few(missing)}")
    unexpected = sorted(info["unexpected_keys"])
    left = [
        name
        for name in unexpected
        if not name.startswith(droppable) and not name.endswith("position_ids")
    ]
    if left:
        raise RequestError(f"{folder}: tensors are left over: {few(left)}")
    return model, unexpected
