"""Pre-training with a pass of both encoders for each objective, as a baseline for shared towers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vle_bench.models.vle.heads import VLEClassifierOutput


@contextmanager
def separate_passes(model: Any) -> Iterator[None]:
    """Make a model encode its texts and pictures again for every objective.

    METER's program does so. Weights, losses and gradients are the same, as is the one backward
    pass.

    Args:
        model: a VLEForPreTraining.
    """
    weights, given, forward = model.objectives, model.config.objectives, model.forward
    own = vars(model).get("forward")  # Accelerate's, where it computes in 16 bits

    def separate(**inputs: Tensor) -> VLEClassifierOutput:
        outputs = []
        try:
            for name, weight in weights.items():
                model.config.objectives = {name: weight}
                outputs.append(forward(**inputs))
        finally:
            model.config.objectives = given
        return VLEClassifierOutput(
            loss=torch.stack([output.loss for output in outputs]).sum(),
            logits=torch.cat([output.logits for output in outputs], 1),
        )

    model.forward = separate
    try:
        yield
    finally:
        if own is None:
            del model.forward
        else:
            model.forward = own
