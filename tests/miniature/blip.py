"""A tiny random BLIP for question answering, in the layout of Salesforce/blip-vqa-base."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import BertTokenizer, BlipConfig, BlipForQuestionAnswering

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
PREPROCESSOR = {  # that of the published folder
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "BlipImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "processor_class": "BlipProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 384, "width": 384},
}


def word_pieces(texts: Iterable[str]) -> list[str]:
    """The special tokens of bert-base-uncased, then letters, marks and the words of the texts."""
    words = {word for text in texts for word in text.lower().split() if word.isascii()}
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*letters, *(f"##{letter}" for letter in letters), *"?,.'-&"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return list(dict.fromkeys([*special, *pieces, *sorted(words)]))


def blip_config(words: int, patch_size: int = 96, **sizes: int) -> BlipConfig:
    """[DEC] and [ENC] follow the words of the tokenizer, as in the published model."""
    sizes = SIZES | sizes
    text = {**sizes, "vocab_size": words + 2, "bos_token_id": words, "sep_token_id": 3}
    vision = {**sizes, "image_size": 384, "patch_size": patch_size, "initializer_range": 0.2}
    return BlipConfig(
        text_config={**text, "initializer_range": 0.2, "max_position_embeddings": 64},
        vision_config=vision,
    )


def tiny_blip(config: BlipConfig, seed: int = 0) -> BlipForQuestionAnswering:
    """A model whose answers depend on the picture and on every token."""
    torch.manual_seed(seed)
    model = BlipForQuestionAnswering(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "position_embedding" in name or "class_embedding" in name or name.endswith("bias"):
                weight.normal_(std=0.2)
    return model


def write_blip(folder: Path, texts: Iterable[str], seed: int = 0) -> Path:
    """Write config.json, weights, tokenizer and preprocessor, as the published folder has them.

    Args:
        texts: the tokenizer knows their words whole.
    """
    folder.mkdir(parents=True)
    pieces = word_pieces(texts)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), model_max_length=512)
    tokenizer.save_pretrained(folder)
    tiny_blip(blip_config(len(pieces)), seed).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR), encoding="utf-8")
    return folder
