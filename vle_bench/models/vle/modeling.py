"""VLE: a text encoder and a CLIP ViT, joined by co-attention layers.

Shapes: B texts, N images, T text tokens, P patches, K objects, S = 1 + P + K image tokens, D fusion
width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import AutoModel, CLIPVisionModel
from transformers.utils import ModelOutput

from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.faster_parts import (
    use_cheap_dropout,
    use_faster_clip,
    use_short_text_attention,
)
from vle_bench.models.vle.layers import VLECrossLayer, VLEPooler
from vle_bench.models.vle.pretrained_model import VLEPreTrainedModel

Reads = Literal["all", "poolers", "text", "image"]  # outputs of the fusion


@dataclass
class VLEModelOutput(ModelOutput):
    """Output of the encoder.

    Attributes:
        pooler_output: (B, 2D), the pooled text beside the pooled image.
        text_embeds: (B, T, D).
        image_embeds: (B, S, D).
    """

    pooler_output: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None


class PatchEmbedding(nn.Conv2d):
    """CLIP's embedding of patches, which do not overlap, as one matrix product.

    The libraries' convolutions take a tenth of a small model's step on CPUs for the same numbers.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed images (N, 3, H, W) as (N, width, rows, columns); a remainder is left out."""
        side = self.kernel_size[0]
        images, channels, height, width = pixels.shape
        rows, columns = height // side, width // side
        whole = pixels[..., : rows * side, : columns * side]
        patches = whole.reshape(images, channels, rows, side, columns, side)
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (N, rows, columns, 3 · side²)
        embedded = nn.functional.linear(patches, self.weight.flatten(1), self.bias)
        return embedded.permute(0, 3, 1, 2)


class VLEModel(VLEPreTrainedModel):
    """The encoder without a head, with the keys and widths of the released `hfl/vle-*` files."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        # DeBERTa has its own attention and refuses "sdpa". RoBERTa and BERT would build a pooler
        # that nothing reads.
        is_deberta = config.text_config.model_type == "deberta-v2"
        options = {"attn_implementation": "eager"} if is_deberta else {"add_pooling_layer": False}
        self.text_model = AutoModel.from_config(config.text_config, **options)
        if is_deberta:
            use_short_text_attention(self.text_model)
        use_cheap_dropout(self.text_model)
        self.vision_model = CLIPVisionModel(config.vision_config)
        self.vision_model.embeddings.patch_embedding.__class__ = PatchEmbedding
        use_faster_clip(self.vision_model)
        self.text_projection_layer = nn.Linear(config.text_config.hidden_size, width)
        self.image_projection_layer = nn.Linear(config.vision_config.hidden_size, width)
        self.token_type_embeddings = nn.Embedding(config.num_token_types, width)
        depth = range(config.num_hidden_layers)
        self.cross_modal_image_layers = nn.ModuleList(VLECrossLayer(config) for _ in depth)
        self.cross_modal_text_layers = nn.ModuleList(VLECrossLayer(config) for _ in depth)
        self.cross_modal_image_pooler = VLEPooler(width)
        self.cross_modal_text_pooler = VLEPooler(width)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # Without a range of its own nothing is drawn a second time: seeds keep their weights.
        own = self.config.token_type_range
        if own is not None and module is getattr(self, "token_type_embeddings", None):
            nn.init.normal_(self.token_type_embeddings.weight, std=own)

    def get_input_embeddings(self) -> nn.Module:
        words: nn.Module = self.text_model.get_input_embeddings()
        return words

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """Encode images and project CLS and patches: (N, 3, H, W) to (N, 1 + P, D)."""
        vision, config = self.vision_model, self.config.vision_config
        shape = (len(pixel_values), config.num_channels, config.image_size, config.image_size)
        check_tensor("pixel_values", pixel_values, shape)
        hidden = vision(pixel_values).last_hidden_state
        # As published: the post-layer-norm runs over all tokens, where CLIP normalises CLS only.
        projected: Tensor = self.image_projection_layer(vision.post_layernorm(hidden))
        return projected

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode texts and project their tokens: input_ids, attention_mask (B, T) to (B, T, D)."""
        if self.text_model.config._attn_implementation == "sdpa":
            # transformers asks whether a mask (B, T) is all true, which waits for the device. It
            # does not ask this of a mask with four dimensions.
            attention_mask = attention_mask[:, None, None].bool()
        encoded = self.text_model(input_ids=input_ids, attention_mask=attention_mask)
        projected: Tensor = self.text_projection_layer(encoded.last_hidden_state)
        return projected

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
        pooled_only: bool = False,
    ) -> VLEModelOutput:
        """Encode B texts, each of which sees one of N images.

        Args:
            input_ids, attention_mask: (B, T).
            pixel_values: (N, 3, H, W).
            image_index: (B,) row of `pixel_values` for each text; None if N = B, one each.
            token_type_ids: (B, T) fusion types: 0, or 2 + i for a word that names object i.
            object_patch_mask: (B, K, P) bool, patch p (row-major, without CLS) is covered by object
                k.
            object_token_type_ids: (B, K), 2 + i.
            object_mask: (B, K), 1 for a real object, 0 for padding.
            pooled_only: compute only what the poolers read: of the last fusion layer the first
                token. text_embeds and image_embeds are None then.

        Raises:
            ValueError: shapes do not fit each other, or types are beyond `num_token_types`.
        """
        check_inputs(
            self.config, input_ids, attention_mask, pixel_values, image_index, token_type_ids
        )
        check_objects(
            self.config, len(input_ids), object_patch_mask, object_token_type_ids, object_mask
        )
        text = self.encode_text(input_ids, attention_mask)  # (B, T, D)
        image = self.encode_image(pixel_values)  # (N, 1 + P, D)
        if image_index is not None:
            image = image.index_select(0, image_index)  # (B, 1 + P, D)
        return self.join(
            text,
            image,
            attention_mask,
            token_type_ids,
            object_patch_mask,
            object_token_type_ids,
            object_mask,
            reads="poolers" if pooled_only else "all",
        )

    def join(
        self,
        text: Tensor,
        image: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        object_patch_mask: Tensor | None = None,
        object_token_type_ids: Tensor | None = None,
        object_mask: Tensor | None = None,
        reads: Reads = "all",
    ) -> VLEModelOutput:
        """Fuse B encoded texts with as many encoded images.

        Args:
            text: (B, T, D), of `encode_text`.
            image: (B, 1 + P, D), of `encode_image`, the image of each text.
            attention_mask, token_type_ids, object_patch_mask, object_token_type_ids, object_mask:
                as in `forward`.
            reads: the outputs that are wanted. The last fusion layer computes no others, and they
                are None.
        """
        types = self.token_type_embeddings.weight
        image_mask = None
        if object_patch_mask is None or object_mask is None:
            image = image + types[1]
        else:
            real = torch.cat([object_mask.new_ones(image.shape[:2]), object_mask], 1)
            image_mask = real[:, None, None].bool()  # (B, 1, 1, S)
            objects = self._mean_patches(image[:, 1:], object_patch_mask)
            objects = objects + self.token_type_embeddings(object_token_type_ids)
            image = torch.cat([image + types[1], objects], 1)  # (B, S, D)
        text = text + (
            types[0] if token_type_ids is None else self.token_type_embeddings(token_type_ids)
        )
        text_mask = attention_mask[:, None, None].bool()  # (B, 1, 1, T)
        return self._fuse(text, image, text_mask, image_mask, reads)

    @staticmethod
    def _mean_patches(patches: Tensor, object_patch_mask: Tensor) -> Tensor:
        """Average the patches (B, P, D) that each object covers: (B, K, D), 0 if it covers none."""
        covered = object_patch_mask.to(patches.dtype)  # (B, K, P)
        return covered @ patches / covered.sum(-1, keepdim=True).clamp(min=1)

    def _fuse(
        self,
        text: Tensor,
        image: Tensor,
        text_mask: Tensor,
        image_mask: Tensor | None,
        reads: Reads,
    ) -> VLEModelOutput:
        """Run text (B, T, D) and image (B, S, D) through the fusion layers and pool both."""
        last = len(self.cross_modal_text_layers) - 1
        for depth, (text_layer, image_layer) in enumerate(
            zip(self.cross_modal_text_layers, self.cross_modal_image_layers, strict=True)
        ):
            # Both sides read the layer below, so neither is replaced before the other is computed.
            below, first_only = (text, image), reads == "poolers" and depth == last
            if depth < last or reads != "image":
                text = text_layer(*below, text_mask, image_mask, first_only)
            if depth < last or reads != "text":
                image = image_layer(*below[::-1], image_mask, text_mask, first_only)
        if reads == "text":
            return VLEModelOutput(text_embeds=text)
        if reads == "image":
            return VLEModelOutput(image_embeds=image)
        poolers = self.cross_modal_text_pooler(text), self.cross_modal_image_pooler(image)
        pooled = torch.cat(poolers, -1)
        if reads == "poolers":
            return VLEModelOutput(pooler_output=pooled)
        return VLEModelOutput(pooler_output=pooled, text_embeds=text, image_embeds=image)


def check_tensor(
    name: str,
    tensor: Tensor,
    shape: Sequence[int],
    end: int | None = None,
    ignored: int | None = None,
) -> None:
    """Raise a ValueError for another shape, or for values outside of 0..end-1 except `ignored`.

    Values are checked on the CPU only: to look at them on a GPU would make the host wait for it.
    """
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name}: expected the shape {tuple(shape)}, got {tuple(tensor.shape)}")
    looks = tensor.device.type == "cpu" and not torch.compiler.is_compiling() and tensor.numel()
    if end is None or not looks:
        return
    wrong = (tensor < 0) | (tensor >= end)
    if ignored is not None:
        wrong &= tensor != ignored
    if wrong.any():
        place = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(
            f"{name}: expected values of 0 to {end - 1}, got {tensor[place].item()} at {place}"
        )


def check_inputs(
    config: VLEConfig,
    input_ids: Tensor,
    attention_mask: Tensor,
    pixel_values: Tensor,
    image_index: Tensor | None,
    token_type_ids: Tensor | None,
) -> None:
    """Raise a ValueError if texts and images do not fit each other or the configuration."""
    for name, value in (
        ("input_ids", input_ids),
        ("attention_mask", attention_mask),
        ("pixel_values", pixel_values),
    ):
        if value is None:
            raise ValueError(f"{name}: expected a tensor, got None")
    if input_ids.dim() != 2:
        raise ValueError(f"input_ids: expected (texts, tokens), got {tuple(input_ids.shape)}")
    tokens, texts, images = input_ids.shape, len(input_ids), len(pixel_values)
    check_tensor("input_ids", input_ids, tokens, config.text_config.vocab_size)
    check_tensor("attention_mask", attention_mask, tokens)
    if image_index is not None:
        check_tensor("image_index", image_index, (texts,), images)
    elif images != texts:
        raise ValueError(
            f"{texts} texts and {images} images: image_index must say which image each text sees"
        )
    if token_type_ids is not None:
        check_tensor("token_type_ids", token_type_ids, tokens, config.num_token_types)


def check_objects(
    config: VLEConfig,
    texts: int,
    object_patch_mask: Tensor | None,
    object_token_type_ids: Tensor | None,
    object_mask: Tensor | None,
) -> None:
    """Raise a ValueError if the three tensors of the objects do not fit each other or the texts."""
    if object_patch_mask is None and object_token_type_ids is None and object_mask is None:
        return
    if object_patch_mask is None or object_token_type_ids is None or object_mask is None:
        raise ValueError(
            "object_patch_mask, object_mask (B, K) and object_token_type_ids (B, K): "
            "give all three or none"
        )
    size, types = (texts, object_patch_mask.shape[1]), config.num_token_types
    check_tensor("object_patch_mask", object_patch_mask, (*size, config.num_patches))
    check_tensor("object_mask", object_mask, size)
    check_tensor("object_token_type_ids", object_token_type_ids, size, types)
