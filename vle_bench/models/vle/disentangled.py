"""DeBERTa's disentangled attention without the positions that a short text cannot have."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention


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
        places = (relative_pos.view(relative_pos.shape[-2:]) + self.pos_ebd_size).clamp(
            0, 2 * self.pos_ebd_size - 1
        ) - first
        if "c2p" in self.pos_att_type:
            position_key = self._rows(
                rows, self.key_proj if self.share_att_key else self.pos_key_proj
            )
            scores = scores + self._picked(query, position_key / scale, places)
        if "p2c" in self.pos_att_type:
            position_query = self._rows(
                rows, self.query_proj if self.share_att_key else self.pos_query_proj
            )
            # the key's place seen from the query, so that the table is read from its other end
            mirrored = (self.pos_ebd_size - relative_pos.view(relative_pos.shape[-2:])).clamp(
                0, 2 * self.pos_ebd_size - 1
            ) - first
            scores = scores + self._picked(key, position_query / scale, mirrored).transpose(-1, -2)
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

    @staticmethod
    def _picked(content: Tensor, position: Tensor, places: Tensor) -> Tensor:
        """content (B, heads, T, d) with position (heads, R, d), of which token t takes places[t] (T, T) → (B, heads, T, T)."""
        every = torch.einsum("bhtd,hrd->bhtr", content, position)
        return every.gather(-1, places.expand(*every.shape[:2], *places.shape))


def use_short_text_attention(text_model: Any) -> None:
    """Replace the attention of every layer of a DeBERTa-v2 that was just built; the names of its weights stay."""
    for layer in text_model.encoder.layer:
        layer.attention.self = ShortTextAttention(text_model.config)
