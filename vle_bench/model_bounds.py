"""Keys of a model's configuration and bounds of its numbers, in recipes and in config.json.

The largest encoders of this kind have 48 layers of 1,664 and 128,100 words. A mistyped number
beyond these bounds would build modules or allocate tables for minutes. Imports no torch, because
recipes are checked without it.
"""

from collections.abc import Iterable, Mapping

from vle_bench.errors import closest

MOST_WORDS = 2_000_000
# Key -> lowest and highest whole number. -1 means none, or as many as there are positions.
WHOLE = {
    "hidden_size": (1, 16_384),
    "num_hidden_layers": (1, 200),
    "num_attention_heads": (1, 1024),
    "intermediate_size": (1, 65_536),
    "patch_size": (1, 4096),
    "num_token_types": (1, 65_536),
    "max_position_embeddings": (1, 65_536),
    "num_channels": (1, 64),
    "type_vocab_size": (0, 65_536),
    "projection_dim": (0, 16_384),
    "pooler_hidden_size": (0, 16_384),
    "max_relative_positions": (-1, 65_536),
    "position_buckets": (-1, 65_536),
    # Only config.json has these; a recipe has keys of its own for them.
    "vocab_size": (1, MOST_WORDS),
    "image_size": (1, 4096),
    "num_labels": (0, 1_000_000),
}
MOST_FLOATS = {
    "hidden_dropout_prob": 1.0,
    "attention_probs_dropout_prob": 1.0,
    "attention_dropout": 1.0,
    "classifier_dropout": 1.0,
    "pooler_dropout": 1.0,
    "initializer_range": 1e3,
    "token_type_range": 1e3,
    "initializer_factor": 1e3,
    "layer_norm_eps": 1.0,
}
MOST_WEIGHTS = 20e9  # of all layers; VLE-large has 0.93e9


def wrong_value(key: str, value: object) -> str | None:
    """Say what is wrong with a value: not a number, or out of bounds. None if nothing is wrong."""
    if key in WHOLE:
        lowest, highest = WHOLE[key]
        if not (type(value) is int and lowest <= value <= highest):
            return f"a whole number of {lowest} to {highest:,} is expected, not {str(value)[:40]}"
    if key in MOST_FLOATS and value is not None:
        if not ((type(value) is int or type(value) is float) and 0 <= value <= MOST_FLOATS[key]):
            return f"a number of 0 to {MOST_FLOATS[key]:g} is expected, not {str(value)[:40]}"
    return None


def too_many_weights(groups: Iterable[Mapping[str, object]]) -> str | None:
    """Say that the layers of all groups of a configuration have too many weights; None if not.

    A size that is not given has transformers' default. The values must be within their bounds.
    """
    weights = 0.0
    for group in groups:
        values = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
        values |= {key: size for key in values if isinstance(size := group.get(key), int)}
        width, inner, layers = values.values()
        weights += layers * (4 * width * width + 2 * width * inner)
    if weights <= MOST_WEIGHTS:
        return None
    return f"layers of {weights:.2g} weights in all; at most {MOST_WEIGHTS:.2g} are possible"


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
    "token_type_range",
    "layer_norm_eps",
    "classifier_dropout",
)

TEXT_MODELS = ("deberta-v2", "roberta", "bert", "xlm-roberta")


def check_config(config: Mapping[str, object], image_size: int) -> None:
    """Refuse keys that VLEConfig would silently ignore, and images that do not divide into patches.

    Raises:
        ValueError: one line for each problem.
    """
    problems = wrong_values("model.config", config, FUSION_KEYS)
    groups = [config]
    for part, keys in (("text_config", TEXT_KEYS), ("vision_config", VISION_KEYS)):
        group = config.get(part)
        if isinstance(group, dict):
            problems += wrong_values(f"model.config.{part}", group, keys)
            groups.append(group)
        else:
            problems.append(f"model.config.{part}: this group of keys is needed")
    if not problems:
        patch = groups[2].get("patch_size", 32)
        if too_many := too_many_weights(groups):
            problems.append(f"model.config: {too_many}")
        elif isinstance(patch, int) and image_size % patch:
            problems.append(
                f"model.image_size: {image_size} does not divide by "
                f"model.config.vision_config.patch_size {patch}"
            )
    if problems:
        raise ValueError("\n".join(problems))


VILT_KEYS: tuple[str, ...] = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "patch_size",
    "num_channels",
    "max_position_embeddings",
    "type_vocab_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    "layer_norm_eps",
    "qkv_bias",
)
VILT_POSITIONS = 40  # of texts, where the configuration does not say


def check_vilt_config(config: Mapping[str, object], image_size: int, max_text_length: int) -> None:
    """Refuse keys that ViltConfig would silently ignore, and texts and images that do not fit.

    Raises:
        ValueError: one line for each problem.
    """
    problems = wrong_values("model.config", config, VILT_KEYS)
    if not problems:
        patch, positions = (
            config.get(key, default)
            for key, default in (("patch_size", 32), ("max_position_embeddings", VILT_POSITIONS))
        )
        if too_many := too_many_weights([config]):
            problems.append(f"model.config: {too_many}")
        if isinstance(patch, int) and image_size % patch:
            problems.append(
                f"model.image_size: {image_size} does not divide by model.config.patch_size {patch}"
            )
        if isinstance(positions, int) and max_text_length > positions:
            problems.append(
                f"model.max_text_length: {max_text_length}, and model.config."
                f"max_position_embeddings has {positions}"
            )
    if problems:
        raise ValueError("\n".join(problems))


def wrong_values(name: str, values: Mapping[str, object], keys: tuple[str, ...]) -> list[str]:
    """Return a line for each key of the group `name` that is unknown or has a wrong value."""
    problems = []
    for key, value in values.items():
        if key not in keys:
            nearest = closest(str(key), keys)
            problems.append(f"{name}.{key}: unknown key; nearest valid key: {name}.{nearest}")
        elif wrong := wrong_value(key, value):
            problems.append(f"{name}.{key}: {wrong}")
        elif key == "model_type" and value not in (None, *TEXT_MODELS):
            problems.append(f"{name}.{key}: {value!r} is none of {', '.join(TEXT_MODELS)}")
    width, heads = values.get("hidden_size"), values.get("num_attention_heads")
    if type(width) is int and type(heads) is int and not wrong_value("num_attention_heads", heads):
        if width % heads:
            problems.append(
                f"{name}.num_attention_heads: hidden_size {str(width)[:40]} does not divide by "
                f"{heads}"
            )
    return problems
