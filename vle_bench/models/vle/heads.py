"""Heads that answer: classes for VQA, choices for VCR and other multiple-choice questions.

Shapes: B texts or questions, C choices, N images, T text tokens, P patches, K objects, D fusion
width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from vle_bench.data.collate import NO_CHOICE
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.modeling import VLEModel, check_tensor
from vle_bench.models.vle.pretrained_model import VLEPreTrainedModel


@dataclass
class VLEClassifierOutput(ModelOutput):
    """Output of a head.

    Attributes:
        loss: (), the mean over the batch; None without labels.
        logits: (B, num_labels), or as the head says.
        sums: of the figures that the training's log has beside the loss; None: of none.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    sums: Tensor | None = None


def classifier(width: int, num_labels: int) -> nn.Sequential:
    """Build the published two-layer head: layer norm with torch's eps of 1e-5, exact GELU."""
    return nn.Sequential(
        nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, num_labels)
    )


def in_float32(head: nn.Module, features: Tensor) -> Tensor:
    """Run a head in float32, whatever the precision of the encoder: features (..., D) → its output.

    A 16-bit logit has 8 or 11 significant bits: distinct scores become ties, and ties go to the
    first class. Autocast is switched off here, and 16-bit weights (DeepSpeed's, or a model loaded
    in half precision) are cast as the features are. Float64 stays float64.
    """
    dtype = torch.promote_types(features.dtype, torch.float32)
    cast = {name: w.to(dtype) for name, w in head.named_parameters() if w.dtype != dtype}
    features = features.to(dtype)
    # Autocast does not accept the meta device.
    device = "cpu" if features.is_meta else features.device.type
    with torch.autocast(device, enabled=False):
        output: Tensor = (
            torch.func.functional_call(head, cast, (features,)) if cast else head(features)
        )
    return output


class VLEForVQA(VLEPreTrainedModel):
    """Answers as classes: a two-layer head on the pooled text and image."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        self.vle = VLEModel(config)
        self.vqa_classifier = classifier(2 * config.hidden_size, len(config.id2label or {}))
        self.post_init()

    def forward(self, labels: Tensor | None = None, **inputs: Tensor) -> VLEClassifierOutput:
        """Score every answer. Takes the inputs of `VLEModel.forward`.

        The loss is the binary cross-entropy summed over the classes and averaged over the
        questions, in float32. METER's `objectives.py` has the same: mean over both, times the
        number of classes.

        Args:
            labels: (B, num_labels) soft targets in 0..1.
        """
        pooled = self.vle(**inputs, pooled_only=True).pooler_output  # (B, 2D)
        logits = in_float32(self.vqa_classifier, pooled)  # (B, num_labels)
        loss = None
        if labels is not None:
            check_tensor("labels", labels, logits.shape)
            losses = F.binary_cross_entropy_with_logits(
                logits.float(), labels.float(), reduction="none"
            )
            loss = losses.sum(-1).mean()
        return VLEClassifierOutput(loss=loss, logits=logits)


class VLEForMultipleChoice(VLEPreTrainedModel):
    """One score a choice. An image is encoded once for all choices of all questions about it."""

    head_names: tuple[str, ...]

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        self.vle = VLEModel(config)
        for name in self.head_names:
            setattr(self, name, classifier(2 * config.hidden_size, 1))
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        token_type_ids: Tensor | None = None,
        object_patch_mask: Tensor | None = None,
        object_token_type_ids: Tensor | None = None,
        object_mask: Tensor | None = None,
        image_index: Tensor | None = None,
        text_index: Tensor | None = None,
        choice_mask: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> VLEClassifierOutput:
        """Score C choices of each of B questions: logits (B, C).

        The loss is the cross-entropy over the choices, in float32.

        Args:
            input_ids, attention_mask, token_type_ids: (B, C, T); or with `text_index` (R, T), the
                choices of all questions side by side, however many each has.
            pixel_values: (N, 3, H, W).
            object_patch_mask: (B, C, K, P) bool, or (R, K, P).
            object_token_type_ids, object_mask: (B, C, K), or (R, K).
            image_index: (B,) row of `pixel_values` for each question; None if N = B, one each. With
                `text_index` (R,), for each text.
            text_index: (B, C) the text of each choice; any where a question has none.
            choice_mask: (B, C) bool, the choices that a question has; the logits of others are
                `NO_CHOICE`. None: all. What stands in place of a missing choice has no effect.
            labels: (B,), the right choice.
        """
        given = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "object_patch_mask": object_patch_mask,
            "object_token_type_ids": object_token_type_ids,
            "object_mask": object_mask,
        }
        texts = {name: value for name, value in given.items() if value is not None}
        if text_index is None:
            shape = input_ids.shape[:2]
            texts, image_index = side_by_side(texts, pixel_values, image_index)
        else:
            shape = text_index.shape
            check_tensor("text_index", text_index, shape, len(input_ids))
        pooled = self.vle(
            pixel_values=pixel_values, image_index=image_index, pooled_only=True, **texts
        ).pooler_output  # (R, 2D)
        if text_index is not None:
            pooled = pooled.index_select(0, text_index.flatten())
        logits = self.score(pooled.view(*shape, -1))
        if choice_mask is not None:
            check_tensor("choice_mask", choice_mask, shape)
            logits = logits.masked_fill(~choice_mask, NO_CHOICE)
        loss = None if labels is None else self.choice_loss(logits, labels)
        return VLEClassifierOutput(loss=loss, logits=logits)

    def score(self, pooled: Tensor) -> Tensor:
        """Score pooled choices: (B, C, 2D) to (B, C)."""
        return in_float32(getattr(self, self.head_names[0]), pooled).squeeze(-1)

    def choice_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy () of logits (B, C) and labels (B,)."""
        check_tensor("labels", labels, (logits.shape[0],), logits.shape[1])
        return F.cross_entropy(logits.float(), labels)


def side_by_side(
    texts: dict[str, Tensor], pixel_values: Tensor, image_index: Tensor | None
) -> tuple[dict[str, Tensor], Tensor]:
    """Turn tensors (B, C, ...) and `image_index` (B,) into those of the texts: (B · C, ...)."""
    input_ids = texts["input_ids"]
    if input_ids.dim() != 3:
        raise ValueError(
            f"input_ids: expected (questions, choices, tokens), got {tuple(input_ids.shape)}"
        )
    questions, choices = input_ids.shape[:2]
    if image_index is None:
        check_tensor("pixel_values", pixel_values, (questions, *pixel_values.shape[1:]))
        image_index = torch.arange(questions, device=input_ids.device)
    check_tensor("image_index", image_index, (questions,))
    for name, value in texts.items():
        check_tensor(name, value, (questions, choices, *value.shape[2:]))
    flat = {name: value.flatten(0, 1) for name, value in texts.items()}
    return flat, image_index.repeat_interleave(choices)


class VLEForChoice(VLEForMultipleChoice):
    """Multiple-choice questions, each with its own number of choices."""

    head_names = ("choice_logit",)


class VLEForVCRQ2A(VLEForMultipleChoice):
    """VCR, question to answer."""

    head_names = ("vcr_q2a_logit",)


class VLEForVCRQA2R(VLEForMultipleChoice):
    """VCR, question and answer to rationale."""

    head_names = ("vcr_qa2r_logit",)


class VLEForVCRJoint(VLEForMultipleChoice):
    """VCR, both tasks with one pass of the vision encoder.

    The first four choices are answers, the others rationales. The loss is the sum of the losses of
    the two tasks, as in MERLOT Reserve. Labels are (B, 2): the right answer, and the right one of
    the first four rationales.
    """

    head_names = ("vcr_q2a_logit", "vcr_qa2r_logit")
    answers = 4  # VCR's

    def score(self, pooled: Tensor) -> Tensor:
        blocks = pooled[:, : self.answers], pooled[:, self.answers :]
        scores = [
            in_float32(getattr(self, name), block)
            for name, block in zip(self.head_names, blocks, strict=True)
        ]
        return torch.cat(scores, 1).squeeze(-1)

    def choice_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        check_tensor("labels", labels, (logits.shape[0], 2), self.answers)
        check_tensor("logits", logits, (logits.shape[0], 2 * self.answers))
        answers, rationales = logits.float().split(self.answers, 1)
        return F.cross_entropy(answers, labels[:, 0]) + F.cross_entropy(rationales, labels[:, 1])
