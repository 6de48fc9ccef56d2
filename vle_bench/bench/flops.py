"""Count the operations of a model without running it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

# The two gradients of a product are a product each, so training takes three times the forward pass.
BACKWARD = 2


def training_flops(model: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Count the operations of a training step, as three forward passes of what is trained.

    A part of the forward pass that gets no gradients, such as the search of hard strangers, counts
    once.

    Args:
        inputs: see `forward_flops`.
    """
    forward = forward_flops(model, inputs)
    searched = getattr(model, "untrained_inputs", ())
    if not any(name in inputs for name in searched):
        return (1 + BACKWARD) * forward
    trained = {name: value for name, value in inputs.items() if name not in searched}
    return forward + BACKWARD * forward_flops(model, trained)


@torch.no_grad()
def forward_flops(model: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Count the floating-point operations of the matrix products in one forward pass.

    A multiplication with its addition counts as two, and element-wise work does not count, as usual
    for an MFU. The model runs on the meta device, where tensors have shapes and no values, so that
    padding within the batch counts. A pass of a base model takes half a second of one core.

    Args:
        inputs: a batch of the task's collator; its labels are not used.
    """
    tensors = (*model.named_parameters(), *model.named_buffers())
    shapes = {name: tensor.to("meta") for name, tensor in tensors}
    batch = {name: value.to("meta") for name, value in inputs.items() if name != "labels"}
    counter = FlopCounterMode(display=False)
    training = model.training
    model.eval()
    try:
        with torch.compiler.set_stance("force_eager"), counter:
            functional_call(model, shapes, (), batch)
    finally:
        model.train(training)
    return counter.get_total_flops()
