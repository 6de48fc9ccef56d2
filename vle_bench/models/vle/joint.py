"""Projections of the same tokens as one matrix product.

Queries, keys and values are three linear layers of one input. One after the other they read it
three times, and with autocast copy it three times to 16 bits and add up three gradients of it.

Shapes: N images, S image tokens, D width, h attention heads, d = D / h.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.clip.modeling_clip import CLIPAttention


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


def use_joint_projections(vision_model: nn.Module) -> None:
    """Replace the attention of every layer of a CLIP encoder; its weights stay."""
    for module in vision_model.modules():
        if type(module) is CLIPAttention:
            module.__class__ = ImageAttention
