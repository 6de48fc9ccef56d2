"""Dropout on a CPU from cheap random bits, and attention with it in blocks that stay in the cache.

torch draws the units of a dropout one by one, each from a number of 53 random bits, and keeps the
result in 32. Here a unit takes 16 bits, so p is a multiple of 1/65,536: 0.1 becomes 0.100006. The
bits come from torch's global CPU generator, so they are a function of the seed and the step, as
before.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LEVELS = 2**16
# Scores of a block in float32. Measured on a processor with 1 MiB of L2 cache a core: 1 to 16 MiB
# differ by less than a tenth.
BLOCK_BYTES = 4 * 2**20


def applies(tokens: Tensor) -> bool:
    """Whether dropout takes the cheap bits: on a CPU, without torch.compile.

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
        """See `attention`, with rows (B · h) in place of (B, h); query is scaled."""
        context = torch.empty_like(query)
        kept = torch.empty(*query.shape[:2], key.shape[1], dtype=torch.bool)
        scale = kept_scale(p)
        for block in _blocks(kept):
            weights = _weights(query[block], key[block], None if bias is None else bias[block])
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
            weights = _weights(query[block], key[block], None if bias is None else bias[block])
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


def _weights(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """Return softmax(query · keyᵀ + bias) of some rows, in float32."""
    scores = (query @ key.transpose(-1, -2)).float()
    if bias is not None:
        scores += bias
    return scores.softmax(-1)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float) -> Tensor:
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
