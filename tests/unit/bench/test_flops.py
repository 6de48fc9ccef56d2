"""FLOPs that torch counts on the meta device: against a count by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vle_bench.bench.flops import BACKWARD, forward_flops, training_flops
from vle_bench.bench.published_way import published_way
from vle_bench.models import (
    SIZES,
    VLEConfig,
    VLEForPreTraining,
    VLEForVCRQ2A,
    VLEForVCRSecondStage,
    VLEForVQA,
)

DEBERTA = {
    "model_type": "deberta-v2",
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "relative_attention": True,
    "position_buckets": 8,
    "max_position_embeddings": 64,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "type_vocab_size": 0,
}
ROBERTA = {
    "model_type": "roberta",
    **{k: DEBERTA[k] for k in list(DEBERTA)[1:6]},
    "max_position_embeddings": 64,
}
VISION = {
    "hidden_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "patch_size": 4,
    "image_size": 8,
}


def config(text=DEBERTA):
    return VLEConfig(
        text_config=text,
        vision_config=VISION,
        hidden_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=10,
        num_token_types=6,
        id2label={i: str(i) for i in range(7)},
        label2id={str(i): i for i in range(7)},
    )


def vcr_inputs(questions=2, choices=4, tokens=5, objects=3, patches=4):
    return {
        "input_ids": torch.full((questions, choices, tokens), 5),
        "pixel_values": torch.randn(questions, 3, 8, 8),
        "attention_mask": torch.ones(questions, choices, tokens, dtype=torch.long),
        "token_type_ids": torch.zeros(questions, choices, tokens, dtype=torch.long),
        "object_patch_mask": torch.ones(questions, choices, objects, patches, dtype=torch.bool),
        "object_token_type_ids": torch.full((questions, choices, objects), 2),
        "object_mask": torch.ones(questions, choices, objects, dtype=torch.long),
        "labels": torch.zeros(questions, dtype=torch.long),
    }


def vqa_inputs(questions=1, images=1, tokens=3):
    return {
        "input_ids": torch.full((questions, tokens), 5),
        "attention_mask": torch.ones(questions, tokens, dtype=torch.long),
        "labels": torch.zeros(questions, 7),
        "pixel_values": torch.randn(images, 3, 8, 8),
        "image_index": torch.arange(questions) % images,
    }


# One text of 3 tokens about one image of 4 patches; each product is two × rows × inner × columns.
# Of a layer: q, k, v, o; scores and context; feed-forward.
VISION_LAYER = 2 * 5 * 12 * 12 * 4 + 2 * 2 * 5 * 5 * 12 + 2 * 5 * 12 * 20 * 2
VISION_PASS = 2 * 4 * (3 * 4 * 4) * 12 + 3 * VISION_LAYER + 2 * 5 * 12 * 8
TEXT_LAYER = 2 * 3 * 16 * 16 * 4 + 2 * 2 * 3 * 3 * 16 + 2 * 3 * 16 * 24 * 2
# Relative positions -2 to 2: projected once a layer, and scored, from the text's side and to it.
PROJECTED, SCORED = 2 * 2 * 5 * 16 * 16, 2 * 2 * 3 * 5 * 16
TEXT_OF_FUSION = (
    2 * 8 * 8 * (4 * 3)
    + 2 * 2 * 3 * 3 * 8
    + 2 * 8 * 8 * (2 * 3 + 2 * 5)
    + 2 * 2 * 3 * 5 * 8
    + 2 * 2 * 3 * 8 * 10
)
IMAGE_OF_FUSION = (
    2 * 8 * 8 * (4 * 5)
    + 2 * 2 * 5 * 5 * 8
    + 2 * 8 * 8 * (2 * 5 + 2 * 3)
    + 2 * 2 * 5 * 3 * 8
    + 2 * 2 * 5 * 8 * 10
)
# The last layer of the fusion computes the first token of each side alone, which the poolers read.
ONE_QUERY = 8 * 8**2 * 4 + 4 * 2 * 8 * (3 + 5) * 2 + 2 * (2 * 2 * 8 * 10)
FUSION = 2 * (TEXT_OF_FUSION + IMAGE_OF_FUSION) + ONE_QUERY + 2 * (2 * 8 * 8)
HEAD = 2 * 16 * 16 + 2 * 16 * 7


def by_hand(questions, images):
    text = 2 * (TEXT_LAYER + SCORED) + 2 * 3 * 16 * 8
    return images * VISION_PASS + questions * (text + FUSION + HEAD) + 2 * PROJECTED


@pytest.mark.parametrize(("questions", "images"), [(1, 1), (6, 2)])
def test_by_hand(questions, images):
    model = VLEForVQA(config()).train()
    assert forward_flops(model, vqa_inputs(questions, images)) == by_hand(questions, images)
    assert model.training and all(p.device.type == "cpu" for p in model.parameters())


@pytest.mark.parametrize("text", [DEBERTA, ROBERTA], ids=["deberta", "roberta"])
def test_a_training_step_is_three_forward_passes(text):
    """To one in twenty: images and ids get no gradients, and torch counts no fused CPU attention."""
    model = VLEForVCRQ2A(config(text)).train()
    model.vle.vision_model.config._attn_implementation = "eager"
    inputs = vcr_inputs()
    counter = FlopCounterMode(display=False)
    with counter:
        model(**inputs).loss.backward()
    expected = (1 + BACKWARD) * forward_flops(model, inputs)
    assert expected == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_fused_and_plain_attention_count_the_same():
    fused, plain = VLEForVQA(config()), VLEForVQA(config())
    plain.vle.vision_model.config._attn_implementation = "eager"
    assert fused.vle.vision_model.config._attn_implementation != "eager"
    assert forward_flops(fused, vqa_inputs(4, 2)) == forward_flops(plain, vqa_inputs(4, 2))


def test_masked_words_count():
    model = VLEForVCRSecondStage(config())
    inputs = vcr_inputs(choices=2) | {
        "image_index": torch.zeros(2, 2, dtype=torch.long),
        "masked_positions": torch.zeros(2, 3, dtype=torch.long),
        "masked_words": torch.ones(2, 3, dtype=torch.long),
        "matches": torch.ones(2, dtype=torch.long),
    }
    more = inputs | {
        "masked_positions": torch.zeros(2, 5, dtype=torch.long),
        "masked_words": torch.ones(2, 5, dtype=torch.long),
    }
    words = 4  # two more in each of two texts
    word = 8 * 16 + 16**2 + 16 * 40
    assert forward_flops(model, more) - forward_flops(model, inputs) == 2 * words * word


def test_the_published_way_computes_twice_as_much_at_base_size():
    """VCR's Q2A at 224 pixels, texts of 40 tokens padded to 80, on a model without memory."""
    with torch.device("meta"):
        model = VLEForVCRQ2A(VLEConfig(**SIZES["vle-base"])).train()
        inputs = vcr_inputs(tokens=40, patches=196) | {"pixel_values": torch.empty(2, 3, 224, 224)}
    model.vle.config.num_token_types = 83
    ours = forward_flops(model, inputs)
    with published_way(model, 80, 0):
        published = forward_flops(model, inputs)
    assert published / ours > 2.05


def test_a_search_without_gradients_counts_once():
    """The fusion of two candidates for one text, as torch counts a whole step."""
    own = config()
    own.objectives = {"itm": 1}
    model = VLEForPreTraining(own).train()
    model.vle.vision_model.config._attn_implementation = "eager"
    plain = {
        "input_ids": torch.full((3, 3), 5),
        "attention_mask": torch.ones(3, 3, dtype=torch.long),
        "pixel_values": torch.randn(3, 3, 8, 8),
        "image_index": torch.arange(3),
        "itm_images": torch.tensor([1, 1, 2]),
    }
    inputs = plain | {
        "itm_hard_texts": torch.tensor([0]),
        "itm_candidates": torch.tensor([[1, 2]]),
    }
    search = forward_flops(model, inputs) - forward_flops(model, plain)
    assert search == 2 * (FUSION + 2 * 16 * 2)
    assert training_flops(model, inputs) == (1 + BACKWARD) * forward_flops(model, plain) + search
    counter = FlopCounterMode(display=False)
    with counter:
        model(**inputs).loss.backward()
    assert training_flops(model, inputs) == pytest.approx(counter.get_total_flops(), rel=0.05)
