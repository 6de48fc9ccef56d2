"""What is left out of the published computation changes no result."""

import copy

import pytest
import torch
from transformers import DebertaV2Config, DebertaV2Model
from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

from vle_bench.models import VLEForVCRQ2A, VLEForVQA
from vle_bench.models.vle.faster_parts import (
    ShortTextAttention,
    relative_positions,
    use_short_text_attention,
)


def deberta(**changes):
    torch.manual_seed(0)
    values = {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 20,
        "relative_attention": True,
        "position_buckets": 8,
        "max_position_embeddings": 64,
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "initializer_range": 0.5,
    }
    return (
        DebertaV2Model(DebertaV2Config(**{**values, **changes})).double().eval()
    )  # in which rounding hides nothing


@pytest.mark.parametrize("tokens", [1, 4, 5, 6, 30])  # the middle of the buckets is at 4
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"share_att_key": False},
        {"position_buckets": -1},
        {"pos_att_type": ["c2p"]},
        {"pos_att_type": ["p2c"]},
        {"relative_attention": False},
    ],
)
def test_the_attention_is_transformers_own(changes, tokens):
    published = deberta(**changes)
    ours = copy.deepcopy(published)
    use_short_text_attention(ours)
    ours.double()
    assert all(type(layer.attention.self) is ShortTextAttention for layer in ours.encoder.layer)
    ours.load_state_dict(published.state_dict())
    ours.eval()
    mask = torch.ones(2, tokens, dtype=torch.long)
    mask[1, max(1, tokens - 2) :] = 0
    ids = torch.randint(0, 50, (2, tokens), generator=torch.Generator().manual_seed(tokens))
    outputs = [
        model(input_ids=ids, attention_mask=mask).last_hidden_state for model in (published, ours)
    ]
    torch.testing.assert_close(
        outputs[1], outputs[0], atol=1e-6, rtol=1e-6
    )  # its scale is a square root in float32
    for output in outputs:
        (output * torch.arange(output.numel()).view_as(output).cos()).sum().backward()
    for (name, one), other in zip(published.named_parameters(), ours.parameters(), strict=True):
        if one.grad is None:
            assert other.grad is None, name
        else:
            assert (other.grad - one.grad).abs().max() <= 1e-6 * max(1, one.grad.abs().max()), name


@pytest.mark.parametrize(("buckets", "longest"), [(256, 512), (8, 64), (-1, 64)])
def test_relative_positions_are_transformers_own(buckets, longest):
    for tokens in range(1, longest + 1):
        text = torch.zeros(1, tokens, 1)
        theirs = build_relative_position(text, text, bucket_size=buckets, max_position=longest)
        assert torch.equal(relative_positions(tokens, text.device, buckets, longest)[None], theirs)


def test_the_gradient_of_a_short_text_adds_nothing_up_by_an_index():
    """On a GPU such sums are in any order, or sorted first."""
    ours = deberta()
    use_short_text_attention(ours)
    output = ours.double()(input_ids=torch.ones(2, 5, dtype=torch.long)).last_hidden_state
    seen, ahead = set(), [output.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [before for before, _ in node.next_functions]
    assert not {node.name() for node in seen} & {
        "GatherBackward0",
        "IndexBackward0",
        "IndexSelectBackward0",
    }


@pytest.mark.parametrize(
    ("model", "golden"), [(VLEForVQA, "VLEForVQA"), (VLEForVCRQ2A, "VLEForVCRQ2A")]
)
def test_pooled_only_leaves_out_what_the_poolers_do_not_read(model, golden):
    base = model.from_pretrained(f"tests/golden/vle/{golden}").eval().vle
    torch.manual_seed(0)
    size = base.config.vision_config.image_size
    inputs = {
        "input_ids": torch.randint(5, 20, (3, 6)),
        "attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] + [0] * 5]),
        "pixel_values": torch.randn(3, 3, size, size),
    }
    whole, pooled = base(**inputs), base(**inputs, pooled_only=True)
    assert (
        pooled.text_embeds is None and pooled.image_embeds is None and whole.text_embeds is not None
    )
    torch.testing.assert_close(pooled.pooler_output, whole.pooler_output, atol=1e-5, rtol=1e-5)
    gradients = []
    for output in (whole, pooled):
        base.zero_grad()
        output.pooler_output.square().sum().backward()
        gradients.append({name: p.grad for name, p in base.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert (gradient is None) == (gradients[1][name] is None), (
            name
        )  # none that the published way trains goes without
        if gradient is not None:
            torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-3, msg=name)
