"""Layers of the co-attention fusion.

Shapes: B texts, Q query tokens, L tokens that are attended to, D fusion width, h attention heads,
d = D / h.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.faster_parts import (
    Dropout,
    applies,
    draw_kept,
    dropout,
    kept_scale,
    together,
)

# Scores of a block in float32. Measured on a processor with 1 MiB of L2 cache a core: 1 to 16 MiB
# differ by less than a tenth.
BLOCK_BYTES = 4 * 2**20


def few_queries(queries: int, others: int, width: int, heads: int) -> bool:
    """Tell whether attention takes at most half of the work without keys and values.

    The products of a text take, in units of 2 · width, others · (width + queries) with keys and
    values, and queries · (width + heads · others) with both projections on the side of the queries.
    At VLE-base's width this is true for up to 29 words that attend to the 577 tokens of an image.
    """
    return 2 * queries * (width + heads * others) <= others * (width + queries)


class _Attention(torch.autograd.Function):
    """softmax(query · keyᵀ + bias), dropped, times value, for blocks of the rows of (B · h).

    Whole matrices (B, h, Q, L) of scores, weights, random numbers and dropped weights would be
    fetched from memory several times over. Only which units are kept is held for the backward
    pass, one byte each; it computes the weights again.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, p: float
    ) -> Tensor:
        """See `attention_on_cpu`, with rows (B · h) in place of (B, h); query is scaled."""
        context = torch.empty_like(query)
        kept = torch.empty(*query.shape[:2], key.shape[1], dtype=torch.bool)
        scale = kept_scale(p)
        for block in _blocks(kept):
            weights = _softmax(query[block], key[block], None if bias is None else bias[block])
            draw_kept(tuple(weights.shape), p, out=kept[block])
            dropped = weights.mul_(kept[block]).to(value.dtype)
            torch.mul(dropped @ value[block], scale, out=context[block])
        ctx.save_for_backward(query, key, value, bias, kept)
        ctx.scale = scale
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias, kept = ctx.saved_tensors
        by_query, by_key, by_value = (torch.empty_like(x) for x in (query, key, value))
        gradient = gradient * ctx.scale
        for block in _blocks(kept):
            outer, units = gradient[block], kept[block].float()
            weights = _softmax(query[block], key[block], None if bias is None else bias[block])
            dropped = (weights * units).to(value.dtype)
            by_value[block] = dropped.transpose(-1, -2) @ outer
            by_weights = (outer @ value[block].transpose(-1, -2)).float().mul_(units)
            by_scores = torch._softmax_backward_data(by_weights, weights, -1, torch.float32)
            by_scores = by_scores.to(query.dtype)
            by_query[block] = by_scores @ key[block]
            by_key[block] = by_scores.transpose(-1, -2) @ query[block]
        return by_query, by_key, by_value, None, None


def _blocks(kept: Tensor) -> list[slice]:
    """Cut the rows of (rows, Q, L) into blocks of about `BLOCK_BYTES` of scores."""
    rows, queries, others = kept.shape
    size = max(1, BLOCK_BYTES // (4 * queries * others))
    return [slice(start, start + size) for start in range(0, rows, size)]


def _softmax(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """Return softmax(query · keyᵀ + bias) of some rows, in float32."""
    scores = (query @ key.transpose(-1, -2)).float()
    if bias is not None:
        scores += bias
    return scores.softmax(-1)


def attention_on_cpu(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float
) -> Tensor:
    """Attend with dropout on a CPU.

    Args:
        query: (B, h, Q, d), scaled.
        key, value: (B, h, L, d).
        mask: (B, 1, 1, L) bool; None attends to every token.
        p: probability of dropout, more than 0 and less than 1.

    Returns:
        (B, h, Q, d).
    """
    bias = None
    if mask is not None and not mask.all():
        lowest = torch.finfo(torch.float32).min
        bias = torch.zeros(mask.shape).masked_fill_(~mask, lowest)  # (B, 1, 1, L)
        bias = bias.expand(-1, query.shape[1], -1, -1).flatten(0, 1)  # (B · h, 1, L)
    rows = (x.flatten(0, 1) for x in (query, key, value))
    context: Tensor = _Attention.apply(*rows, bias, p)
    return context.view_as(query)


class VLEAttentionProjections(nn.Module):
    """Multi-head attention without its output projection, as BERT names the weights."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.eager = config._attn_implementation == "eager"
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def _heads(self, tokens: Tensor) -> Tensor:
        """Split the width into heads: (B, Q, D) to (B, h, Q, d)."""
        heads: Tensor = tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return heads

    def forward(self, hidden: Tensor, other: Tensor, mask: Tensor | None) -> Tensor:
        """Let each token of `hidden` attend to the tokens of `other` where `mask` is true.

        Args:
            hidden: (B, Q, D).
            other: (B, L, D).
            mask: (B, 1, 1, L) bool; None attends to every token.

        Returns:
            (B, Q, D).
        """
        p = self.dropout if self.training else 0.0
        on_cpu = hidden.device.type == "cpu"
        queries, others, width = hidden.shape[1], other.shape[1], hidden.shape[2]
        # On GPUs more than one query has not been measured against the fused kernels.
        few = queries == 1 or (on_cpu and few_queries(queries, others, width, self.num_heads))
        if few and not self.eager:
            return self._of_few_queries(self._heads(self.query(hidden)), other, mask, p)
        query, key, value = map(self._heads, self._projected(hidden, other))
        # On a CPU torch has no fused kernel with dropout, and its fallback is slower than this.
        if self.eager or (p and on_cpu):
            query = query * query.shape[-1] ** -0.5
            if 0 < p < 1 and not self.eager and applies(hidden):
                context = attention_on_cpu(query, key, value, mask, p)
            else:
                scores = query @ key.transpose(-1, -2)  # (B, h, Q, L)
                context = self._weights(scores, mask, p).to(value.dtype) @ value
        else:
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=p)
        return context.transpose(1, 2).flatten(2)

    def _projected(self, hidden: Tensor, other: Tensor) -> tuple[Tensor, ...]:
        """Return queries (B, Q, D), keys and values (B, L, D)."""
        if self.eager:
            return self.query(hidden), self.key(other), self.value(other)
        if hidden is other:
            return together(hidden, self.query, self.key, self.value)
        return self.query(hidden), *together(other, self.key, self.value)

    def _of_few_queries(
        self, query: Tensor, other: Tensor, mask: Tensor | None, p: float
    ) -> Tensor:
        """Attend without the keys and values of all tokens of `other`.

        query · (W x) = (Wᵀ query) · x, and a weighted mean of values is the value projection of the
        weighted mean of x. So both projections move to the side of the queries.

        Args:
            query: (B, h, Q, d).

        Returns:
            (B, Q, D).
        """
        heads = (self.num_heads, -1, other.shape[-1])  # views a weight (D, D) as (h, d, D)
        query = query * query.shape[-1] ** -0.5
        key_bias = (query * self.key.bias.view(self.num_heads, 1, -1)).sum(-1, keepdim=True)
        moved = torch.einsum("bhqd,hde->bhqe", query, self.key.weight.view(heads))  # (B, h, Q, D)
        scores = moved.flatten(1, 2) @ other.transpose(1, 2)  # (B, h · Q, L)
        scores = scores.view(*moved.shape[:3], -1) + key_bias  # (B, h, Q, L)
        weights = self._weights(scores, mask, p).to(other.dtype)
        means = (weights.flatten(1, 2) @ other).view_as(moved)  # (B, h, Q, D)
        context = torch.einsum("bhqe,hde->bhqd", means, self.value.weight.view(heads))
        # Dropout changes the sum of the weights, so the bias is not simply added once.
        value_bias = self.value.bias.view(self.num_heads, 1, -1)
        context = context + weights.sum(-1, keepdim=True) * value_bias
        return context.transpose(1, 2).flatten(2)

    def _weights(self, scores: Tensor, mask: Tensor | None, p: float) -> Tensor:
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1, dtype=torch.float32)
        return F.dropout(weights, p) if self.eager else dropout(weights, p)


class VLEResidual(nn.Module):
    """Dense layer, dropout, and layer norm of the sum with the residual (post-norm, as in BERT)."""

    def __init__(self, config: VLEConfig, in_features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.dropout(self.dense(hidden)) + residual)
        return normed


class VLEAttention(nn.Module):
    """Attention with its output projection and residual."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__()
        self.self = VLEAttentionProjections(config)
        self.output = VLEResidual(config, config.hidden_size)

    def forward(self, hidden: Tensor, other: Tensor, mask: Tensor | None) -> Tensor:
        attended: Tensor = self.output(self.self(hidden, other, mask), hidden)
        return attended


class VLEIntermediate(nn.Module):
    """First half of the feed-forward layer."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        activated: Tensor = self.activation(self.dense(hidden))
        return activated


class VLECrossLayer(GradientCheckpointingLayer):
    """One side of a fusion layer: self-attention, attention to the other side, feed-forward."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__()
        self.attention = VLEAttention(config)
        self.crossattention = VLEAttention(config)
        self.intermediate = VLEIntermediate(config)
        self.output = VLEResidual(config, config.intermediate_size)

    def forward(
        self,
        hidden: Tensor,
        other: Tensor,
        mask: Tensor | None,
        other_mask: Tensor | None,
        first_only: bool = False,
    ) -> Tensor:
        """Compute one side from both sides of the layer below.

        Args:
            hidden: (B, Q, D), this side.
            other: (B, L, D), the other side.
            mask: (B, 1, 1, Q) bool, the real tokens of this side; None if all are.
            other_mask: (B, 1, 1, L) bool, those of the other side.
            first_only: compute only the first token.

        Returns:
            (B, Q, D), or (B, 1, D) with `first_only`.
        """
        hidden = self.attention(hidden[:, :1] if first_only else hidden, hidden, mask)
        hidden = self.crossattention(hidden, other, other_mask)
        result: Tensor = self.output(self.intermediate(hidden), hidden)
        return result


class VLEPooler(nn.Module):
    """Dense layer and tanh on the first token, as in BERT."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        pooled: Tensor = self.dense(hidden[:, 0])
        return pooled.tanh()
