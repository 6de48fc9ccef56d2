"""Encode the choices of a VCR record: token ids, fusion types and objects; numpy only.

This follows the input of the published VLE code, except for its errors: ids and types are built
together, names come from the record alone, the objects of a choice are numbered in ascending order,
and each choice is shortened by itself.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from vle_bench.data.official.vcr import Record, bad_record, check_record
from vle_bench.errors import RequestError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Task = Literal["q2a", "qa2r"]
# The names for "person" in a text: the n-th person of a record's objects is NAMES[n mod 15].
NAMES = (
    "Casey",
    "Riley",
    "Jessie",
    "Jackie",
    "Avery",
    "Jaime",
    "Peyton",
    "Kerry",
    "Jody",
    "Kendall",
    "Payton",
    "Skyler",
    "Frankie",
    "Pat",
    "Quinn",
)
FIRST_OBJECT_TYPE = 2  # 0 is text, 1 is the image
MOST_WORDS = 100_000  # that are remembered with their ids: more than VCR has, some 30 MB
PRIVATE = re.compile("[\ue000-\uf8ff\U000f0000-\U0010ffff]")

Piece = tuple[str, int | None]  # a word, and the index of the object that it names
Token = tuple[int, int]  # input id, fusion type
WordIds = dict[str, list[int]]  # word → its token ids


class Encoding(TypedDict):
    """A choice in tokens, see `encode_record`."""

    input_ids: list[int]
    token_type_ids: list[int]
    objects: list[int]
    object_token_type_ids: list[int]
    shortened: bool


def encode_record(
    record: Record,
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    max_length: int = 80,
    answer: int | None = None,
    known: WordIds | None = None,
) -> list[Encoding]:
    """Encode every choice of a record; only `qa2r` without `answer` needs a label.

    Args:
        record: an official VCR record: `objects`, `question`, `answer_choices`, and for qa2r
            `rationale_choices`.
        tokenizer: a Hugging Face tokenizer with `cls_token_id` and `sep_token_id`.
        task: `q2a` scores the answers, `qa2r` the rationales after the question and one answer.
        max_length: most tokens of a choice, with [CLS] and [SEP].
        answer: `qa2r`: index of the answer before the rationales; by default the right one.
        known: ids of words that this tokenizer has seen before; new words are added to it.

    Returns:
        For each of the C choices: `input_ids` (T,) and `token_type_ids` (T,), 0 or 2 + i for a word
        that names the i-th of `objects`; `objects` (K,), ascending indices of those that get a
        token; `object_token_type_ids` (K,), 2 + i; `shortened`, whether tokens were dropped to fit.

    Raises:
        RequestError: the record is not one that can be encoded; the line names its annot_id.
    """
    check_record(record, task)
    fewest = 1 + 2 * (2 if task == "q2a" else 3)
    if max_length < fewest:
        raise RequestError(f"max_length {max_length}: {task} needs at least {fewest} tokens")
    before, choices = [record["question"]], record["answer_choices"]
    if task == "qa2r":
        before.append(record["answer_choices"][_given_answer(record, answer)])
        choices = record["rationale_choices"]
    called = object_names(record["objects"])
    texts = [[_pieces(segment, called) for segment in (*before, choice)] for choice in choices]
    ids = {} if known is None else known
    words = (word for text in texts for segment in text for word, _ in segment)
    _add_word_ids(ids, words, tokenizer)
    special = tokenizer.cls_token_id, tokenizer.sep_token_id
    return [_encode(text, ids, special, max_length) for text in texts]


def object_names(objects: Sequence[str]) -> list[str]:
    """Name each object for a text: the n-th person by `NAMES`, in turn, any other by its class."""
    called, persons = [], 0
    for name in objects:
        if name == "person":
            name = NAMES[persons % len(NAMES)]
            persons += 1
        called.append(name)
    return called


def tagged(tokens: Sequence[str | list[int]]) -> set[int]:
    """Return the objects that a text names."""
    return {index for token in tokens if not isinstance(token, str) for index in token}


def spoken(tokens: Sequence[str | list[int]], names: Sequence[str]) -> str:
    """Return a text for people to read; names: the name of each object."""
    text = ""
    for token in tokens:
        word = token if isinstance(token, str) else " and ".join(names[i] for i in token)
        text += word if not text or word in (".", "?", ",", "'s") else f" {word}"
    return text


def _given_answer(record: Record, answer: int | None) -> int:
    if answer is None:
        answer = record.get("answer_label")
    if answer is None:
        raise bad_record(
            record, "has no 'answer_label': say with `answer` which answer the rationales are for"
        )
    if answer not in range(len(record["answer_choices"])):
        raise bad_record(
            record,
            f"answer {answer!r} is none of its {len(record['answer_choices'])} answer_choices",
        )
    return answer


def _pieces(tokens: Sequence[str | list[int]], names: Sequence[str]) -> list[Piece]:
    """Split a text into words; tags become names joined by "and", private-use words are dropped."""
    pieces: list[Piece] = []
    for token in tokens:
        if isinstance(token, str):
            if not is_private(token):
                pieces.append((token, None))
            continue
        for position, index in enumerate(token):
            if position:
                pieces.append(("and", None))
            pieces.append((names[index], index))
    return pieces


def is_private(word: str) -> bool:
    """Return whether a word has private-use code points, which replace lost characters."""
    return PRIVATE.search(word) is not None


def _add_word_ids(ids: WordIds, words: Iterable[str], tokenizer: "PreTrainedTokenizerBase") -> None:
    """Add the ids of new words, each tokenised by itself after a space, with one call for all."""
    if len(ids) > MOST_WORDS:
        ids.clear()
    new = [word for word in dict.fromkeys(words) if word not in ids]
    if new:
        encoded = tokenizer(
            [f" {word}" for word in new], add_special_tokens=False, return_attention_mask=False
        )
        ids.update(zip(new, encoded["input_ids"], strict=True))


def _encode(
    text: list[list[Piece]],
    ids: Mapping[str, list[int]],
    special: tuple[int, int],
    max_length: int,
) -> Encoding:
    """Encode one choice, given as pieces of question, (answer,) choice; see `encode_record`.

    Args:
        special: ids of [CLS] and [SEP].
    """
    objects = sorted({index for segment in text for _, index in segment if index is not None})
    types: dict[int | None, int] = {index: FIRST_OBJECT_TYPE + i for i, index in enumerate(objects)}
    types[None] = 0
    segments: list[list[Token]] = [
        [(i, types[index]) for word, index in segment for i in ids[word]] for segment in text
    ]
    shortened = shorten(segments, max_length - 1 - len(segments))
    first, last = special
    tokens = [(first, 0)]
    for segment in segments:
        tokens += [*segment, (last, 0)]
    return {
        "input_ids": [i for i, _ in tokens],
        "token_type_ids": [t for _, t in tokens],
        "objects": objects,
        "object_token_type_ids": [types[index] for index in objects],
        "shortened": shortened,
    }


def shorten(segments: Sequence[list[Token]], room: int) -> bool:
    """Drop last tokens, in place, until [question, answer(, rationale)] fit; return if it did."""
    loser = _loser_of_two if len(segments) == 2 else _loser_of_three
    shortened = False
    while sum(map(len, segments)) > room:
        segments[loser(*map(len, segments))].pop()
        shortened = True
    return shortened


def _loser_of_two(question: int, answer: int) -> int:
    return 0 if question > answer else 1


def _loser_of_three(question: int, answer: int, rationale: int) -> int:
    if rationale > question + answer:
        return 2
    return 0 if question > 1 else 1


def pad_choices(
    questions: Sequence[Sequence[Encoding]],
    patch_masks: Sequence[NDArray[np.bool_]],
    pad_token_id: int,
) -> dict[str, NDArray[np.generic]]:
    """Pad the encodings of B questions to one batch for the multiple-choice models.

    T and K are the longest text and the most objects of the batch; K may be 0.

    Args:
        questions: B results of `encode_record`, each of C choices.
        patch_masks: B arrays (objects of the record, P): the patches that each object touches.

    Returns:
        `input_ids`, `attention_mask`, `token_type_ids` (B, C, T) int64; `object_patch_mask`
        (B, C, K, P) bool; `object_token_type_ids`, `object_mask` (B, C, K) int64.
    """
    counts = {len(choices) for choices in questions}
    patches = {mask.shape[-1] for mask in patch_masks}
    if len(counts) != 1 or len(patches) != 1:
        raise ValueError(
            "one number of choices and of patches in a batch is expected, "
            f"not {sorted(counts)} and {sorted(patches)}"
        )
    encodings = [encoding for choices in questions for encoding in choices]
    size = (len(questions), counts.pop())
    tokens = max(len(e["input_ids"]) for e in encodings)
    objects = max(len(e["objects"]) for e in encodings)
    batch = {
        "input_ids": np.full((*size, tokens), pad_token_id),
        "attention_mask": np.zeros((*size, tokens), np.int64),
        "token_type_ids": np.zeros((*size, tokens), np.int64),
        "object_patch_mask": np.zeros((*size, objects, patches.pop()), np.bool_),
        "object_token_type_ids": np.zeros((*size, objects), np.int64),
        "object_mask": np.zeros((*size, objects), np.int64),
    }
    for b, (choices, mask) in enumerate(zip(questions, patch_masks, strict=True)):
        for c, encoding in enumerate(choices):
            length, count = len(encoding["input_ids"]), len(encoding["objects"])
            batch["input_ids"][b, c, :length] = encoding["input_ids"]
            batch["attention_mask"][b, c, :length] = 1
            batch["token_type_ids"][b, c, :length] = encoding["token_type_ids"]
            batch["object_patch_mask"][b, c, :count] = mask[encoding["objects"]]
            batch["object_token_type_ids"][b, c, :count] = encoding["object_token_type_ids"]
            batch["object_mask"][b, c, :count] = 1
    return batch
