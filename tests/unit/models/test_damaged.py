"""Damaged checkpoints and recipes, as the fuzz found them: one line that names the file."""

import json

import pytest
import torch

from tests.miniature.in_process import run
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.errors import RequestError
from vle_bench.evaluation.published_checkpoint import read_training
from vle_bench.models import VLEConfig, VLEForVQA
from vle_bench.models.pretrained import check_vocabulary, load_model, load_processor, read_json
from vle_bench.models.vle.convert.checkpoints import read_checkpoint
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.recipe.load import load_recipe
from vle_bench.strict_yaml import read_group

TRAINING = {
    "task": "vqa",
    "recipe": {"name": "small", "hash": "0" * 16},
    "expect": None,
    "seed": 0,
    "inputs": {"max_text_length": 24},
    "data_root": "data",
    "training_splits": ["train"],
    "progress": {"step": 1, "steps": 1, "seconds": 1.0, "split": "val", "score": 0.5},
    "more": 1,
}


def saved(folder, values):
    (folder / "training.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


def test_a_training_is_read_as_it_was_saved(tmp_path):
    training = read_training(saved(tmp_path, TRAINING))
    assert training is not None and training.model_dump(exclude_unset=True) == TRAINING


def test_a_checkpoint_from_elsewhere_has_no_training(tmp_path):
    assert read_training(tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": {"hash": "0"}}, "recipe has no 'name'"),
        ({"recipe": {"name": "", "hash": "0"}}, "recipe.name: '' is no name"),
        ({"expect": "x"}, "expect: "),
        ({"progress": {"step": "1"}}, "progress.step: "),
        ({"progress": {"score": float("nan")}}, "NaN is no JSON number"),
        ({"progress": None}, "progress: "),
        ({"progress": {"precision": "int8"}}, "progress.precision: .*'fp32', 'bf16' or 'fp16'"),
        ({"seed": -1}, "seed: "),
        ({"training_splits": "train"}, "training_splits: "),
        ({"task": "chess"}, "task: 'chess' is none of vqa, "),
        ({"inputs": []}, "inputs: "),
        ({"inputs": {"max_text_length": 1.5}}, "inputs.max_text_length: "),
        ({"inputs": {"max_text_length": "a"}}, "inputs.max_text_length: "),
    ],
)
def test_a_damaged_training_file_is_named_with_its_key(tmp_path, changes, message):
    with pytest.raises(RequestError, match=message) as error:
        read_training(saved(tmp_path, TRAINING | changes))
    assert str(tmp_path / "training.json") in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("values", [None, [], "text"])
def test_a_training_file_of_another_kind_is_named(tmp_path, values):
    with pytest.raises(RequestError, match="training.json: not as `train` writes it"):
        read_training(saved(tmp_path, values))


@pytest.mark.parametrize(
    ("content", "message"),
    [("{}".encode("utf-16"), "not UTF-8"), (b"[" * 100_000, "nested too deep")],
)
def test_other_encodings_and_deep_nesting_are_named(tmp_path, content, message):
    (tmp_path / "training.json").write_bytes(content)
    with pytest.raises(RequestError, match=f"training.json: .*{message}"):
        read_json(tmp_path / "training.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    tokenizer = train_tokenizer(["what is this?"], 64)
    text = {**sizes, "model_type": "deberta-v2", "vocab_size": len(tokenizer)}
    config = VLEConfig(
        text_config=text, vision_config={**sizes, "image_size": 16, "patch_size": 8}, **sizes
    )
    VLEForVQA(config).save_pretrained(path)
    VLEProcessor.from_parts(tokenizer, 16, 8).save_pretrained(path)
    return path


def changed(folder, name, key, value):
    path = folder / name
    before = path.read_text(encoding="utf-8")
    path.write_text(json.dumps(json.loads(before) | {key: value}), encoding="utf-8")
    return path, before


@pytest.mark.parametrize(
    ("key", "value"), [("normalizer", 1), ("post_processor", "x"), ("model", [])]
)
def test_a_damaged_tokenizer_is_named(folder, key, value):
    path, before = changed(folder, "tokenizer.json", key, value)
    try:
        with pytest.raises(RequestError, match="no processor can be loaded"):
            load_processor(folder)
    finally:
        path.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    ("key", "value"),
    [("id2label", {"x": "y"}), ("text_config", 1), ("hidden_act", "none"), ("hidden_size", "a")],
)
def test_a_damaged_config_is_named(folder, key, value):
    path, before = changed(folder, "config.json", key, value)
    try:
        with pytest.raises(RequestError, match="cannot be loaded|can be built") as error:
            load_model(folder, "VLEForVQA")
        assert str(folder) in str(error.value)
    finally:
        path.write_text(before, encoding="utf-8")


def test_a_checkpoint_whose_bytes_are_not_those_of_its_checksums_is_refused(tmp_path):
    path = tmp_path / "meter.ckpt"
    torch.save({"state_dict": {"weight": torch.arange(100_000, dtype=torch.float32)}}, path)
    read_checkpoint(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        RequestError,
        match=r"meter\.ckpt: damaged, the checksum of .*data/0 is not that of its bytes; fetch",
    ):
        read_checkpoint(path)


def test_a_recipe_nested_too_deep_is_named(tmp_path):
    (tmp_path / "deep.yaml").write_text("name: " + "[" * 50_000, encoding="utf-8")
    with pytest.raises(RequestError, match=r"deep\.yaml: .*more than 100 brackets within"):
        read_group(tmp_path / "deep.yaml")


@pytest.mark.parametrize("value", ["[" * 50_000, "9" * 5000])
def test_an_override_that_is_no_value_is_named(tmp_path, value):
    with pytest.raises(RequestError, match=r"train\.seed: .* is no YAML value") as error:
        load_recipe("vqa/vle-base", [f"train.seed={value}"])
    assert len(str(error.value)) < 300
    _, errors = run("validate", "vqa/vle-base", f"train.seed={value}", cwd=tmp_path, code=2)
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [("image_mean", [0.5, 0.5]), ("size", "x"), ("size", {"height": 16}), ("image_std", "x")],
)
def test_a_processor_that_fails_at_the_first_picture_is_refused_when_it_is_loaded(
    folder, key, value
):
    path = next(
        p
        for p in (folder / "preprocessor_config.json", folder / "processor_config.json")
        if p.is_file()
    )
    before = path.read_text(encoding="utf-8")
    values = json.loads(before)
    values.get("image_processor", values)[key] = value
    path.write_text(json.dumps(values), encoding="utf-8")
    try:
        with pytest.raises(RequestError, match="no processor can be loaded"):
            load_processor(folder)
    finally:
        path.write_text(before, encoding="utf-8")


def test_a_tokenizer_with_more_words_than_the_model_is_refused(folder):
    processor, model = load_processor(folder), load_model(folder, "VLEForVQA")
    check_vocabulary(folder, processor, model)
    processor.tokenizer.add_tokens(["another"])
    with pytest.raises(RequestError, match="its tokenizer has ids up to .* not of one checkpoint"):
        check_vocabulary(folder, processor, model)
