"""Collate pairs of a picture and a text for any of the four objectives of pre-training."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BatchEncoding

from vle_bench.data.augment import Draws
from vle_bench.data.collate import Batch, decoded
from vle_bench.data.masking import mask_whole_words, pad_masked
from vle_bench.data.pixels import PixelStore
from vle_bench.json_files import JsonObject

if TYPE_CHECKING:
    # The GPU check runs where this library is missing.
    from datasets import Dataset

# The objectives, in the order in which a model returns their results.
OBJECTIVES = ("mlm", "itm", "mpc", "pbc")
# Objective → the results of a pair, in the order of the columns of VLEForPreTraining's logits.
RESULTS = {
    "mlm": ("mlm_masked", "mlm_right", "mlm_loss"),
    "itm": ("itm_right", "itm_loss"),
    "mpc": ("mpc_right", "mpc_loss"),
    "pbc": ("pbc_pointing", "pbc_iou", "pbc_loss"),
}
# Objective → figure of the training's log → the results of a pair whose sums it is the quotient of;
# None: over the pairs that have the first.
FIGURES: dict[str, dict[str, tuple[str, str | None]]] = {
    "mlm": {"mlm_loss": ("mlm_loss", None), "mlm_accuracy": ("mlm_right", "mlm_masked")},
    "itm": {"itm_loss": ("itm_loss", None), "itm_accuracy": ("itm_right", None)},
    "mpc": {"mpc_loss": ("mpc_loss", None), "mpc_accuracy": ("mpc_right", None)},
    "pbc": {
        "pbc_loss": ("pbc_loss", None),
        "pbc_pointing": ("pbc_pointing", None),
        "pbc_iou": ("pbc_iou", None),
    },
}
NOT_THERE = -1.0  # result of a pair without a phrase, or without an object
IGNORED = -100  # label that does not count, as in torch's cross_entropy
STRANGERS = 0.5  # share of the texts that see another picture in ITM, as in ViLT's and METER's
HARD = 0.5  # share of these, among captions, whose picture the model chooses itself

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class PairCollator:
    """Collates pairs; a picture that several of them share is decoded and encoded once.

    Masked words, strangers and painted objects are drawn from (seed, epoch, pair_id), for each
    objective by itself, so that neither batches nor workers nor the other objectives change them.
    Only which picture of the batch a stranger is depends on the batch.

    Args:
        pairs, images: the tables of a prepared folder.
        processor: the model's, a VLEProcessor.
        objectives: those of `OBJECTIVES` that are trained.
        candidates: pictures from which the model chooses a hard stranger; 1: all strangers are
            random.
        draws: seed and epoch of the random choices.
        words: token ids that may replace a masked one.
        image_rows: the rows of all pictures of a split, ascending, from which strangers are drawn,
            so that no score depends on a batch; None: they are pictures of the batch.
        pixels: holds the pictures as the processor would make them; None: they are decoded.
    """

    pairs: "Dataset"
    images: "Dataset"
    processor: Any
    objectives: Sequence[str]
    max_text_length: int
    candidates: int
    draws: Draws
    words: NDArray[np.int64]
    image_rows: NDArray[np.int64] | None = None
    pixels: PixelStore | None = None

    def __call__(self, indices: NDArray[np.int64]) -> Batch:
        """Return {"ids": pair ids, "inputs": tensors of VLEForPreTraining} of the pairs (B,)."""
        rows = self.pairs[indices.tolist()]
        encoded = self.encode(rows["caption"])
        own = np.asarray(rows["image_row"])
        seen = self.strangers_of_split(rows) if self.image_rows is not None else own
        pictures, index = np.unique(np.concatenate([own, seen]), return_inverse=True)
        image_index, itm_images = index.reshape(2, -1)
        arrays: Arrays = {
            "input_ids": np.array(encoded["input_ids"]),
            "attention_mask": np.array(encoded["attention_mask"]),
            "image_index": image_index,
        }
        if "mlm" in self.objectives:
            arrays |= self.masked(rows, encoded)
        if "itm" in self.objectives:
            whole_split = self.image_rows is not None
            arrays |= (
                {"itm_images": itm_images} if whole_split else self.strangers(rows, image_index)
            )
        if "mpc" in self.objectives:
            arrays |= self.painted(rows)
        if "pbc" in self.objectives:
            arrays |= self.phrases(rows)
        inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
        inputs["pixel_values"] = self.processor(images=self.pictures(pictures))["pixel_values"]
        return {"ids": rows["pair_id"], "inputs": inputs}

    def encode(self, captions: list[str]) -> BatchEncoding:
        """Return the tokens of texts, padded to the longest."""
        encoded: BatchEncoding = self.processor.tokenizer(
            captions,
            padding=True,
            padding_side="right",
            truncation=True,
            max_length=self.max_text_length,
            return_token_type_ids=False,
        )
        return encoded

    def pictures(self, image_rows: NDArray[np.int64]) -> object:
        """Return the pictures of rows (N,) of `images`, in the form that costs least."""
        if self.pixels is not None:
            return self.pixels.read(image_rows)
        return decoded(self.images[image_rows.tolist()])

    def generators(self, rows: JsonObject, objective: str) -> list[np.random.Generator]:
        """Return a generator for each pair, of this objective."""
        seed, epoch, stream = self.draws.seed, self.draws.epoch, OBJECTIVES.index(objective)
        return [np.random.default_rng((seed, epoch, pair, stream)) for pair in rows["pair_id"]]

    def masked(self, rows: JsonObject, encoded: BatchEncoding) -> Arrays:
        """Mask words of each text."""
        texts, masked = [], []
        for row, rng in enumerate(self.generators(rows, "mlm")):
            ids, words = encoded["input_ids"][row], encoded.word_ids(row)
            hidden, positions = mask_whole_words(
                ids, words, self.processor.tokenizer, self.words, rng
            )
            texts.append(hidden)
            masked.append((positions, np.array(ids)[positions]))
        padded = pad_masked(masked)
        return {
            "mlm_input_ids": np.array(texts),
            "mlm_positions": padded["masked_positions"],
            "mlm_words": padded["masked_words"],
        }

    def strangers_of_split(self, rows: JsonObject) -> NDArray[np.int64]:
        """Return the picture that each text sees in ITM (B,), any of the split."""
        every, seen = self.image_rows, []
        assert every is not None
        for own, rng in zip(rows["image_row"], self.generators(rows, "itm"), strict=True):
            strange = rng.random() < STRANGERS and len(every) > 1
            place = int(rng.integers(max(1, len(every) - 1)))
            place += place >= np.searchsorted(every, own)
            seen.append(int(every[place]) if strange else own)
        return np.array(seen)

    def strangers(self, rows: JsonObject, image_index: NDArray[np.int64]) -> Arrays:
        """Choose the picture of the batch that each text sees in ITM.

        A picture that has the same text in this batch is no stranger to it. A text sees its own
        where there is no stranger. The model chooses none for the phrase of a box: "the red cup" is
        true of many pictures, and these are the ones that a model would choose.
        """
        seen, hard_texts, choices = image_index.copy(), [], []
        captions = np.array(rows["caption"], dtype=object)
        for text, rng in enumerate(self.generators(rows, "itm")):
            strange, hard = rng.random(2) < (STRANGERS, HARD)
            if not strange:
                continue
            others = np.setdiff1d(image_index, image_index[captions == captions[text]])
            others = rng.permutation(others)
            if not len(others):
                continue
            seen[text] = others[0]
            is_caption = rows["box"][text] is None
            if hard and is_caption and self.candidates > 1 and len(others) > 1:
                hard_texts.append(text)
                choices.append(np.resize(others, self.candidates))
        if not hard_texts:
            return {"itm_images": seen}
        return {
            "itm_images": seen,
            "itm_hard_texts": np.array(hard_texts),
            "itm_candidates": np.array(choices),
        }

    def painted(self, rows: JsonObject) -> Arrays:
        """Draw an object to paint over for each pair that has one in view."""
        texts, patches, labels = [], [], []
        sizes = self.sizes(rows)
        for text, rng in enumerate(self.generators(rows, "mpc")):
            if (drawn := self.painted_object(rows, text, sizes[text], rng)) is None:
                continue
            chosen, touched = drawn
            texts.append(text)
            patches.append(touched)
            labels.append(rows["object_classes"][text][chosen])
        if not texts:  # a batch without objects: every process needs a pass of this objective
            texts, labels, patches = [0], [IGNORED], [self.first_patch(sizes[0])]
        return {
            "mpc_texts": np.array(texts),
            "mpc_patches": np.stack(patches),
            "mpc_labels": np.array(labels),
        }

    def painted_object(
        self, rows: JsonObject, text: int, size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[int, NDArray[np.bool_]] | None:
        """Draw one of a pair's objects and return it with its patches (P,); None: none in view."""
        boxes = rows["object_boxes"][text]
        if not boxes:
            return None
        touched, outside = self.processor.box_patches(boxes, size)
        if not len(visible := np.flatnonzero(~outside)):
            return None
        chosen = int(visible[rng.integers(len(visible))])
        return chosen, touched[chosen]

    def phrases(self, rows: JsonObject) -> Arrays:
        """Map the box of each phrase that is in view to patches."""
        texts, patches = [], []
        sizes = self.sizes(rows)
        for text, box in enumerate(rows["box"]):
            if box is None:
                continue
            touched, outside = self.processor.box_patches([box], sizes[text])
            if not outside[0]:
                texts.append(text)
                patches.append(touched[0].astype(np.int64))
        if not texts:
            texts, patches = [0], [np.full(self.first_patch(sizes[0]).shape, IGNORED)]
        return {"pbc_texts": np.array(texts), "pbc_patches": np.stack(patches)}

    def sizes(self, rows: JsonObject) -> list[tuple[int, int]]:
        """Return width and height of the picture of each text."""
        pictures = self._sizes[list(rows["image_row"])]
        return list(zip(pictures["width"], pictures["height"], strict=True))

    def first_patch(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return a mask (P,) of the first patch of a picture, for a stand-in."""
        touched, _ = self.processor.box_patches([[0, 0, 0, 0]], size)
        mask: NDArray[np.bool_] = touched[0]
        return mask

    @cached_property
    def _sizes(self) -> "Dataset":
        """The images table without the files, which need not be read for this."""
        return self.images.select_columns(["width", "height"])
