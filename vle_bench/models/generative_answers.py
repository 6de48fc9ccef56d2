"""Answers of a generative model: written greedily, or chosen by their log-likelihood."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
)

from vle_bench.data.asking import Words
from vle_bench.data.collate import NO_CHOICE
from vle_bench.json_files import JsonObject

# Kept keys of a folder's generation_config.json: the tokens that start and end an answer. Sampling,
# beams and penalties for repetition would not be greedy.
KEPT = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
)
PADDING = 0  # byte that no text has


def as_bytes(texts: list[str]) -> Tensor:
    """Return texts as rows (B, L) of UTF-8, so that they can go where tensors go."""
    encoded = [torch.tensor([*text.encode()], dtype=torch.uint8) for text in texts]
    return nn.utils.rnn.pad_sequence(encoded, batch_first=True, padding_value=PADDING)


def from_bytes(rows: Tensor) -> list[str]:
    """Return the texts of `as_bytes`."""
    return [bytes(row).rstrip(bytes([PADDING])).decode() for row in rows.tolist()]


class Watch(LogitsProcessor):
    """Keep the needed part of each step's logits, and change none.

    Args:
        log_probs: for each step (B,), of the likeliest token.
        sound: for each step (B,) bool, whether no logit is NaN or +infinity. Models mask words that
            must not be written with -infinity.
    """

    def __init__(self) -> None:
        self.log_probs: list[Tensor] = []
        self.sound: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        wide = scores.float()
        best = wide.amax(-1)  # NaN if one of them is
        self.log_probs.append(best - wide.logsumexp(-1))
        self.sound.append(best.isfinite())
        return scores


class GenerativeAnswers(nn.Module):
    """A generative model of transformers that answers questions.

    Args:
        most: tokens of an answer.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, most: int) -> None:
        super().__init__()
        kept = {name: getattr(model.generation_config, name, None) for name in KEPT}
        if kept["pad_token_id"] is None:
            kept["pad_token_id"] = tokenizer.pad_token_id
        if kept["eos_token_id"] is None:
            kept["eos_token_id"] = tokenizer.eos_token_id
        model.generation_config = GenerationConfig(**kept)
        self.model, self.tokenizer, self.most = model, tokenizer, most

    def forward(
        self,
        asked: Tensor | None = None,
        options: Tensor | None = None,
        added: Tensor | None = None,
        **inputs: Tensor,
    ) -> SimpleNamespace | Words:
        """Answer B questions.

        Args:
            asked: (B, L) the questions' texts as bytes, for answers in words.
            options: (B, C) the token that each choice adds, -1 where a question has fewer.
            added: (B, C) how many tokens each choice adds, 0 where a question has fewer; the inputs
                are then of all choices in turn.
            inputs: the processor's.

        Returns:
            `Words`, or `logits` (B, C): the log-likelihood of each choice after the prompt.
        """
        if options is not None:
            return SimpleNamespace(logits=self.of_one_token(options, inputs))
        if added is not None:
            return SimpleNamespace(logits=self.of_texts(added, inputs))
        assert asked is not None
        return self.write(from_bytes(asked), inputs)

    def write(self, asked: list[str], inputs: dict[str, Tensor]) -> Words:
        """Write an answer to each question greedily."""
        watch = Watch()
        sequences = self.model.generate(
            **inputs,
            max_new_tokens=self.most,
            do_sample=False,
            num_beams=1,
            logits_processor=LogitsProcessorList([watch]),
        )
        # A decoder alone repeats the prompt before its answer.
        written = sequences[:, sequences.shape[1] - len(watch.log_probs) :]  # (B, steps)
        ends = torch.as_tensor(self.model.generation_config.eos_token_id, device=written.device)
        ended = torch.isin(written, ends.reshape(-1))
        before_end = (ended.cumsum(1) - ended.long()) == 0  # its end among them
        log_probs = torch.stack(watch.log_probs, 1).masked_fill(~before_end, 0)
        sound = torch.stack(watch.sound, 1) | ~before_end
        texts = self.tokenizer.batch_decode(
            written.masked_fill(~before_end, self.model.generation_config.pad_token_id),
            skip_special_tokens=True,
        )
        scores, cut = log_probs.sum(1).exp().tolist(), (~ended.any(1)).tolist()
        rows = []
        for text, score, was_cut, question in zip(texts, scores, cut, asked, strict=True):
            row: JsonObject = {"answer": text.strip(), "score": round(score, 6)}
            rows.append(row | {"text": text, "cut": was_cut, "asked": question})
        return Words(rows, sound.all(1).tolist())

    def of_one_token(self, options: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Score choices (B, C) of one token each by the prompt's last position."""
        log_probs = self.last_logits(inputs, 1)[:, -1].float().log_softmax(-1)
        scores = log_probs.gather(1, options.clamp(min=0))
        return scores.masked_fill(options < 0, NO_CHOICE)

    def of_texts(self, added: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Score choices by the sum over the tokens that each adds to its prompt."""
        longest = int(added.max())
        real = added > 0
        logits = self.last_logits(inputs, longest + 1)[:, :-1].float()  # (pairs, longest, words)
        tokens = inputs["input_ids"][:, -longest:]
        log_probs = logits.log_softmax(-1).gather(2, tokens[..., None])[..., 0]
        own = torch.arange(longest, 0, -1, device=added.device) <= added[real][:, None]
        sums = log_probs.masked_fill(~own, 0).sum(1)
        scores = sums.new_full(added.shape, NO_CHOICE)
        scores[real] = sums
        return scores

    def last_logits(self, inputs: dict[str, Tensor], count: int) -> Tensor:
        """Return the logits (B, count, words) of the last positions."""
        # All of them would be gigabytes for a batch of prompts with pictures.
        few = {"logits_to_keep": count} if self.model._supports_logits_to_keep() else {}
        logits: Tensor = self.model(**inputs, use_cache=False, **few).logits
        return logits[:, -count:]
