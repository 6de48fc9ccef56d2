"""The faster parts of CLIP: the numbers of transformers."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.activations import QuickGELUActivation
from transformers.models.clip.modeling_clip import CLIPAttention

from vle_bench.models.vle.faster_parts import (
    ImageAttention,
    QuickGelu,
    together,
    use_faster_clip,
)


def layers() -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(6, width).double() for width in (4, 3, 5)]


def test_one_product_has_the_outputs_and_gradients_of_three(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    three = layers()
    tokens = torch.randn(2, 7, 6, dtype=torch.float64, requires_grad=True)
    inputs = [tokens, *(p for layer in three for p in layer.parameters())]
    plain = [layer(tokens) for layer in three]
    expected = torch.autograd.grad(sum(x.square().sum() for x in plain), inputs)
    products = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda *given: products.append(1) or linear(*given))
    joint = together(tokens, *three)
    assert len(products) == 1
    found = torch.autograd.grad(sum(x.square().sum() for x in joint), inputs)
    for one, other in zip([*joint, *found], [*plain, *expected], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_without_gradients_the_layers_run_by_themselves() -> None:
    three, called = layers(), []
    for layer in three:
        layer.register_forward_hook(lambda *_: called.append(1))
    tokens = torch.randn(2, 7, 6, dtype=torch.float64)
    with torch.no_grad():
        together(tokens, *three)
    assert len(called) == 3
    together(tokens, *three)
    assert len(called) == 3


def encoders(implementation: str) -> tuple[CLIPVisionModel, CLIPVisionModel]:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        image_size=8, patch_size=4, attn_implementation=implementation,
    )  # fmt: skip
    plain = CLIPVisionModel(config).double()
    joint = copy.deepcopy(plain)
    use_faster_clip(joint)
    assert sum(type(m) is ImageAttention for m in joint.modules()) == 2
    assert sum(type(m) is QuickGelu for m in joint.modules()) == 2
    slower = (CLIPAttention, QuickGELUActivation)
    assert all(type(m) not in slower for m in joint.modules())
    return plain, joint


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_the_image_encoder_has_the_outputs_and_gradients_of_transformers(
    implementation: str,
) -> None:
    plain, joint = encoders(implementation)
    pixels = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    outputs = [model(pixels).last_hidden_state for model in (plain, joint)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-10, atol=1e-10)
    gradients = [
        torch.autograd.grad(output.square().sum(), list(model.parameters()), allow_unused=True)
        for output, model in zip(outputs, (plain, joint), strict=True)
    ]
    for ours, theirs in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    assert plain.state_dict().keys() == joint.state_dict().keys()


def test_another_implementation_of_attention_is_left_to_transformers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    forward = CLIPAttention.forward
    monkeypatch.setattr(
        CLIPAttention, "forward", lambda *given, **more: calls.append(1) or forward(*given, **more)
    )
    for implementation, expected in (("sdpa", 0), ("eager", 2)):
        _, joint = encoders(implementation)
        joint(torch.randn(1, 3, 8, 8, dtype=torch.float64))
        assert len(calls) == expected


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_the_quick_gelu_has_the_bits_of_transformers_and_its_gradient(kind: torch.dtype) -> None:
    points = torch.linspace(-30, 30, 2001, dtype=torch.float64)
    exact = points.clone().requires_grad_()
    x = points.to(kind).requires_grad_()
    found, plain = QuickGelu()(x), QuickGELUActivation()(x)
    assert torch.equal(found, plain)
    slopes = torch.linspace(-2, 2, 2001, dtype=kind)
    (gradient,) = torch.autograd.grad(found, x, slopes)
    (expected,) = torch.autograd.grad(QuickGELUActivation()(exact), exact, slopes.to(torch.float64))
    # In 16 bits the points are rounded as well.
    error = {torch.float64: 1e-14, torch.float32: 2e-6, torch.bfloat16: 2e-2}[kind]
    assert (gradient.double() - expected).abs().max() < error


def test_the_quick_gelu_holds_its_input_alone() -> None:
    held: list[torch.Tensor] = []
    x = torch.randn(5, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t) or t, lambda t: t):
        QuickGelu()(x)
    assert len(held) == 1 and held[0].data_ptr() == x.data_ptr()
