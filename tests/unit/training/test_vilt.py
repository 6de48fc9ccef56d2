"""ViLT through the one loop: from scratch, from a pre-trained folder, resumed, evaluated, refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, ViltConfig, ViltForQuestionAnswering

from tests.miniature.in_process import run
from tests.miniature.vilt import write_vilt
from vle_bench import model_bounds
from vle_bench.data.prepare.easy_vqa import prepare_easy_vqa
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError, RunFailed
from vle_bench.evaluation.record import load_record
from vle_bench.models.vilt.checkpoint import as_start, from_scratch
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.preflight import missing_files
from vle_bench.training import train
from vle_bench.training.run import adamw

SHORT = [
    "demo/vilt-tiny",
    "train.max_steps=6",
    "train.evaluate_every=3",
    "train.batch_size=16",
    "train.per_device_batch_size=8",
    "data.first_stage=null",
]
DROPPED = "model.config.hidden_dropout_prob=0.2"  # so that a resumed run needs its random numbers


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with easy-VQA, and a run of six steps in `whole`."""
    root = tmp_path_factory.mktemp("vilt")
    prepare_easy_vqa(root / "data" / "easy-vqa", limit_images=10)
    run("train", *SHORT, DROPPED, "--output-dir", "whole", cwd=root)
    return root


def same_bytes(one, other):
    return (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_a_resumed_run_ends_with_the_same_bytes(work, monkeypatch):
    step = train.optimizer_step

    def broken(running, batches, count):
        if running.step == 4:
            raise RunFailed("broken off")
        return step(running, batches, count)

    monkeypatch.setattr(train, "optimizer_step", broken)
    run("train", *SHORT, DROPPED, "--output-dir", "r", cwd=work, code=1)
    monkeypatch.undo()
    shown, _ = run("train", *SHORT, DROPPED, "--output-dir", "r", "--resume", cwd=work)
    assert "continuing from r/checkpoints/step-00000003" in shown
    assert same_bytes(work / "r" / "last", work / "whole" / "last")


def test_a_run_folder_is_in_the_published_layout_and_is_scored(work):
    last = work / "whole" / "last"
    record = load_record(work / "whole" / "results" / "vqa.test.json")
    assert (record.kind, record.model["class"]) == ("run", "ViltForQuestionAnswering")
    assert record.model["protocol"] == "classification"
    run("evaluate", "whole", "--output", "again.json", "--batch-size", 5, cwd=work)
    again = load_record(work / "again.json")
    assert again.metrics == record.metrics
    model, info = ViltForQuestionAnswering.from_pretrained(last, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    labels = open_prepared(work / "data" / "easy-vqa").labels
    assert list(model.config.id2label.values()) == labels
    assert AutoProcessor.from_pretrained(last).image_processor.size_divisor == 16
    assert "A ViLT: one transformer" in (last / "README.md").read_text(encoding="utf-8")
    line = "whole/best/config.json: architectures: ViltForQuestionAnswering: of ViLT"
    assert line in run("evaluate", "whole", "--model", "blip", cwd=work, code=2)[1]


def test_training_starts_from_the_pre_trained_folder(work, tmp_path):
    data = open_prepared(work / "data" / "easy-vqa")
    write_vilt(work / "mlm", (), data.questions("train")["question"][:], head=False)
    given = ["model.config=null", "model.checkpoint=mlm", "model.dropout=0.1", "train.max_steps=1"]
    rates = ["train.learning_rate=1e-9", "train.evaluate_every=1"]
    shown, _ = run("train", *SHORT, *given, *rates, "--output-dir", "t", cwd=work)
    before, after = (load_file(work / name / "model.safetensors") for name in ("mlm", "t/last"))
    head = sum(value.numel() for key, value in after.items() if key.startswith("classifier."))
    assert f"{head:,} new" in shown
    kept = [key for key in after if key.startswith("vilt.")]
    assert all(torch.allclose(after[key], before[key], atol=1e-7) for key in kept)
    config = json.loads((work / "t" / "last" / "config.json").read_text(encoding="utf-8"))
    assert config["hidden_dropout_prob"] == 0.1
    # The run itself is a start, with its head
    model, new = as_start(work / "t" / "last", data.labels, False, None)
    assert new == 0 and torch.equal(model.classifier[3].bias, after["classifier.3.bias"])
    _, new = as_start(work / "t" / "last", data.labels, True, None)
    assert new == head
    with pytest.raises(RequestError, match="its head is for another number of answers"):
        as_start(work / "t" / "last", data.labels[:3], False, None)


def test_rates_are_those_of_vilts_program():
    """vilt_utils.py: the head's rate times `lr_mult`, no decay on biases and norms, none other."""
    recipe = load_recipe("vqa/vilt")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = from_scratch({**sizes, "vocab_size": 9}, ["a", "b"], FakeTokenizer(), 64)
    names = {id(p): name for name, p in model.named_parameters()}
    for group in adamw(recipe, model).param_groups:
        for parameter in group["params"]:
            name = names.pop(id(parameter))
            plain = name.endswith("bias") or "norm" in name.lower() or name == "classifier.1.weight"
            assert group["weight_decay"] == (0.0 if plain else 0.01), name
            rate = 1e-3 if name.startswith("classifier.") else 1e-4
            assert group["initial_lr" if "initial_lr" in group else "lr"] == pytest.approx(rate)
    assert not names


class FakeTokenizer:
    pad_token_id = 0

    def __len__(self):
        return 9


@pytest.mark.parametrize(
    ("recipe", "override", "line"),
    [
        (
            "demo/vilt-tiny",
            "model.resize=crop",
            "model.resize: means nothing for model.family vilt",
        ),
        ("demo/vilt-tiny", "train.lr_mult_cross_modal=2", "one encoder reads text and picture"),
        ("demo/vilt-tiny", "model.config.patch=16", "unknown key; nearest valid key"),
        ("demo/vilt-tiny", "model.image_size=40", "does not divide by model.config.patch_size 16"),
        ("demo/vilt-tiny", "model.max_text_length=41", "max_position_embeddings has 40"),
        ("demo/vilt-tiny", "model.dropout=0.1", "a model from scratch has its own in model.config"),
        (
            "demo/vilt-tiny",
            "model.family=blip",
            "BLIP can be scored here, not trained; vle, vilt can be trained",
        ),
        (
            "demo/vilt-tiny",
            "model.family=generate",
            "a generative model can be scored here, not trained",
        ),
        ("demo/vqa-tiny", "model.family=vilt", "model.config.text_config: unknown key"),
        ("vqa/vle-base", "model.dropout=0.1", "model.dropout: means nothing for model.family vle"),
        ("vcr/vle-base-q2a", "model.family=vilt", "vilt has no head for task vcr_q2a; vle has"),
    ],
)
def test_what_a_family_does_not_have_is_refused(recipe, override, line):
    with pytest.raises(RequestError, match=line.replace(".", r"\.")):
        load_recipe(recipe, [override])


def test_a_checkpoint_of_another_family_is_refused(work):
    """One line each, and no run folder."""
    for name, config, override, line in (
        (
            "blip",
            {"model_type": "blip", "architectures": ["BlipForQuestionAnswering"]},
            "model.family=vle",
            "blip: of BLIP, and the recipe's model.family is vle; it can be scored here, not trained",
        ),
        (
            "other",
            {"model_type": "vilt", "architectures": ["ViltForQuestionAnswering"]},
            "model.family=vle",
            "other: of ViLT, and the recipe's model.family is vle; model.family: vilt fine-tunes it",
        ),
        (
            "own",
            {"model_type": "vle", "architectures": ["VLEForVQA"]},
            "model.family=vilt",
            "own: of VLE and METER, and the recipe's model.family is vilt",
        ),
    ):
        (work / name).mkdir()
        (work / name / "config.json").write_text(json.dumps(config), encoding="utf-8")
        given = ["model.config=null", f"model.checkpoint={name}", override]
        _, errors = run("train", *SHORT, *given, "--output-dir", f"to-{name}", cwd=work, code=2)
        assert line in errors and len(errors.splitlines()) == 1, errors
        shutil.rmtree(work / name)


def test_the_missing_checkpoint_comes_from_the_hub():
    (lines,) = [one for one in missing_files(load_recipe("vqa/vilt")) if "vilt" in one]
    assert "hf download dandelin/vilt-b32-mlm --local-dir checkpoints/vilt-b32-mlm" in lines


def test_look_says_that_it_shows_squares(work):
    errors = run("look", "whole", cwd=work, code=2)[1]
    assert "ViLT keeps the shape of a picture" in errors and len(errors.splitlines()) == 1


def test_keys_of_a_recipe_are_those_of_the_configuration():
    assert {*model_bounds.VILT_KEYS} <= {*vars(ViltConfig())}
    assert ViltConfig().max_position_embeddings == model_bounds.VILT_POSITIONS
