"""One checkpoint, one score: the precision of the training, and no score from logits that are not finite."""

import json
import os
import shutil

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from transformers import pipeline

from tests.miniature.in_process import run
from vle_bench.data.images import decode
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError
from vle_bench.evaluation.environment import autocast, scoring_precision
from vle_bench.evaluation.record import SCHEMA_VERSION, load_record
from vle_bench.models import pretrained

pytestmark = pytest.mark.usefixtures("fresh_state")
CPU, GPU = torch.device("cpu"), torch.device("cuda")
SMALL = [
    "data.first_stage=null",
    "train.max_steps=4",
    "train.evaluate_every=4",
    "train.log_every=2",
    "train.num_workers=0",
]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data, and `runs/bf16` and `runs/fp32`."""
    folder = tmp_path_factory.mktemp("precision")
    run("prepare", "easy-vqa", "--output", "data/easy-vqa", "--limit-images", 40, cwd=folder)
    for precision in ("bf16", "fp32"):
        AcceleratorState._reset_state(reset_partial_state=True)
        train = (
            "train",
            "demo/vqa-tiny",
            *SMALL,
            f"train.precision={precision}",
            "--output-dir",
            f"runs/{precision}",
        )
        run(*train, cwd=folder)
    return folder


def scores(path):
    """Each example's answer and confidence, which 16 bits change where they do not change the accuracy."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_training_decides_unless_another_precision_is_asked_for():
    assert scoring_precision("bf16", None, GPU) == scoring_precision("bf16", None, CPU) == "bf16"
    assert scoring_precision("fp16", None, GPU) == "fp16"
    assert scoring_precision("bf16", "fp32", GPU) == "fp32"
    assert scoring_precision(None, None, GPU) == "fp32"
    for trained, chosen, message in (
        (
            "fp16",
            None,
            "fp16, in which the checkpoint was trained, needs a GPU; a CPU takes bf16 or fp32",
        ),
        ("bf16", "fp16", "fp16 needs a GPU"),
        (None, "auto", "'auto' is none of fp32, bf16, fp16"),
    ):
        with pytest.raises(RequestError, match=message):
            scoring_precision(trained, chosen, CPU)


def test_the_context_computes_in_the_precision():
    layer, x = torch.nn.Linear(4, 4), torch.randn(2, 4)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(CPU, precision):
            assert layer(x).dtype == dtype


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_evaluate_scores_as_the_training_did(work, tmp_path, precision):
    trained = load_record(work / "runs" / precision / "results" / "vqa.test.json")
    assert (
        trained.schema_version == SCHEMA_VERSION
        and trained.precision == trained.training["precision"] == precision
    )
    again = tmp_path / "results" / "again.json"
    run("evaluate", f"runs/{precision}", "--split", "test", "--output", again, cwd=work)
    record = load_record(again)
    assert record.precision == precision and record.metrics == trained.metrics
    assert scores(tmp_path / "results" / "again.predictions.jsonl") == scores(
        work / "runs" / precision / "predictions" / "vqa.test.jsonl"
    )


def test_another_precision_is_another_score_and_the_record_says_so(work, tmp_path):
    shown, _ = run(
        "evaluate",
        "runs/bf16",
        "--split",
        "test",
        "--precision",
        "fp32",
        "--output",
        tmp_path / "results" / "x.json",
        cwd=work,
    )
    record = load_record(tmp_path / "results" / "x.json")
    assert (record.precision, record.training["precision"]) == ("fp32", "bf16")
    assert "scored in fp32, trained in bf16" in shown
    own = scores(work / "runs" / "bf16" / "predictions" / "vqa.test.jsonl")
    assert scores(tmp_path / "results" / "x.predictions.jsonl") != own


def test_predict_computes_as_the_training_did(work, tmp_path):
    for option, same in (((), True), (("--precision", "fp32"), None)):
        output = tmp_path / f"{len(option)}.json"
        run("predict", "runs/bf16", "--split", "test", "--output", output, *option, cwd=work)
        answers = {
            row["question_id"]: row["answer"]
            for row in json.loads(output.read_text(encoding="utf-8"))
        }
        own = {
            row["id"]: row["answer"]
            for row in scores(work / "runs" / "bf16" / "predictions" / "vqa.test.jsonl")
        }
        assert answers.keys() == own.keys() and (same is None or answers == own)


@pytest.mark.parametrize(
    "command",
    [["evaluate", "runs/bf16"], ["predict", "runs/bf16", "--split", "test", "--output", "p.json"]],
)
def test_the_environment_does_not_decide(work, tmp_path, monkeypatch, command):
    monkeypatch.setitem(os.environ, "ACCELERATE_MIXED_PRECISION", "fp16")
    _, error = run(*command, cwd=work, code=2)
    assert (
        "accelerate configuration: mixed_precision: fp16" in error
        and "leave it out; `--precision` chooses one for the scoring" in error
    )
    assert not (work / "p.json").exists()


def test_a_checkpoint_of_an_earlier_version_is_scored_in_float32_and_it_is_said(work, tmp_path):
    shutil.copytree(work / "runs" / "fp32", tmp_path / "run")
    training = tmp_path / "run" / "best" / pretrained.TRAINING_FILE
    values = json.loads(training.read_text(encoding="utf-8"))
    del values["progress"]["precision"], values["progress"]["tf32"]
    training.write_text(json.dumps(values), encoding="utf-8")
    _, error = run("evaluate", tmp_path / "run", "--split", "test", cwd=work)
    assert "does not say in which precision it was trained" in error
    record = load_record(tmp_path / "run" / "results" / "vqa.test.json")
    assert record.precision == "fp32" and "precision" not in record.training
    assert (
        record.metrics == load_record(work / "runs" / "fp32" / "results" / "vqa.test.json").metrics
    )


def damaged(work, folder, name, value):
    """A copy of a run's best/ and recipe in which one number of a weight is damaged."""
    shutil.copytree(work / "runs" / "fp32" / "best", folder / "best")
    shutil.copy(work / "runs" / "fp32" / "recipe.yaml", folder)
    weights = folder / "best" / "model.safetensors"
    tensors = load_file(weights)
    tensors[name].view(-1)[0] = value
    save_file(tensors, weights, {"format": "pt"})
    return folder


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_never_scored(work, tmp_path, value):
    folder = damaged(work, tmp_path / "run", "vqa_classifier.3.bias", value)
    record = load_record(work / "runs" / "fp32" / "results" / "vqa.test.json")
    ids = sorted(
        row["id"] for row in scores(work / "runs" / "fp32" / "predictions" / "vqa.test.jsonl")
    )
    first = ", ".join(map(str, ids[:8]))
    for command in (
        ["evaluate", folder],
        ["predict", folder, "--split", "test", "--output", tmp_path / "p.json"],
    ):
        _, error = run(*command, cwd=work, code=1)
        assert (
            f"test: the logits of {record.n:,} of {record.n:,} examples are not finite (NaN or infinite): {first} and"
            in error
        )
        assert "weights that are not finite: 1 (vqa_classifier.3.bias)" in error
        assert "Traceback" not in error
    assert not list(tmp_path.rglob("results/*")) and not list(tmp_path.rglob("predictions/*"))
    assert not (tmp_path / "p.json").exists()


def test_only_the_examples_that_a_damaged_weight_reaches_are_counted(work, tmp_path):
    """A NaN in the embedding of one word."""
    processor = pretrained.load_processor(work / "runs" / "fp32" / "best")
    word = processor.tokenizer("circle", add_special_tokens=False)["input_ids"][0]
    folder = damaged(work, tmp_path / "run", "vqa_classifier.3.bias", 0.0)
    weights = folder / "best" / "model.safetensors"
    tensors = load_file(weights)
    tensors["vle.text_model.embeddings.word_embeddings.weight"][word] = float("nan")
    save_file(tensors, weights, {"format": "pt"})
    _, error = run("evaluate", folder, cwd=work, code=1)
    record = load_record(work / "runs" / "fp32" / "results" / "vqa.test.json")
    count = int(error.split("the logits of ")[1].split(" of ")[0])
    assert 0 < count < record.n and f"of {record.n:,} examples" in error


def test_an_infinite_weight_that_no_logit_shows_is_not_scored_either(work, tmp_path):
    """The pooler's tanh makes it 1."""
    folder = damaged(work, tmp_path / "run", "vle.cross_modal_text_pooler.dense.bias", float("inf"))
    _, error = run("evaluate", folder, cwd=work, code=1)
    assert "weights that are not finite: 1 (vle.cross_modal_text_pooler.dense.bias)" in error
    assert not list((tmp_path / "run").rglob("results/*"))
    train = (
        "train",
        "demo/vqa-tiny",
        *SMALL,
        f"model.checkpoint={folder}",
        "model.config=null",
        "--output-dir",
        tmp_path / "new",
    )
    _, error = run(*train, cwd=work, code=2)
    assert "not finite (NaN or infinite): 1 (vle.cross_modal_text_pooler.dense.bias)" in error


def test_weights_are_float32_whatever_the_file_holds(work, tmp_path):
    """A bf16 checkpoint, as DeepSpeed leaves it, computes with float32 weights: in bf16 it would ignore --precision."""
    folder = shutil.copytree(work / "runs" / "fp32" / "best", tmp_path / "best")
    weights = folder / "model.safetensors"
    save_file(
        {name: tensor.bfloat16() for name, tensor in load_file(weights).items()},
        weights,
        {"format": "pt"},
    )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(
        json.dumps(config | {"dtype": "bfloat16"}), encoding="utf-8"
    )
    model = pretrained.load_model(folder, "VLEForVQA")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_evaluation_within_training_stops_too(work, tmp_path, monkeypatch):
    from vle_bench.training import train as training

    evaluate = training.evaluate

    def damage_first(state, stop):
        with torch.no_grad():
            next(iter(state.bare_model.vqa_classifier.parameters()))[0, 0] = float("nan")
        evaluate(state, stop)

    monkeypatch.setattr(training, "evaluate", damage_first)
    _, error = run(
        "train", "demo/vqa-tiny", *SMALL, "--output-dir", tmp_path / "run", cwd=work, code=1
    )
    assert "examples are not finite" in error
    assert not (tmp_path / "run" / "best").exists() and not list(
        (tmp_path / "run").glob("results/*")
    )


def test_tf32_follows_the_training(work, tmp_path):
    """TF32 rounds a GPU's float32 products to 10 bits: a run that allowed it is scored with it, any other without."""
    for allowed in (True, False):
        folder = tmp_path / str(allowed)
        shutil.copytree(work / "runs" / "fp32", folder)
        training = folder / "best" / pretrained.TRAINING_FILE
        values = json.loads(training.read_text(encoding="utf-8"))
        assert values["progress"]["tf32"] is False
        values["progress"]["tf32"] = allowed
        training.write_text(json.dumps(values), encoding="utf-8")
        run("evaluate", folder, cwd=work)
        assert torch.backends.cudnn.allow_tf32 is allowed
        assert torch.get_float32_matmul_precision() == ("high" if allowed else "highest")


def test_joined_runs_have_no_precision_to_choose(work):
    """No model runs: each was scored before."""
    command = ("evaluate", "runs/bf16", "--with", "runs/fp32", "--precision", "fp32")
    _, error = run(*command, cwd=work, code=2)
    assert "--precision goes with one checkpoint" in error


def test_a_pipeline_computes_in_float32_and_under_autocast_in_the_precision_of_the_run(work):
    """docs/runs.md says so."""
    run(
        "evaluate",
        "runs/bf16",
        "--split",
        "test",
        "--precision",
        "fp32",
        "--output",
        "p.json",
        cwd=work,
    )
    data = open_prepared(work / "data" / "easy-vqa")
    images = {row["image_id"]: row["bytes"] for row in data.images}
    questions = {row["question_id"]: row for row in data.questions("test")}
    answer = pipeline("vle-vqa", model=work / "runs" / "bf16" / "best", device="cpu")
    for precision, file in (
        ("fp32", "p.predictions.jsonl"),
        ("bf16", "runs/bf16/predictions/vqa.test.jsonl"),
    ):
        rows = scores(work / file)[:12]
        with autocast(CPU, precision):
            given = [
                answer(
                    decode(images[questions[row["id"]]["image_id"]], "it"),
                    questions[row["id"]]["question"],
                    top_k=1,
                )[0]
                for row in rows
            ]
        assert [one["answer"] for one in given] == [row["answer"] for row in rows]
        assert [one["score"] for one in given] == pytest.approx(
            [row["score"] for row in rows], abs=2e-6
        )
    assert scores(work / "p.predictions.jsonl") != scores(
        work / "runs" / "bf16" / "predictions" / "vqa.test.jsonl"
    )
