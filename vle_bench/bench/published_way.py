"""The published way to run the models, as a baseline: same weights and numbers, more work."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.activations import QuickGELUActivation
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

from vle_bench.models.vle.faster_parts import Dropout, QuickGelu
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
    ) -> object:
        more = max(0, max_text_length - input_ids.shape[-1])
        return encode(
            F.pad(input_ids, (0, more), value=pad_token_id),
            F.pad(attention_mask, (0, more)),
            pixel_values if image_index is None else pixel_values.index_select(0, image_index),
            token_type_ids=None if token_type_ids is None else F.pad(token_type_ids, (0, more)),
            **objects,
        )

    parts = list(base.modules())
    # Each encoder has a configuration of its own. DeBERTa's is "eager" already.
    encoders = [m for m in parts if isinstance(m, PreTrainedModel) and m.config is not base.config]
    deberta = [m for m in parts if isinstance(m, DisentangledSelfAttention)]
    changes: list[tuple[object, str, object]] = [
        *((encoder.config, "_attn_implementation", "eager") for encoder in encoders),
        *((m, "eager", True) for m in parts if isinstance(m, VLEAttentionProjections)),
        *((m, "__class__", nn.Dropout) for m in parts if type(m) is Dropout),
        *((m, "__class__", QuickGELUActivation) for m in parts if type(m) is QuickGelu),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    forwards = {m: partial(DisentangledSelfAttention.forward, m) for m in deberta}
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        for module, way in {base: forward, **forwards}.items():
            module.forward = way
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        for module in (base, *forwards):
            del module.forward
