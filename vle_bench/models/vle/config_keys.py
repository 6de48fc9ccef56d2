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

# Upper bounds of a configuration's counts. The largest encoders of this kind have 48 layers of 1,664 and 128,100
# words; a mistyped number beyond these would build modules or allocate tables for minutes.
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
MAY_BE_LESS = {
    "max_relative_positions": 65_536,
    "position_buckets": 65_536,
}  # -1: none, or as many as positions
OF_A_CONFIG = {
    "vocab_size": MOST_WORDS,
    "image_size": 4096,
}  # config.json only; a recipe has other keys for these
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
            elif wrong := wrong_value(str(key), values[key]):
                problems.append(f"{name}.{key}: {wrong}")
        width, heads = values.get("hidden_size"), values.get("num_attention_heads")
        if (
            type(width) is int
            and type(heads) is int
            and 0 < heads <= COUNTS["num_attention_heads"]
            and width % heads
        ):
            width = str(width)[:40]
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
    if (
        not problems
        and (
            weights := sum(
                map(weights_of, (config, config["text_config"], config["vision_config"]))
            )
        )
        > MOST_WEIGHTS
    ):
        problems.append(
            f"model.config: layers of {weights:.2g} weights in all; at most {MOST_WEIGHTS:.2g} are possible"
        )
    if not problems:
        patch = config["vision_config"].get("patch_size", 32)
        if not isinstance(patch, int) or patch < 1 or image_size % patch:
            problems.append(
                f"model.image_size: {image_size} does not divide by model.config.vision_config.patch_size {patch}"
            )
    if problems:
        raise ValueError("\n".join(problems))


def wrong_value(key: str, value: Any) -> str | None:
    """What is wrong with a value of a model's configuration: no number, or out of bounds; None for nothing."""
    for lowest, bounds in ((1, COUNTS | OF_A_CONFIG), (0, MAY_BE_ZERO), (-1, MAY_BE_LESS)):
        if key in bounds and (type(value) is not int or not lowest <= value <= bounds[key]):
            return (
                f"a whole number of {lowest} to {bounds[key]:,} is expected, not {str(value)[:40]}"
            )
    if key in MOST_FLOATS and value is not None:
        if type(value) not in (int, float) or not 0 <= value <= MOST_FLOATS[key]:
            return f"a number of 0 to {MOST_FLOATS[key]:g} is expected, not {str(value)[:40]}"
    return None


def weights_of(values: dict[str, Any]) -> float:
    """About how many weights the layers of one part of a configuration have, by transformers' default sizes where none is given."""
    width = values.get("hidden_size", 768)
    each = 4 * width * width + 2 * width * values.get("intermediate_size", 3072)
    return float(values.get("num_hidden_layers", 12) * each)


def check_sizes(parts: dict[str, dict[str, Any]]) -> None:
    """Refuse a configuration whose layers or tables could not be built in any reasonable time or memory.

    Args:
        parts: the values of `config.json` by the place that a message names: the top level's, the text's and the vision's.

    Raises:
        ValueError: names the key, its value and its bounds.
    """
    for part, values in parts.items():
        for key in (*COUNTS, *OF_A_CONFIG, *MAY_BE_ZERO, *MAY_BE_LESS, *MOST_FLOATS):
            if values.get(key) is not None and (wrong := wrong_value(key, values[key])):
                raise ValueError(f"{part}{key}: {wrong}")
        labels = values.get("num_labels")
        if labels is not None and (type(labels) is not int or not 0 <= labels <= MOST_LABELS):
            raise ValueError(
                f"{part}num_labels: a whole number of 0 to {MOST_LABELS:,} is expected, not {str(labels)[:40]}"
            )
        if not isinstance(values.get("id2label") or {}, dict):
            raise ValueError(f"{part}id2label: an object of indices and answers is expected")
    if (weights := sum(map(weights_of, parts.values()))) > MOST_WEIGHTS:
        raise ValueError(
            f"layers of {weights:.2g} weights in all; at most {MOST_WEIGHTS:.2g} are possible"
        )
