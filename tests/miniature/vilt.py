"""Tiny ViLT checkpoints in the layout of dandelin/vilt-b32-finetuned-vqa, with random weights."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertTokenizer,
    ViltConfig,
    ViltForMaskedLM,
    ViltForQuestionAnswering,
    ViltProcessor,
)
from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil

from vle_bench.data.tokenization import load_tokenizer

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 64,
    "patch_size": 16,
}
# As the published preprocessor_config.json, for smaller pictures.
PREPROCESSOR = {
    "do_normalize": True,
    "do_pad": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "ViltImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "processor_class": "ViltProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 64},
    "size_divisor": 16,
}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def words_of(questions: Iterable[str]) -> list[str]:
    """The words of questions, as BERT's tokenizer parts them."""
    parted = " ".join(questions).lower().replace("?", " ? ").replace("'", " ' ").split()
    return sorted(set(parted))


def write_tokenizer(folder: Path, questions: Iterable[str]) -> int:
    """BERT's files for these words; returns how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*SPECIAL, *words_of(questions)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), do_lower_case=True, model_max_length=40)
    tokenizer.save_pretrained(folder)
    return len(words)


def write_vilt(
    folder: Path,
    answers: Sequence[str],
    questions: Iterable[str],
    *,
    seed: int = 0,
    head: bool = True,
    preprocessor: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """A checkpoint folder; weights are spread widely, so that answers differ between questions.

    Args:
        head: False: the pre-trained model, ViltForMaskedLM.
    """
    words = write_tokenizer(folder, questions)
    names = {
        "id2label": dict(enumerate(answers)),
        "label2id": {a: i for i, a in enumerate(answers)},
    }
    settings = ViltConfig(**{**SIZES, "vocab_size": words, **(names if head else {}), **config})
    torch.manual_seed(seed)
    model = (ViltForQuestionAnswering if head else ViltForMaskedLM)(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    written = PREPROCESSOR | (preprocessor or {})
    (folder / "preprocessor_config.json").write_text(json.dumps(written), encoding="utf-8")
    return folder


def transformers_logits(folder: Path, picture: Any, question: str) -> torch.Tensor:
    """What transformers' own class and processor say of one question: (answers,)."""
    processor = ViltProcessor(ViltImageProcessorPil.from_pretrained(folder), load_tokenizer(folder))
    model = ViltForQuestionAnswering.from_pretrained(folder).eval()
    with torch.no_grad():
        inputs = processor(picture, question, truncation=True, max_length=40, return_tensors="pt")
        return model(**inputs).logits[0]
