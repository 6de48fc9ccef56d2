"""Configuration of a VLE or METER model."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, CLIPVisionConfig, DebertaV2Config, PreTrainedConfig
from transformers.models.auto import CONFIG_MAPPING

from vle_bench.json_files import JsonObject
from vle_bench.model_bounds import too_many_weights, wrong_value

_TEXT_TYPE, _VISION_TYPE = "deberta-v2", "clip_vision_model"


@strict
class VLEConfig(PreTrainedConfig):
    """Two encoders and the co-attention fusion that joins them.

    With a RoBERTa `text_config` this is METER. The top level describes the fusion, with the names
    of BERT's configuration; the defaults are VLE-base's.

    Args:
        text_config: configuration of the text encoder, or its dict with `model_type`; DeBERTa-v2 by
            default.
        vision_config: configuration of a CLIP vision encoder, or its dict.
        num_token_types: rows of the fusion's type table: 0 text, 1 image, 2 + i object i.
        num_hidden_layers: fusion layers on each side.
        token_type_range: standard deviation of fresh rows of the type table; None:
            `initializer_range`. Types that stand out let a model find out early which words name
            which object (docs/lab-notes.md).
        objectives: weights of the losses of VLEForPreTraining, by name; None: 1 for each.
    """

    model_type = "vle"
    sub_configs = {"text_config": AutoConfig, "vision_config": CLIPVisionConfig}

    text_config: Any = None
    vision_config: Any = None
    num_token_types: int = 2
    hidden_size: int = 768
    num_hidden_layers: int = 6
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    initializer_range: float = 0.02
    token_type_range: float | None = None
    layer_norm_eps: float = 1e-12
    classifier_dropout: float | int | None = None
    objectives: dict[str, float | int] | None = None
    # For VLEForMLM. The default of transformers is not to tie.
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        parts = {
            name: vars_of(name, getattr(self, name)) for name in ("text_config", "vision_config")
        }
        check_sizes(
            {"": vars(self) | kwargs, **{f"{name}.": values for name, values in parts.items()}}
        )
        if self.text_config is None:
            self.text_config = DebertaV2Config()
        elif isinstance(self.text_config, dict):
            values = dict(self.text_config)
            self.text_config = CONFIG_MAPPING[values.pop("model_type", _TEXT_TYPE)](**values)
        if self.vision_config is None:
            self.vision_config = CLIPVisionConfig()
        elif isinstance(self.vision_config, dict):
            values = dict(self.vision_config)
            values.pop("model_type", None)
            self.vision_config = CLIPVisionConfig(**values)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} does not divide by "
                f"num_attention_heads {self.num_attention_heads}"
            )
        vision = self.vision_config
        if vision.image_size < vision.patch_size:
            raise ValueError(
                f"image_size {vision.image_size} is less than "
                f"patch_size {vision.patch_size}: no patch fits"
            )
        super().__post_init__(**kwargs)

    @property
    def type_deviation(self) -> float:
        """Standard deviation of fresh rows of the type table."""
        own = self.token_type_range
        return self.initializer_range if own is None else own

    @property
    def num_patches(self) -> int:
        """Number of patches, without CLS.

        Incomplete patches at the right and lower edge are not seen: published VLE-large has 27 × 27
        patches of 14 pixels in 384.
        """
        rows: int = self.vision_config.image_size // self.vision_config.patch_size
        return rows**2


def check_sizes(parts: Mapping[str, Mapping[str, object]]) -> None:
    """Refuse a configuration whose layers or tables could not be built in reasonable time.

    Args:
        parts: the values of config.json by the prefix that a message gives their keys: the top
            level's (empty), the text encoder's and the vision encoder's.

    Raises:
        ValueError: names the key, its value and its bounds.
    """
    for part, values in parts.items():
        for key, value in values.items():
            if value is not None and (wrong := wrong_value(key, value)):
                raise ValueError(f"{part}{key}: {wrong}")
        if not isinstance(values.get("id2label") or {}, dict):
            raise ValueError(f"{part}id2label: an object of indices and answers is expected")
    if too_many := too_many_weights(parts.values()):
        raise ValueError(too_many)


def vars_of(name: str, config: object) -> dict[str, object]:
    """Return the values of a configuration, of its dict, or of None.

    Raises:
        ValueError: `config` is something else; `name` is its key.
    """
    if isinstance(config, PreTrainedConfig):
        return vars(config)
    if config is not None and not isinstance(config, dict):
        raise ValueError(f"{name}: expected a group of values, not {str(config)[:40]}")
    return config or {}


# Settings of microsoft/deberta-v3-base and -large.
_DEBERTA = {
    "model_type": "deberta-v2",
    "vocab_size": 128100,
    "type_vocab_size": 0,
    "max_position_embeddings": 512,
    "layer_norm_eps": 1e-7,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "max_relative_positions": -1,
}
_BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
_ROBERTA = {
    "model_type": "roberta",
    "vocab_size": 50265,
    "type_vocab_size": 1,
    "max_position_embeddings": 514,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
# The published sizes: VLEConfig(**SIZES["vle-base"]). CLIP comes without its last layer (11 of 12,
# 23 of 24), as METER's code builds it and as the parameter counts of both papers imply. Images have
# CLIP's own 224 pixels until they are resized.
SIZES: dict[str, JsonObject] = {
    "vle-base": {
        "text_config": {**_DEBERTA, **_BASE},
        "vision_config": {**_BASE, "num_hidden_layers": 11, "patch_size": 16},
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "vle-large": {
        "text_config": {**_DEBERTA, **_LARGE},
        "vision_config": {**_LARGE, "num_hidden_layers": 23, "patch_size": 14},
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "meter-base": {
        "text_config": {**_ROBERTA, **_BASE},
        "vision_config": {**_BASE, "num_hidden_layers": 11, "patch_size": 16},
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
}
