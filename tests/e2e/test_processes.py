"""One recipe on 1, 2 and 3 processes, in whole copies and in shards: the same losses, weights and scores."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.miniature.blip import write_blip
from tests.miniature.forked import launched
from tests.miniature.generative import write_llava
from tests.miniature.in_process import run
from tests.miniature.vilt import write_vilt
from vle_bench.data.prepared import open_prepared

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[2]
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
# 361 questions: the last of an epoch's batches of 64 has 41, which divide by none of these splits. Dropout is 0 in this recipe.
RECIPE = [
    "demo/vqa-tiny",
    "data.first_stage=null",
    "train.max_steps=30",
    "train.evaluate_every=15",
    "train.log_every=1",
    "train.batch_size=64",
    "train.num_workers=0",
    "train.max_grad_norm=5",
]


def by_torchrun(*arguments, cwd, program=("-m", "vle_bench"), **environment):
    """Run `vle-bench` on two processes, as the launcher starts them."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ACCELERATE_USE_CPU": "true",
        "HF_HUB_OFFLINE": "1",
        **environment,
    }
    # --standalone: on a free port, since other tests launch at the same time.
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, *start, *program, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    run("prepare", "easy-vqa", "--output", "data/easy-vqa", "--limit-images", 40, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def alone(work):
    shown = launched(
        1,
        "train",
        *RECIPE,
        "train.per_device_batch_size=64",
        "--output-dir",
        "runs/alone",
        cwd=work,
    )
    assert "batch 64 = 1 process × 1 micro-batch × 64; 30 steps, 1 of them warm-up" in shown
    assert "425,421 parameters, 425,421 trainable, 425,421 new" in shown
    assert (
        "memory: 6 MiB a device for weights, gradients and optimiser states" in shown
    )  # 16 bytes a parameter
    assert "val: best " in shown and " samples/s" in shown
    return work / "runs" / "alone"


def losses(run):
    entries = [
        json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return [entry["loss"] for entry in entries if "loss" in entry]


def scores(run):
    record = json.loads((run / "results" / "vqa.test.json").read_text(encoding="utf-8"))
    return record["metrics"], record["n"], record["per_question_type"]


def check_same(run, alone, exact_scores=True):
    assert len(losses(run)) == 30
    assert losses(run) == pytest.approx(losses(alone), rel=1e-6)
    one, two = (load_file(folder / "last" / "model.safetensors") for folder in (alone, run))
    assert one.keys() == two.keys()
    # An Adam step has the size of the learning rate where a gradient is rounding noise (attention's key biases), hence no rel
    assert all(np.abs(one[name] - two[name]).max() < 2e-2 for name in one)
    assert json.loads((run / "last" / "config.json").read_text(encoding="utf-8")) == json.loads(
        (alone / "last" / "config.json").read_text(encoding="utf-8")
    )
    assert scores(run) == scores(alone)


def test_two_processes_with_micro_batches(alone, work):
    shown = by_torchrun(
        "train", *RECIPE, "train.per_device_batch_size=8", "--output-dir", "runs/two", cwd=work
    )
    assert "batch 64 = 2 processes × 4 micro-batches × 8; 30 steps" in shown and ", DDP" in shown
    assert shown.count("val: best ") == 1  # only the first process speaks
    check_same(work / "runs" / "two", alone)


def test_shards_on_two_processes(alone, work):
    program = ROOT / "tests" / "miniature" / "fsdp_on_cpu.py"
    arguments = (
        "train",
        *RECIPE,
        "train.per_device_batch_size=8",
        "train.gradient_checkpointing=true",
        "--output-dir",
        "runs/fsdp",
    )
    shown = launched(2, *arguments, cwd=work, program=program, **FSDP)
    assert ", FSDP2" in shown and "memory: 3 MiB a device" in shown
    check_same(work / "runs" / "fsdp", alone)


@pytest.mark.slow
def test_shards_with_averaged_weights(work):
    """The average of weights in shards is that of whole ones."""
    program = ROOT / "tests" / "miniature" / "fsdp_on_cpu.py"
    arguments = [
        *RECIPE,
        "train.max_steps=4",
        "train.evaluate_every=2",
        "train.ema=0.5",
        "train.per_device_batch_size=32",
    ]
    launched(1, "train", *arguments, "--output-dir", "runs/ema", cwd=work)
    launched(
        2, "train", *arguments, "--output-dir", "runs/fsdp-ema", cwd=work, program=program, **FSDP
    )
    one, two = (
        load_file(work / "runs" / name / "last" / "model.safetensors")
        for name in ("ema", "fsdp-ema")
    )
    assert all(np.abs(one[name] - two[name]).max() < 1e-2 for name in one)
    head = "vqa_classifier.3.weight"
    assert np.abs(one[head] - two[head]).max() < 1e-5
    training = json.loads(
        (work / "runs" / "fsdp-ema" / "last" / "training.json").read_text(encoding="utf-8")
    )
    assert training["progress"]["ema"] == 0.5
    assert (
        json.loads(
            (work / "runs" / "ema" / "results" / "vqa.test.json").read_text(encoding="utf-8")
        )["training"]["ema"]
        == 0.5
    )
    # A state of shards is whole: it goes on in shards to the bit, and in one piece to the rounding.
    for name in ("again", "alone-again"):
        broken = work / "runs" / name
        shutil.copytree(work / "runs" / "fsdp-ema", broken)
        for left in (
            broken / "checkpoints" / "step-00000004",
            broken / "last",
            broken / "best",
            broken / "results",
        ):
            shutil.rmtree(left)
    shown = launched(
        2,
        "train",
        *arguments,
        "--output-dir",
        "runs/again",
        "--resume",
        cwd=work,
        program=program,
        **FSDP,
    )
    assert (
        "continuing from runs/again/checkpoints/step-00000002" in shown
        and "not bit-exact" not in shown
    )
    again = work / "runs" / "again" / "last" / "model.safetensors"
    assert (
        again.read_bytes()
        == (work / "runs" / "fsdp-ema" / "last" / "model.safetensors").read_bytes()
    )
    shown = launched(
        1, "train", *arguments, "--output-dir", "runs/alone-again", "--resume", cwd=work
    )
    assert "resumed, but not bit-exact: processes: 2 -> 1; shards: True -> False" in shown
    three = load_file(work / "runs" / "alone-again" / "last" / "model.safetensors")
    assert np.abs(two[head] - three[head]).max() < 1e-5


@pytest.mark.slow
def test_deepspeed_on_two_processes(alone, work):
    """Accelerate steps, clips and zeroes inside its `backward` there; losses tell that each happened once a global batch."""
    pytest.importorskip("deepspeed")
    program = (str(ROOT / "tests" / "miniature" / "deepspeed_on_cpu.py"),)
    zero = {
        "DS_ACCELERATOR": "cpu",
        "ACCELERATE_USE_CPU": "false",
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    arguments = ("train", *RECIPE, "train.per_device_batch_size=8", "--output-dir", "runs/zero")
    shown = by_torchrun(*arguments, cwd=work, program=program, **zero)
    assert ", DeepSpeed" in shown
    check_same(work / "runs" / "zero", alone)
    assert (
        "with DeepSpeed, which keeps the optimiser to itself, no training state is saved or restored"
        in shown
    )
    assert not (work / "runs" / "zero" / "checkpoints").exists()


def test_three_processes_score_as_one(alone, work):
    launched(
        3, "evaluate", "runs/alone", "--split", "test", "--output", "three/results/r.json", cwd=work
    )
    record = json.loads((work / "three" / "results" / "r.json").read_text(encoding="utf-8"))
    metrics, n, types = scores(alone)
    assert record["processes"] == 3 and (
        record["metrics"],
        record["n"],
        record["per_question_type"],
    ) == (metrics, n, types)
    rows = [
        (work / name).read_text(encoding="utf-8").splitlines()
        for name in ("three/results/r.predictions.jsonl", "runs/alone/predictions/vqa.test.jsonl")
    ]
    assert [json.loads(row)["answer"] for row in rows[0]] == [
        json.loads(row)["answer"] for row in rows[1]
    ]


def test_hyper_parameters_in_the_configuration_stop_the_run(work, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    _, errors = run("train", *RECIPE, "--output-dir", "runs/refused", cwd=work, code=2)
    assert "accelerate configuration: mixed_precision: bf16" in errors
    assert (
        "train.precision belongs in the recipe" in errors
        and not (work / "runs" / "refused").exists()
    )


def write_tiny_vilt(folder, texts):
    return write_vilt(folder, ["yes", "no", "red", "circle", "nothing"], texts)


@pytest.mark.parametrize("write", [write_blip, write_llava, write_tiny_vilt])
def test_a_model_of_transformers_answers_alike_on_two_processes(work, tmp_path, write):
    data = open_prepared(work / "data" / "easy-vqa")
    write(tmp_path / "model", [*data.questions("val")["question"], *data.labels])
    given = ("evaluate", tmp_path / "model", "--data", "data/easy-vqa", "--split", "val")
    given += ("--batch-size", 7, "--output")
    run(*given, tmp_path / "1.json", cwd=work)
    launched(2, *given, tmp_path / "2.json", cwd=work)
    one, two = (json.loads((tmp_path / f"{n}.json").read_text("utf-8")) for n in (1, 2))
    assert (one["processes"], two["processes"]) == (1, 2) and one["n"] == two["n"]
    assert one["metrics"] == two["metrics"] and one["ids_sha256"] == two["ids_sha256"]
    files = [tmp_path / f"{n}.predictions.jsonl" for n in (1, 2)]
    rows = [[json.loads(line) for line in file.read_text("utf-8").splitlines()] for file in files]
    assert [row["answer"] for row in rows[0]] == [row["answer"] for row in rows[1]]
    scores = [[row["score"] for row in one] for one in rows]
    assert scores[0] == pytest.approx(scores[1], abs=2e-6)


def test_vilt_learns_alike_on_two_processes(work):
    """Gradients are added up over processes, and each picture's patches over its own batch."""
    given = ["demo/vilt-tiny", "data.first_stage=null", "train.max_steps=4", "train.log_every=1"]
    given += ["train.batch_size=24", "train.evaluate_every=4"]
    losses = []
    for processes, each in ((1, 24), (2, 4)):
        folder = f"runs/vilt-{processes}"
        size = f"train.per_device_batch_size={each}"
        launched(processes, "train", *given, size, "--output-dir", folder, cwd=work)
        log = (work / folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        losses.append([row["loss"] for row in map(json.loads, log) if "loss" in row])
    assert len(losses[0]) == 4 and losses[0] == pytest.approx(losses[1], rel=2e-4)
