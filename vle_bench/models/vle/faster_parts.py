"""Faster parts that take the places of those of transformers and torch; the weights stay.

- DeBERTa's disentangled attention without the positions that a short text cannot have.
- Queries, keys and values of the same tokens as one matrix product. One after the other, three
  linear layers read their input three times, and with autocast copy it three times to 16 bits and
  add up three gradients of it.
- CLIP's quick GELU, whose backward pass holds its input alone and takes two operations, not five.
- Dropout on a CPU from cheap random bits. torch draws the units one by one, each from a number of
  53 random bits, and keeps the result in 32. Here a unit takes 16 bits, so p is a multiple of
  1/65,536: 0.1 becomes 0.100006. The bits come from torch's global CPU generator, so they are a
  function of the seed and the step, as before.

Shapes: B texts, T tokens, N images, S image tokens, D width, h attention heads, d = D / h, R rows
of the table of positions.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.activations import QuickGELUActivation
from transformers.models.clip.modeling_clip import CLIPAttention
from transformers.models.deberta_v2.modeling_deberta_v2 import (
    DebertaV2Encoder,
    DebertaV2Model,
    DisentangledSelfAttention,
)

LEVELS = 2**16  # of the random number of a unit
QUICK = 1.702  # of CLIP's activation, an approximation of GELU (arXiv 1606.08415)


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
            positions: Tensor | None = super().get_rel_pos(
                hidden_states, query_states, relative_pos
            )
            return positions
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
            result: tuple[Tensor, Tensor | None] = super().forward(
                hidden_states,
                attention_mask,
                output_attentions,
                query_states,
                relative_pos,
                rel_embeddings,
            )
            return result
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
        heads: Tensor = x.unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)
        return heads

    def _rows(self, rows: Tensor, projection: nn.Module) -> Tensor:
        """Project rows of the table: (R, D) to (h, R, d)."""
        projected: Tensor = projection(rows)
        heads: Tensor = projected.unflatten(-1, (self.num_attention_heads, -1)).transpose(0, 1)
        return heads

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
    band: Tensor = every[..., tokens - 1 : -1].unflatten(-1, (tokens, 2 * tokens - 2))
    return band[..., :tokens]


def use_short_text_attention(text_model: DebertaV2Model) -> None:
    """Replace the attention of every layer of a new DeBERTa-v2; the names of its weights stay."""
    # The class adds no weights. A new encoder would draw the weights of all layers again.
    text_model.encoder.__class__ = ShortTextEncoder
    layers: Any = text_model.encoder.layer
    for layer in layers:
        layer.attention.self = ShortTextAttention(text_model.config)


def together(tokens: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """Apply layers to the same tokens (..., D): the output of each, (..., its width).

    Without gradients the layers run by themselves: autocast then keeps 16-bit copies of their
    weights from batch to batch.
    """
    if not torch.is_grad_enabled():
        return tuple(layer(tokens) for layer in layers)
    weight = torch.cat([layer.weight for layer in layers])
    bias = torch.cat([layer.bias for layer in layers])
    projected = F.linear(tokens, weight, bias)
    return torch.split(projected, [layer.out_features for layer in layers], -1)


class ImageAttention(CLIPAttention):
    """CLIP's attention with one product for queries, keys and values."""

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Attend within each image: (N, S, D) to (N, S, D).

        As transformers does it, if another implementation of attention was chosen.
        """
        if self.config._attn_implementation != "sdpa" or attention_mask is not None:
            result: tuple[Tensor, Tensor | None] = super().forward(
                hidden_states, attention_mask, **options
            )
            return result
        query, key, value = (
            projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (N, h, S, d)
            for projected in together(hidden_states, self.q_proj, self.k_proj, self.v_proj)
        )
        p = float(self.dropout) if self.training else 0.0  # type: ignore[arg-type]
        context = F.scaled_dot_product_attention(query, key, value, dropout_p=p, scale=self.scale)
        return self.out_proj(context.transpose(1, 2).flatten(2)), None


class QuickGelu(QuickGELUActivation):
    """x · σ(1.702 x): the numbers of transformers' forward pass."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply it to a tensor of any shape."""
        if torch.compiler.is_compiling():  # the compiler joins the plain operations itself
            result: Tensor = super().forward(input)
        else:
            result = _QuickGelu.apply(input)
        return result


class _QuickGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (QUICK * x).sigmoid_().mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # It is SiLU(1.702 x) / 1.702, so the two factors of its derivative cancel out.
        (x,) = ctx.saved_tensors
        slope: Tensor = torch.ops.aten.silu_backward(gradient, QUICK * x)
        return slope


FASTER_CLIP: dict[type, type] = {CLIPAttention: ImageAttention, QuickGELUActivation: QuickGelu}


def use_faster_clip(vision_model: nn.Module) -> None:
    """Replace the attention and the activation of every layer of a CLIP encoder; no weights."""
    for module in vision_model.modules():
        faster = FASTER_CLIP.get(type(module))
        if faster is not None:
            module.__class__ = faster


def applies(tokens: Tensor) -> bool:
    """Tell whether dropout takes the cheap bits: on a CPU, without torch.compile.

    On a GPU torch's own kernels are fused, and compiled code would unroll the blocks.
    """
    return tokens.device.type == "cpu" and not torch.compiler.is_compiling()


def dropped_level(p: float) -> int:
    """Return how many of the 65,536 levels are dropped for a probability 0 < p < 1."""
    return min(round(p * LEVELS), LEVELS - 1)


def kept_scale(p: float) -> float:
    """Return the factor on what is kept, with which the expectation stays the same."""
    return LEVELS / (LEVELS - dropped_level(p))


def draw_kept(shape: tuple[int, ...], p: float, out: Tensor | None = None) -> Tensor:
    """Draw which units are kept: bool of `shape`, true with probability 1 - p."""
    units = math.prod(shape)
    bits = torch.empty(-(-units // 4), dtype=torch.int64).random_(-(2**63), None)
    levels = bits.view(torch.int16)[:units].view(shape)  # four units of each number
    return torch.ge(levels, dropped_level(p) - LEVELS // 2, out=out)


class _Dropped(torch.autograd.Function):
    """x · kept · scale; the backward pass holds one byte a unit."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        kept, ctx.scale = draw_kept(tuple(x.shape), p), kept_scale(p)
        ctx.save_for_backward(kept)
        return x.mul(ctx.scale).mul_(kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return gradient.mul(ctx.scale).mul_(kept), None


def dropout(x: Tensor, p: float) -> Tensor:
    """Drop units of x with probability p, as `torch.nn.functional.dropout` in training."""
    if not 0 < p < 1 or not applies(x):
        return F.dropout(x, p)
    dropped: Tensor = _Dropped.apply(x, p)
    return dropped


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` that takes the cheap bits on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p) if self.training else input


def use_cheap_dropout(model: nn.Module) -> None:
    """Replace every `torch.nn.Dropout` of a model; none of them has weights."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = Dropout
