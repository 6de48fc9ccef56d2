"""Tiny random generative models with chat templates, in the layouts of published checkpoints."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "<fake_token_around_image>"]
GLOBAL = ["<global-img>", "<end_of_utterance>"]
# As SmolVLM's (HuggingFaceTB) and LLaVA 1.5's (llava-hf) do, in our own words: roles, pictures, texts.
SMOLVLM = (
    "<s>{% for m in messages %}{{ m['role'] | capitalize }}:"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %} {{ c['text'] }}"
    "{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
LLAVA = (
    "{% for m in messages %}{{ m['role'] | upper }}: "
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }} "
    "{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.4,
}


def word_tokenizer(texts: Iterable[str], add_bos: bool) -> PreTrainedTokenizerFast:
    """Words with the space before them, as byte-level tokenizers have them, else single bytes."""
    words = sorted({word for text in texts for word in text.split() if word.isascii()})
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges, vocabulary = [], dict.fromkeys([*SPECIAL, *GLOBAL, *alphabet])
    for word in words:
        for start in ("Ġ", ""):
            left = start or word[0]
            for letter in word[0 if start else 1 :]:
                if left + letter not in vocabulary:
                    merges.append((left, letter))
                    vocabulary[left + letter] = None
                left += letter
    ids = {token: i for i, token in enumerate(vocabulary)}
    made = Tokenizer(models.BPE(ids, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if add_bos:
        made.post_processor = processors.TemplateProcessing(
            "<s> $A", special_tokens=[("<s>", ids["<s>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )


def write_smolvlm(folder: Path, texts: Iterable[str], **processor: Any) -> Path:
    """Idefics3, as SmolVLM-256M-Instruct is: tiles of a picture, a token for each four patches."""
    tokenizer = word_tokenizer(texts, add_bos=False)
    config = Idefics3Config(
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(tokenizer)},
        vision_config=VISION,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    save(Idefics3ForConditionalGeneration(config), folder)
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
    )
    settings = {"image_seq_len": 4, "chat_template": SMOLVLM} | processor
    Idefics3Processor(images, tokenizer, **settings).save_pretrained(folder)
    return folder


def write_llava(folder: Path, texts: Iterable[str], **processor: Any) -> Path:
    """LLaVA 1.5: a CLIP picture of one size before the text; the tokenizer adds the start."""
    tokenizer = word_tokenizer(texts, add_bos=True)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(**TEXT, vocab_size=len(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    torch.manual_seed(0)
    save(LlavaForConditionalGeneration(config), folder)
    size = {"height": 32, "width": 32}
    images = CLIPImageProcessorPil(size=size, crop_size=size)
    settings = {
        "patch_size": 8,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
        "chat_template": LLAVA,
    } | processor
    LlavaProcessor(images, tokenizer, **settings).save_pretrained(folder)
    return folder


def save(model: Any, folder: Path) -> None:
    """Save a model that never writes the token of a picture, which no plain loop could feed back."""
    with torch.no_grad():
        model.lm_head.weight[model.config.image_token_id] = 0
    model.save_pretrained(folder)


def write_florence(folder: Path, texts: Iterable[str]) -> Path:
    """Florence-2 (florence-community): an encoder-decoder, without a chat template."""
    tokenizer = word_tokenizer(texts, add_bos=False)
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    vision = {
        "embed_dim": [16] * 4,
        "num_heads": [2] * 4,
        "num_groups": [2] * 4,
        "depths": [1] * 4,
        "projection_dim": 32,
        "window_size": 4,
    }
    text = {
        "model_type": "bart",
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "vocab_size": len(tokenizer) + 1300,  # places, which the processor adds
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
        "init_std": 0.4,
    }
    config = Florence2Config(
        text_config=text,
        vision_config=vision,
        image_token_id=image_token,
        is_encoder_decoder=True,
    )
    torch.manual_seed(0)
    Florence2ForConditionalGeneration(config).save_pretrained(folder)
    size = {"height": 64, "width": 64}
    images = CLIPImageProcessorPil(size=size, do_center_crop=False)
    images.image_seq_length = 5
    Florence2Processor(images, tokenizer).save_pretrained(folder)
    return folder
