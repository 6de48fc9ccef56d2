"""Values of VLEConfig that a recipe may set for a model from scratch, and what is wrong with them. Imports no torch."""

from typing import Any

from vle_bench.errors import closest

# Values of VLEConfig that a model from scratch may set. The text vocabulary comes from the tokenizer and the picture's
# size from model.image_size, so neither is here. A test compares them with the configuration classes, which need torch.
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

COUNTS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "patch_size",
    "num_token_types",
    "max_position_embeddings",
    "num_channels",
)

TEXT_MODELS = ("deberta-v2", "roberta", "bert", "xlm-roberta")


def check_config(config: dict[str, Any], image_size: int) -> None:
    """Refuse what VLEConfig would silently ignore, and pictures that do not divide into patches."""
    problems = []
    parts: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
        "model.config": (config, FUSION_KEYS)
    }
    for part, keys in (("text_config", TEXT_KEYS), ("vision_config", VISION_KEYS)):
        if isinstance(config.get(part), dict):
            parts[f"model.config.{part}"] = (config[part], keys)
        else:
            problems.append(f"model.config.{part}: this group of keys is needed")
    for name, (values, keys) in parts.items():
        for key in values:
            if key not in keys:
                problems.append(
                    f"{name}.{key}: unknown key; nearest valid key: {name}.{closest(str(key), keys)}"
                )
            elif key in COUNTS and (type(values[key]) is not int or values[key] < 1):
                problems.append(
                    f"{name}.{key}: a whole number of 1 or more is expected, not {values[key]!r}"
                )
        width, heads = values.get("hidden_size"), values.get("num_attention_heads")
        if type(width) is int and type(heads) is int and heads > 0 and width % heads:
            problems.append(
                f"{name}.num_attention_heads: hidden_size {width} does not divide by {heads}"
            )
    kind = (
        config["text_config"].get("model_type")
        if isinstance(config.get("text_config"), dict)
        else None
    )
    if kind is not None and kind not in TEXT_MODELS:
        problems.append(
            f"model.config.text_config.model_type: {kind!r} is none of {', '.join(TEXT_MODELS)}"
        )
    if not problems:
        patch = config["vision_config"].get("patch_size", 32)
        if not isinstance(patch, int) or patch < 1 or image_size % patch:
            problems.append(
                f"model.image_size: {image_size} does not divide by model.config.vision_config.patch_size {patch}"
            )
    if problems:
        raise ValueError("\n".join(problems))
