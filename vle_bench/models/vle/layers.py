"""Layers of the co-attention fusion.

Shapes: B texts, Q query tokens, L tokens that are attended to, D fusion width, h attention heads,
d = D / h.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.dropout import Dropout, applies, attention, dropout
from vle_bench.models.vle.joint import together


def few_queries(queries: int, others: int, width: int, heads: int) -> bool:
    """Whether attention takes at most half of the work without keys and values.

    The products of a text take, in units of 2 · width, others · (width + queries) with keys and
    values, and queries · (width + heads · others) with both projections on the side of the queries.
    At VLE-base's width this is true for up to 29 words that attend to the 577 tokens of an image.
    """
    return 2 * queries * (width + heads * others) <= others * (width + queries)


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
                context = attention(query, key, value, mask, p)
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
