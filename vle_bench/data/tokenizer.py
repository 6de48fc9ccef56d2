"""A small DeBERTa-v2 tokenizer for models from scratch."""

import math
import re
from collections import Counter
from collections.abc import Iterable

from transformers import DebertaV2Tokenizer

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> DebertaV2Tokenizer:
    """Build a Unigram model of the frequent words of `texts`; other words are spelt by characters.

    The piece probabilities are the words' frequencies, where Unigram training would end if every
    word were kept. Its pruning would split the rarer words and make questions twice as long. The
    order of the texts does not matter.
    """
    words: Counter[str] = Counter()
    characters: Counter[str] = Counter("▁")
    for text in texts:
        found = re.findall(r"\w+|[^\w\s]", text)
        words.update(f"▁{word}" for word in found if word.isalnum())
        characters.update("".join(found))
    singles = sorted(set(characters))
    room = max(0, vocab_size - len(SPECIAL) - len(singles))
    frequent = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:room]
    total = sum(words.values()) or 1
    pieces = [(word, math.log(count / total)) for word, count in frequent]
    # A character costs more than any word, so that only words without a piece are spelt.
    rare = math.log(1 / total) - 1
    vocabulary = (
        [(token, 0.0) for token in SPECIAL] + pieces + [(character, rare) for character in singles]
    )
    return DebertaV2Tokenizer(vocab=vocabulary, unk_id=SPECIAL.index("[UNK]"))
