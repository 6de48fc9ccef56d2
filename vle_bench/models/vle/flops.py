"""What a model has to compute, from its configuration alone."""

from collections.abc import Sequence
from typing import Any

from vle_bench.models.vle.configuration import VLEConfig

BACKWARD = (
    2  # a product's two gradients are a product each: training takes three times the forward pass
)


def forward_flops(
    config: VLEConfig, texts: Sequence[tuple[int, int]], images: int, pooled_only: bool = True
) -> dict[str, float]:
    """Floating-point operations of the matrix products in one forward pass of the encoder, two a multiplication.

    Counted is what has to be done: real tokens without padding, each image once, of the relative positions only those
    that the texts have. Element-wise work (norms, activations, dropout, softmax) is left out, as usual for an MFU.

    Args:
        texts: (tokens, objects) of each text.
        images: how many images they look at.
        pooled_only: the last fusion layer computes the first token of each side alone, as the classifiers do.

    Returns:
        `vision`, `text` and `fusion`, with the poolers.
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
    """One image: patches, layers, projection to the fusion's width."""
    vision = config.vision_config
    width = vision.hidden_size
    patches = 2 * (tokens - 1) * vision.num_channels * vision.patch_size**2 * width
    layers = vision.num_hidden_layers * encoder_layer(tokens, width, vision.intermediate_size)
    return patches + layers + 2 * tokens * width * config.hidden_size


def text_flops(config: VLEConfig, lengths: Sequence[int]) -> float:
    """All texts of a pass: layers, DeBERTa's positions (projected once a layer for all of them), projection."""
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


def relative_positions(text: Any, tokens: int) -> int:
    """Rows of DeBERTa's table that a text of so many tokens can look at."""
    span = text.position_buckets if text.position_buckets > 0 else text.max_relative_positions
    span = span if span > 0 else text.max_position_embeddings
    exact = text.position_buckets // 2 if text.position_buckets > 0 else span
    return min(2 * tokens - 1, 2 * span) if tokens - 1 <= exact else 2 * span


def encoder_layer(tokens: int, width: int, inner: int) -> float:
    """Self-attention (four projections; scores and context) and the feed-forward layer."""
    return 2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * tokens**2 * width


def fusion_flops(
    config: VLEConfig, tokens: int, image_tokens: int, objects: int, pooled_only: bool
) -> float:
    """One text and its image through both sides of the fusion, with the poolers and the means of the objects' patches."""
    width, inner = config.hidden_size, config.intermediate_size
    seen = image_tokens + objects

    def attention(queries: int, others: int) -> float:
        if (
            queries == 1
        ):  # keys and values are made of the query and of the mean, not of every token
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
    """A task's head for so many texts; for `VLEForVCRSecondStage` half of them are matched, and words are predicted."""
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
