"""The published way to run the models, as a baseline: same weights and numbers, more work."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

from vle_bench.models.vle.dropout import Dropout
from vle_bench.models.vle.layers import VLEAttentionProjections


@contextmanager
def published_way(model: Any, max_text_length: int, pad_token_id: int) -> Iterator[None]:
    """Make a model run as its published program does, forward and backward.

    The image is encoded again for every question, in VCR for every choice. Every text is padded to
    `max_text_length`, attention is not fused, dropout is torch's, DeBERTa looks at all relative
    positions, and the last fusion layer computes all tokens.
    """
    base = model.base_model
    encode = type(base).forward.__get__(base)

    def forward(
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        image_index: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        pooled_only: bool = False,
        **objects: Tensor,
    ) -> Any:
        more = max(0, max_text_length - input_ids.shape[-1])
        return encode(
            F.pad(input_ids, (0, more), value=pad_token_id),
            F.pad(attention_mask, (0, more)),
            pixel_values if image_index is None else pixel_values.index_select(0, image_index),
            token_type_ids=None if token_type_ids is None else F.pad(token_type_ids, (0, more)),
            **objects,
        )

    # Each encoder has a configuration of its own. DeBERTa's is "eager" already.
    encoders = [
        m for m in base.modules() if isinstance(m, PreTrainedModel) and m.config is not base.config
    ]
    configs = [encoder.config for encoder in encoders]
    deberta: list[nn.Module] = [
        module for module in base.modules() if isinstance(module, DisentangledSelfAttention)
    ]
    fusion = [module for module in base.modules() if isinstance(module, VLEAttentionProjections)]
    dropouts: list[nn.Module] = [module for module in base.modules() if type(module) is Dropout]
    chosen = (
        [config._attn_implementation for config in configs],
        [module.eager for module in fusion],
    )
    try:
        base.forward = forward
        for config in configs:
            config._attn_implementation = "eager"
        for attention in fusion:
            attention.eager = True
        for module in dropouts:
            module.__class__ = nn.Dropout
        for module in deberta:
            module.forward = partial(DisentangledSelfAttention.forward, module)  # type: ignore[arg-type]
        yield
    finally:
        del base.forward
        for config, name in zip(configs, chosen[0], strict=True):
            config._attn_implementation = name
        for attention, eager in zip(fusion, chosen[1], strict=True):
            attention.eager = eager
        for module in dropouts:
            module.__class__ = Dropout
        for module in deberta:
            del module.forward
