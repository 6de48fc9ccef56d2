"""Bounds of the numbers in a model's configuration: recipes and config.json have the same.

The largest encoders of this kind have 48 layers of 1,664 and 128,100 words. A mistyped number
beyond these bounds would build modules or allocate tables for minutes. Imports nothing, because
recipes are checked without torch.
"""

from collections.abc import Mapping

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
