"""What VLE is asked: answers, choices, matching, patches, words.

Shapes: B texts, C choices, T text tokens, P patches, K objects, D fusion width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN
from transformers.utils import ModelOutput

from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.modeling import VLEModel, VLEPreTrainedModel, check_range, check_shape


@dataclass
class VLEClassifierOutput(ModelOutput):
    """loss (): the mean over the batch when labels were given; logits (B, num_labels)."""

    loss: Tensor | None = None
    logits: Tensor | None = None


def classifier(width: int, num_labels: int) -> nn.Sequential:
    """The published two-layer head; layer norm with torch's eps of 1e-5, exact GELU."""
    return nn.Sequential(
        nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, num_labels)
    )


def in_float32(head: nn.Module, features: Tensor) -> Tensor:
    """Run a head in float32, whatever the precision of the encoder: features (..., D) → its output.

    A 16-bit logit has 8 or 11 significant bits: distinct scores become ties, and ties go to the first
    class. Autocast is switched off here, and 16-bit weights (DeepSpeed's, or a model loaded in half
    precision) are cast as the features are. Float64 stays float64.
    """
    dtype = torch.promote_types(features.dtype, torch.float32)
    cast = {name: w.to(dtype) for name, w in head.named_parameters() if w.dtype != dtype}
    features = features.to(dtype)
    device = "cpu" if features.is_meta else features.device.type  # autocast knows no meta device
    with torch.autocast(device, enabled=False):
        return torch.func.functional_call(head, cast, (features,)) if cast else head(features)


def patch_loss(logits: Tensor, labels: Tensor, counted: Tensor | None) -> Tensor:
    """Cross-entropy over the patches that count; 0 where none does.

    Args:
        logits: (B, P, classes); labels: (B, P), -100 for a patch that does not count; counted: (B, P) bool.
    """
    if counted is not None:
        labels = labels.masked_fill(~counted.bool(), -100)
    total = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="sum")
    return total / (labels != -100).sum().clamp(min=1)


class VLEForVQA(VLEPreTrainedModel):
    """Answers as classes: a two-layer head on the pooled pair."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        self.vle = VLEModel(config)
        self.vqa_classifier = classifier(2 * config.hidden_size, len(config.id2label or {}))
        self.post_init()

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> VLEClassifierOutput:
        """As `VLEModel.forward`, with labels (B, num_labels) soft targets in 0..1.

        The loss is the binary cross-entropy summed over the classes and averaged over the questions (METER, `objectives.py`:
        mean over both, times the number of classes), computed in float32.
        """
        logits = in_float32(self.vqa_classifier, self.vle(**inputs, pooled_only=True).pooler_output)
        loss = None
        if labels is not None:
            check_shape("labels", labels, tuple(logits.shape))
            loss = (
                F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none")
                .sum(-1)
                .mean()
            )
        return VLEClassifierOutput(loss=loss, logits=logits)


class VLEForMultipleChoice(VLEPreTrainedModel):
    """One score a choice; an image goes through its encoder once for all choices of all questions about it."""

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
        labels: Tensor | None = None,
    ) -> VLEClassifierOutput:
        """Score C choices for each of B questions; the loss is the cross-entropy over the choices, in float32.

        Args:
            input_ids, attention_mask, token_type_ids: (B, C, T).
            pixel_values: (N, 3, H, W).
            object_patch_mask: (B, C, K, P) bool.
            object_token_type_ids, object_mask: (B, C, K).
            image_index: (B,) row of `pixel_values` for each question; None where N = B, one each.
            labels: (B,), the right choice.
        """
        if input_ids.dim() != 3:
            raise ValueError(
                f"input_ids: (questions, choices, tokens) is expected, {tuple(input_ids.shape)} came"
            )
        questions, choices = input_ids.shape[:2]
        if image_index is None:
            check_shape("pixel_values", pixel_values, (questions, *pixel_values.shape[1:]))
            image_index = torch.arange(questions, device=input_ids.device)
        check_shape("image_index", image_index, (questions,))
        every_choice = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "object_patch_mask": object_patch_mask,
            "object_token_type_ids": object_token_type_ids,
            "object_mask": object_mask,
        }
        for name, value in every_choice.items():
            if value is not None:
                check_shape(name, value, (questions, choices, *value.shape[2:]))
        flat = {
            name: value.flatten(0, 1) for name, value in every_choice.items() if value is not None
        }
        image_index = image_index.repeat_interleave(choices)
        pooled = self.vle(
            pixel_values=pixel_values, image_index=image_index, pooled_only=True, **flat
        ).pooler_output
        logits = self.score(pooled.view(questions, choices, -1))
        loss = None if labels is None else self.choice_loss(logits, labels)
        return VLEClassifierOutput(loss=loss, logits=logits)

    def score(self, pooled: Tensor) -> Tensor:
        """pooled (B, C, 2D) → logits (B, C)."""
        return in_float32(getattr(self, self.head_names[0]), pooled).squeeze(-1)

    def choice_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        check_shape("labels", labels, (logits.shape[0],))
        check_range("labels", labels, logits.shape[1])
        return F.cross_entropy(logits.float(), labels)


class VLEForVCRQ2A(VLEForMultipleChoice):
    """VCR, question to answer."""

    head_names = ("vcr_q2a_logit",)


class VLEForVCRQA2R(VLEForMultipleChoice):
    """VCR, question and answer to rationale."""

    head_names = ("vcr_qa2r_logit",)


class VLEForVCRJoint(VLEForMultipleChoice):
    """VCR, both tasks over one pass of the vision encoder: the first four choices are answers, the others rationales.

    The loss is the sum of the two tasks' (MERLOT Reserve fine-tunes on VCR so); labels (B, 2), the right answer and the right
    one of the first four rationales.
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
        check_shape("labels", labels, (logits.shape[0], 2))
        check_shape("logits", logits, (logits.shape[0], 2 * self.answers))
        check_range("labels", labels, self.answers)
        answers, rationales = logits.float().split(self.answers, 1)
        return F.cross_entropy(answers, labels[:, 0]) + F.cross_entropy(rationales, labels[:, 1])


class VLEMatchingHead(nn.Module):
    def __init__(self, config: VLEConfig) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * config.hidden_size, 2)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.fc(pooled)


class VLEForITM(VLEPreTrainedModel):
    """Does the text belong to the image? Class 1 is yes."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        self.vle = VLEModel(config)
        self.itm_score = VLEMatchingHead(config)
        self.post_init()

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> VLEClassifierOutput:
        """As `VLEModel.forward`, with labels (B,) in 0, 1; logits (B, 2)."""
        logits = in_float32(self.itm_score, self.vle(**inputs, pooled_only=True).pooler_output)
        loss = None
        if labels is not None:
            check_shape("labels", labels, (logits.shape[0],))
            check_range("labels", labels, 2)
            loss = F.cross_entropy(logits.float(), labels)
        return VLEClassifierOutput(loss=loss, logits=logits)


class VLEForPBC(VLEPreTrainedModel):
    """Patch-box classification: which patches does the text speak of?"""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        self.vle = VLEModel(config)
        width = config.hidden_size
        self.pbc_classifier = classifier(width, 2)
        self.post_init()

    def forward(
        self, labels: Tensor | None = None, patch_mask: Tensor | None = None, **inputs: Any
    ) -> VLEClassifierOutput:
        """As `VLEModel.forward`; logits (B, P, 2).

        Args:
            labels: (B, P), 1 for a patch that the text speaks of, 0 for one that it does not, -100 for one that does not count.
            patch_mask: (B, P) bool, the patches that count; None: all.
        """
        hidden = self.vle(**inputs).image_embeds
        logits = in_float32(self.pbc_classifier, hidden[:, 1 : 1 + self.config.num_patches])
        loss = None
        if labels is not None:
            check_shape("labels", labels, tuple(logits.shape[:2]))
            check_range("labels", labels, 2, ignored=-100)
            if patch_mask is not None:
                check_shape("patch_mask", patch_mask, tuple(labels.shape))
            loss = patch_loss(logits, labels, patch_mask)
        return VLEClassifierOutput(loss=loss, logits=logits)


class VLEForMPC(VLEPreTrainedModel):
    """Masked patch-box classification: the class of the object behind patches that the model does not see.

    A masked patch is replaced by a learnt embedding after the patch embedding and before the position is added. The published
    code has no such head; this follows the description of the pre-training objective.
    """

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        self.vle = VLEModel(config)
        self.mpc_mask_embedding = nn.Parameter(torch.zeros(config.vision_config.hidden_size))
        self.mpc_classifier = classifier(config.hidden_size, len(config.id2label or {}))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            nn.init.normal_(self.mpc_mask_embedding, std=self.config.initializer_range)

    def forward(
        self, masked_patches: Tensor, labels: Tensor | None = None, **inputs: Any
    ) -> VLEClassifierOutput:
        """As `VLEModel.forward`; logits (B, P, num_labels). The loss is over masked patches that an object covers.

        Args:
            masked_patches: (B, P) bool; every text has an image of its own here (no `image_index`).
            labels: (B, P), the class of the object that covers a patch, -100 where none does.
        """
        hidden = self.vle(
            **inputs, masked_patches=masked_patches, mask_embedding=self.mpc_mask_embedding
        ).image_embeds
        logits = in_float32(self.mpc_classifier, hidden[:, 1 : 1 + self.config.num_patches])
        loss = None
        if labels is not None:
            check_shape("labels", labels, tuple(logits.shape[:2]))
            check_range("labels", labels, logits.shape[-1], ignored=-100)
            loss = patch_loss(logits, labels, masked_patches)
        return VLEClassifierOutput(loss=loss, logits=logits)


class VLEVocabularyTransform(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.LayerNorm(self.activation(self.dense(hidden)))


class VLEVocabularyPredictions(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.transform = VLEVocabularyTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(
            torch.zeros(config.vocab_size)
        )  # published under both names; tied to the decoder's

    def forward(self, hidden: Tensor) -> Tensor:
        return self.decoder(self.transform(hidden))


class VLEVocabularyHead(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.predictions = VLEVocabularyPredictions(config)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.predictions(hidden)


class VLEForMLM(VLEPreTrainedModel):
    """Masked words, predicted with the word embeddings themselves."""

    _tied_weights_keys = {
        "mlm_score.1.predictions.decoder.weight": "vle.text_model.embeddings.word_embeddings.weight",
        "mlm_score.1.predictions.bias": "mlm_score.1.predictions.decoder.bias",
    }

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        self.vle = VLEModel(config)
        text = config.text_config
        self.mlm_score: Any = nn.Sequential(
            nn.Linear(config.hidden_size, text.hidden_size), VLEVocabularyHead(text)
        )
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.mlm_score[1].predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.mlm_score[1].predictions.decoder = new_embeddings

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> VLEClassifierOutput:
        """As `VLEModel.forward`, with labels (B, T), -100 for a token that does not count; logits (B, T, vocab_size)."""
        logits = in_float32(self.mlm_score, self.vle(**inputs).text_embeds)
        loss = None
        if labels is not None:
            check_shape("labels", labels, tuple(logits.shape[:2]))
            check_range("labels", labels, logits.shape[-1], ignored=-100)
            loss = patch_loss(logits, labels, None)
        return VLEClassifierOutput(loss=loss, logits=logits)


class VLEForVCRSecondStage(VLEForMLM):
    """Pre-training on VCR's texts: masked words, and whether a text belongs to a picture; each picture is encoded once for both.

    The heads are VLEForMLM's and VLEForITM's, under their names.
    """

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        self.itm_score = VLEMatchingHead(config)
        self.post_init()

    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor,
        image_index: Tensor,
        masked_positions: Tensor,
        masked_words: Tensor,
        matches: Tensor,
        **texts: Tensor,
    ) -> VLEClassifierOutput:
        """Two texts a question: its masked copy, and the whole text, which may look at another picture.

        The loss is the mean over the questions of the sum of both: the mean cross-entropy of the question's own masked words,
        and that of its match, in float32. So a question weighs the same in any batch, however many words are masked in it.

        Args:
            pixel_values: (N, 3, H, W).
            image_index: (B, 2) row of `pixel_values` for each text.
            masked_positions: (B, M) where words are masked in the first text; anything where there are fewer than M.
            masked_words: (B, M) the ids that stood there; -100 where there are fewer than M.
            matches: (B,) 1 if the second text looks at its own picture, else 0.
            texts: `input_ids`, `attention_mask`, `token_type_ids` (B, 2, T), and objects as in `VLEModel.forward`, (B, 2, K).

        Returns:
            logits (B, M + 1): for each masked word, and last for the match, 1 if the model chooses the
            right class and 0 if not; -1 where there is no masked word; NaN where one of the scores
            that it chooses by is not finite.
        """
        questions = matches.shape[0]
        for name, value in {"image_index": image_index, **texts}.items():
            check_shape(name, value, (questions, 2, *value.shape[2:]))
        check_shape("masked_words", masked_words, tuple(masked_positions.shape))
        check_range("masked_words", masked_words, self.config.text_config.vocab_size, ignored=-100)
        check_range("matches", matches, 2)
        flat = {name: value.flatten(0, 1) for name, value in texts.items()}
        encoded = self.vle(pixel_values=pixel_values, image_index=image_index.flatten(), **flat)
        masked = encoded.text_embeds[::2]  # (B, T, D)
        masked = masked.gather(1, masked_positions[..., None].expand(-1, -1, masked.shape[-1]))
        words = in_float32(self.mlm_score, masked)  # (B, M, vocab_size)
        match = in_float32(self.itm_score, encoded.pooler_output[1::2])  # (B, 2)
        counted = masked_words != -100
        word_losses = F.cross_entropy(
            words.flatten(0, 1), masked_words.flatten(), reduction="none"
        ).view_as(masked_words)
        word_loss = word_losses.sum(1) / counted.sum(1).clamp(min=1)
        loss = (word_loss + F.cross_entropy(match, matches, reduction="none")).mean()
        chosen = chooses_right(words, masked_words.clamp(min=0)).masked_fill(~counted, -1)
        return VLEClassifierOutput(
            loss=loss, logits=torch.cat([chosen, chooses_right(match, matches)[:, None]], 1)
        )


@torch.no_grad()
def chooses_right(scores: Tensor, right: Tensor) -> Tensor:
    """scores (..., classes), right (...) → (...) 1 where `right` is the argmax, 0 where it is not.

    A tie goes to the lowest class, as in every other head. NaN where a score is not finite.
    """
    found = (scores.argmax(-1) == right).to(scores.dtype)
    return found.masked_fill(~scores.isfinite().all(-1), float("nan"))
