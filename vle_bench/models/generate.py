"""Generative models of transformers: any class of AutoModelForImageTextToText.

They are asked through the chat template of their folder, greedily. Choices are compared by their
log-likelihood after the prompt.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    ProcessorMixin,
)
from transformers.image_processing_backends import PilBackend

from vle_bench.data.asking import Questions
from vle_bench.errors import RequestError, first_line, first_of
from vle_bench.json_files import JsonObject, read_json
from vle_bench.models import pretrained
from vle_bench.models.base import Way
from vle_bench.models.generative_answers import GenerativeAnswers, as_bytes
from vle_bench.models.prompts import (
    DEFAULT,
    GENERATION,
    check_prompt,
    continuations,
    filled,
)

# That of lmms-eval's vqav2 task.
MOST_NEW_TOKENS = 16


@dataclass(frozen=True)
class GenerativeAsking:
    """Turn questions and pictures into the tensors of `GenerativeAnswers`.

    Args:
        processor: of transformers, with a tokenizer that pads on the side that the model needs.
        chat: the processor has a chat template; else the prompt is the whole text.
        architecture: the model's class.
    """

    way: Way
    processor: ProcessorMixin
    chat: bool
    architecture: str

    @property
    def prompt(self) -> str:
        """The text around a question."""
        return self.way.prompt or DEFAULT[self.way.protocol]

    @property
    def facts(self) -> JsonObject:
        """Facts that decide the input, for the record."""
        facts = {
            "class": self.architecture,
            "protocol": self.way.protocol,
            "prompt": self.prompt,
            "asked_with": "chat template" if self.chat else "prompt alone",
            "pictures": type(self.processor.image_processor).__name__,
        }
        generated = self.way.protocol == GENERATION
        return facts | ({"max_new_tokens": MOST_NEW_TOKENS} if generated else {})

    def ask(
        self, pictures: list[Image.Image], image_index: NDArray[np.int64], questions: Questions
    ) -> dict[str, Tensor]:
        """Return the tensors of B questions about N pictures.

        They are the processor's; for a generated answer `asked`, the texts as bytes; for choices
        those that `GenerativeAnswers.choose` takes.

        Raises:
            RequestError: questions with choices for `generation`, or without for another protocol;
                or the processor cannot take a question.
        """
        own = [pictures[i] for i in image_index]
        if self.way.protocol == GENERATION:
            if questions.choices is not None:
                raise RequestError(
                    f"these questions have choices, which --protocol {GENERATION} does not show; "
                    "take choice-letter or choice-text"
                )
            texts = [self.text(question, None) for question in questions.texts]
            return {**self.tensors(texts, own, questions), "asked": as_bytes(texts)}
        if questions.choices is None:
            raise RequestError(
                f"these questions have no choices, and --protocol {self.way.protocol} chooses "
                f"among them; take {GENERATION}"
            )
        return self.choices(own, questions, questions.choices)

    def text(self, question: str, choices: list[str] | None) -> str:
        """Return all that the model reads for a question, the picture's token in it."""
        prompt = filled(self.prompt, question, choices)
        if not self.chat:
            return prompt
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        message: JsonObject = {"role": "user", "content": content}
        text: str = self.processor.apply_chat_template(
            [message], add_generation_prompt=True, tokenize=False
        )
        return text

    def choices(
        self, pictures: list[Image.Image], questions: Questions, choices: list[list[str]]
    ) -> dict[str, Tensor]:
        """Return tensors that score choices: the prompt alone if each adds one token, else both."""
        texts = [self.text(q, c) for q, c in zip(questions.texts, choices, strict=True)]
        ends = [continuations(self.way.protocol, own) for own in choices]
        endings = [
            [self.added_tokens(text, end) for end in own]
            for text, own in zip(texts, ends, strict=True)
        ]
        most = max(map(len, choices))
        counts = [[*map(len, own), *[0] * (most - len(own))] for own in endings]
        if all(count <= 1 for own in counts for count in own):
            options = [
                [ids[0][0] for ids in zip(own)] + [-1] * (most - len(own)) for own in endings
            ]
            return {**self.tensors(texts, pictures, questions), "options": torch.tensor(options)}
        whole = [
            text + self.joint(text) + end
            for text, own in zip(texts, ends, strict=True)
            for end in own
        ]
        repeated = [picture for picture, own in zip(pictures, ends, strict=True) for _ in own]
        tensors = self.tensors(whole, repeated, questions)
        flat = [ids for own in endings for ids in own]
        for row, ids in zip(tensors["input_ids"], flat, strict=True):
            if row[-len(ids) :].tolist() != ids:
                raise RequestError(
                    "the processor adds tokens after the text, so that no choice can be scored as "
                    "its continuation; take choice-letter with a chat template, or generation"
                )
        return {**tensors, "added": torch.tensor(counts)}

    def joint(self, text: str) -> str:
        """Return the text between prompt and answer: a space, unless the prompt ends in one."""
        special = tuple(self.processor.tokenizer.all_special_tokens)
        return "" if text[-1:].isspace() or text.endswith(special) else " "

    def added_tokens(self, text: str, end: str) -> list[int]:
        """Return the tokens that an answer adds to a prompt."""
        encode = self.processor.tokenizer
        before = encode(text, add_special_tokens=False)["input_ids"]
        whole = encode(text + self.joint(text) + end, add_special_tokens=False)["input_ids"]
        same = next(
            (i for i, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), len(before)
        )
        added: list[int] = whole[same:]
        return added

    def tensors(
        self, texts: list[str], pictures: list[Image.Image], questions: Questions
    ) -> dict[str, Tensor]:
        """Return the processor's tensors of texts, each with its own picture."""
        start = self.processor.tokenizer.bos_token
        # As `apply_chat_template` does where it tokenizes: the template has written the start.
        written = self.chat and start is not None and texts[0].startswith(start)
        try:
            features = self.processor(
                text=texts,
                images=[[picture] for picture in pictures],
                padding=True,
                return_tensors="pt",
                **({"add_special_tokens": False} if written else {}),
            )
        # Each processor has errors of its own, as for a question with the token of a picture in it.
        except Exception as error:
            raise RequestError(
                f"the processor cannot take the questions {first_of(questions.ids)}: "
                f"{first_line(error)}"
            ) from error
        # PaliGemma's processor makes labels even without answers.
        return {k: v for k, v in features.items() if isinstance(v, Tensor) and k != "labels"}


def read(folder: Path, way: Way) -> GenerativeAsking:
    """Read the processor of a checkpoint folder.

    Raises:
        RequestError: it cannot be loaded, has no chat template, or the request does not fit it.
    """
    if way.max_text_length is not None:
        raise RequestError("--max-text-length: means nothing for --model generate")
    if way.prompt is not None:
        check_prompt(way.prompt, way.protocol)
    config = read_json(folder / "config.json")
    encodes = is_encoder_decoder(config)
    # A decoder continues the last tokens. An encoder such as BART's counts its positions from the
    # first token, padding or not.
    processor = read_processor(folder, "right" if encodes else "left")
    chat = bool(getattr(processor, "chat_template", None))
    if not chat and way.prompt is None:
        raise RequestError(
            f"{folder}: has no chat template (chat_template.jinja), which says how the model is "
            "asked; put the published one beside its weights, or give the whole text with "
            "--prompt, such as '<image>answer en {question}' for PaliGemma or '<VQA>{question}' "
            "for Florence-2"
        )
    asking = GenerativeAsking(way, processor, chat, config["architectures"][0])
    if way.protocol != GENERATION and encodes:
        raise RequestError(
            f"{folder}: an encoder-decoder; --protocol {way.protocol} scores models that continue "
            f"their prompt; take {GENERATION}"
        )
    try_out(folder, asking)
    return asking


def is_encoder_decoder(config: JsonObject) -> bool:
    """Tell whether config.json, or its part for the text, names an encoder-decoder."""
    parts = (config, config.get("text_config") or {})
    return any(bool(part.get("is_encoder_decoder")) for part in parts if isinstance(part, dict))


def read_processor(folder: Path, padding_side: str) -> ProcessorMixin:
    """Load the processor, its pictures by Pillow wherever transformers can.

    transformers prefers torchvision if it is installed. Its resize gives other pixels, and so other
    scores.
    """
    try:
        processor: ProcessorMixin = AutoProcessor.from_pretrained(
            str(folder), local_files_only=True
        )
        if not isinstance(processor.image_processor, PilBackend):
            processor.image_processor = AutoImageProcessor.from_pretrained(
                str(folder), local_files_only=True, backend="pil"
            )
        tokenizer = processor.tokenizer
        tokenizer.padding_side = padding_side
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
    # A damaged file may raise anything; so does a library that a processor needs and is missing.
    except Exception as error:
        raise RequestError(
            f"{folder}: no processor can be loaded from it: {first_line(error)}"
        ) from error
    return processor


def try_out(folder: Path, asking: GenerativeAsking) -> None:
    """Ask about a picture, since a damaged template or processor fails only there."""
    choices = None if asking.way.protocol == GENERATION else [["yes", "no"]]
    try:
        picture = Image.new("RGB", (64, 48))
        asking.ask([picture], np.zeros(1, np.int64), Questions(["of a trial"], ["Why?"], choices))
    # A template is a program, and may raise anything.
    except Exception as error:
        raise RequestError(f"{folder}: cannot be asked: {first_line(error)}") from error


def load(folder: Path, asking: GenerativeAsking, labels: list[str]) -> GenerativeAnswers:
    """Load the weights in float32.

    Args:
        labels: not read; the model answers in its own words.

    Raises:
        RequestError: the weights are damaged, missing, or of another shape.
    """
    model = pretrained.load_whole(AutoModelForImageTextToText, folder)
    return GenerativeAnswers(model, asking.processor.tokenizer, MOST_NEW_TOKENS)
