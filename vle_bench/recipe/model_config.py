"""Check `model.config`: the values of VLEConfig that a recipe sets for a model from scratch.

Imports no torch, because recipes are read by commands that start fast.
"""

from typing import Any

from vle_bench.errors import closest
from vle_bench.model_bounds import COUNTS, MOST_WEIGHTS, layer_weights, wrong_value

# The text vocabulary comes from the tokenizer and the image size from model.image_size, so neither
# is here. A test compares the keys with the configuration classes, which need torch.
TEXT_KEYS: tuple[str, ...] = (
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "relative_attention",
    "max_relative_positions",
    "position_biased_input",
    "pos_att_type",
    "position_buckets",
    "norm_rel_ebd",
    "share_att_key",
    "pooler_dropout",
    "pooler_hidden_act",
)
VISION_KEYS: tuple[str, ...] = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
    "attention_dropout",
    "initializer_range",
    "initializer_factor",
    "projection_dim",
)
FUSION_KEYS: tuple[str, ...] = (
    "text_config",
    "vision_config",
    "num_token_types",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    "layer_norm_eps",
    "classifier_dropout",
)

TEXT_MODELS = ("deberta-v2", "roberta", "bert", "xlm-roberta")


def check_config(config: dict[str, Any], image_size: int) -> None:
    """Refuse keys that VLEConfig would silently ignore, and images that do not divide into patches.

    Raises:
        ValueError: one line for each problem.
    """
    parts, problems = _parts(config)
    for name, (values, keys) in parts.items():
        problems += _wrong_values(name, values, keys)
    text, vision = config.get("text_config"), config.get("vision_config")
    kind = text.get("model_type") if isinstance(text, dict) else None
    if kind is not None and kind not in TEXT_MODELS:
        problems.append(
            f"model.config.text_config.model_type: {kind!r} is none of {', '.join(TEXT_MODELS)}"
        )
    if not problems and isinstance(text, dict) and isinstance(vision, dict):
        weights = sum(map(layer_weights, (config, text, vision)))
        patch = vision.get("patch_size", 32)
        if weights > MOST_WEIGHTS:
            problems.append(
                f"model.config: layers of {weights:.2g} weights in all; "
                f"at most {MOST_WEIGHTS:.2g} are possible"
            )
        elif not isinstance(patch, int) or patch < 1 or image_size % patch:
            problems.append(
                f"model.image_size: {image_size} does not divide by "
                f"model.config.vision_config.patch_size {patch}"
            )
    if problems:
        raise ValueError("\n".join(problems))


def _parts(
    config: dict[str, Any],
) -> tuple[dict[str, tuple[dict[str, Any], tuple[str, ...]]], list[str]]:
    """Return the groups of keys by name, with their valid keys, and problems of missing groups."""
    parts = {"model.config": (config, FUSION_KEYS)}
    problems = []
    for part, keys in (("text_config", TEXT_KEYS), ("vision_config", VISION_KEYS)):
        if isinstance(config.get(part), dict):
            parts[f"model.config.{part}"] = (config[part], keys)
        else:
            problems.append(f"model.config.{part}: this group of keys is needed")
    return parts, problems


def _wrong_values(name: str, values: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    problems = []
    for key in values:
        if key not in keys:
            nearest = closest(str(key), keys)
            problems.append(f"{name}.{key}: unknown key; nearest valid key: {name}.{nearest}")
        elif wrong := wrong_value(str(key), values[key]):
            problems.append(f"{name}.{key}: {wrong}")
    width, heads = values.get("hidden_size"), values.get("num_attention_heads")
    if (
        type(width) is int
        and type(heads) is int
        and 0 < heads <= COUNTS["num_attention_heads"]
        and width % heads
    ):
        problems.append(
            f"{name}.num_attention_heads: hidden_size {str(width)[:40]} does not divide by {heads}"
        )
    return problems
