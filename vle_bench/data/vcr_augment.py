"""What may happen to a VCR record in training, its answer left true."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from vle_bench.vcr_text import NAMES


@dataclass(frozen=True)
class VCRAugmentation:
    """A pure function of (seed, epoch, image id) and of (seed, epoch, annot_id).

    Args:
        horizontal_flip: mirror the picture and its boxes with probability one half, never when a text of the record says left
            or right; by image, so that questions of one image can share it.
        shuffle_names: give persons other names of the same list.
    """

    horizontal_flip: bool
    shuffle_names: bool
    seed: int
    epoch: int

    def mirrors(self, record: dict[str, Any], image_id: int) -> bool:
        if not self.horizontal_flip or says_a_side(record):
            return False
        return bool(np.random.default_rng((self.seed, self.epoch, image_id)).random() < 0.5)

    def names(self, annot_id: str) -> tuple[str, ...]:
        if not self.shuffle_names:
            return NAMES
        rng = np.random.default_rng((self.seed, self.epoch, id_number(annot_id)))
        return tuple(NAMES[i] for i in rng.permutation(len(NAMES)))


def id_number(annot_id: str) -> int:
    """64 bits of an annot_id, for a random generator's seed; the same on every machine."""
    return int.from_bytes(hashlib.sha256(annot_id.encode()).digest()[:8], "big")


def says_a_side(record: dict[str, Any]) -> bool:
    """Whether any text has a word with left or right in it: of `leftmost` and `alright` it costs little to think the same."""
    texts = [record["question"], *record["answer_choices"], *record.get("rationale_choices", [])]
    words = (token.lower() for text in texts for token in text if isinstance(token, str))
    return any("left" in word or "right" in word for word in words)
