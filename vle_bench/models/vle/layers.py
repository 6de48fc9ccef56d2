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
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, hidden: Tensor, other: Tensor, mask: Tensor | None) -> Tensor:
        """Let each token of `hidden` attend to the tokens of `other` where `mask` is true.

        Args:
            hidden: (B, Q, D).
            other: (B, L, D).
            mask: (B, 1, 1, L) bool; None attends to every token.

        Returns:
            (B, Q, D).
        """
        query = self._heads(self.query(hidden))  # (B, h, Q, d)
        dropout = self.dropout if self.training else 0.0
        if hidden.shape[1] == 1 and not self.eager:
            return self._of_one_query(query, other, mask, dropout)
        key = self._heads(self.key(other))  # (B, h, L, d)
        value = self._heads(self.value(other))  # (B, h, L, d)
        # On a CPU torch has no fused kernel with dropout, and its fallback is slower than this.
        if self.eager or (dropout and hidden.device.type == "cpu"):
            scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)  # (B, h, Q, L)
            context = self._weights(scores, mask, dropout).to(value.dtype) @ value
        else:
            context = F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, dropout_p=dropout
            )
        return context.transpose(1, 2).flatten(2)

    def _of_one_query(
        self, query: Tensor, other: Tensor, mask: Tensor | None, dropout: float
    ) -> Tensor:
        """Attend with a single query, without the keys and values of all tokens of `other`.

        query · (W x) = (Wᵀ query) · x, and a weighted mean of values is the value projection of the
        weighted mean of x.

        Args:
            query: (B, h, 1, d).

        Returns:
            (B, 1, D).
        """
        heads = (self.num_heads, -1, other.shape[-1])  # views a weight (D, D) as (h, d, D)
        query = query[:, :, 0] * query.shape[-1] ** -0.5  # (B, h, d)
        key_bias = (query * self.key.bias.view(self.num_heads, -1)).sum(-1)[..., None]  # (B, h, 1)
        moved = torch.einsum("bhd,hde->bhe", query, self.key.weight.view(heads))  # (B, h, D)
        scores = moved @ other.transpose(1, 2) + key_bias  # (B, h, L)
        weights = self._weights(scores, None if mask is None else mask[:, 0], dropout)
        weights = weights.to(other.dtype)
        context = torch.einsum("bhe,hde->bhd", weights @ other, self.value.weight.view(heads))
        # Dropout changes the sum of the weights, so the bias is not simply added once.
        context = context + weights.sum(-1, keepdim=True) * self.value.bias.view(self.num_heads, -1)
        return context.flatten(1)[:, None]

    @staticmethod
    def _weights(scores: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        return F.dropout(scores.softmax(-1, dtype=torch.float32), dropout)


class VLEResidual(nn.Module):
    """Dense layer, dropout, and layer norm of the sum with the residual (post-norm, as in BERT)."""

    def __init__(self, config: VLEConfig, in_features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

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
