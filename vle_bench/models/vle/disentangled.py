"""DeBERTa's disentangled attention without the positions that a short text cannot have.

Shapes: B texts, T tokens, D width, h attention heads, d = D / h, R rows of the table of positions.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import (
    DebertaV2Encoder,
    DebertaV2Model,
    DisentangledSelfAttention,
)


def relative_positions(tokens: int, device: torch.device, buckets: int, longest: int) -> Tensor:
    """Compute transformers' `build_relative_position` of one text with itself, without a wait.

    Distances beyond half of the buckets share a bucket, in logarithmic steps. transformers copies a
    constant to the device for that in every step, so the host waits (5.17 within TorchScript).

    Args:
        tokens: length of the text.
        buckets: the configuration's position_buckets.
        longest: its max_relative_positions.

    Returns:
        (tokens, tokens), row minus column.
    """
    places, middle = torch.arange(tokens, device=device), buckets // 2
    distances = places[:, None] - places
    if buckets <= 0 or longest <= 0 or tokens - 1 <= middle:
        return distances
    sizes = distances.abs().clamp(min=middle)
    # A scalar on the CPU: an operation on any device takes it along without a copy.
    whole = torch.tensor((longest - 1) / middle, device="cpu").log()
    shared = torch.ceil(torch.log(sizes / middle) / whole * (middle - 1)) + middle
    return torch.where(sizes <= middle, distances, (shared * distances.sign()).long())


class ShortTextEncoder(DebertaV2Encoder):
    """The encoder of transformers, with relative positions that do not wait for the device."""

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
    """The attention of transformers, with the same weights and results and less work.

    T tokens are at most T - 1 apart, and only these positions are computed. transformers projects
    all
    512 rows of the table in every layer and scores every token against each row: more work than all
    else that a question of 10 tokens needs.
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
        """Attend within each text, by content and by relative position.

        Args:
            hidden_states: (B, T, D).
            attention_mask: (B, 1, T, T).
            relative_pos: (1, T, T), row minus column.
            rel_embeddings: (2 span, D), the table of positions.
        """
        if (
            not self.relative_attention
            or query_states is not None
            or relative_pos is None
            or rel_embeddings is None
        ):
            # VLE never comes here: there is no table, or the call is one of DeBERTa's decoder.
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
        # Divide before the product, as transformers does: fp16 ends at 65,504.
        scores = query @ (key / scale).transpose(-1, -2)  # (B, h, T, T)
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
            # Seen from the key, the distance has the other sign: read the table from its other end.
            scores = scores + picked(key, position_query / scale, True).transpose(-1, -2)
        scores = scores.masked_fill(~attention_mask.bool(), torch.finfo(scores.dtype).min)
        weights = self.dropout(scores.softmax(-1))
        context = (weights @ value).transpose(1, 2).flatten(2)
        return context, weights if output_attentions else None

    def _heads(self, x: Tensor) -> Tensor:
        """Split the width into heads: (B, T, D) to (B, h, T, d)."""
        return x.unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)

    def _rows(self, rows: Tensor, projection: nn.Module) -> Tensor:
        """Project rows of the table: (R, D) to (h, R, d)."""
        projected: Tensor = projection(rows)
        return projected.unflatten(-1, (self.num_attention_heads, -1)).transpose(0, 1)

    def _used_rows(self, tokens: int) -> tuple[int, int]:
        """Return the first and last row of the table that a text of so many tokens reads.

        Up to half of the buckets each distance has its own bucket. A longer text takes all rows.
        """
        span = self.pos_ebd_size
        exact = self.position_buckets // 2 if self.position_buckets > 0 else span
        reach = tokens - 1 if tokens - 1 <= exact else span
        return max(0, span - reach), min(2 * span - 1, span + reach)

    def _by_place(
        self, relative_pos: Tensor, first: int
    ) -> Callable[[Tensor, Tensor, bool], Tensor]:
        """Return the function that scores content (B, h, T, d) against positions (h, R, d).

        Each token reads T of the R rows, so the result is (B, h, T, T). If each distance has its
        own row, then R = 2 T - 1 and no index is needed (`_shifted`).
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
    """Score each token against every row: (B, h, T, d) and (h, R, d) to (B, h, T, R)."""
    return torch.einsum("bhtd,hrd->bhtr", content, position)


def _picked(content: Tensor, position: Tensor, places: Tensor) -> Tensor:
    """Score token t against the rows places[t]; places (T, T)."""
    every = _every(content, position)
    return every.gather(-1, places.expand(*every.shape[:2], *places.shape))


def _shifted(content: Tensor, position: Tensor) -> Tensor:
    """Score token t against row u - t + T - 1 for each token u.

    These rows are a band of the matrix (T, 2 T - 1). In the flat matrix each row of the band begins
    at equal steps, so slices are enough (Transformer-XL, arXiv 1901.02860, appendix B). Their
    gradient is as fast and always rounds the same. The gradient of an index adds in any order on a
    GPU, or sorts first.
    """
    tokens = content.shape[-2]
    every = _every(content, position).flatten(-2)  # (B, h, T (2 T - 1))
    return every[..., tokens - 1 : -1].unflatten(-1, (tokens, 2 * tokens - 2))[..., :tokens]


def use_short_text_attention(text_model: DebertaV2Model) -> None:
    """Replace the attention of every layer of a new DeBERTa-v2; the names of its weights stay."""
    # The class adds no weights. A new encoder would draw the weights of all layers again.
    text_model.encoder.__class__ = ShortTextEncoder
    for layer in text_model.encoder.layer:
        layer.attention.self = ShortTextAttention(text_model.config)
