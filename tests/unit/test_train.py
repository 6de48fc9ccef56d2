"""The step: a loss that is not finite, and weights that do not fit."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from vle_bench import checkpoint
from vle_bench.errors import RequestError, RunFailed
from vle_bench.models import VLEForVQA
from vle_bench.train import checked_loss, precision


def test_a_loss_that_is_not_finite_names_the_step_and_the_examples():
    run = SimpleNamespace(accelerator=Accelerator(cpu=True))
    fine = [(1, [11], torch.tensor(1.0)), (2, [12], torch.tensor(3.0))]
    assert checked_loss(run, fine) == 2.0 and fine == []
    nan, inf = torch.tensor(float("nan")), torch.tensor(float("inf"))
    pending = [(3, [13], torch.tensor(1.0)), (4, list(range(20, 40)), nan), (5, [1], inf)]
    with pytest.raises(RunFailed, match="nan at step 4; the examples of that step: 20, 21, .* and 12 more"):
        checked_loss(run, pending)


def test_precision_names():
    assert precision("fp32") == "no" and precision("fp16") == "fp16" and precision("auto") in ("no", "bf16")


def test_loading_names_every_weight_that_does_not_fit(tmp_path):
    golden = VLEForVQA.from_pretrained("tests/golden/vle/VLEForVQA")
    golden.save_pretrained(tmp_path / "whole")
    assert checkpoint.load_model(tmp_path / "whole", "VLEForVQA").config.num_labels == 17
    golden.vle.save_pretrained(tmp_path / "bare")
    with pytest.raises(RequestError, match="vqa_classifier.0.bias"):
        checkpoint.load_model(tmp_path / "bare", "VLEForVQA")
    labels = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
    fresh = checkpoint.load_model(tmp_path / "bare", "VLEForVQA", head_may_be_new=True, **labels)
    assert fresh.vqa_classifier[3].out_features == 2
    assert torch.equal(fresh.vle.token_type_embeddings.weight, golden.vle.token_type_embeddings.weight)
    with pytest.raises(RequestError, match="nowhere"):
        checkpoint.resolve(tmp_path / "nowhere")
