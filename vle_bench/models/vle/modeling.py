"""VLE: a text encoder and a CLIP ViT, joined by co-attention layers.

Shapes: B texts, N images, T text tokens, P patches, K objects, S = 1 + P + K image tokens, D fusion width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, CLIPVisionModel, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput

from vle_bench.models.vle.configuration import VLEConfig


@dataclass
class VLEModelOutput(ModelOutput):
    """pooler_output (B, 2D), [text ; image]; text_embeds (B, T, D); image_embeds (B, S, D)."""

    pooler_output: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None


@dataclass
class VLEClassifierOutput(ModelOutput):
    """loss (): the mean over the batch when labels were given; logits (B, num_labels)."""

    loss: Tensor | None = None
    logits: Tensor | None = None


class VLEAttentionProjections(nn.Module):
    def __init__(self, config: VLEConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.eager = config._attn_implementation == "eager"
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, length, D / heads)

    def forward(self, hidden: Tensor, other: Tensor, mask: Tensor | None) -> Tensor:
        """hidden (B, Q, D) attends to other (B, L, D) where mask (B, 1, 1, L) is true; returns (B, Q, D)."""
        query, key, value = (
            self._heads(self.query(hidden)),
            self._heads(self.key(other)),
            self._heads(self.value(other)),
        )
        dropout = self.dropout if self.training else 0.0
        if self.eager:
            scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            if mask is not None:
                scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
            weights = F.dropout(scores.softmax(-1, dtype=torch.float32).to(value.dtype), dropout)
            context = weights @ value
        else:
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return context.transpose(1, 2).flatten(2)


class VLEResidual(nn.Module):
    """Dense, dropout, and the layer norm of the sum with the residual (post-layer-norm, as in BERT)."""

    def __init__(self, config: VLEConfig, in_features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden)) + residual)


class VLEAttention(nn.Module):
    def __init__(self, config: VLEConfig) -> None:
        super().__init__()
        self.self = VLEAttentionProjections(config)
        self.output = VLEResidual(config, config.hidden_size)

    def forward(self, hidden: Tensor, other: Tensor, mask: Tensor | None) -> Tensor:
        return self.output(self.self(hidden, other, mask), hidden)


class VLEIntermediate(nn.Module):
    def __init__(self, config: VLEConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        return self.activation(self.dense(hidden))


class VLECrossLayer(GradientCheckpointingLayer):
    """One side of a fusion layer: self-attention, attention to the other side, feed-forward."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__()
        self.attention = VLEAttention(config)
        self.crossattention = VLEAttention(config)
        self.intermediate = VLEIntermediate(config)
        self.output = VLEResidual(config, config.intermediate_size)

    def forward(self, hidden: Tensor, other: Tensor, mask: Tensor | None, other_mask: Tensor | None) -> Tensor:
        hidden = self.attention(hidden, hidden, mask)
        hidden = self.crossattention(hidden, other, other_mask)
        return self.output(self.intermediate(hidden), hidden)


class VLEPooler(nn.Module):
    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.dense(hidden[:, 0]).tanh()


class VLEPreTrainedModel(PreTrainedModel):
    config_class = VLEConfig
    base_model_prefix = "vle"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["VLECrossLayer", "CLIPEncoderLayer", "DebertaV2Layer", "RobertaLayer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)


class VLEModel(VLEPreTrainedModel):
    """The encoder without a head. Keys and widths as in the released `hfl/vle-*` checkpoints."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        # DeBERTa has an attention of its own and refuses "sdpa"; RoBERTa and BERT would build a pooler that nothing reads.
        own = {"attn_implementation": "eager"} if config.text_config.model_type == "deberta-v2" else {"add_pooling_layer": False}
        self.text_model = AutoModel.from_config(config.text_config, **own)
        self.vision_model = CLIPVisionModel(config.vision_config)
        self.text_projection_layer = nn.Linear(config.text_config.hidden_size, width)
        self.image_projection_layer = nn.Linear(config.vision_config.hidden_size, width)
        self.token_type_embeddings = nn.Embedding(config.num_token_types, width)
        self.cross_modal_image_layers = nn.ModuleList(VLECrossLayer(config) for _ in range(config.num_hidden_layers))
        self.cross_modal_text_layers = nn.ModuleList(VLECrossLayer(config) for _ in range(config.num_hidden_layers))
        self.cross_modal_image_pooler = VLEPooler(width)
        self.cross_modal_text_pooler = VLEPooler(width)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    def cross_modal_parameters(self) -> list[nn.Parameter]:
        """The fusion layers and their poolers: the group that METER and VLE train with `lr_mult_cross_modal`."""
        modules = (self.cross_modal_image_layers, self.cross_modal_text_layers,
                   self.cross_modal_image_pooler, self.cross_modal_text_pooler)  # fmt: skip
        return [p for module in modules for p in module.parameters()]

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """pixel_values (N, 3, H, W) → projected CLS and patches (N, 1 + P, D)."""
        hidden = self.vision_model(pixel_values).last_hidden_state
        # Published: CLIP's post-layer-norm runs over all tokens, where CLIP itself normalises CLS only.
        return self.image_projection_layer(self.vision_model.post_layernorm(hidden))

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask (B, T) → projected text (B, T, D)."""
        hidden = self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.text_projection_layer(hidden)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        image_index: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        object_patch_mask: Tensor | None = None,
        object_token_type_ids: Tensor | None = None,
        object_mask: Tensor | None = None,
        **_: Any,
    ) -> VLEModelOutput:
        """Encode B texts, each looking at one of N images.

        Args:
            input_ids, attention_mask: (B, T).
            pixel_values: (N, 3, H, W).
            image_index: (B,) row of `pixel_values` for each text; None where N = B, one each.
            token_type_ids: (B, T) fusion types: 0, or 2 + i for a word that names object i.
            object_patch_mask: (B, K, P) bool, patch p (row-major, without CLS) is covered by object k.
            object_token_type_ids: (B, K), 2 + i.
            object_mask: (B, K), 1 for a real object.
        """
        if image_index is None and pixel_values.shape[0] != input_ids.shape[0]:
            raise ValueError(
                f"{input_ids.shape[0]} texts and {pixel_values.shape[0]} images: image_index must say which image each text sees"
            )
        text = self.encode_text(input_ids, attention_mask)
        image = self.encode_image(pixel_values)  # (N, 1 + P, D)
        if image_index is not None:
            image = image.index_select(0, image_index)
        types = self.token_type_embeddings.weight
        image_mask = None
        objects = None
        if object_patch_mask is not None:
            if object_mask is None or object_token_type_ids is None:
                raise ValueError("object_patch_mask comes with object_mask and object_token_type_ids, (B, K) each")
            covered = object_patch_mask.to(image.dtype)  # (B, K, P)
            count = covered.sum(-1, keepdim=True).clamp(min=1)
            objects = covered @ image[:, 1:] / count + self.token_type_embeddings(object_token_type_ids)
            image_mask = torch.cat([object_mask.new_ones(image.shape[:2]), object_mask], 1)[:, None, None].bool()
        image = image + types[1]
        if objects is not None:
            image = torch.cat([image, objects], 1)  # (B, S, D)
        text = text + (types[0] if token_type_ids is None else self.token_type_embeddings(token_type_ids))
        text_mask = attention_mask[:, None, None].bool()
        for text_layer, image_layer in zip(self.cross_modal_text_layers, self.cross_modal_image_layers, strict=True):
            text, image = (
                text_layer(text, image, text_mask, image_mask),
                image_layer(image, text, image_mask, text_mask),
            )
        pooled = torch.cat([self.cross_modal_text_pooler(text), self.cross_modal_image_pooler(image)], -1)
        return VLEModelOutput(pooler_output=pooled, text_embeds=text, image_embeds=image)


class VLEForVQA(VLEPreTrainedModel):
    """Answers as classes: a two-layer head on the pooled pair."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        self.vle = VLEModel(config)
        width = 2 * config.hidden_size
        self.vqa_classifier = nn.Sequential(
            nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, len(config.id2label or {}))
        )
        self.post_init()

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.vqa_classifier.parameters())

    def cross_modal_parameters(self) -> list[nn.Parameter]:
        return self.vle.cross_modal_parameters()

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> VLEClassifierOutput:
        """As `VLEModel.forward`, with labels (B, num_labels) soft targets in 0..1.

        The loss is the binary cross-entropy summed over the classes and averaged over the questions (METER, `objectives.py`:
        mean over both, times the number of classes), computed in float32.
        """
        logits = self.vqa_classifier(self.vle(**inputs).pooler_output)
        loss = None
        if labels is not None:
            if labels.shape != logits.shape:
                raise ValueError(f"labels have the shape {tuple(labels.shape)}, logits {tuple(logits.shape)}")
            loss = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none").sum(-1).mean()
        return VLEClassifierOutput(loss=loss, logits=logits)


AutoModel.register(VLEConfig, VLEModel)
