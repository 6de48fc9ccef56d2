"""What every converter returns, and the configuration that a checkpoint's tensors imply."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import BertConfig, CLIPVisionConfig, DebertaV2Config, RobertaConfig

from vle_bench.errors import RequestError
from vle_bench.models.vle.configuration import VLEConfig

HEAD_WIDTH = 64  # of an attention head, in every published encoder and fusion


class Converted(NamedTuple):
    """A model of class `architecture`: its configuration, its tensors by their names in the model, what was left out."""

    config: VLEConfig
    tensors: dict[str, Tensor]
    architecture: str
    dropped: list[str]


def shared_prefix(names: Iterable[str], known: str) -> str:
    """What stands before the one name that ends in `known`; no name, or more than one, is an error."""
    found = [name for name in names if name == known or name.endswith("." + known)]
    if len(found) != 1:
        raise RequestError(
            f"neither METER's nor VLE's key names: {len(found)} keys end in {known}, one is expected"
        )
    return found[0].removesuffix(known)


def few(names: Iterable[str]) -> str:
    """The number of names and the first five of them."""
    ordered = sorted(names)
    return f"{len(ordered)} ({', '.join(ordered[:5])}{', ...' if len(ordered) > 5 else ''})"


def not_finite(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """The names of the tensors that hold a NaN or an infinite number, in one look at the device."""
    named = dict(tensors)
    sound = [tensor.isfinite().all() for tensor in named.values()]
    return (
        [name for name, whole in zip(named, torch.stack(sound).tolist(), strict=True) if not whole]
        if sound
        else []
    )


def encoder_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the VLEModel, by their names in it."""
    inner = {
        name.removeprefix("vle."): tensor
        for name, tensor in tensors.items()
        if name.startswith("vle.")
    }
    return inner or dict(tensors)


def heads(width: int) -> int:
    """Attention heads of a published encoder of this width."""
    if width % HEAD_WIDTH:
        raise RequestError(
            f"a width of {width} does not divide into heads of {HEAD_WIDTH}: give the head counts with --config"
        )
    return width // HEAD_WIDTH


def infer_config(tensors: Mapping[str, Tensor], tokenizer: str = "") -> VLEConfig:
    """The configuration that the shapes imply, with the published settings for what no shape tells.

    Args:
        tensors: of a VLEModel, by their names in it.
        tokenizer: name that the checkpoint gives its tokenizer; METER takes RoBERTa by it.
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


def _text_config(tensors: Mapping[str, Tensor], tokenizer: str) -> Any:
    vocabulary, width = _shape(tensors, "text_model.embeddings.word_embeddings.weight")
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": _layers(tensors, "text_model.encoder.layer."),
        "num_attention_heads": heads(width),
        "intermediate_size": _shape(
            tensors, "text_model.encoder.layer.0.intermediate.dense.weight"
        )[0],
    }
    if "text_model.encoder.rel_embeddings.weight" in tensors:
        return DebertaV2Config(**sizes, **_deberta_settings(tensors))
    types = _shape(tensors, "text_model.embeddings.token_type_embeddings.weight")[0]
    sizes |= {
        "max_position_embeddings": _shape(
            tensors, "text_model.embeddings.position_embeddings.weight"
        )[0],
        "type_vocab_size": types,
    }
    # RoBERTa has one type of token and BERT two, where no name says which of the two it is.
    if "roberta" in tokenizer.lower() or (not tokenizer and types == 1):
        return RobertaConfig(
            **sizes, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2
        )
    return BertConfig(**sizes, layer_norm_eps=1e-12, pad_token_id=0)


def _deberta_settings(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """DeBERTa-v3's settings (config.json of microsoft/deberta-v3-base and -large)."""
    return {
        "relative_attention": True,
        "position_buckets": _shape(tensors, "text_model.encoder.rel_embeddings.weight")[0] // 2,
        "norm_rel_ebd": "layer_norm"
        if "text_model.encoder.LayerNorm.weight" in tensors
        else "none",
        "share_att_key": "text_model.encoder.layer.0.attention.self.pos_key_proj.weight"
        not in tensors,
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
            f"the position table has {positions} rows: one and a square number are expected"
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
        raise RequestError(f"{name} is missing: the configuration cannot be told from the tensors")
    shape = tuple(tensors[name].shape)
    if len(shape) != dimensions:
        raise RequestError(f"{name}: {dimensions} dimensions are expected, the shape {shape} came")
    return shape


def _layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return len(
        {name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)}
    )
