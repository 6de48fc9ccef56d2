"""Keys of a model's configuration and bounds of its numbers, in recipes and in config.json.

The largest encoders of this kind have 48 layers of 1,664 and 128,100 words. A mistyped number
beyond these bounds would build modules or allocate tables for minutes. Imports no torch, because
recipes are checked without it.
"""

from collections.abc import Mapping
from typing import Any

from vle_bench.errors import closest

MOST_WORDS = 2_000_000
COUNTS = {
    "hidden_size": 16_384,
    "num_hidden_layers": 200,
    "num_attention_heads": 1024,
    "intermediate_size": 65_536,
    "patch_size": 4096,
    "num_token_types": 65_536,
    "max_position_embeddings": 65_536,
    "num_channels": 64,
}
MAY_BE_ZERO = {"type_vocab_size": 65_536, "projection_dim": 16_384, "pooler_hidden_size": 16_384}
# -1 means none, or as many as there are positions.
MAY_BE_LESS = {"max_relative_positions": 65_536, "position_buckets": 65_536}
# Only config.json has these; a recipe has keys of its own for them.
OF_A_CONFIG = {"vocab_size": MOST_WORDS, "image_size": 4096}
MOST_LABELS = 1_000_000
MOST_FLOATS = {
    "hidden_dropout_prob": 1.0,
    "attention_probs_dropout_prob": 1.0,
    "attention_dropout": 1.0,
    "classifier_dropout": 1.0,
    "pooler_dropout": 1.0,
    "initializer_range": 1e3,
    "initializer_factor": 1e3,
    "layer_norm_eps": 1.0,
}
MOST_WEIGHTS = 20e9  # of all layers; VLE-large has 0.93e9


def wrong_value(key: str, value: object) -> str | None:
    """Say what is wrong with a value: not a number, or out of bounds. None if nothing is wrong."""
    for lowest, bounds in ((1, COUNTS | OF_A_CONFIG), (0, MAY_BE_ZERO), (-1, MAY_BE_LESS)):
        if key in bounds and not (type(value) is int and lowest <= value <= bounds[key]):
            return (
                f"a whole number of {lowest} to {bounds[key]:,} is expected, not {str(value)[:40]}"
            )
    if key in MOST_FLOATS and value is not None:
        if not ((type(value) is int or type(value) is float) and 0 <= value <= MOST_FLOATS[key]):
            return f"a number of 0 to {MOST_FLOATS[key]:g} is expected, not {str(value)[:40]}"
    return None


def layer_weights(values: Mapping[str, object]) -> float:
    """Estimate how many weights the layers of one part of a configuration have.

    A size that is not given has transformers' default. The values must be within their bounds.
    """

    def size(key: str, default: int) -> int:
        value = values.get(key, default)
        return value if isinstance(value, int) else default

    width = size("hidden_size", 768)
    each = 4 * width * width + 2 * width * size("intermediate_size", 3072)
    return float(size("num_hidden_layers", 12) * each)


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
