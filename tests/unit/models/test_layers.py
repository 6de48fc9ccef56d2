"""Attention of few queries moves projections to their side: the same numbers with less work."""

import pytest
import torch

from vle_bench.models.vle import layers
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.layers import VLEAttentionProjections, few_queries

WIDTH, HEADS = 64, 2  # 32 numbers a head, so up to 7 queries of 60 tokens are few


def attention(dropout: float = 0.0) -> VLEAttentionProjections:
    torch.manual_seed(0)
    config = VLEConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, attention_probs_dropout_prob=dropout
    )
    return VLEAttentionProjections(config).double()


def inputs(queries: int, others: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.rand(3, 1, 1, others) < 0.7
    mask[..., 0] = True
    hidden = torch.randn(3, queries, WIDTH, dtype=torch.float64, requires_grad=True)
    return hidden, torch.randn(3, others, WIDTH, dtype=torch.float64, requires_grad=True), mask


def outputs_and_gradients(module, queries, others, masked):
    """With seed 2: the output, and the gradients of inputs and weights."""
    hidden, other, mask = inputs(queries, others)
    torch.manual_seed(2)
    output = module(hidden, other, mask if masked else None)
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
    return output, torch.autograd.grad(
        (output * weights).sum(), [hidden, other, *module.parameters()]
    )


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("queries", [2, 7])
def test_both_ways_have_the_same_outputs_and_gradients(monkeypatch, queries, dropout, masked):
    """Dropout included: both ways draw the same random numbers for the same weights."""
    module = attention(dropout).train()
    assert few_queries(queries, 60, WIDTH, HEADS)
    moved, moved_gradients = outputs_and_gradients(module, queries, 60, masked)
    monkeypatch.setattr(layers, "few_queries", lambda *sizes: False)
    plain, plain_gradients = outputs_and_gradients(module, queries, 60, masked)
    # In float64, but for the softmax, which one of the ways computes in float32.
    torch.testing.assert_close(moved, plain, atol=1e-6, rtol=0)
    for ours, theirs in zip(moved_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_the_choice_halves_the_work_of_the_texts_that_it_takes():
    """At VLE-base's width: words of a question with the 577 tokens of a picture of 384 pixels."""
    assert few_queries(12, 577, 768, 12) and few_queries(29, 577, 768, 12)
    assert not few_queries(30, 577, 768, 12)
    # An image that attends to itself or to a text is never cheaper so.
    assert not few_queries(577, 577, 768, 12) and not few_queries(577, 12, 768, 12)


def test_no_keys_or_values_are_made_for_few_queries():
    module = attention().eval()
    seen = []
    for part in (module.key, module.value):
        part.register_forward_hook(lambda *arguments: seen.append(arguments))
    hidden, other, mask = inputs(5, 60)
    module(hidden, other, mask)
    assert seen == []
    with torch.no_grad():
        module(*inputs(40, 60))
    assert len(seen) == 2
