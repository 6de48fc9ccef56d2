"""BLIP for visual question answering, as published: ranked answers, [ENC], 480 pixels.

transformers' own `generate` starts the question with [CLS] in the place of [ENC], reads pictures of
384 pixels and writes an answer of its own. This module follows salesforce/BLIP
(models/blip_vqa.py, train_vqa.py, data/, configs/vqa.yaml).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import (
    BlipConfig,
    BlipForQuestionAnswering,
    BlipImageProcessorPil,
    PreTrainedTokenizerBase,
)

from vle_bench.data.asking import Questions, Words
from vle_bench.data.collate import NO_CHOICE
from vle_bench.data.tokenization import load_tokenizer
from vle_bench.errors import RequestError, first_line
from vle_bench.json_files import JsonObject, read_json
from vle_bench.models import pretrained
from vle_bench.models.answer_ranking import (
    AnswerTree,
    rank,
    rows_of_one_length,
    score_choices,
    without_padding,
)
from vle_bench.models.base import Way

RANKING, GENERATION = "ranking-128", "generation"
IMAGE_SIZE = 480  # configs/vqa.yaml
QUESTION_TOKENS = 35  # models/blip_vqa.py
QUESTION_WORDS = 50  # `pre_question` in data/utils.py
MARKS = re.compile(r'[.!"()*#:;~]')  # the same
# Of the published `generate`: beams, and tokens with the start.
BEAMS, MOST_TOKENS = 3, 10
TREE = "tree_"  # before the names of the tensors of an `AnswerTree`


def question_text(question: str) -> str:
    """Return a question as BLIP reads it: lower case, without some marks, at most 50 words."""
    words = MARKS.sub("", question.lower()).rstrip(" ").split(" ")
    return " ".join(words[:QUESTION_WORDS])


def answer_tokens(
    tokenizer: PreTrainedTokenizerBase, answers: list[str], most: int
) -> list[list[int]]:
    """Return the tokens of answers, without the start and with the end ([SEP])."""
    encoded = tokenizer(answers, truncation=True, max_length=most, return_token_type_ids=False)
    return [ids[1:] for ids in encoded["input_ids"]]


@dataclass(frozen=True)
class BlipAsking:
    """Turn questions and pictures into the tensors of `BlipAnswers`.

    Args:
        start: id of [DEC], the first token of an answer.
        first: id of [ENC], the first token of a question.
        positions: tokens that the text model has positions for.
    """

    way: Way
    tokenizer: PreTrainedTokenizerBase
    image_processor: BlipImageProcessorPil
    start: int
    first: int
    positions: int

    @property
    def max_text_length(self) -> int:
        """Tokens of a question, with [ENC] and [SEP]."""
        return self.way.max_text_length or QUESTION_TOKENS

    @property
    def facts(self) -> JsonObject:
        """Facts that decide the input, for the record."""
        return {
            "class": "BlipForQuestionAnswering",
            "protocol": self.way.protocol,
            "pictures": f"squashed to {IMAGE_SIZE} × {IMAGE_SIZE}",
            "max_text_length": self.max_text_length,
        }

    def ask(
        self, pictures: list[Image.Image], image_index: NDArray[np.int64], questions: Questions
    ) -> dict[str, Tensor]:
        """Return the tensors of B questions about N pictures, each picture once.

        Of questions with choices there is a tree of all their choices, and `choices` (B, C), the
        places of each question's own, -1 where it has fewer than C.
        """
        text = self.tokenizer(
            [question_text(question) for question in questions.texts],
            padding=True,
            padding_side="right",
            truncation=True,
            max_length=self.max_text_length,
            return_tensors="pt",
            return_token_type_ids=False,
        )
        text["input_ids"][:, 0] = self.first
        pixels = self.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
        tensors = {**text, "pixel_values": pixels, "image_index": torch.from_numpy(image_index)}
        if questions.choices is not None:
            tensors |= self.choices(questions.choices)
        return tensors

    def choices(self, choices: list[list[str]]) -> dict[str, Tensor]:
        """Return the tree of all choices, and where each question's own are in it."""
        places = {text: i for i, text in enumerate(dict.fromkeys(sum(choices, [])))}
        tree = AnswerTree.of(
            self.start, answer_tokens(self.tokenizer, list(places), self.positions)
        )
        most = max(map(len, choices))
        own = [[places[text] for text in texts] + [-1] * (most - len(texts)) for texts in choices]
        named = {TREE + name: tensor for name, tensor in vars(tree).items()}
        return {"choices": torch.tensor(own), **named}


class BlipAnswers(nn.Module):
    """BLIP with the answers that it ranks.

    Args:
        labels: the answers to choose from.
    """

    def __init__(self, model: Any, asking: BlipAsking, labels: list[str]) -> None:
        super().__init__()
        self.model, self.asking = model, asking
        if asking.way.protocol == RANKING:
            tokens = answer_tokens(asking.tokenizer, labels, asking.positions)
            for name, tensor in vars(AnswerTree.of(asking.start, tokens)).items():
                self.register_buffer(TREE + name, tensor, persistent=False)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        image_index: Tensor,
        choices: Tensor | None = None,
        **tree: Tensor,
    ) -> SimpleNamespace | Words:
        """Answer B questions about N pictures.

        Returns:
            `logits` (B, labels), or (B, C) for questions with choices; or `Words`.
        """
        states = self.encode(input_ids, attention_mask, pixel_values, image_index)
        if choices is not None:
            return SimpleNamespace(logits=self.scored(states, attention_mask, choices, tree))
        if self.asking.way.protocol == GENERATION:
            return self.generate(states, attention_mask)
        own = AnswerTree(**{name: getattr(self, TREE + name) for name in FIELDS})
        ranked, scores = rank(self.model.text_decoder, states, attention_mask, own)
        logits = scores.new_full((len(states), len(own.targets)), NO_CHOICE)
        return SimpleNamespace(logits=logits.scatter_(1, ranked, as_logits(scores)))

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, image_index: Tensor
    ) -> Tensor:
        """Encode each picture once, then the questions about it: (B, T, D)."""
        # The positions of the released weights were interpolated from 30 × 30 patches to 24 × 24
        # when they were converted; this is the way back.
        pictures = self.model.vision_model(pixel_values, interpolate_pos_encoding=True)
        states: Tensor = self.model.text_encoder(
            input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=pictures.last_hidden_state[image_index],
        ).last_hidden_state
        return states

    def scored(
        self, states: Tensor, mask: Tensor, choices: Tensor, tensors: dict[str, Tensor]
    ) -> Tensor:
        """Score each question's own choices (B, C): log-likelihoods (B, C)."""
        tree = AnswerTree(**{name: tensors[TREE + name] for name in FIELDS})
        scores = score_choices(self.model.text_decoder, states, mask, choices.clamp(min=0), tree)
        return scores.masked_fill(choices < 0, NO_CHOICE)

    def generate(self, states: Tensor, mask: Tensor) -> Words:
        """Write an answer to each question, as the published `generate` does for one question.

        In a batch the published one also attends to the padding of shorter questions.
        """
        rows: dict[int, JsonObject] = {}
        tokenizer, decoder = self.asking.tokenizer, self.model.text_decoder
        for group in rows_of_one_length(mask, len(mask)):
            own = without_padding(states, mask, group)
            written = decoder.generate(
                torch.full((len(own), 1), self.asking.start, device=own.device),
                encoder_hidden_states=own,
                max_length=MOST_TOKENS,
                min_length=1,
                num_beams=BEAMS,
                do_sample=False,
                eos_token_id=tokenizer.sep_token_id,
                pad_token_id=tokenizer.pad_token_id,
                return_dict_in_generate=True,
                output_scores=True,
            )
            texts = tokenizer.batch_decode(written.sequences[:, 1:], skip_special_tokens=True)
            means = written.sequences_scores.exp().tolist()  # of a token's probability
            for row, text, mean in zip(group.tolist(), texts, means, strict=True):
                rows[row] = {"answer": text.strip(), "score": round(mean, 6), "text": text}
        ordered = [rows[row] for row in range(len(mask))]
        return Words(ordered, [row["score"] == row["score"] for row in ordered])


FIELDS = tuple(AnswerTree.__dataclass_fields__)


def as_logits(log_likelihoods: Tensor) -> Tensor:
    """Return the logits whose sigmoid is the likelihood."""
    below_one = log_likelihoods.clamp(max=-1e-6)
    return below_one - torch.log1p(-below_one.exp())


def read(folder: Path, way: Way) -> BlipAsking:
    """Read tokenizer, preprocessor and configuration of a checkpoint folder.

    Raises:
        RequestError: one of them is missing or does not fit.
    """
    config_file = folder / "config.json"
    pretrained.check_processor_files(folder, "the one of Salesforce/blip-vqa-base")
    try:
        config = BlipConfig.from_dict(read_json(config_file))
        tokenizer = load_tokenizer(folder, local_files_only=True)
        image_processor = BlipImageProcessorPil.from_pretrained(
            str(folder), local_files_only=True, size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}
        )
        image_processor(images=[Image.new("RGB", (8, 16))], return_tensors="pt")
    # A damaged file may raise anything.
    except Exception as error:
        raise RequestError(
            f"{folder}: no processor can be loaded from it: {first_line(error)}"
        ) from error
    text: Any = config.text_config
    first = tokenizer.get_vocab().get("[ENC]", text.bos_token_id + 1)
    if first >= text.vocab_size or max(tokenizer.get_vocab().values()) >= text.vocab_size:
        raise RequestError(
            f"{config_file}: text_config.vocab_size: {text.vocab_size:,} has no room for the "
            f"{len(tokenizer):,} words of the tokenizer, [DEC] ({text.bos_token_id}) and [ENC] "
            f"({first}): not of one checkpoint"
        )
    positions = text.max_position_embeddings
    if (way.max_text_length or 0) > positions:
        raise RequestError(
            f"{folder}: --max-text-length {way.max_text_length}: its text model has positions for "
            f"{positions} tokens"
        )
    return BlipAsking(way, tokenizer, image_processor, text.bos_token_id, first, positions)


def load(folder: Path, asking: BlipAsking, labels: list[str]) -> BlipAnswers:
    """Load the weights in float32.

    Args:
        labels: the answers to rank.

    Raises:
        RequestError: no answers to rank, or weights that cannot be loaded.
    """
    if asking.way.protocol == RANKING and not labels:
        raise RequestError(f"{folder}: nothing to rank: --answers FILE names the answers")
    return BlipAnswers(pretrained.load_whole(BlipForQuestionAnswering, folder), asking, labels)
