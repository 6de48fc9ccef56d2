"""ViLT for visual question answering: transformers' weights, with a batch that changes no score.

transformers draws the patches of a padded picture at random and in a random order, and ViLT's
authors found scores that "vary a bit" with the batch (their EVAL.md). Here every patch of a picture
takes part once, in its order, and padding is masked exactly.

Shapes: B questions, T text tokens, N pictures, R × C patches of the largest picture, D width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import BatchFeature, PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.vilt.image_processing_pil_vilt import (
    MAX_LONGER_EDGE,
    MAX_SHORTER_EDGE,
    ViltImageProcessorPil,
)
from transformers.models.vilt.modeling_vilt import ViltSelfAttention

from vle_bench.data.tokenization import load_tokenizer
from vle_bench.errors import RequestError, first_line
from vle_bench.json_files import JsonObject, read_json
from vle_bench.models import pretrained
from vle_bench.models.base import Way
from vle_bench.models.vle.heads import in_float32

PUBLISHED_LENGTH = 40  # tokens: max_text_len of ViLT's config.py


class ViltProcessor(transformers.ViltProcessor):
    """A tokenizer and ViLT's pictures: shorter side `shortest_edge`, whole patches, any shape.

    Args:
        patch_size: pixels a side of the model's patches; each picture is cut into whole ones.
    """

    transform = None  # pictures come in many sizes: no store of squares fits
    resize = None

    def __init__(
        self, image_processor: Any = None, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        if not isinstance(image_processor, ViltImageProcessorPil):
            # torchvision's resize gives other pixels, and so other scores.
            image_processor = ViltImageProcessorPil.from_dict(image_processor.to_dict())
        super().__init__(image_processor, tokenizer)  # type: ignore[no-untyped-call]
        self.patch_size = 32

    @property
    def facts(self) -> JsonObject:
        """Return what the record says of the input, see `models.base.Reader`."""
        short, long = self.sides
        return {
            "protocol": "classification",
            "max_text_length": self.tokenizer.model_max_length,
            "pictures": f"shorter side {short}, longer at most {long}, every whole patch",
        }

    @property
    def sides(self) -> tuple[int, int]:
        """Pixels of the shorter side, and the most of the longer one."""
        short = int(self.image_processor.size["shortest_edge"])
        return short, int(MAX_LONGER_EDGE / MAX_SHORTER_EDGE * short)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the size to which a picture is resized: whole patches, rounded down.

        As ViLT's MinMaxResize; but a picture of more than 20 to 1 keeps one row of patches, where
        that fails.
        """
        short, long = self.sides
        scale = short / min(width, height)
        scaled = [short if side == min(width, height) else scale * side for side in (width, height)]
        if max(scaled) > long:
            shrink = long / max(scaled)
            scaled = [side * shrink for side in scaled]
        divisor = self.image_processor.size_divisor
        wide, high = (max(int(side + 0.5) // divisor, 1) * divisor for side in scaled)
        return wide, high

    def __call__(
        self,
        images: Sequence[Image.Image] | None = None,
        text: Sequence[str] | None = None,
        max_length: int | None = None,
    ) -> BatchFeature:
        """Turn B texts and N upright RGB pictures into tensors.

        Returns:
            input_ids, attention_mask (B, T); pixel_values (N, 3, H, W), padded with 0 on the right
            and below; patches (N, 2), the rows and columns of patches that a picture has.
        """
        features = BatchFeature()
        if text is not None:
            encoded = self.tokenizer(
                list(text),
                padding=True,
                padding_side="right",
                max_length=max_length,
                truncation=max_length is not None,
                return_tensors="pt",
                return_token_type_ids=False,
            )
            features.update(encoded)
        if images is not None:
            settings = self.image_processor
            sizes = [self.resized(*image.size) for image in images]
            pixels = [
                np.asarray(image.resize(size, settings.resample)).transpose(2, 0, 1)
                for image, size in zip(images, sizes, strict=True)
            ]
            width, height = (max(sides) for sides in zip(*sizes, strict=True))
            values = torch.zeros(len(pixels), 3, height, width)
            mean = torch.tensor(settings.image_mean)[:, None, None]
            std = torch.tensor(settings.image_std)[:, None, None]
            for row, picture in enumerate(pixels):
                scaled = torch.tensor(picture, dtype=torch.float32) * settings.rescale_factor
                values[row, :, : picture.shape[1], : picture.shape[2]] = (scaled - mean) / std
            features["pixel_values"] = values
            features["patches"] = torch.tensor(sizes).flip(1) // self.patch_size
        return features


class FusedSelfAttention(ViltSelfAttention):
    """Self-attention with torch's fused kernel: the weights and the result are ViLT's."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor]:
        """Attend: (B, S, D), mask (B, 1, 1, S) bool → (B, S, D)."""
        heads = (*hidden_states.shape[:2], self.num_attention_heads, self.attention_head_size)
        query, key, value = (
            layer(hidden_states).view(heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        dropout = self.dropout.p if self.training else 0.0
        context = F.scaled_dot_product_attention(query, key, value, attention_mask, dropout)
        return (context.transpose(1, 2).flatten(2),)


class ViltForQuestionAnswering(transformers.ViltForQuestionAnswering):
    """transformers' class of this name, with every patch of a picture once.

    Logits of a single question are those of transformers but for rounding.
    """

    def __init__(self, config: transformers.ViltConfig) -> None:
        super().__init__(config)
        for module in self.modules():
            if isinstance(module, ViltSelfAttention):
                module.__class__ = FusedSelfAttention

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        patches: Tensor,
        image_index: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Score every answer: logits (B, num_labels).

        The loss is the binary cross-entropy summed over the classes and averaged over the
        questions, in float32, as in ViLT's `objectives.py`.

        Args:
            input_ids, attention_mask: (B, T).
            pixel_values: (N, 3, H, W), padded on the right and below.
            patches: (N, 2) rows and columns of patches that a picture has.
            image_index: (B,) the picture of each question; None: N = B, one each.
            labels: (B, num_labels) soft targets in 0..1.
        """
        vilt: Any = self.vilt
        embeddings = vilt.embeddings
        kinds = embeddings.token_type_embeddings.weight  # of text, of pictures
        text = embeddings.text_embeddings(input_ids) + kinds[0]
        pictures, real = self._pictures(pixel_values, patches)
        if image_index is not None:
            pictures, real = pictures[image_index], real[image_index]
        hidden = torch.cat([text, pictures + kinds[1]], 1)  # (B, T + 1 + R·C, D)
        mask = torch.cat([attention_mask.bool(), real], 1)[:, None, None]
        for layer in vilt.encoder.layer:
            hidden = layer(hidden, mask)[0]
        pooled = vilt.pooler(vilt.layernorm(hidden[:, :1]))
        logits = in_float32(self.classifier, pooled)
        loss = None
        if labels is not None:
            losses = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
            loss = losses.sum(-1).mean()
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _pictures(self, pixel_values: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Embed pictures: (N, 1 + R·C, D) with a token for each as a whole, and which are real."""
        embeddings = self.vilt.embeddings
        grid = embeddings.patch_embeddings(pixel_values)  # (N, D, R, C)
        table = embeddings.position_embeddings[0]
        with torch.autocast(pixel_values.device.type, enabled=False):
            positions = stretched(table[1:], patches, *grid.shape[2:])
        grid = grid.permute(0, 2, 3, 1) + positions
        whole = (embeddings.cls_token[0] + table[:1]).expand(len(grid), 1, -1)
        tokens = embeddings.dropout(torch.cat([whole, grid.flatten(1, 2)], 1))
        down, along = (
            torch.arange(size, device=patches.device) < patches[:, side, None]
            for side, size in enumerate(grid.shape[1:3])
        )
        real = (down[:, :, None] & along[:, None, :]).flatten(1)  # (N, R·C)
        return tokens, F.pad(real, (1, 0), value=True)


def stretched(table: Tensor, patches: Tensor, rows: int, columns: int) -> Tensor:
    """Stretch a square table of positions over the patches of each picture.

    Bilinear with the corners aligned, as ViLT; a matrix a side takes the place of its loop over
    pictures, which would wait for the device.

    Args:
        table: (side · side, D).
        patches: (N, 2) rows and columns of patches that a picture has.

    Returns:
        (N, rows, columns, D); what lies beyond a picture is meaningless.
    """
    side = round(len(table) ** 0.5)
    down, along = (
        corner_weights(patches[:, place], size, side, table.dtype)
        for place, size in enumerate((rows, columns))
    )
    square = table.unflatten(0, (side, side))
    return torch.einsum("nrp,pqd,ncq->nrcd", down, square, along)


def corner_weights(counts: Tensor, size: int, side: int, dtype: torch.dtype) -> Tensor:
    """Return how much of each of `side` positions each of `size` patches takes: (N, size, side)."""
    steps = (side - 1) / (counts - 1).clamp(min=1)  # a single patch takes the first position
    places = torch.arange(size, device=counts.device) * steps[:, None]
    nodes = torch.arange(side, device=counts.device)
    return (1 - (places[..., None] - nodes).abs()).clamp(min=0).to(dtype)


def read(folder: Path, way: Way) -> ViltProcessor:
    """Load the processor of a checkpoint folder, and refuse one that does not fit its config.json.

    Raises:
        RequestError: a file is missing or damaged, or its values do not fit the model.
    """
    path = folder / "preprocessor_config.json"
    if not path.is_file() and not (folder / "processor_config.json").is_file():
        raise RequestError(
            f"{folder}: has no preprocessor_config.json, so that nothing says how pictures become "
            "the model's; take the published folder's"
        )
    for name in pretrained.PROCESSOR_FILES:
        if name.endswith(".json") and (folder / name).is_file():
            read_json(folder / name)  # refuses equal keys
    try:
        pictures = ViltImageProcessorPil.from_pretrained(str(folder), local_files_only=True)
        processor = ViltProcessor(pictures, load_tokenizer(folder, local_files_only=True))
        config = transformers.ViltConfig.from_pretrained(str(folder), local_files_only=True)
    # Others' files may hold anything, and each library raises errors of its own.
    except Exception as error:
        raise RequestError(
            f"{folder}: no processor can be loaded from it: {first_line(error)}"
        ) from error
    fit(folder, processor, config, way.max_text_length)
    return processor


def fit(
    folder: Path, processor: ViltProcessor, config: transformers.ViltConfig, length: int | None
) -> None:
    """Set what only config.json says, and refuse what does not fit it."""
    settings, tokenizer = processor.image_processor, processor.tokenizer
    patch, path = config.patch_size, folder / "preprocessor_config.json"
    if type(patch) is not int or type(config.image_size) is not int:
        raise RequestError(
            f"{folder / 'config.json'}: patch_size and image_size: whole numbers are expected"
        )
    if not (settings.do_resize and settings.do_rescale and settings.do_normalize):
        raise RequestError(
            f"{path}: do_resize, do_rescale and do_normalize: ViLT's pictures need all three"
        )
    short = (settings.size or {}).get("shortest_edge")
    if type(short) is not int or not patch <= short <= 4096:
        raise RequestError(
            f"{path}: size: shortest_edge, {patch} to 4096 pixels, is expected, not {short!r}"
        )
    if settings.size_divisor % patch:
        raise RequestError(
            f"{path}: size_divisor: {settings.size_divisor} is no multiple of the model's "
            f"patch_size {patch} (config.json): a patch would be cut"
        )
    positions = config.max_position_embeddings
    if length is not None and length > positions:
        raise RequestError(
            f"{folder}: --max-text-length {length}: it has positions for {positions} tokens"
        )
    if len(tokenizer) > config.vocab_size:
        raise RequestError(
            f"{folder}: its tokenizer has {len(tokenizer):,} words, and its model "
            f"{config.vocab_size:,}"
        )
    processor.patch_size = patch
    limit = min(PUBLISHED_LENGTH, positions, tokenizer.model_max_length)
    tokenizer.model_max_length = length or limit


def load(folder: Path, reader: ViltProcessor, labels: list[str]) -> ViltForQuestionAnswering:
    """Load the weights in float32; all of them come from the folder.

    Raises:
        RequestError: they are damaged, missing, or not as many classes as answers.
    """
    model: ViltForQuestionAnswering = pretrained.load_whole(ViltForQuestionAnswering, folder)
    classes = model.classifier[-1].out_features
    if len(labels) != classes:
        raise RequestError(
            f"{folder}: its label map has {len(labels):,} answers, and its head {classes:,} classes"
        )
    return model
