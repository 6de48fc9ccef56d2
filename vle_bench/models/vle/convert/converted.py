"""The result of a converter, and the configuration that the shapes of tensors imply."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor
from transformers import (
    BertConfig,
    CLIPVisionConfig,
    DebertaV2Config,
    PreTrainedConfig,
    RobertaConfig,
)

from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject
from vle_bench.models.vle.configuration import VLEConfig

HEAD_WIDTH = 64  # of an attention head, in every published encoder and fusion


class Converted(NamedTuple):
    """A converted model.

    Attributes:
        config: its configuration.
        tensors: its tensors by their names in the model.
        architecture: its class in `vle_bench.models`.
        dropped: names of the tensors that were left out.
    """

    config: VLEConfig
    tensors: dict[str, Tensor]
    architecture: str
    dropped: list[str]


def shared_prefix(names: Iterable[str], known: str) -> str:
    """Return the prefix of the one name that ends in `known`.

    Raises:
        RequestError: no name ends so, or several do.
    """
    matches = [name for name in names if name == known or name.endswith("." + known)]
    if len(matches) != 1:
        raise RequestError(
            f"neither METER's nor VLE's key names: expected one key that ends in {known}, "
            f"got {len(matches)}"
        )
    return matches[0].removesuffix(known)


def encoder_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the VLEModel by their names in it."""
    inner = {
        name.removeprefix("vle."): tensor
        for name, tensor in tensors.items()
        if name.startswith("vle.")
    }
    return inner or dict(tensors)


def heads(width: int) -> int:
    """Return the number of attention heads of a published encoder of this width."""
    if width % HEAD_WIDTH:
        raise RequestError(
            f"a width of {width} does not divide into heads of {HEAD_WIDTH}: "
            "give the head counts with --config"
        )
    return width // HEAD_WIDTH


def infer_config(tensors: Mapping[str, Tensor], tokenizer: str = "") -> VLEConfig:
    """Infer the configuration from the shapes; values that no shape implies are the published ones.

    Args:
        tensors: tensors of a VLEModel by their names in it.
        tokenizer: name of the tokenizer in the checkpoint, by which METER chooses RoBERTa.
    """
    width = _shape(tensors, "cross_modal_text_pooler.dense.weight")[0]
    return VLEConfig(
        text_config=_text_config(tensors, tokenizer),
        vision_config=_vision_config(tensors),
        num_token_types=_shape(tensors, "token_type_embeddings.weight")[0],
        hidden_size=width,
        num_hidden_layers=_layers(tensors, "cross_modal_text_layers."),
        num_attention_heads=heads(width),
        intermediate_size=_shape(tensors, "cross_modal_text_layers.0.intermediate.dense.weight")[0],
    )


def _text_config(tensors: Mapping[str, Tensor], tokenizer: str) -> PreTrainedConfig:
    vocabulary, width = _shape(tensors, "text_model.embeddings.word_embeddings.weight")
    inner = _shape(tensors, "text_model.encoder.layer.0.intermediate.dense.weight")[0]
    sizes: JsonObject = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": _layers(tensors, "text_model.encoder.layer."),
        "num_attention_heads": heads(width),
        "intermediate_size": inner,
    }
    if "text_model.encoder.rel_embeddings.weight" in tensors:
        return DebertaV2Config(**sizes, **_deberta_settings(tensors))
    types = _shape(tensors, "text_model.embeddings.token_type_embeddings.weight")[0]
    positions = _shape(tensors, "text_model.embeddings.position_embeddings.weight")[0]
    sizes |= {"max_position_embeddings": positions, "type_vocab_size": types}
    # Without a name, the number of token types decides: RoBERTa has one, BERT two.
    if "roberta" in tokenizer.lower() or (not tokenizer and types == 1):
        return RobertaConfig(
            **sizes, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2
        )
    return BertConfig(**sizes, layer_norm_eps=1e-12, pad_token_id=0)


def _deberta_settings(tensors: Mapping[str, Tensor]) -> JsonObject:
    """Return DeBERTa-v3's settings (config.json of microsoft/deberta-v3-base and -large)."""
    normed = "text_model.encoder.LayerNorm.weight" in tensors
    own_key = "text_model.encoder.layer.0.attention.self.pos_key_proj.weight" in tensors
    return {
        "relative_attention": True,
        "position_buckets": _shape(tensors, "text_model.encoder.rel_embeddings.weight")[0] // 2,
        "norm_rel_ebd": "layer_norm" if normed else "none",
        "share_att_key": not own_key,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": "text_model.embeddings.position_embeddings.weight" in tensors,
        "max_relative_positions": -1,
        "max_position_embeddings": 512,
        "type_vocab_size": 0,
        "layer_norm_eps": 1e-7,
        "pad_token_id": 0,
    }


def _vision_config(tensors: Mapping[str, Tensor]) -> CLIPVisionConfig:
    width, channels, patch, _ = _shape(tensors, "vision_model.embeddings.patch_embedding.weight", 4)
    positions = _shape(tensors, "vision_model.embeddings.position_embedding.weight")[0]
    grid = math.isqrt(positions - 1)
    if grid * grid != positions - 1:
        raise RequestError(
            f"the position table has {positions} rows: expected a square number and one more"
        )
    return CLIPVisionConfig(
        hidden_size=width,
        num_channels=channels,
        patch_size=patch,
        image_size=grid * patch,
        num_hidden_layers=_layers(tensors, "vision_model.encoder.layers."),
        num_attention_heads=heads(width),
        intermediate_size=_shape(tensors, "vision_model.encoder.layers.0.mlp.fc1.weight")[0],
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
    )


def _shape(tensors: Mapping[str, Tensor], name: str, dimensions: int = 2) -> tuple[int, ...]:
    if name not in tensors:
        raise RequestError(
            f"{name} is missing: the configuration cannot be inferred from the tensors"
        )
    shape = tuple(tensors[name].shape)
    if len(shape) != dimensions:
        raise RequestError(f"{name}: expected {dimensions} dimensions, got the shape {shape}")
    return shape


def _layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Count the layers whose names begin with `prefix` and a number."""
    return len(
        {name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)}
    )
