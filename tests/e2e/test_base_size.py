"""VLE-base from its configuration alone, for two steps of the real loop on a miniature of VQA v2."""

import math

import pytest

from tests.miniature.vqav2 import write_vqav2
from vle_bench import strict_yaml
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.vqav2 import prepare_vqav2
from vle_bench.model_bounds import FUSION_KEYS, TEXT_KEYS, VISION_KEYS
from vle_bench.models import SIZES
from vle_bench.recipe.load import load_recipe
from vle_bench.training.run import build
from vle_bench.training.train import optimizer_step


@pytest.mark.slow
def test_two_steps_of_vle_base(tmp_path):
    prepare_vqav2(
        write_vqav2(tmp_path / "official"), tmp_path / "data", Choices(published_targets=True)
    )
    size = SIZES["vle-base"]
    config = {name: value for name, value in size.items() if name in FUSION_KEYS}
    config["text_config"] = {
        name: value for name, value in size["text_config"].items() if name in TEXT_KEYS
    }
    config["vision_config"] = {
        name: value for name, value in size["vision_config"].items() if name in VISION_KEYS
    }
    values = {
        "extends": "vqa/vle-base",
        "name": "two-steps",
        "data": {"root": str(tmp_path / "data")},
        "model": {
            "checkpoint": None,
            "config": config,
            "image_size": 224,
            "tokenizer": {"vocab_size": 64},
        },
        "train": {
            "batch_size": 4,
            "per_device_batch_size": 2,
            "max_steps": 2,
            "learning_rate": 1e-4,
            "num_workers": 0,
        },
    }
    (tmp_path / "recipe.yaml").write_text(strict_yaml.dump(values), encoding="utf-8")
    run = build(load_recipe(str(tmp_path / "recipe.yaml")), tmp_path / "run")
    parameters = (
        sum(p.numel() for p in run.model.vle.parameters())
        - run.model.vle.get_input_embeddings().weight.numel()
    )
    assert parameters == 378_328_320 - 128_100 * 768  # all of VLE-base but for the vocabulary
    before = run.model.vle.cross_modal_text_layers[0].output.dense.weight.detach().clone()
    stream = run.steps()
    for _, count, micro_batches in (next(stream), next(stream)):
        loss, norm = optimizer_step(run, micro_batches, count).tolist()
        assert math.isfinite(loss) and math.isfinite(norm) and loss > 0 < norm
    assert run.accumulation == 2
    assert not before.equal(run.model.vle.cross_modal_text_layers[0].output.dense.weight)
