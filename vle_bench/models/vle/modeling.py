"""VLE: a text encoder and a CLIP ViT, joined by co-attention layers.

Shapes: B texts, N images, T text tokens, P patches, K objects, S = 1 + P + K image tokens, D fusion width.
"""

import logging
import re
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
from vle_bench.models.vle.disentangled import use_short_text_attention

logger = logging.getLogger(__name__)
# Every head that a checkpoint may carry; a model without it leaves it out and says so.
HEADS = (
    "vqa_classifier",
    "vcr_q2a_logit",
    "vcr_qa2r_logit",
    "itm_score",
    "pbc_classifier",
    "mpc_classifier",
    "mpc_mask_embedding",
    "mlm_score",
)
# transformers 5 holds CLIP's vision encoder one level higher than transformers 4, whose names the released files have.
_VISION = re.compile(r"^(vle\.)?vision_model\.(?!vision_model\.)")

METER_TEXT_MODELS = ("roberta",)  # a VLEConfig with this text encoder is METER


@dataclass
class VLEModelOutput(ModelOutput):
    """pooler_output (B, 2D), [text ; image]; text_embeds (B, T, D); image_embeds (B, S, D)."""

    pooler_output: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None


def check_shape(name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name}: the shape {expected} is expected, {tuple(tensor.shape)} came")


def check_range(name: str, tensor: Tensor, end: int, ignored: int | None = None) -> None:
    """Refuse values outside 0..end-1. Only on the CPU, where looking at values costs no wait for a device."""
    if tensor.device.type != "cpu" or torch.compiler.is_compiling() or not tensor.numel():
        return
    wrong = (tensor < 0) | (tensor >= end)
    if ignored is not None:
        wrong &= tensor != ignored
    if wrong.any():
        place = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(
            f"{name}: values of 0 to {end - 1} are expected, {tensor[place].item()} came at {place}"
        )


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
        return x.unflatten(-1, (self.num_heads, -1)).transpose(
            1, 2
        )  # (B, heads, length, D / heads)

    def forward(self, hidden: Tensor, other: Tensor, mask: Tensor | None) -> Tensor:
        """hidden (B, Q, D) attends to other (B, L, D) where mask (B, 1, 1, L) is true; returns (B, Q, D)."""
        query, dropout = self._heads(self.query(hidden)), self.dropout if self.training else 0.0
        if hidden.shape[1] == 1 and not self.eager:
            return self._of_one_query(query, other, mask, dropout)
        key, value = self._heads(self.key(other)), self._heads(self.value(other))
        # On a CPU torch has no fused kernel with dropout, and what it falls back to is slower than this.
        if self.eager or (dropout and hidden.device.type == "cpu"):
            weights = self._weights(
                query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2), mask, dropout
            )
            context = weights.to(value.dtype) @ value
        else:
            context = F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, dropout_p=dropout
            )
        return context.transpose(1, 2).flatten(2)

    def _of_one_query(
        self, query: Tensor, other: Tensor, mask: Tensor | None, dropout: float
    ) -> Tensor:
        """query (B, heads, 1, D / heads) → (B, 1, D), without the keys and values of every token of other.

        query · (W x) = (Wᵀ query) · x, and a weighted mean of values is the value projection of the weighted mean of x.
        """
        heads = (self.num_heads, -1, other.shape[-1])  # of a weight (D, D), by what it puts out
        query = query[:, :, 0] * query.shape[-1] ** -0.5  # (B, heads, D / heads)
        constant = (query * self.key.bias.view(self.num_heads, -1)).sum(-1)[..., None]
        scores = (
            torch.einsum("bhd,hde->bhe", query, self.key.weight.view(heads)) @ other.transpose(1, 2)
            + constant
        )
        weights = self._weights(scores, None if mask is None else mask[:, 0], dropout).to(
            other.dtype
        )  # (B, heads, L)
        context = torch.einsum("bhe,hde->bhd", weights @ other, self.value.weight.view(heads))
        context = context + weights.sum(-1, keepdim=True) * self.value.bias.view(self.num_heads, -1)
        return context.flatten(1)[:, None]

    @staticmethod
    def _weights(scores: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        return F.dropout(scores.softmax(-1, dtype=torch.float32), dropout)


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

    def forward(
        self,
        hidden: Tensor,
        other: Tensor,
        mask: Tensor | None,
        other_mask: Tensor | None,
        first_only: bool = False,
    ) -> Tensor:
        """hidden (B, Q, D) and other (B, L, D) → (B, Q, D), or (B, 1, D) of the first token with `first_only`."""
        hidden = self.attention(hidden[:, :1] if first_only else hidden, hidden, mask)
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

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: Any,
        *args: Any,
        num_token_types: int | None = None,
        image_size: int | None = None,
        output_loading_info: bool = False,
        ignore_mismatched_sizes: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Hugging Face's `from_pretrained`, which here passes over nothing in silence.

        A checkpoint without this model's head gives a new one, and a head that this model has not is left out: a warning names
        every such weight. Buffers of position ids, which older checkpoints carry, are ignored.

        Args:
            num_token_types: grow the fusion's type table; the trained rows stay.
            image_size: pixels a side; the position table is interpolated and the configuration says the new size.
            ignore_mismatched_sizes: start the head afresh where it has another number of classes.

        Raises:
            ValueError: weights of the encoder missing or of another shape, a head that is there in part, or unknown weights.
        """
        # transformers would name the keys of another shape in its log only; here they are accounted for with all others.
        loaded: Any = super().from_pretrained(
            pretrained_model_name_or_path,
            *args,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **kwargs,
        )
        model, info = loaded
        model._account_for(info, str(pretrained_model_name_or_path), ignore_mismatched_sizes)
        if num_token_types is not None:
            model.resize_token_types(num_token_types)
        if image_size is not None:
            model.resize_images(image_size)
        return (model, info) if output_loading_info else model

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: Any,
        is_main_process: bool = True,
        state_dict: Any = None,
        **kwargs: Any,
    ) -> None:
        """Hugging Face's `save_pretrained`, always with the key names of the released checkpoints.

        transformers puts a name back only where the loaded file had it, so that a model from scratch would be saved under
        other names, which the published program passes over.
        """
        weights = self.state_dict() if state_dict is None else state_dict
        released = {
            _VISION.sub(r"\1vision_model.vision_model.", name): tensor
            for name, tensor in weights.items()
        }
        kwargs["save_original_format"] = (
            False  # transformers' own way back, which would add the prefix once more
        )
        super().save_pretrained(save_directory, is_main_process, released, **kwargs)

    def _account_for(self, info: dict[str, Any], source: str, head_may_differ: bool) -> None:
        """Every missing, mismatched or unexpected key is on a list of what may be, or an error.

        A model of several heads may find some of them whole and start the others afresh.
        """
        loose = tuple(
            name for name, _ in self.named_parameters(recurse=False)
        )  # part of a head too
        heads = [
            {key for key in self.state_dict() if key.startswith((name, *loose))}
            for name, _ in self.named_children()
            if name in HEADS
        ]
        mismatched = {entry[0] for entry in info["mismatched_keys"]}
        missing = set(info["missing_keys"])
        head: set[str] = set().union(*heads)
        tied = set(self.all_tied_weights_keys) if hasattr(self, "all_tied_weights_keys") else set()
        in_part = {key for one in heads if one - missing - tied for key in one & missing}
        problems = {
            "missing": sorted(missing - head - tied),
            "of another shape": sorted(mismatched - head if head_may_differ else mismatched),
            "of the head, which is there in part": sorted(in_part),
            "unknown": sorted(
                name for name in info["unexpected_keys"] if not name.startswith(HEADS)
            ),
        }
        for what, names in problems.items():
            if names:
                raise ValueError(
                    f"{source}: {len(names)} weights {what} for {type(self).__name__}: {', '.join(names)}"
                )
        unused = sorted(info["unexpected_keys"])
        for what, names in (("new", sorted((missing | mismatched) - tied)), ("left out", unused)):
            if names:
                logger.warning(
                    "%s from %s: %d weights %s: %s",
                    type(self).__name__,
                    source,
                    len(names),
                    what,
                    ", ".join(names),
                )

    @torch.no_grad()
    def resize_token_types(self, num_token_types: int) -> None:
        """Grow the fusion's type table; the trained rows stay, new ones are initialised."""
        base: Any = self.base_model
        old = base.token_type_embeddings
        if num_token_types < old.num_embeddings:
            raise ValueError(
                f"num_token_types: {num_token_types} would throw away {old.num_embeddings - num_token_types} trained rows"
            )
        new = nn.Embedding(
            num_token_types, old.embedding_dim, device=old.weight.device, dtype=old.weight.dtype
        )
        new.weight.normal_(std=self.config.initializer_range)
        new.weight[: old.num_embeddings] = old.weight
        base.token_type_embeddings = new
        self.config.num_token_types = num_token_types

    @torch.no_grad()
    def resize_images(self, image_size: int) -> None:
        """Take images of image_size × image_size pixels: interpolates the position table as published (bicubic, CLS kept)."""
        base: Any = self.base_model
        vision = base.vision_model
        config, embeddings = self.config.vision_config, vision.embeddings
        if image_size % config.patch_size and image_size != config.image_size:
            raise ValueError(
                f"image_size: {image_size} does not divide by the patch size {config.patch_size}"
            )
        table = embeddings.position_embedding.weight
        rows, wanted = config.image_size // config.patch_size, image_size // config.patch_size
        if wanted != rows:
            grid = table[1:].float().T.unflatten(1, (rows, rows))[None]  # (1, D, rows, rows)
            grid = F.interpolate(grid, size=(wanted, wanted), mode="bicubic", align_corners=False)
            table = torch.cat([table[:1], grid[0].flatten(1).T.to(table.dtype)])
        embeddings.position_embedding = nn.Embedding.from_pretrained(table.clone(), freeze=False)
        embeddings.position_ids = torch.arange(len(table), device=table.device)[None]
        embeddings.image_size, embeddings.num_patches, embeddings.num_positions = (
            image_size,
            len(table) - 1,
            len(table),
        )
        config.image_size = vision.config.image_size = image_size

    def head_parameters(self) -> list[nn.Parameter]:
        """What is not the encoder: the group that METER and VLE train with `lr_mult_head`."""
        encoder = {id(p) for p in self.base_model.parameters()}
        return [p for p in self.parameters() if id(p) not in encoder]

    @torch.no_grad()
    def reset_head(self) -> int:
        """Draw new initial weights for all that is not the encoder; returns how many there are."""
        for name, child in self.named_children():
            if name in HEADS:
                for module in child.modules():
                    for parameter in module.parameters(recurse=False):
                        # Else `_init_weights` would leave weights that were loaded.
                        parameter._is_hf_initialized = False  # type: ignore[attr-defined]
                    self._init_weights(module)
        return sum(p.numel() for p in self.head_parameters())

    def cross_modal_parameters(self) -> list[nn.Parameter]:
        """The group that METER and VLE train with `lr_mult_cross_modal`: the fusion layers and their poolers.

        In METER also the projections into the fusion's width. Both programs choose the parameters whose name
        contains `cross_modal`; METER calls its projections `cross_modal_{text,image}_transform`, VLE
        `{text,image}_projection_layer`.
        """
        base: Any = self.base_model
        modules = [
            base.cross_modal_image_layers,
            base.cross_modal_text_layers,
            base.cross_modal_image_pooler,
            base.cross_modal_text_pooler,
        ]
        if self.config.text_config.model_type in METER_TEXT_MODELS:
            modules += [base.text_projection_layer, base.image_projection_layer]
        return [p for module in modules for p in module.parameters()]

    def encoder_layers(self) -> dict[str, list[nn.Module]]:
        """For each encoder its embeddings and layers, from the input up."""
        base: Any = self.base_model
        text, vision = base.text_model, base.vision_model
        below = nn.ModuleList([vision.embeddings, vision.pre_layrnorm])
        return {
            "text": [text.embeddings, *text.encoder.layer],
            "vision": [below, *vision.encoder.layers],
        }

    def shard_layers(self) -> list[nn.Module]:
        """Repeated layers of both encoders and of the fusion, to shard and to compile one by one."""
        base: Any = self.base_model
        encoders = [layer for layers in self.encoder_layers().values() for layer in layers[1:]]
        return [*encoders, *base.cross_modal_text_layers, *base.cross_modal_image_layers]

    def timed_parts(self) -> dict[str, list[nn.Module]]:
        """Parts that run before the fusion: each from the first of its modules to the last."""
        base: Any = self.base_model
        return {
            "text": [base.text_model, base.text_projection_layer],
            "vision": [base.vision_model, base.image_projection_layer],
        }


class VLEModel(VLEPreTrainedModel):
    """The encoder without a head. Keys and widths as in the released `hfl/vle-*` checkpoints."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        # DeBERTa has an attention of its own and refuses "sdpa"; RoBERTa and BERT would build a pooler that nothing reads.
        own = (
            {"attn_implementation": "eager"}
            if config.text_config.model_type == "deberta-v2"
            else {"add_pooling_layer": False}
        )
        self.text_model = AutoModel.from_config(config.text_config, **own)
        if config.text_config.model_type == "deberta-v2":
            use_short_text_attention(self.text_model)
        self.vision_model = CLIPVisionModel(config.vision_config)
        self.text_projection_layer = nn.Linear(config.text_config.hidden_size, width)
        self.image_projection_layer = nn.Linear(config.vision_config.hidden_size, width)
        self.token_type_embeddings = nn.Embedding(config.num_token_types, width)
        self.cross_modal_image_layers = nn.ModuleList(
            VLECrossLayer(config) for _ in range(config.num_hidden_layers)
        )
        self.cross_modal_text_layers = nn.ModuleList(
            VLECrossLayer(config) for _ in range(config.num_hidden_layers)
        )
        self.cross_modal_image_pooler = VLEPooler(width)
        self.cross_modal_text_pooler = VLEPooler(width)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    def encode_image(
        self,
        pixel_values: Tensor,
        masked_patches: Tensor | None = None,
        mask_embedding: Tensor | None = None,
    ) -> Tensor:
        """pixel_values (N, 3, H, W) → projected CLS and patches (N, 1 + P, D).

        Args:
            masked_patches: (N, P) bool, patches that `mask_embedding` (width of the vision encoder,) takes the place of.
        """
        vision, size = self.vision_model, self.config.vision_config.image_size
        check_shape(
            "pixel_values",
            pixel_values,
            (pixel_values.shape[0], self.config.vision_config.num_channels, size, size),
        )
        if masked_patches is None or mask_embedding is None:
            hidden = vision(pixel_values).last_hidden_state
        else:
            embeddings = vision.embeddings
            patches = (
                embeddings.patch_embedding(pixel_values.to(embeddings.patch_embedding.weight.dtype))
                .flatten(2)
                .transpose(1, 2)
            )
            check_shape("masked_patches", masked_patches, tuple(patches.shape[:2]))
            patches = torch.where(masked_patches.bool()[..., None], mask_embedding, patches)
            first = embeddings.class_embedding.expand(patches.shape[0], 1, -1)
            hidden = torch.cat([first, patches], 1) + embeddings.position_embedding.weight
            hidden = vision.encoder(inputs_embeds=vision.pre_layrnorm(hidden)).last_hidden_state
        # Published: CLIP's post-layer-norm runs over all tokens, where CLIP itself normalises CLS only.
        return self.image_projection_layer(vision.post_layernorm(hidden))

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask (B, T) → projected text (B, T, D)."""
        if self.text_model.config._attn_implementation == "sdpa":
            # Of a mask (B, T) transformers asks whether all of it is true, which waits for the device; not of this one.
            attention_mask = attention_mask[:, None, None].bool()
        hidden = self.text_model(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        return self.text_projection_layer(hidden)

    def _check(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        image_index: Tensor | None,
        token_type_ids: Tensor | None,
        object_patch_mask: Tensor | None,
        object_token_type_ids: Tensor | None,
        object_mask: Tensor | None,
    ) -> None:
        """ValueError for the first input of `forward` that does not fit the others or the configuration."""
        for name, value in (
            ("input_ids", input_ids),
            ("attention_mask", attention_mask),
            ("pixel_values", pixel_values),
        ):
            if value is None:
                raise ValueError(f"{name}: a tensor is expected, None came")
        if input_ids.dim() != 2:
            raise ValueError(
                f"input_ids: (texts, tokens) is expected, {tuple(input_ids.shape)} came"
            )
        check_range("input_ids", input_ids, self.config.text_config.vocab_size)
        texts = input_ids.shape[0]
        if image_index is None and pixel_values.shape[0] != texts:
            raise ValueError(
                f"{texts} texts and {pixel_values.shape[0]} images: image_index must say which image each text sees"
            )
        check_shape("attention_mask", attention_mask, tuple(input_ids.shape))
        if image_index is not None:
            check_shape("image_index", image_index, (texts,))
            check_range("image_index", image_index, pixel_values.shape[0])
        if token_type_ids is not None:
            check_shape("token_type_ids", token_type_ids, tuple(input_ids.shape))
            check_range("token_type_ids", token_type_ids, self.config.num_token_types)
        given = [
            value is not None for value in (object_patch_mask, object_mask, object_token_type_ids)
        ]
        if any(given) and not all(given):
            raise ValueError(
                "object_patch_mask comes with object_mask and object_token_type_ids, (B, K) each: all three or none"
            )
        if (
            object_patch_mask is not None
            and object_mask is not None
            and object_token_type_ids is not None
        ):
            check_shape(
                "object_patch_mask",
                object_patch_mask,
                (texts, object_patch_mask.shape[1], self.config.num_patches),
            )
            check_shape("object_mask", object_mask, tuple(object_patch_mask.shape[:2]))
            check_shape(
                "object_token_type_ids", object_token_type_ids, tuple(object_patch_mask.shape[:2])
            )
            check_range("object_token_type_ids", object_token_type_ids, self.config.num_token_types)

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
        masked_patches: Tensor | None = None,
        mask_embedding: Tensor | None = None,
        pooled_only: bool = False,
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
            masked_patches, mask_embedding: as in `encode_image`, for pre-training.
            pooled_only: leave out what the poolers do not read: of the last fusion layer all tokens but the first. Then
                text_embeds and image_embeds are None.

        Raises:
            ValueError: shapes that do not belong together, types beyond `num_token_types`.
        """
        self._check(
            input_ids,
            attention_mask,
            pixel_values,
            image_index,
            token_type_ids,
            object_patch_mask,
            object_token_type_ids,
            object_mask,
        )
        text = self.encode_text(input_ids, attention_mask)
        image = self.encode_image(pixel_values, masked_patches, mask_embedding)  # (N, 1 + P, D)
        if image_index is not None:
            image = image.index_select(0, image_index)
        types = self.token_type_embeddings.weight
        image_mask = None
        objects = None
        if object_patch_mask is not None and object_mask is not None:
            covered = object_patch_mask.to(image.dtype)  # (B, K, P)
            count = covered.sum(-1, keepdim=True).clamp(min=1)
            objects = covered @ image[:, 1:] / count + self.token_type_embeddings(
                object_token_type_ids
            )
            image_mask = torch.cat([object_mask.new_ones(image.shape[:2]), object_mask], 1)[
                :, None, None
            ].bool()
        image = image + types[1]
        if objects is not None:
            image = torch.cat([image, objects], 1)  # (B, S, D)
        text = text + (
            types[0] if token_type_ids is None else self.token_type_embeddings(token_type_ids)
        )
        text_mask = attention_mask[:, None, None].bool()
        last = len(self.cross_modal_text_layers) - 1
        for depth, (text_layer, image_layer) in enumerate(
            zip(self.cross_modal_text_layers, self.cross_modal_image_layers, strict=True)
        ):
            first_only = pooled_only and depth == last
            text, image = (
                text_layer(text, image, text_mask, image_mask, first_only),
                image_layer(image, text, image_mask, text_mask, first_only),
            )
        pooled = torch.cat(
            [self.cross_modal_text_pooler(text), self.cross_modal_image_pooler(image)], -1
        )
        if pooled_only:
            return VLEModelOutput(pooler_output=pooled)
        return VLEModelOutput(pooler_output=pooled, text_embeds=text, image_embeds=image)


AutoModel.register(VLEConfig, VLEModel)
