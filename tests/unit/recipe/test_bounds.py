"""Every number that drives a loop or an allocation has a bound that is said, and is refused at once beyond it."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vle_bench.cli import app
from vle_bench.errors import RequestError
from vle_bench.models import VLEConfig, pretrained
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.recipe.keys import flat
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.values import batch_layout, nearest_divisors

ROOT = Path(__file__).parents[3]
GOLDEN = Path("tests/golden/vle/VLEForVQA")
ENORMOUS = ["10000000019", "1" + 40 * "0", "9" * 4000, "9" * 5000, "1e308", "1.e+400"]
ODD = ["-1", "-10000000019", "-1e308", ".nan", ".inf", "-.inf", "nan", "inf", "0"]
NUMBERS = sorted(
    {
        key
        for recipe in ("demo/vqa-tiny", "vqa/meter-base")
        for key, value in flat(load_recipe(recipe).model_dump()).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    | {
        "train.max_steps",
        "train.evaluate_every",
        "train.checkpoint_every",
        "train.max_grad_norm",
        "train.ema",
        "train.layer_decay",
        "data.questions_per_image",
    }
)


def refused(recipe, *overrides):
    """The message, in under a second."""
    started = time.process_time()
    try:
        load_recipe(recipe, overrides)
        message = ""
    except RequestError as error:
        message = str(error)
    assert time.process_time() - started < 1, overrides
    return message


def test_the_schema_has_these_numbers():
    assert len(NUMBERS) >= 49 and {
        "train.batch_size",
        "model.image_size",
        "model.config.text_config.hidden_size",
    } <= set(NUMBERS)


@pytest.mark.parametrize("key", NUMBERS)
def test_every_number_of_a_recipe(key):
    recipe = (
        "demo/vqa-tiny"
        if key.startswith(("model.config.", "data.first_stage"))
        else "vqa/meter-base"
    )
    for value in ENORMOUS:
        message = refused(recipe, f"{key}={value}")
        assert message.startswith("command line: ") and key in message, (value, message)
        assert len(message) < 2000 and message.count("\n") < 3
    for value in ODD:
        message = refused(recipe, f"{key}={value}")
        assert message or value == "0" or "max_relative" in key or "position_buckets" in key, value


@pytest.mark.parametrize(
    ("override", "bound"),
    [
        ("train.batch_size=10000000019", "less than or equal to 1048576, not 10000000019"),
        ("train.epochs=1e300", "less than or equal to 10000"),
        ("train.num_workers=10000000", "less than or equal to 256"),
        ("train.log_every=99999999999", "less than or equal to 100000000"),
        ("train.checkpoint_every=99999999999", "at most 100,000,000 steps or minutes"),
        ("train.checkpoint_every=99999999999min", "at most 100,000,000 steps or minutes"),
        ("augment.randaugment=[99999999999, 9]", "less than or equal to 100"),
        ("augment.shift=99999999999", "less than or equal to 2048"),
        ("train.seed=4294967296", "less than 4294967296"),
        ("data.root=[[[[" + "[" * 5000, "is no YAML value"),
    ],
)
def test_the_bound_is_said(override, bound):
    assert bound in refused("vqa/vle-base", override)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "model.config.hidden_size=1000000",
            "model.config.hidden_size: a whole number of 1 to 16,384 is expected, not 1000000",
        ),
        (
            "model.config.text_config.num_hidden_layers=1000000000",
            "num_hidden_layers: a whole number of 1 to 200",
        ),
        ("model.config.vision_config.patch_size=0", "patch_size: a whole number of 1 to"),
        (
            "model.config.text_config.position_buckets=-2",
            "position_buckets: a whole number of -1 to",
        ),
        ("model.config.layer_norm_eps=-1", "layer_norm_eps: a number of 0 to 1 is expected"),
        (
            "model.tokenizer.vocab_size=99999999999",
            "model.tokenizer.vocab_size: input should be less than or equal to 2000000",
        ),
    ],
)
def test_the_bounds_of_a_configuration(key, message):
    assert message in refused("demo/vqa-tiny", key)


def test_sizes_that_are_each_possible_but_not_together():
    huge = [
        f"model.config.{part}{key}"
        for part in ("", "text_config.", "vision_config.")
        for key in ("hidden_size=16384", "num_hidden_layers=200", "intermediate_size=65536")
    ]
    assert "model.config: layers of" in refused(
        "demo/vqa-tiny", *huge
    ) and "at most 2e+10" in refused("demo/vqa-tiny", *huge)


def test_divisors_of_any_batch():
    for number in range(1, 200):
        for wanted in (1, 2, 7, 150):
            divisors = [d for d in range(1, number + 1) if number % d == 0]
            below = [d for d in divisors if d <= wanted][-1:]
            above = [d for d in divisors if d > wanted][:1]
            assert nearest_divisors(number, wanted) == " or ".join(map(str, below + above))
    started = time.process_time()
    with pytest.raises(RequestError, match="does not divide"):
        batch_layout(2**20 - 3, 7, 1)  # a prime
    assert time.process_time() - started < 0.1


def test_anchors_that_multiply(tmp_path):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (tmp_path / "r.yaml").write_text("\n".join(lines), encoding="utf-8")
    assert "more than 100,000 values" in refused(str(tmp_path / "r.yaml"))
    (tmp_path / "r.yaml").write_text("name: " + "[" * 20_000, encoding="utf-8")
    assert refused(str(tmp_path / "r.yaml")).startswith(f"{tmp_path}/r.yaml: ")


def test_the_published_hang():
    """It counted the divisors of a large number, for minutes."""
    command = [
        sys.executable,
        "-m",
        "vle_bench",
        "validate",
        "recipes/vqa/vle-base.yaml",
        "train.batch_size=10000000019",
    ]
    started = sum(os.times()[2:4])  # of children
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=200)
    assert sum(os.times()[2:4]) - started < 20
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "vle-bench: command line: train.batch_size: input should be less than or equal to 1048576"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "vqav2", "--output", "x", "--workers", "10000000019"],
        ["prepare", "vqav2", "--output", "x", "--workers", "0"],
        ["prepare", "easy-vqa", "--output", "x", "--limit-images", "10000000019"],
        ["prepare", "shapes-vcr", "--output", "x", "--seed", "10000000019"],
        ["prepare", "vqav2", "--output", "x", "--max-text-length", "10000000019"],
        ["demo", "--seeds", "10000000019"],
        ["bench", "demo/vqa-tiny", "--steps", "10000000019"],
        ["bench", "demo/vqa-tiny", "--evaluation-batch-size", "10000000019"],
        ["bench", "demo/vqa-tiny", "--steps", "nan"],
        ["bench", "demo/vqa-tiny", "--steps", "1e308"],
    ],
    ids=" ".join,
)
def test_options_of_the_command_line(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app.app, arguments)
    assert result.exit_code == 2 or isinstance(result.exception, RequestError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("hidden_size", 10**12),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", -1),
        ("num_attention_heads", 0),
        ("num_labels", 10**9),
        ("num_token_types", 10**12),
        ("hidden_dropout_prob", 1.5),
        ("layer_norm_eps", -1.0),
        ("text_config.num_labels", 10**9),
        ("text_config.vocab_size", 10**13),
        ("text_config.max_position_embeddings", 10**12),
        ("text_config.position_buckets", -7),
        ("text_config.hidden_size", 1e300),
        ("text_config.num_hidden_layers", True),
        ("vision_config.image_size", 10**9),
        ("vision_config.image_size", [10**9, 10**9]),
        ("vision_config.patch_size", 0),
        ("vision_config.num_hidden_layers", 10**9),
        ("vision_config.num_channels", 10**9),
        ("text_config", 5),
        ("vision_config", [1]),
        ("id2label", 7),
        ("num_hidden_layers", "7"),
    ],
)
def test_the_configuration_of_a_checkpoint(path, value, tmp_path):
    """A count of layers was a loop of minutes, a count of labels a dictionary of gigabytes."""
    shutil.copytree(GOLDEN, tmp_path / "model")
    config = json.loads((GOLDEN / "config.json").read_text(encoding="utf-8"))
    *groups, key = path.split(".")
    place = config[groups[0]] if groups else config
    place[key] = value
    (tmp_path / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    started = time.process_time()
    with pytest.raises(RequestError, match=key):
        pretrained.load_model(tmp_path / "model", "VLEForVQA")
    assert time.process_time() - started < 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite(value, tmp_path):
    """JSON has no such numbers, though Python's writer and reader do."""
    shutil.copytree(GOLDEN, tmp_path / "model")
    config = json.loads((GOLDEN / "config.json").read_text(encoding="utf-8"))
    text = json.dumps(config | {"hidden_dropout_prob": value})
    (tmp_path / "model" / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=f"config.json: {json.dumps(value)} is no JSON number"):
        pretrained.load_model(tmp_path / "model", "VLEForVQA")
    with pytest.raises(ValueError, match="hidden_dropout_prob"):
        VLEConfig(hidden_dropout_prob=value)


def test_configurations_that_are_fine_load():
    assert VLEConfig(num_labels=3129).num_labels == 3129
    golden = json.loads((GOLDEN / "config.json").read_text(encoding="utf-8"))
    assert VLEConfig.from_pretrained(str(GOLDEN)).hidden_size == golden["hidden_size"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        *((value, "no processor can be loaded") for value in (10**9, -1, 0, "8")),
        (float("nan"), "NaN is no JSON number"),
    ],
)
def test_the_picture_size_of_a_processor(value, message, tmp_path):
    from vle_bench.data.tokenization import train_tokenizer

    VLEProcessor.from_parts(train_tokenizer(["what is it?"], 64), 32, 8).save_pretrained(tmp_path)
    (file,) = (
        f
        for f in tmp_path.glob("*processor_config.json")
        if "image_processor" in f.read_text(encoding="utf-8")
    )
    text = file.read_text(encoding="utf-8").replace(
        '"height": 32', f'"height": {json.dumps(value)}', 1
    )
    file.write_text(text, encoding="utf-8")
    started = time.process_time()
    with pytest.raises(RequestError, match=message):
        pretrained.load_processor(tmp_path)
    assert time.process_time() - started < 1
