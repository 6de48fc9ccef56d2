"""`train.per_device_batch_size: auto`: what fits a device, and a run that keeps its number."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType

from vle_bench import models
from vle_bench.cli.app import main
from vle_bench.errors import RequestError
from vle_bench.models import SIZES, VLEConfig
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.schema import Recipe
from vle_bench.recipe.values import largest_divisor
from vle_bench.tasks import load_task
from vle_bench.training.engine import largest, question_bytes, with_number
from vle_bench.training.train import train

GIB = 2**30
AUTO = "train.per_device_batch_size=auto"


@pytest.fixture(scope="module")
def base() -> Any:
    """VLE-base with VQA's head, without memory for its weights."""
    config = VLEConfig(**SIZES["vle-base"], id2label={i: str(i) for i in range(3129)})
    config.vision_config.image_size = 384
    with torch.device("meta"):
        return models.VLEForVQA(config)


def accelerator(kind: str = "cuda", processes: int = 1, precision: str = "bf16") -> Any:
    return SimpleNamespace(
        device=torch.device(kind),
        num_processes=processes,
        mixed_precision=precision,
        distributed_type=DistributedType.NO,
    )


def recipe(name: str, *overrides: str) -> Recipe:
    return load_recipe(name, [AUTO, *overrides])


@pytest.mark.parametrize(
    ("name", "tokens", "small", "most"),
    [
        # Peak memory in GiB of training VLE-base at 384 pixels in bf16 on an H200 (docs/speed.md).
        ("vqa/vle-base", 18, (32, 17.1), (256, 99.7)),
        ("vcr/vle-base-q2a", 56, (8, 12.4), (128, 121.0)),
    ],
)
def test_the_estimate_is_close_to_what_was_measured(
    base: Any, name: str, tokens: int, small: tuple[int, float], most: tuple[int, float]
) -> None:
    measured = (most[1] - small[1]) / (most[0] - small[0])
    size = question_bytes(recipe(name, f"model.max_text_length={tokens}"), base, half=True) / GIB
    assert 1.0 <= size / measured < 1.12


@pytest.mark.parametrize(
    ("name", "overrides", "gib", "number"),
    [
        ("vqa/vle-base", [], 139.8, 256),
        ("vqa/vle-base", [], 79.2, 128),
        ("vqa/vle-base", [], 39.4, 64),
        ("vqa/vle-base", [], 23.6, 32),
        ("vqa/vle-base", [], 5.0, 1),  # less than the weights take: the error is the device's
        ("vqa/vle-base", ["train.batch_size=96"], 139.8, 96),
        ("vqa/vle-base", ["model.max_text_length=200"], 139.8, 128),
        ("vqa/vle-base", ["train.precision=fp32"], 139.8, 128),
        ("vqa/vle-base", ["train.cuda_graphs=true"], 139.8, 128),
        ("vcr/vle-base-q2a", [], 139.8, 64),
        ("vcr/vle-base-q2a", [], 23.6, 8),
    ],
)
def test_the_largest_that_fits(
    base: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    overrides: list[str],
    gib: float,
    number: int,
) -> None:
    memory = SimpleNamespace(total_memory=int(gib * GIB))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    chosen = recipe(name, *overrides)
    precision = "no" if chosen.train.precision == "fp32" else "bf16"
    device = accelerator(precision=precision)
    assert largest(chosen, base, device, chosen.train.batch_size) == number
    resolved = with_number(chosen, base, device)
    assert resolved.train.per_device_batch_size == resolved.train.micro_batch == number
    assert resolved.experiment == chosen.experiment
    # What is trained is in the recipe that the run folder keeps.
    assert f"per_device_batch_size: {number}\n" in resolved.to_yaml()


def test_a_process_takes_at_most_its_share(base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total_memory=140 * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    eight = with_number(recipe("vqa/vle-base"), base, accelerator(processes=8))
    assert eight.train.per_device_batch_size == 64


def test_a_number_stays_and_a_cpu_takes_at_most_32(base: Any) -> None:
    plain = load_recipe("vqa/vle-base")
    assert with_number(plain, base, accelerator()) is plain
    for size, number in ((512, 32), (48, 24), (7, 7)):
        chosen = recipe("vqa/vle-base", f"train.batch_size={size}")
        assert chosen.train.micro_batch == number
        assert with_number(chosen, base, accelerator("cpu")).train.micro_batch == number


def test_largest_divisor() -> None:
    for number in range(1, 60):
        for most in range(1, 70):
            divisors = [d for d in range(1, most + 1) if number % d == 0]
            assert largest_divisor(number, most) == divisors[-1]


@pytest.mark.parametrize("value", ["0", "-1", "true", "1.5", "automatic", "2000000"])
def test_other_values_are_refused_in_one_line(value: str) -> None:
    with pytest.raises(RequestError) as refused:
        load_recipe("vqa/vle-base", [f"train.per_device_batch_size={value}"])
    assert "train.per_device_batch_size: 1 to 1,048,576 questions, or auto, are" in str(
        refused.value
    )
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("micro") / "data"
    arguments = ["vle-bench", "prepare", "easy-vqa", "--output", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*arguments, "--limit-images", "10"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code in (0, None)
    return folder


@pytest.mark.usefixtures("fresh_state")
def test_a_run_that_goes_on_keeps_its_number(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [
        f"data.root={data}", "data.first_stage=null", "train.max_steps=2", "train.num_workers=0",
        "train.evaluate_every=1", "train.precision=fp32", "train.batch_size=16",
    ]  # fmt: skip
    folder = tmp_path / "run"

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("vle_bench.training.train.score_now", killed)
        train(load_recipe("demo/vqa-tiny", [*changes, "train.per_device_batch_size=4"]), folder)
    before = (folder / "recipe.yaml").read_text(encoding="utf-8")
    capsys.readouterr()
    train(load_recipe("demo/vqa-tiny", [*changes, AUTO]), folder, resume=True)
    said = capsys.readouterr().out
    assert "1 process × 4 micro-batches × 4;" in said and "not bit-exact" not in said
    assert (folder / "recipe.yaml").read_text(encoding="utf-8") == before


@pytest.mark.usefixtures("fresh_state")
def test_the_number_is_said_and_kept(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [f"data.root={data}", "train.max_steps=1", "train.num_workers=0", AUTO]
    record = train(load_recipe("demo/vqa-tiny", changes), tmp_path / "run")
    assert "batch 64 = 1 process × 2 micro-batches × 32;" in capsys.readouterr().out
    kept = load_recipe(str(tmp_path / "run" / "recipe.yaml"))
    assert kept.train.per_device_batch_size == 32
    assert record.recipe is not None and record.recipe["hash"] == kept.hash
    assert load_task(kept.task).name == record.task
