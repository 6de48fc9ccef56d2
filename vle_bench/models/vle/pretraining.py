"""Pre-training on images and texts with any of VLE's four objectives, which share the towers.

Shapes: B pairs of a text and an image, N images, T text tokens, P patches, M masked words, H texts
with hard strangers, C candidates, Q painted objects, R phrases, D fusion width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vle_bench.data.pairs import FIGURES, NOT_THERE, OBJECTIVES, RESULTS
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.heads import VLEClassifierOutput, classifier, in_float32
from vle_bench.models.vle.modeling import VLEModel, check_tensor
from vle_bench.models.vle.pretrained_model import VLEPreTrainedModel
from vle_bench.models.vle.pretraining_heads import (
    IGNORED,
    IMAGE_TYPE,
    VLEForMLM,
    VLEMatchingHead,
    VLEVocabularyHead,
    black_out,
    chooses_right,
)


class VLEForPreTraining(VLEPreTrainedModel):
    """Masked words (MLM), matching (ITM), painted objects (MPC), patches of a phrase (PBC).

    `config.objectives` names those that are trained, with the weights of their losses; the model
    has no other heads. One pass of the vision encoder over the plain images serves MLM, ITM and
    PBC, and one over the painted images MPC; the text encoder reads plain and masked texts once.
    """

    # inputs of a search that gets no gradients
    untrained_inputs = ("itm_hard_texts", "itm_candidates")

    def __init__(self, config: VLEConfig) -> None:
        super().__init__(config)
        self.vle = VLEModel(config)
        text = config.text_config
        if "mlm" in self.objectives:
            self.mlm_score = nn.Sequential(
                nn.Linear(config.hidden_size, text.hidden_size), VLEVocabularyHead(text)
            )
            self._tied_weights_keys = VLEForMLM._tied_weights_keys
        if "itm" in self.objectives:
            self.itm_score = VLEMatchingHead(config)
        if "mpc" in self.objectives:
            self.mpc_classifier = classifier(config.hidden_size, len(config.id2label or {}))
        if "pbc" in self.objectives:
            self.pbc_classifier = classifier(config.hidden_size, 2)
        self.post_init()
        self.freeze_unread()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load as every VLE does; see `freeze_unread`."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.freeze_unread()
        return loaded

    @property
    def objectives(self) -> dict[str, float]:
        """The trained objectives and the weights of their losses, in the order of OBJECTIVES.

        Raises:
            ValueError: an unknown objective, or none at all.
        """
        weights = weights_of(self.config)
        if unknown := sorted(set(weights) - set(OBJECTIVES)):
            raise ValueError(f"objectives: {unknown[0]!r} is none of {', '.join(OBJECTIVES)}")
        if not any(weights.values()):
            raise ValueError(f"objectives: name at least one of {', '.join(OBJECTIVES)}")
        return {name: float(weights[name]) for name in OBJECTIVES if weights.get(name)}

    def freeze_unread(self) -> None:
        """Freeze the parameters that no chosen objective reads.

        They would never get a gradient, which several processes would wait for.
        """
        read = set(self.objectives)
        vle = self.vle
        unread: list[nn.Module] = []
        if "itm" not in read:
            unread += [vle.cross_modal_text_pooler, vle.cross_modal_image_pooler]
            if read == {"mlm"}:
                unread.append(vle.cross_modal_image_layers[-1])
            elif "mlm" not in read:
                unread.append(vle.cross_modal_text_layers[-1])
        for module in unread:
            module.requires_grad_(False)

    def get_output_embeddings(self) -> nn.Module | None:
        if "mlm" not in self.objectives:
            return None
        decoder: nn.Module = self.mlm_score.get_submodule("1.predictions.decoder")
        return decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.mlm_score.get_submodule("1.predictions").decoder = new_embeddings

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        image_index: Tensor,
        **inputs: Tensor,
    ) -> VLEClassifierOutput:
        """Compute the losses of the chosen objectives; `inputs` are those of their methods.

        The loss is the weighted sum over the objectives of the sum over the pairs, divided by B: a
        pair weighs the same in any batch, and one without a phrase or an object adds nothing to PBC
        or MPC. Losses are computed in float32.

        Args:
            input_ids, attention_mask: (B, T).
            pixel_values: (N, 3, H, W).
            image_index: (B,) row of `pixel_values` for each text.

        Returns:
            logits (B, columns): the results of `mlm`, `itm`, `mpc` and `pbc` side by side, as
            `RESULTS` of vle_bench.data.pairs names them; NOT_THERE if a pair lacks one.
        """
        pairs = Pairs(attention_mask, image_index, pixel_values)
        if set(self.objectives) != {"mlm"}:
            pairs.text = self.vle.encode_text(input_ids, attention_mask)
        if set(self.objectives) != {"mpc"}:
            pairs.image = self.vle.encode_image(pixel_values)
        losses, results = [], []
        for name, weight in self.objectives.items():
            own = {key: value for key, value in inputs.items() if key.startswith(f"{name}_")}
            loss, *columns = getattr(self, name)(pairs, **own)  # (B,) each
            losses.append(weight * loss.sum() / len(loss))
            results += [*columns, absent_where(loss, columns[0])]
        logits = torch.stack(results, 1).detach()
        return VLEClassifierOutput(
            loss=torch.stack(losses).sum(), logits=logits, sums=self.sums(logits)
        )

    @property
    def figure_names(self) -> tuple[str, ...]:
        """The figures of the training's log that `sums` are of."""
        return tuple(name for objective in self.objectives for name in FIGURES[objective])

    def sums(self, results: Tensor) -> Tensor:
        """Return numerators and denominators of `figure_names` over some pairs, (2 · figures,).

        Nobody waits for them: they are divided where a line of the log is written.

        Args:
            results: (B, columns), as `forward` returns them.
        """
        columns = [column for name in self.objectives for column in RESULTS[name]]
        there = results != NOT_THERE
        totals = dict(zip(columns, results.masked_fill(~there, 0).sum(0), strict=True))
        counts = dict(zip(columns, there.sum(0).to(results.dtype), strict=True))
        figures = [one for name in self.objectives for one in FIGURES[name].values()]
        over = [counts[top] if bottom is None else totals[bottom] for top, bottom in figures]
        return torch.stack([totals[top] for top, _ in figures] + over)

    def mlm(
        self, pairs: "Pairs", mlm_input_ids: Tensor, mlm_positions: Tensor, mlm_words: Tensor
    ) -> tuple[Tensor, ...]:
        """Predict masked words beside the plain image.

        Args:
            mlm_input_ids: (B, T), the texts with masked words.
            mlm_positions: (B, M) places of the masked words; anything as padding.
            mlm_words: (B, M) the ids at these places before masking; -100 as padding.

        Returns:
            For each pair the mean loss of its masked words, their number, and how many are right.
        """
        check_tensor("mlm_words", mlm_words, mlm_positions.shape, self._words, ignored=IGNORED)
        text = self.vle.encode_text(mlm_input_ids, pairs.attention_mask)
        image = pairs.image.index_select(0, pairs.image_index)
        fused = there(self.vle.join(text, image, pairs.attention_mask, reads="text").text_embeds)
        places = mlm_positions[..., None].expand(-1, -1, fused.shape[-1])
        words = in_float32(self.mlm_score, fused.gather(1, places))  # (B, M, V)
        losses = F.cross_entropy(words.flatten(0, 1), mlm_words.flatten(), reduction="none")
        counted = mlm_words != IGNORED
        right = chooses_right(words, mlm_words.clamp(min=0)).masked_fill(~counted, 0)
        count = counted.sum(1)
        loss = losses.view_as(mlm_words).sum(1) / count.clamp(min=1)
        return loss, count.to(loss.dtype), right.sum(1)

    def itm(
        self,
        pairs: "Pairs",
        itm_images: Tensor,
        itm_hard_texts: Tensor | None = None,
        itm_candidates: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Tell whether a text sees its own image or a stranger.

        Args:
            itm_images: (B,) row of `pixel_values` that each text sees here.
            itm_hard_texts: (H,) texts whose image in `itm_images` is replaced by the best of
                their candidates.
            itm_candidates: (H, C) rows of `pixel_values`, none of them the text's own.

        Returns:
            For each pair its loss, and whether the answer is right.
        """
        check_tensor("itm_images", itm_images, pairs.image_index.shape, len(pairs.image))
        if itm_hard_texts is not None and itm_candidates is not None:
            chosen = self.hardest(pairs, itm_hard_texts, itm_candidates)
            itm_images = itm_images.index_copy(0, itm_hard_texts, chosen)
        image = pairs.image.index_select(0, itm_images)
        fused = self.vle.join(pairs.text, image, pairs.attention_mask, reads="poolers")
        scores = in_float32(self.itm_score, there(fused.pooler_output))  # (B, 2)
        matches = (itm_images == pairs.image_index).long()
        loss = F.cross_entropy(scores, matches, reduction="none")
        return loss, chooses_right(scores, matches)

    @torch.no_grad()
    def hardest(self, pairs: "Pairs", texts: Tensor, candidates: Tensor) -> Tensor:
        """Return the candidate of each text that the model itself takes most for a match: (H,)."""
        every_text = texts.repeat_interleave(candidates.shape[1])  # (H · C,)
        fused = self.vle.join(
            pairs.text.index_select(0, every_text),
            pairs.image.index_select(0, candidates.flatten()),
            pairs.attention_mask.index_select(0, every_text),
            reads="poolers",
        )
        scores = in_float32(self.itm_score, there(fused.pooler_output))
        best = (scores[:, 1] - scores[:, 0]).view_as(candidates).argmax(1, keepdim=True)
        return candidates.gather(1, best).squeeze(1)

    def mpc(
        self, pairs: "Pairs", mpc_texts: Tensor, mpc_patches: Tensor, mpc_labels: Tensor
    ) -> tuple[Tensor, ...]:
        """Name an object that is painted black in the text's image.

        Args:
            mpc_texts: (Q,) the text of each object, no text twice.
            mpc_patches: (Q, P) bool, the patches under its box.
            mpc_labels: (Q,) its class; -100 for a stand-in, which a batch without objects has.

        Returns:
            For each pair its loss, and whether the class is right.
        """
        classes = len(self.config.id2label or {})
        check_tensor("mpc_labels", mpc_labels, mpc_texts.shape, classes, ignored=IGNORED)
        check_tensor("mpc_patches", mpc_patches, (len(mpc_texts), self.config.num_patches))
        pixels = pairs.pixel_values.index_select(0, pairs.image_index.index_select(0, mpc_texts))
        painted = black_out(pixels, mpc_patches, self.config.vision_config.patch_size)
        fused = self.vle.join(
            pairs.text.index_select(0, mpc_texts),
            self.vle.encode_image(painted),
            pairs.attention_mask.index_select(0, mpc_texts),
            object_patch_mask=mpc_patches[:, None],
            object_token_type_ids=torch.full_like(mpc_labels[:, None], IMAGE_TYPE),
            object_mask=torch.ones_like(mpc_labels[:, None]),
            reads="image",
        )
        scores = in_float32(self.mpc_classifier, there(fused.image_embeds)[:, -1])  # (Q, classes)
        loss = F.cross_entropy(scores, mpc_labels, reduction="none")
        right = chooses_right(scores, mpc_labels.clamp(min=0))
        right = right.masked_fill(mpc_labels == IGNORED, NOT_THERE)
        return pairs.spread(mpc_texts, loss, 0), pairs.spread(mpc_texts, right, NOT_THERE)

    def pbc(self, pairs: "Pairs", pbc_texts: Tensor, pbc_patches: Tensor) -> tuple[Tensor, ...]:
        """Tell which patches of its image a phrase speaks of.

        Args:
            pbc_texts: (R,) the phrases among the texts, no text twice.
            pbc_patches: (R, P), 1 for a patch in the phrase's box, else 0; -100 throughout for a
                stand-in, which a batch without phrases has.

        Returns:
            For each pair the mean loss of its patches, whether the highest patch is in the box, and
            the intersection over union of the box and the patches that are chosen.
        """
        shape = len(pbc_texts), self.config.num_patches
        check_tensor("pbc_patches", pbc_patches, shape, 2, ignored=IGNORED)
        images = pairs.image_index.index_select(0, pbc_texts)
        fused = self.vle.join(
            pairs.text.index_select(0, pbc_texts),
            pairs.image.index_select(0, images),
            pairs.attention_mask.index_select(0, pbc_texts),
            reads="image",
        )
        scores = in_float32(self.pbc_classifier, there(fused.image_embeds)[:, 1:])  # (R, P, 2)
        losses = F.cross_entropy(scores.flatten(0, 1), pbc_patches.flatten(), reduction="none")
        with torch.no_grad():
            pointing, overlap = found_patches(scores, pbc_patches == 1)
            stand_in = pbc_patches[:, 0] == IGNORED
        return (
            pairs.spread(pbc_texts, losses.view_as(pbc_patches).mean(1), 0),
            pairs.spread(pbc_texts, pointing.masked_fill(stand_in, NOT_THERE), NOT_THERE),
            pairs.spread(pbc_texts, overlap.masked_fill(stand_in, NOT_THERE), NOT_THERE),
        )

    @property
    def _words(self) -> int:
        return int(self.config.text_config.vocab_size)


def weights_of(config: VLEConfig) -> dict[str, float | int]:
    """Return the weights of the objectives by name, as a configuration gives them."""
    given = config.objectives
    if given is None:
        return dict.fromkeys(OBJECTIVES, 1.0)
    return given


def has_head(config: VLEConfig, objective: str) -> bool:
    """Tell whether a VLEForPreTraining of this configuration has the head of an objective."""
    return bool(weights_of(config).get(objective))


class Pairs:
    """The part of a batch that the objectives share.

    Attributes:
        text, image: (B, T, D) and (N, 1 + P, D), of the encoders, if an objective reads them.
    """

    text: Tensor
    image: Tensor

    def __init__(self, attention_mask: Tensor, image_index: Tensor, pixel_values: Tensor) -> None:
        check_tensor("image_index", image_index, (len(attention_mask),), len(pixel_values))
        self.attention_mask = attention_mask
        self.image_index = image_index
        self.pixel_values = pixel_values

    def spread(self, texts: Tensor, values: Tensor, other: float) -> Tensor:
        """Return values (Q,) of some texts as values of all pairs (B,), `other` for the rest."""
        every = values.new_full(self.image_index.shape, other)
        return every.index_copy(0, texts, values)


def there(output: Tensor | None) -> Tensor:
    """Return an output of the fusion that was asked for."""
    assert output is not None
    return output


def absent_where(loss: Tensor, result: Tensor) -> Tensor:
    """Mark the loss (B,) of the pairs that lack a result."""
    return loss.detach().masked_fill(result == NOT_THERE, NOT_THERE)


def found_patches(scores: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Compare the patches that a model finds with those of a box.

    Args:
        scores: (R, P, 2), class 1 for a patch that the phrase speaks of.
        inside: (R, P) bool.

    Returns:
        (R,) 1 if the highest patch is inside, else 0; and (R,) the intersection over union of the
        patches whose class is 1 and those inside. Both NaN if a score is not finite.
    """
    margin = scores[..., 1] - scores[..., 0]  # (R, P)
    pointing = inside.gather(1, margin.argmax(1, keepdim=True)).squeeze(1).to(scores.dtype)
    chosen = margin > 0
    both, either = (chosen & inside).sum(1), (chosen | inside).sum(1)
    overlap = both / either.clamp(min=1)
    broken = ~scores.isfinite().flatten(1).all(1)
    return (
        pointing.masked_fill(broken, float("nan")),
        overlap.to(scores.dtype).masked_fill(broken, float("nan")),
    )
