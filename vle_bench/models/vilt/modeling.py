"""ViLT's weights, with a batch that changes no score.

transformers draws the patches of a padded picture at random and in a random order, and ViLT's
authors found scores that "vary a bit" with the batch (their EVAL.md). Here every patch of a picture
takes part once, in its order, and padding is masked exactly.

Shapes: B questions, T text tokens, N pictures, R × C patches of the largest picture, D width.
"""

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.vilt.modeling_vilt import ViltSelfAttention

from vle_bench.models.vle.heads import in_float32

LONGEST = 5 / 3  # sides of a picture, 1333 / 800 rounded up


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

    Logits of a single question are those of transformers but for rounding. Implements
    `vle_bench.models.base.TrainableModel`.
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

    @property
    def num_token_types(self) -> int:
        """Rows of the fusion's type table, which ViLT does not have."""
        return 0

    def question_outputs(self, texts: int, tokens: int, image_size: int) -> int:
        """Count the numbers of all layers' outputs for a question, of the longest picture."""
        config: Any = self.config
        side = image_size // config.patch_size
        length = tokens + 1 + side * int(LONGEST * side)
        return int(texts * length * config.hidden_size * config.num_hidden_layers)

    def predict(self, **inputs: Tensor) -> Tensor:
        """Return the logits of a batch."""
        logits: Tensor = self(**inputs).logits
        return logits

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the classifier's parameters, which ViLT trains with `lr_mult`."""
        return list(self.classifier.parameters())

    def cross_modal_parameters(self) -> list[nn.Parameter]:
        """Return none: one encoder reads text and picture."""
        return []

    def encoder_layers(self) -> dict[str, list[nn.Module]]:
        """Return the embeddings and the layers of the one encoder, from the input up."""
        return {"text and picture": [self.vilt.embeddings, *self.vilt.encoder.layer]}

    def shard_layers(self) -> list[nn.Module]:
        """Return the layers of the encoder."""
        return self.encoder_layers()["text and picture"][1:]

    def timed_parts(self) -> dict[str, list[nn.Module]]:
        """Return the embeddings of words and of patches; the encoder joins them."""
        embeddings = self.vilt.embeddings
        return {"text": [embeddings.text_embeddings], "vision": [embeddings.patch_embeddings]}

    def grown_weights(self, config: Mapping[str, object]) -> int:
        """Count none: no table grows."""
        return 0

    def reset_head(self) -> int:
        """Initialise the head again and return its number of parameters."""
        for module in self.classifier.modules():
            for parameter in module.parameters(recurse=False):
                # Otherwise `_init_weights` would skip weights that were loaded.
                parameter._is_hf_initialized = False  # type: ignore[attr-defined]
            self._init_weights(module)  # type: ignore[no-untyped-call]
        return sum(p.numel() for p in self.head_parameters())

    def _pictures(self, pixel_values: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Embed pictures: (N, 1 + R·C, D) with a token for each as a whole, and which are real."""
        embeddings = self.vilt.embeddings
        grid = embeddings.patch_embeddings(pixel_values)  # (N, D, R, C)
        table = embeddings.position_embeddings[0]
        # Autocast does not accept the meta device.
        device = "cpu" if pixel_values.is_meta else pixel_values.device.type
        with torch.autocast(device, enabled=False):
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
