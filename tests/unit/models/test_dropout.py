"""Dropout from cheap bits: the right probability, a function of the seed, right gradients."""

import pytest
import torch
from torch import nn

from tests.long.gpu_setting import small_config, vcr_batch, vqa_batch
from vle_bench import models
from vle_bench.bench.published_way import published_way
from vle_bench.models.vle import faster_parts, layers
from vle_bench.models.vle.faster_parts import Dropout, applies, draw_kept, dropout, kept_scale
from vle_bench.models.vle.layers import VLEAttentionProjections, attention_on_cpu
from vle_bench.training.engine import checkpoint_activations

UNITS = 2**20


@pytest.mark.parametrize("p", [0.1, 0.5, 0.003, 0.95])
def test_the_probability_is_right_in_each_of_the_four_units_of_a_number(p):
    torch.manual_seed(0)
    kept = draw_kept((UNITS, 4), p).double()
    deviation = (p * (1 - p) / UNITS) ** 0.5
    assert (kept.mean(0) - (1 - p)).abs().max() < 4 * deviation
    # Neighbours do not depend on each other: of the same number, and of the next one.
    flat = kept.flatten() - kept.mean()
    for distance in (1, 2, 3, 4, 5):
        covariance = (flat[distance:] * flat[:-distance]).mean().abs()
        assert covariance < 5 * p * (1 - p) / (4 * UNITS) ** 0.5


def test_the_probability_is_a_multiple_of_1_in_65536_and_the_scale_is_of_that():
    for p in (0.1, 0.3, 1e-7, 0.9999999):
        rounded = 1 - 1 / kept_scale(p)
        assert abs(rounded - p) <= 1 / 65_536 and rounded * 65_536 == pytest.approx(
            round(rounded * 65_536)
        )
    assert 1 - 1 / kept_scale(0.1) == pytest.approx(6554 / 65_536)


@pytest.mark.parametrize("shape", [(3,), (2, 5), (4, 4), (7, 3, 1)])
def test_units_are_a_function_of_the_seed(shape):
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(torch.cat([draw_kept(shape, 0.5).flatten() for _ in range(20)]))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    torch.manual_seed(1)
    draw_kept(shape, 0.5)
    state = torch.get_rng_state()  # what a training state holds
    following = draw_kept(shape, 0.5)
    torch.set_rng_state(state)
    assert torch.equal(draw_kept(shape, 0.5), following)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_and_its_gradient_have_the_same_units(dtype):
    x = torch.randn(50, 70, dtype=dtype, requires_grad=True)
    torch.manual_seed(3)
    y = dropout(x, 0.3)
    torch.manual_seed(3)
    kept = draw_kept((50, 70), 0.3)
    assert torch.equal(y, x.detach() * kept_scale(0.3) * kept)
    outer = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(y, x, outer)
    assert torch.equal(gradient, outer * kept_scale(0.3) * kept)
    assert y.mean().item() == pytest.approx(x.mean().item(), abs=0.1)


def test_no_unit_and_every_unit_can_be_dropped():
    x = torch.randn(9, requires_grad=True)
    assert torch.equal(dropout(x, 0.0), x) and torch.equal(dropout(x, 1.0), torch.zeros(9))
    assert dropout(torch.empty(0, 3), 0.1).shape == (0, 3)
    layer = Dropout(0.5)
    assert (layer(x) == 0).any() and torch.equal(layer.eval()(x), x)


def plain(query, key, value, mask, kept, p):
    """The published computation, given the units."""
    scores = query @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1) * kept * kept_scale(p) @ value


@pytest.mark.parametrize("block", [1, 4 * 3 * 8 * 12, 2**22])  # bytes: a row, three rows, all
@pytest.mark.parametrize("masked", [True, False])
def test_attention_is_the_plain_one_with_its_gradients(monkeypatch, block, masked):
    monkeypatch.setattr(layers, "BLOCK_BYTES", block)
    torch.manual_seed(0)
    inputs = [
        torch.randn(2, 4, tokens, 6, dtype=torch.float64, requires_grad=True)
        for tokens in (8, 12, 12)
    ]
    mask = None
    if masked:
        mask = torch.rand(2, 1, 1, 12) < 0.6
        mask[..., 0] = True
    torch.manual_seed(5)
    context = attention_on_cpu(*inputs, mask, 0.4)
    torch.manual_seed(5)
    # 8 · 12 units of a row are 24 whole numbers, so the blocks draw what one draw gives.
    kept = draw_kept((2, 4, 8, 12), 0.4)
    reference = plain(*inputs, mask, kept, 0.4)
    torch.testing.assert_close(context, reference, atol=1e-6, rtol=1e-6)  # float32 inside
    outer = torch.randn_like(context)
    for ours, theirs in zip(
        torch.autograd.grad(context, inputs, outer),
        torch.autograd.grad(reference, inputs, outer),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)


def test_attention_in_bf16_is_near_that_in_float32():
    torch.manual_seed(0)
    inputs = [torch.randn(2, 2, 20, 8).bfloat16().requires_grad_() for _ in range(3)]
    exact = [x.detach().float().requires_grad_() for x in inputs]
    results = []
    for tensors in (inputs, exact):
        torch.manual_seed(1)
        context = attention_on_cpu(*tensors, None, 0.2)
        assert context.dtype == tensors[0].dtype
        gradients = torch.autograd.grad(context.square().sum(), tensors)
        results.append([x.float() for x in (context, *gradients)])
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_only_one_byte_of_each_weight_is_held_for_the_backward_pass():
    held = []

    def note(tensor):
        held.append(tensor)
        return tensor

    inputs = [torch.randn(2, 2, 64, 4, requires_grad=True) for _ in range(3)]
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attention_on_cpu(*inputs, None, 0.1)
    matrices = [x for x in held if x.numel() >= 4 * 64 * 64]
    assert [x.dtype for x in matrices] == [torch.bool]


def test_other_devices_and_compiled_code_take_torchs_own(monkeypatch):
    x = torch.ones(4)
    assert applies(x) and not applies(x.to("meta"))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not applies(x)
    torch.manual_seed(0)
    ours = dropout(x, 0.5)
    torch.manual_seed(0)
    assert torch.equal(ours, torch.nn.functional.dropout(x, 0.5))


def training_loss(model, inputs, seed=0):
    torch.manual_seed(seed)
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("architecture", ["VLEForVQA", "VLEForVCRQ2A"])
def test_every_dropout_of_a_model_is_cheap_but_in_the_published_way(monkeypatch, architecture):
    config = small_config(32, 32, 8, 200, dropout=0.3)
    torch.manual_seed(0)
    model = getattr(models, architecture)(config).train()
    inputs = (
        vqa_batch(config, 4, 0, shared=True)
        if architecture == "VLEForVQA"
        else vcr_batch(config, 2, 0)
    )
    dropouts = [layer for layer in model.modules() if isinstance(layer, nn.Dropout)]
    assert dropouts and {type(layer) for layer in dropouts} == {Dropout}
    loss = training_loss(model, inputs)
    assert torch.equal(training_loss(model, inputs), loss)
    assert not torch.equal(training_loss(model, inputs, seed=1), loss)
    drawn = []
    bernoulli = torch.nn.functional.dropout
    monkeypatch.setattr(
        torch.nn.functional, "dropout", lambda *a, **k: drawn.append(1) or bernoulli(*a, **k)
    )
    training_loss(model, inputs)
    # The image encoder of CLIP calls it with p = 0.
    ours, cheap = len(drawn), []
    for module in (faster_parts, layers):
        monkeypatch.setattr(module, "draw_kept", lambda *a, **k: cheap.append(1))
    with published_way(model, 60, 0):
        training_loss(model, inputs)
        assert {type(layer) for layer in dropouts} == {nn.Dropout}
    assert not cheap and len(drawn) > 2 * ours
    assert {type(layer) for layer in dropouts} == {Dropout}


def test_long_attention_with_dropout_works_in_blocks(monkeypatch):
    from vle_bench.models.vle.configuration import VLEConfig

    calls = []
    monkeypatch.setattr(
        layers, "attention_on_cpu", lambda *inputs: calls.append(1) or attention_on_cpu(*inputs)
    )
    config = VLEConfig(hidden_size=16, num_attention_heads=2, attention_probs_dropout_prob=0.1)
    one = VLEAttentionProjections(config).train()
    hidden = torch.randn(2, 30, 16)
    one(hidden, hidden, None)
    assert calls == [1]
    one.eval()(hidden, hidden, None)
    assert calls == [1]


def test_checkpointed_layers_draw_the_same_units_again():
    config = small_config(32, 32, 8, 200, dropout=0.3)
    torch.manual_seed(0)
    model = models.VLEForVQA(config).train()
    inputs = vqa_batch(config, 4, 0, shared=True)
    results = []
    for checkpointed in (False, True):
        if checkpointed:
            checkpoint_activations(model)
        loss = training_loss(model, inputs)
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        results.append([loss, *gradients])
    assert len(results[0]) == len(results[1]) > 60
    for plain_one, again in zip(*results, strict=True):
        torch.testing.assert_close(again, plain_one, rtol=1e-5, atol=1e-7)
