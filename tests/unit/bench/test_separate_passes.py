"""Pre-training with a pass for each objective: the same numbers, and more passes."""

import pytest
import torch

from tests.unit.models.test_pretraining import batch, build
from vle_bench.bench.separate_passes import separate_passes


def results_of(model, inputs, calls):
    model.zero_grad()
    calls.clear()
    output = model(**inputs)
    output.loss.backward()
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    return output.loss, output.logits, gradients, sorted(calls)


def test_the_numbers_are_those_of_shared_towers():
    model, inputs, calls = build().eval(), batch(hard=True), []
    model.config.objectives = {"mlm": 1.0, "itm": 0.5, "mpc": 2.0, "pbc": 1.0}
    model.vle.vision_model.register_forward_hook(
        lambda module, given, output: calls.append(len(given[0]))
    )
    shared = results_of(model, inputs, calls)
    with separate_passes(model):
        separate = results_of(model, inputs, calls)
    again = results_of(model, inputs, calls)
    # four pictures for MLM, ITM and PBC each, and two painted ones
    assert shared[3] == again[3] == [2, 4] and separate[3] == [2, 4, 4, 4]
    for other in (separate, again):
        torch.testing.assert_close(other[0], shared[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(other[1], shared[1], atol=1e-5, rtol=0)
        for one, two in zip(other[2], shared[2], strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_a_model_is_left_as_it_was():
    """Also where a pass fails, and with Accelerate's way to call it."""
    model = build().eval()
    given = model.config.objectives
    with pytest.raises(TypeError), separate_passes(model):
        model(**{**batch(), "mlm_other": torch.zeros(1)})
    assert model.config.objectives == given and "forward" not in vars(model)
    calls = []
    own = model.forward
    model.forward = lambda **inputs: (calls.append(1), own(**inputs))[1]
    wrapped = model.forward
    with separate_passes(model), torch.no_grad():
        model(**batch())
    assert len(calls) == 4 and model.forward is wrapped
