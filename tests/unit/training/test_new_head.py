"""Checkpoints with other answers: refused with the way out, or a fresh head where the recipe says so."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from vle_bench import models
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.errors import RequestError
from vle_bench.models import VLEForVQA, pretrained
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks import load_task
from vle_bench.training.model import model_of

GOLDEN = "tests/golden/vle/VLEForVQA"
OTHERS = [f"other {i}" for i in range(17)]  # as many as the golden checkpoint has


@pytest.fixture
def folder(tmp_path):
    """A checkpoint of 17 answers, without a label map of ours."""
    model = VLEForVQA.from_pretrained(GOLDEN)
    model.config.id2label = {i: f"answer {i}" for i in range(17)}
    model.config.label2id = {f"answer {i}": i for i in range(17)}
    model.save_pretrained(tmp_path / "model")
    tokenizer = train_tokenizer(["what is it?"], 64)
    VLEProcessor.from_parts(tokenizer, model.config.vision_config.image_size, 8).save_pretrained(
        tmp_path / "model"
    )
    return tmp_path / "model"


def built(folder, answers, *overrides):
    size = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vision_config"][
        "image_size"
    ]
    changes = [f"model.checkpoint={folder}", f"model.image_size={size}", *overrides]
    data = SimpleNamespace(labels=answers, root="data/own")
    torch.manual_seed(1)
    model, _, new = model_of(load_recipe("vqa/vle-base", changes), load_task("vqa"), data)
    return model, new


def test_the_same_answers_keep_the_head(folder):
    model, new = built(folder, [f"answer {i}" for i in range(17)])
    assert new == 0
    trained = load_file(f"{GOLDEN}/model.safetensors")
    assert all(
        torch.equal(v, trained[k])
        for k, v in model.state_dict().items()
        if k.startswith("vqa_classifier")
    )


@pytest.mark.parametrize("answers", [OTHERS, OTHERS[:5]], ids=["as many", "fewer"])
def test_other_answers_are_refused_with_the_way_out(folder, answers):
    """As many other answers would load in silence, each output standing for another answer."""
    with pytest.raises(
        RequestError,
        match=r"its 17 answers are not the \d+ of data/own: .*\(model.new_head: true\)",
    ):
        built(folder, answers)


def test_without_names_another_number_is_refused(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {
        "id2label": {str(i): f"LABEL_{i}" for i in range(17)},
        "label2id": {f"LABEL_{i}": i for i in range(17)},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(
        RequestError,
        match="another number of answers .*vqa_classifier.3.bias.*model.new_head: true",
    ):
        built(folder, OTHERS[:5])


@pytest.mark.parametrize(
    "answers",
    [OTHERS, OTHERS[:5], [f"answer {i}" for i in range(17)]],
    ids=["others", "fewer", "same"],
)
def test_a_fresh_head_on_the_trained_encoder(folder, answers):
    model, new = built(folder, answers, "model.new_head=true")
    trained = load_file(f"{GOLDEN}/model.safetensors")
    for name, value in model.vle.state_dict().items():
        source = (
            f"vle.{name}"
            if f"vle.{name}" in trained
            else f"vle.{name.replace('vision_model', 'vision_model.vision_model', 1)}"
        )
        assert torch.equal(value, trained[source]), name
    head = model.vqa_classifier
    assert head[3].out_features == len(answers) and model.config.id2label == dict(
        enumerate(answers)
    )
    assert new == sum(p.numel() for p in head.parameters())
    assert not torch.equal(head[0].weight, trained["vqa_classifier.0.weight"])
    assert (
        0.01 < head[0].weight.std().item() < 0.03
        and not head[0].bias.any()
        and not head[3].bias.any()
    )
    assert torch.equal(head[1].weight, torch.ones_like(head[1].weight))
    again = built(folder, answers, "model.new_head=true")[0]
    assert torch.equal(again.vqa_classifier[3].weight, head[3].weight)  # the seed decides


def test_our_label_map_is_asked_first(folder):
    (folder / "label_map.json").write_text(json.dumps({"answers": OTHERS}), encoding="utf-8")
    assert pretrained.own_answers(folder) == OTHERS
    assert built(folder, OTHERS)[1] == 0


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        (
            "vcr/vle-base-q2a",
            ["model.new_head=true"],
            "model.new_head: means nothing for task vcr_q2a",
        ),
        (
            "demo/vqa-tiny",
            ["model.new_head=true"],
            "model.new_head: a model from scratch has a new head anyway",
        ),
    ],
)
def test_where_it_means_nothing(recipe, overrides, message):
    with pytest.raises(RequestError, match=message):
        load_recipe(recipe, overrides)


def test_every_head_can_start_afresh():
    for name in ("VLEForVQA", "VLEForVCRQ2A", "VLEForVCRQA2R", "VLEForITM"):
        model = getattr(models, name).from_pretrained(f"tests/golden/vle/{name}")
        assert model.reset_head() == sum(p.numel() for p in model.head_parameters()) > 0
