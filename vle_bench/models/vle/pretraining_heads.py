"""Heads of pre-training: matching, patches, masked words.

Shapes: B texts, N images, T text tokens, P patches, K objects, M masked words, D fusion width, V
words of the vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.heads import VLEClassifierOutput, classifier, in_float32
from vle_bench.models.vle.modeling import VLEModel, check_tensor
from vle_bench.models.vle.pretrained_model import VLEPreTrainedModel

IGNORED = -100  # label of a position that does not count, as in torch's cross_entropy
# Fusion type of an object's token in pre-training, the patches' own: the type table of the released
# pre-trained models has no row for objects.
IMAGE_TYPE = 1


def token_loss(logits: Tensor, labels: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy () over the positions that count; 0 if none does.

    Args:
        logits: (B, P, classes).
        labels: (B, P), -100 for a position that does not count.
        counted: (B, P) bool; only positions where it is true count as well.
    """
    if counted is not None:
        labels = labels.masked_fill(~counted.bool(), IGNORED)
    total = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


class VLEMatchingHead(nn.Module):
    """One linear layer, under the published name."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * config.hidden_size, 2)

    def forward(self, pooled: Tensor) -> Tensor:
        scores: Tensor = self.fc(pooled)
        return scores


class VLEForITM(VLEPreTrainedModel):
    """Image-text matching: whether the text belongs to the image; class 1 is yes."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        self.vle = VLEModel(config)
        self.itm_score = VLEMatchingHead(config)
        self.post_init()

    def forward(self, labels: Tensor | None = None, **inputs: Tensor) -> VLEClassifierOutput:
        """Score both classes: logits (B, 2). Takes the inputs of `VLEModel.forward`.

        Args:
            labels: (B,) in 0, 1.
        """
        logits = in_float32(self.itm_score, self.vle(**inputs, pooled_only=True).pooler_output)
        loss = None
        if labels is not None:
            check_tensor("labels", labels, (logits.shape[0],), 2)
            loss = F.cross_entropy(logits.float(), labels)
        return VLEClassifierOutput(loss=loss, logits=logits)


class VLEForPBC(VLEPreTrainedModel):
    """Patch-box classification: the patches that the text describes."""

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        self.vle = VLEModel(config)
        self.pbc_classifier = classifier(config.hidden_size, 2)
        self.post_init()

    def forward(
        self, labels: Tensor | None = None, patch_mask: Tensor | None = None, **inputs: Tensor
    ) -> VLEClassifierOutput:
        """Score every patch: logits (B, P, 2). Takes the inputs of `VLEModel.forward`.

        Args:
            labels: (B, P), 1 for a patch that the text describes, 0 for any other, -100 for a patch
                that does not count.
            patch_mask: (B, P) bool, the patches that count; None: all.
        """
        hidden = self.vle(**inputs).image_embeds  # (B, S, D)
        logits = in_float32(self.pbc_classifier, hidden[:, 1 : 1 + self.config.num_patches])
        loss = None
        if labels is not None:
            check_tensor("labels", labels, logits.shape[:2], 2, ignored=IGNORED)
            if patch_mask is not None:
                check_tensor("patch_mask", patch_mask, labels.shape)
            loss = token_loss(logits, labels, patch_mask)
        return VLEClassifierOutput(loss=loss, logits=logits)


def black_out(pixel_values: Tensor, patches: Tensor, patch_size: int) -> Tensor:
    """Paint patches black: zero, where pixels are normalised.

    Args:
        pixel_values: (N, 3, H, W).
        patches: (N, P) bool, row by row; a remainder of pixels beyond the last patch stays.
    """
    height, width = pixel_values.shape[-2:]
    grid = patches.view(-1, 1, height // patch_size, width // patch_size)
    black = grid.repeat_interleave(patch_size, 2).repeat_interleave(patch_size, 3)
    black = F.pad(black, (0, width - black.shape[3], 0, height - black.shape[2]))
    return pixel_values.masked_fill(black, 0)


class VLEForMPC(VLEPreTrainedModel):
    """Masked patch-box classification: the class of an object that is painted over.

    As in the figure of VLE's README: the patches under the object's box are black in the picture,
    the vision encoder's outputs for them are averaged into one token after the patches, and the
    class is read from that token after the fusion.
    """

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        self.vle = VLEModel(config)
        self.mpc_classifier = classifier(config.hidden_size, len(config.id2label or {}))
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        object_patch_mask: Tensor,
        object_mask: Tensor,
        object_token_type_ids: Tensor | None = None,
        image_index: Tensor | None = None,
        labels: Tensor | None = None,
        **texts: Tensor,
    ) -> VLEClassifierOutput:
        """Score the classes of every object: logits (B, K, num_labels).

        Takes the inputs of `VLEModel.forward`. All objects of a text are black at once.

        Args:
            object_token_type_ids: (B, K); None: `IMAGE_TYPE`.
            labels: (B, K), -100 for an object that does not count.
        """
        if image_index is not None:
            pixel_values = pixel_values.index_select(0, image_index)
        if object_token_type_ids is None:
            object_token_type_ids = torch.full_like(object_mask, IMAGE_TYPE)
        black = (object_patch_mask & object_mask[..., None].bool()).any(1)  # (B, P)
        hidden = self.vle(
            pixel_values=black_out(pixel_values, black, self.config.vision_config.patch_size),
            object_patch_mask=object_patch_mask,
            object_mask=object_mask,
            object_token_type_ids=object_token_type_ids,
            **texts,
        ).image_embeds  # (B, S, D)
        logits = in_float32(self.mpc_classifier, hidden[:, 1 + self.config.num_patches :])
        loss = None
        if labels is not None:
            check_tensor("labels", labels, logits.shape[:2], logits.shape[-1], ignored=IGNORED)
            loss = token_loss(logits, labels, object_mask)
        return VLEClassifierOutput(loss=loss, logits=logits)


class VLEVocabularyTransform(nn.Module):
    """Dense layer, activation and layer norm of BERT's head for masked words."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        transformed: Tensor = self.LayerNorm(self.activation(self.dense(hidden)))
        return transformed


class VLEVocabularyPredictions(nn.Module):
    """Scores of all words of the vocabulary."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.transform = VLEVocabularyTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        # Published beside the decoder's bias; the two are tied.
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor) -> Tensor:
        scores: Tensor = self.decoder(self.transform(hidden))
        return scores


class VLEVocabularyHead(nn.Module):
    """One more level, which the published names have."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.predictions = VLEVocabularyPredictions(config)

    def forward(self, hidden: Tensor) -> Tensor:
        scores: Tensor = self.predictions(hidden)
        return scores


class VLEForMLM(VLEPreTrainedModel):
    """Masked words, predicted with the word embeddings themselves."""

    _tied_weights_keys = {
        "mlm_score.1.predictions.decoder.weight": (
            "vle.text_model.embeddings.word_embeddings.weight"
        ),
        "mlm_score.1.predictions.bias": "mlm_score.1.predictions.decoder.bias",
    }

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        self.vle = VLEModel(config)
        text = config.text_config
        self.mlm_score = nn.Sequential(
            nn.Linear(config.hidden_size, text.hidden_size), VLEVocabularyHead(text)
        )
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        decoder: nn.Module = self.mlm_score.get_submodule("1.predictions.decoder")
        return decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.mlm_score.get_submodule("1.predictions").decoder = new_embeddings

    def forward(self, labels: Tensor | None = None, **inputs: Tensor) -> VLEClassifierOutput:
        """Score the vocabulary at every place: logits (B, T, V).

        Takes the inputs of `VLEModel.forward`.

        Args:
            labels: (B, T), -100 for a token that does not count.
        """
        logits = in_float32(self.mlm_score, self.vle(**inputs).text_embeds)
        loss = None
        if labels is not None:
            check_tensor("labels", labels, logits.shape[:2], logits.shape[-1], ignored=IGNORED)
            loss = token_loss(logits, labels)
        return VLEClassifierOutput(loss=loss, logits=logits)


class VLEForVCRSecondStage(VLEForMLM):
    """Pre-training on VCR's texts: masked words, and whether a text belongs to an image.

    Each image is encoded once for both. The heads are those of VLEForMLM and VLEForITM, with their
    names.
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
        """Read two texts a question: a masked copy, and the whole text, maybe with another image.

        The loss is the mean over the questions of the sum of both losses, in float32: the mean
        cross-entropy of the question's own masked words, and that of its match. So a question
        weighs the same in any batch, however many of its words are masked.

        Args:
            pixel_values: (N, 3, H, W).
            image_index: (B, 2) row of `pixel_values` for each text.
            masked_positions: (B, M) places of the masked words in the first text; anything as
                padding.
            masked_words: (B, M) the ids at these places before masking; -100 as padding.
            matches: (B,) 1 if the second text sees its own image, else 0.
            texts: `input_ids`, `attention_mask`, `token_type_ids` (B, 2, T), and objects as in
                `VLEModel.forward`, (B, 2, K).

        Returns:
            logits (B, M + 1), for each masked word and last for the match: 1 if the model chooses
            the right class, else 0; -1 for padding; NaN if a score to choose by is not finite.
        """
        questions = matches.shape[0]
        for name, value in {"image_index": image_index, **texts}.items():
            check_tensor(name, value, (questions, 2, *value.shape[2:]))
        vocabulary, places = self.config.text_config.vocab_size, masked_positions.shape
        check_tensor("masked_words", masked_words, places, vocabulary, ignored=IGNORED)
        check_tensor("matches", matches, (questions,), 2)
        flat = {name: value.flatten(0, 1) for name, value in texts.items()}
        encoded = self.vle(pixel_values=pixel_values, image_index=image_index.flatten(), **flat)
        masked = encoded.text_embeds[::2]  # (B, T, D)
        masked = masked.gather(1, masked_positions[..., None].expand(-1, -1, masked.shape[-1]))
        words = in_float32(self.mlm_score, masked)  # (B, M, V)
        match = in_float32(self.itm_score, encoded.pooler_output[1::2])  # (B, 2)
        counted = masked_words != IGNORED
        word_losses = F.cross_entropy(words.flatten(0, 1), masked_words.flatten(), reduction="none")
        word_loss = word_losses.view_as(masked_words).sum(1) / counted.sum(1).clamp(min=1)
        loss = (word_loss + F.cross_entropy(match, matches, reduction="none")).mean()
        word_right = chooses_right(words, masked_words.clamp(min=0)).masked_fill(~counted, -1)
        right = torch.cat([word_right, chooses_right(match, matches)[:, None]], 1)
        return VLEClassifierOutput(loss=loss, logits=right)


@torch.no_grad()
def chooses_right(scores: Tensor, right: Tensor) -> Tensor:
    """Return 1 if `right` is the argmax, else 0: scores (..., classes), right (...) to (...).

    A tie goes to the lowest class, as in every other head. NaN if a score is not finite.
    """
    chosen = (scores.argmax(-1) == right).to(scores.dtype)
    return chosen.masked_fill(~scores.isfinite().all(-1), float("nan"))
