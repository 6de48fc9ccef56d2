"""No step makes the host wait for the device: no value is looked at, nothing is copied from
pageable memory.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.long.gpu_setting import small_config, vcr_batch, vqa_batch
from tests.unit.models.test_pretraining import batch as pairs_batch
from vle_bench import models
from vle_bench.models import VLEConfig

DEVICE = torch.device(
    "meta"
)  # has shapes and no values: an operation that would read one raises an error


class NoCopies(TorchDispatchMode):
    """Refuse an operation that takes what is on the CPU to the device, but for single numbers
    that a kernel takes along.
    """

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        tensors = [t for t in tree_leaves((arguments, options)) if isinstance(t, torch.Tensor)]
        made = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        if (
            "copy" in str(function)
            and any(t.device.type == "cpu" for t in tensors)
            and any(t.device == DEVICE for t in made)
        ):
            raise AssertionError(f"{function}: copies from the host to the device")
        return result


def meter_config() -> VLEConfig:
    values = small_config(32, 32, 8, 200).to_dict()
    size = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    text = {"model_type": "roberta", "vocab_size": 200, "max_position_embeddings": 99, **size}
    return VLEConfig.from_dict({**values, "text_config": text})


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("family", ["vle", "meter"])
@pytest.mark.parametrize("architecture", ["VLEForVQA", "VLEForVCRQ2A"])
def test_nothing_waits(architecture, family, training):
    config = small_config(32, 32, 8, 200) if family == "vle" else meter_config()
    with DEVICE:
        model = getattr(models, architecture)(config).train(training)
    made = (
        vqa_batch(config, 6, 0, shared=True)
        if architecture == "VLEForVQA"
        else vcr_batch(config, 2, 0)
    )
    inputs = {name: value.to(DEVICE) for name, value in made.items()}
    with NoCopies():
        loss = model(**inputs).loss
        if training:
            loss.backward()
    assert loss.device == DEVICE


def test_long_texts_do_not_either():
    config = small_config(32, 32, 8, 200)
    with DEVICE:
        model = models.VLEForVQA(config)
    texts = torch.ones(2, 300, dtype=torch.long, device=DEVICE)
    with NoCopies():
        encoded = model.vle.encode_text(texts, texts)
    assert encoded.device == DEVICE and encoded.shape[:2] == texts.shape


@pytest.mark.parametrize("family", ["vle", "meter"])
def test_pre_training_does_not_either(family):
    """All four objectives, with hard strangers that the model itself chooses."""
    config = small_config(32, 32, 8, 200) if family == "vle" else meter_config()
    config.num_labels = 5
    with DEVICE:
        model = models.VLEForPreTraining(config)
    inputs = {name: value.to(DEVICE) for name, value in pairs_batch(hard=True).items()}
    with NoCopies():
        loss = model(**inputs).loss
        loss.backward()
    assert loss.device == DEVICE
    assert all(parameter.grad is not None for parameter in model.parameters())
