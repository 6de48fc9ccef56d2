"""Masked words, and batches for the second stage of pre-training on VCR."""

import json
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from vle_bench.data.augment import Draws, id_number
from vle_bench.data.collate import Batch, ChoiceCollator
from vle_bench.data.vcr_text import pad_choices

# BERT's values, also those of UNITER's `data/mlm.py`. Some predicted tokens are not hidden: they
# look like another word or like themselves, so that a model must doubt every word.
MASKED, HIDDEN, REPLACED = 0.15, 0.8, 0.1
STREAM = 1  # after (seed, epoch, id): other draws than the names', which have none


@dataclass(frozen=True)
class SecondStageCollator:
    """Collate the true texts of VCR records, each twice, and each picture once.

    The masked words and the picture of a text are functions of (seed, epoch, annot_id) and of the
    split alone, so that neither batches nor workers change them.

    Args:
        choices: of the part `qa2r`; gives texts and pictures.
        draws: seed and epoch of the random choices.
        image_rows: rows of the images of the split's questions, each once, ascending; at least
            two.
        words: token ids that may replace another.
    """

    choices: ChoiceCollator
    draws: Draws
    image_rows: NDArray[np.int64]
    words: NDArray[np.int64]

    def __call__(self, indices: NDArray[np.int64]) -> Batch:
        """Return {"ids": annot_ids, "inputs": tensors of VLEForVCRSecondStage} of records (B,)."""
        rows = self.choices.questions[indices.tolist()]
        records = [json.loads(record) for record in rows["record"]]
        tokenizer = self.choices.processor.tokenizer
        own, seen, texts, masked = [], [], [], []
        for record, row, label in zip(
            records, rows["image_row"], rows["rationale_label"], strict=True
        ):
            rng = np.random.default_rng(
                (self.draws.seed, self.draws.epoch, id_number(record["annot_id"]), STREAM)
            )
            own.append(row)
            seen.append(row if rng.random() < 0.5 else self.another(row, rng))
            text = self.choices.encode(record)[label]
            ids, positions = mask_words(text["input_ids"], tokenizer, self.words, rng)
            texts.append([{**text, "input_ids": ids}, text])
            masked.append((positions, np.array(text["input_ids"])[positions]))
        pictures, index = np.unique(np.array(own + seen), return_inverse=True)
        image_index = index.reshape(2, -1).T  # (B, 2)
        features = self.choices.pictures(pictures)
        masks, counts = (
            features["object_patch_mask"].numpy(),
            features["object_mask"].sum(1).numpy(),
        )
        boxes = [
            masks[i, : counts[i]] for i in image_index[:, 0]
        ]  # the own picture's, over the other one too
        batch = pad_choices(texts, boxes, tokenizer.pad_token_id) | pad_masked(masked)
        batch |= {
            "image_index": image_index,
            "matches": np.array([a == b for a, b in zip(own, seen, strict=True)], np.int64),
        }
        inputs = {name: torch.from_numpy(value) for name, value in batch.items()}
        return {
            "ids": rows["annot_id"],
            "inputs": {**inputs, "pixel_values": features["pixel_values"]},
        }

    def another(self, row: int, rng: np.random.Generator) -> int:
        """Draw another picture of the split uniformly, as UNITER's `data/itm.py` does."""
        place = rng.integers(len(self.image_rows) - 1)
        return int(self.image_rows[place + (place >= np.searchsorted(self.image_rows, row))])


def mask_words(
    input_ids: list[int],
    tokenizer: PreTrainedTokenizerBase,
    words: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[list[int], NDArray[np.int64]]:
    """Mask 15 % of the tokens except [CLS] and [SEP], at least one; also return the positions."""
    special = np.isin(input_ids, (tokenizer.cls_token_id, tokenizer.sep_token_id))
    places = np.flatnonzero(~special)
    positions = places[draw_masked(len(places), rng)]
    return hide(input_ids, positions, tokenizer, words, rng), positions


def mask_whole_words(
    input_ids: list[int],
    word_ids: list[int | None],
    tokenizer: PreTrainedTokenizerBase,
    words: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[list[int], NDArray[np.int64]]:
    """Mask 15 % of the words, at least one, and each with all of its tokens.

    Args:
        word_ids: the number of each token's word; None for special tokens and padding.

    Returns:
        The ids, and the positions of the masked tokens.
    """
    numbers = np.array([-1 if number is None else number for number in word_ids])
    whole = np.unique(numbers[numbers >= 0])
    positions = np.flatnonzero(np.isin(numbers, whole[draw_masked(len(whole), rng)]))
    return hide(input_ids, positions, tokenizer, words, rng), positions


def draw_masked(count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which of `count` places are masked (count,), at least one."""
    chosen: NDArray[np.bool_] = rng.random(count) < MASKED
    if count and not chosen.any():
        chosen[rng.integers(count)] = True
    return chosen


def hide(
    input_ids: list[int],
    positions: NDArray[np.int64],
    tokenizer: PreTrainedTokenizerBase,
    words: NDArray[np.int64],
    rng: np.random.Generator,
) -> list[int]:
    """Hide most of the masked tokens, replace a few by other words, and leave the rest."""
    ids = np.array(input_ids)
    kind = rng.random(len(positions))
    ids[positions[kind < HIDDEN]] = tokenizer.mask_token_id
    replaced = positions[(kind >= HIDDEN) & (kind < HIDDEN + REPLACED)]
    ids[replaced] = rng.choice(words, len(replaced))
    hidden: list[int] = ids.tolist()
    return hidden


def pad_masked(
    masked: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> dict[str, NDArray[np.int64]]:
    """Pad B pairs of positions and token ids to `masked_positions` and `masked_words` (B, M)."""
    most = max(len(positions) for positions, _ in masked)
    batch = {
        "masked_positions": np.zeros((len(masked), most), np.int64),
        "masked_words": np.full((len(masked), most), -100),
    }
    for b, (positions, ids) in enumerate(masked):
        batch["masked_positions"][b, : len(positions)] = positions
        batch["masked_words"][b, : len(ids)] = ids
    return batch
