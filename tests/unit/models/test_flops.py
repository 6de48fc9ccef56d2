"""FLOPs from a configuration: counted by hand on a tiny one, and by torch on models."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vle_bench.bench.published_way import published_way
from vle_bench.models import SIZES, VLEConfig, VLEForVCRQ2A, VLEForVCRSecondStage, VLEForVQA
from vle_bench.models.vle.flops import (
    BACKWARD,
    forward_flops,
    fusion_flops,
    head_flops,
    relative_positions,
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


def counted(model, inputs):
    """FLOPs that torch sees: of the forward pass, and of both."""
    for module in (model.base_model.vision_model,):
        module.config._attn_implementation = "eager"  # torch counts no fused attention of a CPU
    counter = FlopCounterMode(display=False)
    with counter:
        loss = model(**inputs).loss
    forward = counter.get_total_flops()
    with counter:
        loss.backward()
    return forward, forward + counter.get_total_flops()


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


def test_by_hand():
    """One text of 3 tokens about one image of 4 patches; every product is written as two × rows × inner × columns."""
    found = forward_flops(config(), [(3, 0)], images=1, pooled_only=False)
    layer = (
        2 * 5 * 12 * 12 * 4 + 2 * 2 * 5 * 5 * 12 + 2 * 5 * 12 * 20 * 2
    )  # q, k, v, o; scores and context; feed-forward
    assert found["vision"] == 2 * 4 * (3 * 4 * 4) * 12 + 3 * layer + 2 * 5 * 12 * 8
    layer = 2 * 3 * 16 * 16 * 4 + 2 * 2 * 3 * 3 * 16 + 2 * 3 * 16 * 24 * 2
    positions = 2 * (
        2 * 5 * 16 * 16 + 2 * 3 * 5 * 16
    )  # of -2 to 2: projected and scored, from the text's side and to it
    assert found["text"] == 2 * (layer + positions) + 2 * 3 * 16 * 8
    text = (
        2 * 8 * 8 * (4 * 3)
        + 2 * 2 * 3 * 3 * 8
        + 2 * 8 * 8 * (2 * 3 + 2 * 5)
        + 2 * 2 * 3 * 5 * 8
        + 2 * 2 * 3 * 8 * 10
    )
    image = (
        2 * 8 * 8 * (4 * 5)
        + 2 * 2 * 5 * 5 * 8
        + 2 * 8 * 8 * (2 * 5 + 2 * 3)
        + 2 * 2 * 5 * 3 * 8
        + 2 * 2 * 5 * 8 * 10
    )
    assert found["fusion"] == 3 * (text + image) + 2 * (2 * 8 * 8)
    assert head_flops("VLEForVQA", config(), 1) == 2 * 16 * 16 + 2 * 16 * 7
    assert head_flops("VLEForVCRQ2A", config(), 4) == 4 * (2 * 16 * 16 + 2 * 16)
    # without what the poolers do not read, the last layer costs less, and nothing else does
    last = fusion_flops(config(), 3, 5, 0, pooled_only=False) - fusion_flops(
        config(), 3, 5, 0, pooled_only=True
    )
    one_query = 8 * 8**2 * 4 + 4 * 2 * 8 * (3 + 5) * 2 + 2 * (2 * 2 * 8 * 10)
    assert last == text + image - one_query


def test_positions_out_of_reach_are_not_counted():
    text = SimpleNamespace(
        position_buckets=8, max_relative_positions=-1, max_position_embeddings=64
    )
    assert [relative_positions(text, tokens) for tokens in (1, 3, 5, 6, 50)] == [1, 5, 9, 16, 16]
    text.position_buckets = -1
    assert [relative_positions(text, tokens) for tokens in (3, 64, 65)] == [5, 127, 128]


@pytest.mark.parametrize(("text", "tokens"), [(DEBERTA, 5), (DEBERTA, 20), (ROBERTA, 5)])
def test_torch_counts_the_same(text, tokens):
    """To one in a thousand forward; with the backward pass to one in twenty, since pictures and ids get no gradients."""
    model = VLEForVCRQ2A(config(text)).train()
    forward, both = counted(model, vcr_inputs(tokens=tokens))
    found = sum(forward_flops(model.config, [(tokens, 3)] * 8, 2).values()) + head_flops(
        "VLEForVCRQ2A", model.config, 8
    )
    assert found == pytest.approx(forward, rel=1e-3)
    assert (1 + BACKWARD) * found == pytest.approx(both, rel=0.05)


def test_torch_counts_the_same_for_questions_that_share_an_image():
    model = VLEForVQA(config()).train()
    inputs = {
        "input_ids": torch.full((6, 4), 5),
        "attention_mask": torch.ones(6, 4, dtype=torch.long),
        "labels": torch.zeros(6, 7),
        "pixel_values": torch.randn(2, 3, 8, 8),
        "image_index": torch.tensor([0, 0, 0, 0, 1, 1]),
    }
    found = sum(forward_flops(model.config, [(4, 0)] * 6, 2).values()) + head_flops(
        "VLEForVQA", model.config, 6
    )
    assert found == pytest.approx(counted(model, inputs)[0], rel=1e-3)


def test_torch_counts_the_same_where_words_are_masked():
    model = VLEForVCRSecondStage(config()).train()
    inputs = vcr_inputs(choices=2) | {
        "image_index": torch.zeros(2, 2, dtype=torch.long),
        "masked_positions": torch.zeros(2, 3, dtype=torch.long),
        "masked_words": torch.ones(2, 3, dtype=torch.long),
        "matches": torch.ones(2, dtype=torch.long),
    }
    del inputs["labels"]
    found = sum(forward_flops(model.config, [(5, 3)] * 4, 2, pooled_only=False).values())
    found += head_flops("VLEForVCRSecondStage", model.config, 4, masked_words=6)
    assert found == pytest.approx(counted(model, inputs)[0], rel=1e-3)


def test_the_published_way_computes_twice_as_much_at_base_size():
    """VCR's Q2A at 224 pixels, texts of 40 tokens padded to 80: counted by torch on a model without memory."""
    with torch.device("meta"):
        model = VLEForVCRQ2A(VLEConfig(**SIZES["vle-base"])).train()
        inputs = vcr_inputs(tokens=40, patches=196) | {"pixel_values": torch.empty(2, 3, 224, 224)}
    model.vle.config.num_token_types = 83
    for module in model.vle.modules():
        if hasattr(module, "eager"):
            module.eager = False
    ours = sum(forward_flops(model.config, [(40, 3)] * 8, 2).values()) + head_flops(
        "VLEForVCRQ2A", model.config, 8
    )
    with published_way(model, 80, 0):
        published, _ = counted(model, inputs)
    assert published / ours > 2.05
