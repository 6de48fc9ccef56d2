"""Tokenizers: loaded with the normaliser of their files, or trained for a model from scratch.

DebertaV2Tokenizer of transformers 5 takes only the vocabulary of a file and adds a normaliser of
its own (NFC and one kind of space). The published models were trained with SentencePiece's rules
(`nmt_nfkc`: an ellipsis is three full stops, a no-break space is a space, ½ is 1⁄2), which are in
spm.model and in the tokenizer.json of transformers 4.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from transformers import AutoTokenizer, DebertaV2Tokenizer, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import SentencePieceExtractor
from transformers.utils import cached_file

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
_FILE = "tokenizer.json"
# Each of them makes a tokenizer; the first two are those of VLE.
TOKENIZER_FILES = (
    "spm.model",
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "sentencepiece.bpe.model",
)
_DONE = "_as_in_its_file"
_NONE_IF_MISSING = {
    f"_raise_exceptions_for_{what}": False
    for what in ("missing_entries", "connection_errors", "gated_repo")
}
_HUB = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
# A control character that SentencePiece's rules delete. It ends a grapheme, and NFC composes
# nothing across it.
_BREAK = "\x01"
# Characters that join the one before them to a grapheme: marks, joiners, and the vowels and sound
# marks that are letters by category.
_JOINS = r"\p{M}\u200c\u200d\uff9e\uff9f\u0e33\u0eb3"
_MOST_MARKS = 3  # that compose with one letter in SentencePiece's rules, as in ᾄ


def load_tokenizer(source: str | Path, **kwargs: Any) -> PreTrainedTokenizerBase:
    """Load a tokenizer as `AutoTokenizer.from_pretrained` does, with the normaliser of its file.

    Raises:
        FileNotFoundError: a folder without the file of a tokenizer.
    """
    folder = Path(source, kwargs.get("subfolder") or "")
    if folder.is_dir() and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        expected = " nor ".join(TOKENIZER_FILES[:2])
        raise FileNotFoundError(f"neither {expected} is in {folder}")
    hub = {key: value for key, value in kwargs.items() if key in _HUB and value is not None}
    return as_in_its_file(AutoTokenizer.from_pretrained(str(source), **kwargs), **hub)


def as_in_its_file(tokenizer: PreTrainedTokenizerBase, **hub: Any) -> PreTrainedTokenizerBase:
    """Give a DebertaV2Tokenizer the normaliser of its file, in place; leave other tokenizers.

    A tokenizer.json takes precedence, as in transformers 4: it is the tokenizer that a run was
    trained with. Without one the rules are those of spm.model. A tokenizer that was built in memory
    has no file and stays as it is.

    Args:
        hub: where else to look than in the default cache, as `from_pretrained` takes it.

    Raises:
        ValueError: neither file is there any more.
    """
    if (
        not isinstance(tokenizer, DebertaV2Tokenizer)
        or not tokenizer.name_or_path
        or getattr(tokenizer, _DONE, False)
    ):
        return tokenizer
    backend, model = tokenizer.backend_tokenizer, getattr(tokenizer, "vocab_file", None)
    try:
        file = cached_file(
            tokenizer.name_or_path, _FILE, **{"local_files_only": True, **hub}, **_NONE_IF_MISSING
        )
    except OSError:  # a folder that was removed
        file = None
    if file is not None:
        saved = Tokenizer.from_file(file)
        backend.normalizer, backend.pre_tokenizer = saved.normalizer, saved.pre_tokenizer
    elif model and Path(model).is_file():
        spec = SentencePieceExtractor(str(model)).proto.normalizer_spec
        backend.normalizer = normalizers.Sequence(
            [normalizers.Lowercase()] * bool(tokenizer.do_lower_case) + sentencepiece_rules(spec)
        )
        prefix = pre_tokenizers.Metaspace(
            prepend_scheme="always" if spec.add_dummy_prefix else "never"
        )
        by_punctuation = [pre_tokenizers.Punctuation(behavior="isolated")] * bool(
            tokenizer.split_by_punct
        )
        backend.pre_tokenizer = pre_tokenizers.Sequence([*by_punctuation, prefix])
    else:
        raise ValueError(
            f"the tokenizer of {tokenizer.name_or_path}: neither its {_FILE} nor its spm.model is "
            "there, so that its normaliser cannot be read; load it with "
            "VLEProcessor.from_pretrained, or with vle_bench.data.tokenization.load_tokenizer"
        )
    setattr(tokenizer, _DONE, True)
    return tokenizer


class NormalizerSpec(Protocol):
    """SentencePiece's message of this name, of which its own library has no types."""

    precompiled_charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool


def sentencepiece_rules(spec: NormalizerSpec) -> list[normalizers.Normalizer]:
    """Convert SentencePiece's `normalizer_spec` to equivalent normalisers of `tokenizers`.

    The library's `Precompiled` reads the rules, but looks up a whole grapheme by its first match
    and drops the rest (`e` with two accents keeps one). So each character is looked up alone, and
    marks are composed one after the other with the letter before them, as SentencePiece's longest
    does. Remaining differences: a mark on a character with a rule of its own (a ligature, the
    Ångström sign), and a mark below a letter that is one character with its mark above.
    """
    rules: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        # Both patterns look behind: the library's NFC cannot undo one at the start of a text.
        rules.append(normalizers.Replace(Regex(rf"(?<=[^\x00-\x7f])(?=[{_JOINS}])"), _BREAK))
        rules.append(normalizers.Precompiled(spec.precompiled_charsmap))
        between_marks = normalizers.Replace(Regex(r"(?<=\p{M})(?=\p{Mn})"), _BREAK)
        rules += [between_marks, normalizers.NFC(), normalizers.Replace(_BREAK, "")] * _MOST_MARKS
    if spec.remove_extra_whitespaces:
        rules += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace(Regex("^ | $"), "")]
    return rules


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> DebertaV2Tokenizer:
    """Build a Unigram model of the frequent words of `texts`; other words are spelt by characters.

    The piece probabilities are the words' frequencies, where Unigram training would end if every
    word were kept. Its pruning would split the rarer words and make questions twice as long. The
    order of the texts does not matter.
    """
    words: Counter[str] = Counter()
    characters: Counter[str] = Counter("▁")
    for text in texts:
        pieces_of_text = re.findall(r"\w+|[^\w\s]", text)
        words.update(f"▁{word}" for word in pieces_of_text if word.isalnum())
        characters.update("".join(pieces_of_text))
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
