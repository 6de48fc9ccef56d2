"""DeBERTa's disentangled attention without the positions that a short text cannot have."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import (
    DebertaV2Encoder,
    DisentangledSelfAttention,
)


def relative_positions(tokens: int, device: torch.device, buckets: int, longest: int) -> Tensor:
    """transformers' `build_relative_position` of one text with itself: (tokens, tokens), row minus column.

    Beyond half the buckets distances share one in a logarithm's steps. transformers copies a constant to the device for
    that in every step, which makes the host wait; 5.17 does so inside of TorchScript.
    """
    places, middle = torch.arange(tokens, device=device), buckets // 2
    distances = places[:, None] - places
    if buckets <= 0 or longest <= 0 or tokens - 1 <= middle:
        return distances
    sizes = distances.abs().clamp(min=middle)
    # The range stays on the CPU: a number that an operation on any device takes along without a copy.
    whole = torch.tensor((longest - 1) / middle, device="cpu").log()
    shared = torch.ceil(torch.log(sizes / middle) / whole * (middle - 1)) + middle
    return torch.where(sizes <= middle, distances, (shared * distances.sign()).long())


class ShortTextEncoder(DebertaV2Encoder):
    """transformers' encoder, which computes relative positions without a wait for the device."""

    def get_rel_pos(
        self,
        hidden_states: Tensor,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
    ) -> Tensor | None:
        if not self.relative_attention or query_states is not None or relative_pos is not None:
            return super().get_rel_pos(hidden_states, query_states, relative_pos)
        tokens, device = hidden_states.shape[1], hidden_states.device
        return relative_positions(
            tokens, device, self.position_buckets, self.max_relative_positions
        )[None]


class ShortTextAttention(DisentangledSelfAttention):
    """transformers' attention, weights and results; T tokens are at most T - 1 apart, and only those positions are computed.

    transformers projects all 512 rows of the table in every layer and scores every token against each of them: more work than
    the questions of a picture themselves.
    """

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """hidden_states (B, T, D), attention_mask (B, 1, T, T), relative_pos (1, T, T), rel_embeddings (2 span, D)."""
        if (
            not self.relative_attention
            or query_states is not None
            or relative_pos is None
            or rel_embeddings is None
        ):
            # no table, or one of the uses that VLE does not make of it
            return super().forward(
                hidden_states,
                attention_mask,
                output_attentions,
                query_states,
                relative_pos,
                rel_embeddings,
            )
        query, key, value = (
            self._heads(layer(hidden_states))
            for layer in (self.query_proj, self.key_proj, self.value_proj)
        )
        terms = 1 + ("c2p" in self.pos_att_type) + ("p2c" in self.pos_att_type)
        scale = math.sqrt(query.shape[-1] * terms)
        scores = query @ (key / scale).transpose(
            -1, -2
        )  # (B, heads, T, T); divided before, as fp16 ends at 65,504
        first, last = self._used_rows(hidden_states.shape[1])
        rows = self.pos_dropout(rel_embeddings[first : last + 1])
        picked = self._by_place(relative_pos, first)
        if "c2p" in self.pos_att_type:
            position_key = self._rows(
                rows, self.key_proj if self.share_att_key else self.pos_key_proj
            )
            scores = scores + picked(query, position_key / scale, False)
        if "p2c" in self.pos_att_type:
            position_query = self._rows(
                rows, self.query_proj if self.share_att_key else self.pos_query_proj
            )
            # the key's place seen from the query, so that the table is read from its other end
            scores = scores + picked(key, position_query / scale, True).transpose(-1, -2)
        scores = scores.masked_fill(~attention_mask.bool(), torch.finfo(scores.dtype).min)
        weights = self.dropout(scores.softmax(-1))
        context = (weights @ value).transpose(1, 2).flatten(2)
        return context, weights if output_attentions else None

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_attention_heads, -1)).transpose(
            1, 2
        )  # (B, heads, T, D / heads)

    def _rows(self, rows: Tensor, projection: nn.Module) -> Tensor:
        """rows (R, D) → (heads, R, D / heads)."""
        return projection(rows).unflatten(-1, (self.num_attention_heads, -1)).transpose(0, 1)

    def _used_rows(self, tokens: int) -> tuple[int, int]:
        """First and last row of the table that so many tokens look at.

        Up to the middle of the buckets a distance is its own bucket; beyond it, all rows are taken.
        """
        span = self.pos_ebd_size
        exact = self.position_buckets // 2 if self.position_buckets > 0 else span
        reach = tokens - 1 if tokens - 1 <= exact else span
        return max(0, span - reach), min(2 * span - 1, span + reach)

    def _by_place(
        self, relative_pos: Tensor, first: int
    ) -> Callable[[Tensor, Tensor, bool], Tensor]:
        """How content (B, heads, T, d) meets position (heads, R, d), of which each token takes T rows: (B, heads, T, T).

        Where every distance has a row of its own, so that R = 2 T - 1, no index is needed (`_shifted`).
        """
        tokens, span = relative_pos.shape[-1], self.pos_ebd_size
        exact = self.position_buckets // 2 if self.position_buckets > 0 else span
        if 1 < tokens <= min(exact + 1, span):
            return lambda content, position, mirrored: _shifted(
                content, position if mirrored else position.flip(1)
            )
        distances = relative_pos.view(tokens, tokens)
        places, mirror = (
            (span + sign * distances).clamp(0, 2 * span - 1) - first for sign in (1, -1)
        )
        return lambda content, position, mirrored: _picked(
            content, position, mirror if mirrored else places
        )


def _every(content: Tensor, position: Tensor) -> Tensor:
    return torch.einsum("bhtd,hrd->bhtr", content, position)


def _picked(content: Tensor, position: Tensor, places: Tensor) -> Tensor:
    """Token t takes the rows places[t] (T, T)."""
    every = _every(content, position)
    return every.gather(-1, places.expand(*every.shape[:2], *places.shape))


def _shifted(content: Tensor, position: Tensor) -> Tensor:
    """Token t takes row u - t + T - 1 for token u: a band of the matrix, which its flat rows hold at equal steps.

    As in Transformer-XL (arXiv 1901.02860, appendix B). Cuts alone, whose gradient is as quick and rounds the same each time;
    that of an index adds up in any order on a GPU, or sorts first.
    """
    every, tokens = (
        _every(content, position).flatten(-2),
        content.shape[-2],
    )  # (B, heads, T (2 T - 1))
    return every[..., tokens - 1 : -1].unflatten(-1, (tokens, 2 * tokens - 2))[..., :tokens]


def use_short_text_attention(text_model: Any) -> None:
    """Replace the attention of every layer of a DeBERTa-v2 that was just built; the names of its weights stay."""
    text_model.encoder.__class__ = (
        ShortTextEncoder  # which adds no weights; a new one would draw those of all layers again
    )
    for layer in text_model.encoder.layer:
        layer.attention.self = ShortTextAttention(text_model.config)
