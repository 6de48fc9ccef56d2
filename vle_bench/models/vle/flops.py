"""Count the arithmetic of a model from its configuration alone."""

from collections.abc import Sequence

from transformers import PreTrainedConfig

from vle_bench.models.vle.configuration import VLEConfig

# The two gradients of a product are a product each, so training takes three times the forward pass.
BACKWARD = 2


def forward_flops(
    config: VLEConfig, texts: Sequence[tuple[int, int]], images: int, pooled_only: bool = True
) -> dict[str, float]:
    """Count the floating-point operations of the encoder's matrix products in a forward pass.

    A multiplication with its addition counts as two. Only necessary work counts: real tokens
    without padding, each image once, and only the relative positions that occur in the texts.
    Element-wise work (norms, activations, dropout, softmax) does not count, as usual for an MFU.

    Args:
        texts: (tokens, objects) of each text.
        images: number of different images.
        pooled_only: the last fusion layer computes only the first token of each side, as for the
            classifiers.

    Returns:
        `vision`, `text` and `fusion`, which includes the poolers.
    """
    image_tokens = config.num_patches + 1
    return {
        "vision": images * vision_flops(config, image_tokens),
        "text": text_flops(config, [tokens for tokens, _ in texts]),
        "fusion": sum(
            fusion_flops(config, tokens, image_tokens, objects, pooled_only)
            for tokens, objects in texts
        ),
    }


def vision_flops(config: VLEConfig, tokens: int) -> float:
    """Count one image: patches, layers, projection to the fusion's width."""
    vision = config.vision_config
    width = vision.hidden_size
    patches = 2 * (tokens - 1) * vision.num_channels * vision.patch_size**2 * width
    layers = vision.num_hidden_layers * encoder_layer(tokens, width, vision.intermediate_size)
    return patches + layers + 2 * tokens * width * config.hidden_size


def text_flops(config: VLEConfig, lengths: Sequence[int]) -> float:
    """Count all texts of a pass: layers, DeBERTa's positions (once a layer), projection."""
    text = config.text_config
    width, layers = text.hidden_size, text.num_hidden_layers
    total: float = sum(
        layers * encoder_layer(tokens, width, text.intermediate_size)
        + 2 * tokens * width * config.hidden_size
        for tokens in lengths
    )
    kinds = len(text.pos_att_type or []) if getattr(text, "relative_attention", False) else 0
    if kinds and lengths:
        rows = relative_positions(text, max(lengths))
        total += layers * kinds * 2 * rows * width**2
        total += (
            layers
            * kinds
            * sum(2 * tokens * relative_positions(text, tokens) * width for tokens in lengths)
        )
    return total


def relative_positions(text: PreTrainedConfig, tokens: int) -> int:
    """Count the rows of DeBERTa's table of positions that a text of so many tokens reads."""
    span = text.position_buckets if text.position_buckets > 0 else text.max_relative_positions
    span = span if span > 0 else text.max_position_embeddings
    exact = text.position_buckets // 2 if text.position_buckets > 0 else span
    rows: int = min(2 * tokens - 1, 2 * span) if tokens - 1 <= exact else 2 * span
    return rows


def encoder_layer(tokens: int, width: int, inner: int) -> float:
    """Count self-attention (four projections, scores and context) and the feed-forward layer."""
    return 2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * tokens**2 * width


def fusion_flops(
    config: VLEConfig, tokens: int, image_tokens: int, objects: int, pooled_only: bool
) -> float:
    """Count one text with its image: both sides of the fusion, poolers, objects' means."""
    width, inner = config.hidden_size, config.intermediate_size
    seen = image_tokens + objects

    def attention(queries: int, others: int) -> float:
        if queries == 1:
            # The projections move to the query and to the mean: see `layers._of_one_query`.
            return 8 * width**2 + 4 * config.num_attention_heads * others * width
        return 4 * (queries + others) * width**2 + 4 * queries * others * width

    def side(queries: int, own: int, other: int) -> float:
        return attention(queries, own) + attention(queries, other) + 4 * queries * width * inner

    whole = side(tokens, tokens, seen) + side(seen, seen, tokens)
    last = side(1, tokens, seen) + side(1, seen, tokens) if pooled_only else whole
    return (
        (config.num_hidden_layers - 1) * whole
        + last
        + 2 * 2 * width**2
        + 2 * objects * (image_tokens - 1) * width
    )


def head_flops(architecture: str, config: VLEConfig, texts: int, masked_words: int = 0) -> float:
    """Count the head for so many texts.

    `VLEForVCRSecondStage` matches half of the texts and predicts masked words in the others.
    """
    width = 2 * config.hidden_size
    if architecture == "VLEForVCRSecondStage":
        text = config.text_config
        word = (
            config.hidden_size * text.hidden_size
            + text.hidden_size**2
            + text.hidden_size * text.vocab_size
        )
        return 2 * masked_words * word + texts // 2 * 2 * width * 2
    answers = len(config.id2label or {}) if architecture == "VLEForVQA" else 1
    return 2 * texts * (width**2 + width * answers)
