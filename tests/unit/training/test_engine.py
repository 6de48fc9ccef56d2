"""The step on one process: the same losses however a batch is cut, precision, compilation, averages, rates by layer."""

import json
import math
import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch.utils._python_dispatch import TorchDispatchMode

import vle_bench.training.train
from vle_bench.cli.app import main
from vle_bench.data.collate import TEXT_MULTIPLE, padded_text
from vle_bench.errors import RequestError, RunFailed
from vle_bench.models import VLEForVQA
from vle_bench.recipe.keys import changed_keys
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Inference
from vle_bench.training import engine, graphs
from vle_bench.training.checkpoints import restore, save_state
from vle_bench.training.engine import (
    check_deepspeed,
    checkpoint_activations,
    clip_gradients,
    memory_estimate,
)
from vle_bench.training.feed import micro_batch
from vle_bench.training.graphs import Recording
from vle_bench.training.optim import AverageWeights
from vle_bench.training.processes import Stop
from vle_bench.training.run import announce, build
from vle_bench.training.train import fit, optimizer_step, stopped, train

pytestmark = pytest.mark.usefixtures("fresh_state")
GOLDEN = Path(__file__).parents[2] / "golden" / "vle" / "VLEForVQA"
# 361 questions: the sixth batch of 64 has 41. Dropout is 0 in this recipe.
RECIPE = [
    "data.first_stage=null",
    "train.max_steps=30",
    "train.num_workers=0",
    "train.precision=fp32",
    "train.log_every=1",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine") / "data"
    arguments, sys.argv = (
        sys.argv,
        ["vle-bench", "prepare", "easy-vqa", "--output", str(folder), "--limit-images", "40"],
    )
    try:
        main()
    except SystemExit:
        pass
    finally:
        sys.argv = arguments
    return folder


def started(root, folder, *overrides):
    return build(load_recipe("demo/vqa-tiny", [*RECIPE, f"data.root={root}", *overrides]), folder)


def trajectory(run, count):
    """(count, 2) loss and norm of the gradients at each step."""
    run.model.train()
    stream = run.steps()
    figures = []
    for _ in range(count):
        _, questions, micro_batches = next(stream)
        figures.append(optimizer_step(run, micro_batches, questions))
    return torch.stack(figures)


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    AcceleratorState._reset_state(reset_partial_state=True)
    return trajectory(
        started(root, tmp_path_factory.mktemp("whole"), "train.per_device_batch_size=64"), 13
    )


@pytest.mark.parametrize(
    ("size", "checkpointing", "count"),
    [
        (8, "false", 13),  # two epochs and a step
        (8, "true", 7),  # with the short batch at the end of an epoch
        (1, "false", 2),
        pytest.param(8, "true", 13, marks=pytest.mark.slow),
        pytest.param(1, "false", 7, marks=pytest.mark.slow),
        pytest.param(1, "true", 7, marks=pytest.mark.slow),
    ],
)
def test_a_global_batch_is_the_same_however_it_is_cut(
    root, tmp_path, whole, size, checkpointing, count
):
    overrides = (
        f"train.per_device_batch_size={size}",
        f"train.gradient_checkpointing={checkpointing}",
    )
    run = started(root, tmp_path, *overrides)
    assert run.steps_per_epoch == 6 and run.accumulation == 64 // size
    layers = run.model.encoder_layers()["vision"][1:]
    assert {layer.gradient_checkpointing for layer in layers} == {checkpointing == "true"}
    torch.testing.assert_close(trajectory(run, count), whole[:count], rtol=1e-6, atol=0)
    assert run.samples == {2: 2 * 64, 7: 361 + 64, 13: 2 * 361 + 64}[count]


def test_checkpointing_makes_no_deprecated_call_and_runs_before_the_call_was_renamed(recwarn):
    model = VLEForVQA.from_pretrained(str(GOLDEN))
    checkpoint_activations(model)
    assert model.is_gradient_checkpointing or model.is_activation_checkpointing
    assert not [w for w in recwarn if "gradient_checkpointing_enable" in str(w.message)]
    called = []
    checkpoint_activations(SimpleNamespace(gradient_checkpointing_enable=lambda: called.append(1)))
    assert called


def test_no_question_of_an_epoch_is_lost_and_an_empty_part_weighs_nothing(root, tmp_path):
    # 360 of the 361 fill 9 batches of 40; the one that is left is shared out over 8 micro-batches, seven of them empty
    run = started(root, tmp_path, "train.batch_size=40", "train.per_device_batch_size=5")
    stream = run.steps()
    epoch = [next(stream) for _ in range(run.steps_per_epoch)]
    ids = [i for _, _, parts in epoch for part in parts for i in part["ids"]]
    assert run.steps_per_epoch == 10 and len(ids) == len(set(ids)) == 361
    _, count, parts = epoch[-1]
    assert count == 1 and [len(part["ids"]) for part in parts] == [1] + [0] * 7
    collate = partial(
        micro_batch, lambda part: {"ids": list(part), "inputs": len(part)}, np.array([3])
    )
    assert collate(np.array([], int)) == {"ids": [], "inputs": 1} and collate(np.array([5, 6])) == {
        "ids": [5, 6],
        "inputs": 2,
    }
    alone = run.bare_model(**parts[0]["inputs"]).loss.item()
    loss, norm = optimizer_step(run, parts, count).tolist()
    assert loss == pytest.approx(alone, rel=1e-6) and norm > 0


def test_clipping_reports_the_norm_before(root, tmp_path):
    run = started(root, tmp_path)
    weight = next(iter(run.model.parameters()))
    weight.grad = torch.full_like(weight, 2.0)
    expected = 2 * math.sqrt(weight.numel())
    assert clip_gradients(run.accelerator, run.parameters, None).item() == pytest.approx(expected)
    assert torch.equal(
        weight.grad, torch.full_like(weight, 2.0)
    )  # None leaves them as they are, to the bit
    assert clip_gradients(run.accelerator, run.parameters, 1.0).item() == pytest.approx(expected)
    assert weight.grad.norm().item() == pytest.approx(1, rel=1e-4)
    weight.grad[0] = float("nan")
    assert math.isnan(clip_gradients(run.accelerator, run.parameters, None).item())


def test_a_run_that_diverges_keeps_the_last_good_checkpoint(root, tmp_path):
    run = started(
        root, tmp_path, "train.max_steps=6", "train.evaluate_every=3", "train.log_every=50"
    )
    plain, calls = run.optimizer.step, []

    def step():
        calls.append(1)
        if len(calls) == 4:
            with torch.no_grad():
                next(iter(run.model.parameters())).fill_(float("nan"))
        return plain()

    run.optimizer.step = step
    with pytest.raises(
        RunFailed,
        match=r"diverged: loss nan.* at step 5, .*kept: best/, last/, checkpoints/step-00000003/$",
    ):
        fit(run, Stop())
    told = json.loads((tmp_path / "diverged.json").read_text(encoding="utf-8"))
    assert (
        told["step"] == 5
        and len(told["ids"]) == 64
        and told["learning_rate"] == pytest.approx(1e-3 * 2 / 6)
    )
    for name in ("best", "last"):
        assert (
            json.loads((tmp_path / name / "training.json").read_text(encoding="utf-8"))["progress"][
                "step"
            ]
            == 3
        )


def predictions(run, batch_size):
    settings, accelerator = run.input_settings, run.accelerator
    return run.task.predict(
        Inference(
            run.bare_model,
            run.data,
            "test",
            run.processor,
            run.data.labels,
            settings,
            accelerator,
            batch_size,
        )
    )


@pytest.mark.parametrize("batch_size", [1, 7])
def test_scores_do_not_depend_on_the_batch(root, tmp_path, batch_size):
    run = started(root, tmp_path)
    trajectory(run, 3)
    task = load_task("vqa")

    def scored(size):
        rows = predictions(run, size)
        return [row["answer"] for row in rows], task.score(rows, run.data.questions("test"))

    assert scored(batch_size) == scored(64)


def test_bf16_computes_the_loss_in_float32(root, tmp_path, whole, monkeypatch):
    run = started(root, tmp_path, "train.precision=bf16")
    seen = []
    plain = torch.nn.functional.binary_cross_entropy_with_logits

    def loss(logits, labels, **more):
        seen.append((logits.dtype, labels.dtype))
        return plain(logits, labels, **more)

    monkeypatch.setattr(torch.nn.functional, "binary_cross_entropy_with_logits", loss)
    run.bare_model.vle.text_projection_layer.register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    figures = trajectory(run, 2)
    assert seen[:2] == [torch.bfloat16, (torch.float32, torch.float32)]
    assert {p.dtype for p in run.model.parameters()} == {
        torch.float32
    } and figures.dtype == torch.float32
    assert figures[0, 0].item() == pytest.approx(whole[0, 0].item(), rel=2e-2)
    assert figures[0, 0].item() != whole[0, 0].item()


@pytest.mark.parametrize(
    ("precision", "has_amx", "hinted"),
    [("auto", True, True), ("auto", False, False), ("fp32", True, False), ("bf16", True, False)],
)
def test_a_cpu_with_amx_is_told_what_bf16_would_bring(
    root, tmp_path, monkeypatch, capsys, precision, has_amx, hinted
):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    run = started(root, tmp_path, f"train.precision={precision}")
    assert run.accelerator.mixed_precision == ("bf16" if precision == "bf16" else "no")
    announce(run)
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if "train.precision=bf16" in line]
    assert len(lines) == hinted and all("AMX" in line and "as fast" in line for line in lines)


def test_the_start_of_a_run_says_what_graphs_would_bring(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        vle_bench.training.run,
        "faster_with_graphs",
        lambda settings, _, texts: f"{settings.cuda_graphs}, {texts} texts",
    )
    announce(started(root, tmp_path, "train.per_device_batch_size=16"))
    assert "False, 16 texts" in capsys.readouterr().out.splitlines()


def test_evaluation_casts_each_weight_to_bf16_once(root, tmp_path):
    run = started(root, tmp_path, "train.precision=bf16")
    weight = run.bare_model.vle.text_projection_layer.weight
    casts = []

    class Casts(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            if "_to_copy" in str(function) and arguments[0].data_ptr() == weight.data_ptr():
                casts.append(function)
            return function(*arguments, **(options or {}))

    with Casts():
        first = predictions(run, 32)
        assert len(casts) == 1 and len(first) > 64
        # The copies do not outlive an evaluation: weights change in training.
        with torch.no_grad():
            weight.neg_()
        assert predictions(run, 32) != first
    assert len(casts) == 2


def test_tf32_is_a_choice(root, tmp_path):
    for choice, expected in (("true", "high"), ("false", "highest")):
        AcceleratorState._reset_state(reset_partial_state=True)
        started(root, tmp_path, f"train.tf32={choice}")
        assert torch.get_float32_matmul_precision() == expected
        assert torch.backends.cudnn.allow_tf32 == (choice == "true")


def test_texts_are_padded_to_few_lengths():
    ids = torch.ones(2, 3, 17, dtype=torch.long)
    inputs = {"input_ids": ids, "attention_mask": ids, "pixel_values": torch.zeros(1)}
    padded = padded_text(inputs, 50, pad_token_id=9)
    assert padded["input_ids"].shape == (2, 3, 32) and padded["attention_mask"].sum() == ids.sum()
    assert (padded["input_ids"][..., 17:] == 9).all() and padded["pixel_values"].shape == (1,)
    assert (
        padded_text(inputs, 24, 9)["input_ids"].shape[-1] == 24
    )  # never longer than the model takes
    assert padded_text(inputs, 17, 9)["input_ids"].shape[-1] == 17
    assert (
        len(
            {
                padded_text({"input_ids": ids[..., :n]}, 50, 9)["input_ids"].shape[-1]
                for n in range(1, 18)
            }
        )
        == 2
    )


@pytest.mark.slow
def test_layers_of_a_kind_share_their_compiled_code_for_all_batches_of_an_epoch(
    root, tmp_path, whole, monkeypatch
):
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    # what is counted is what torch.compile traces; the code that inductor writes from it takes a minute and adds nothing here
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    run = started(root, tmp_path, "train.compile=true", "train.per_device_batch_size=16")
    torch.testing.assert_close(trajectory(run, 8), whole[:8], rtol=1e-5, atol=0)
    # Four kinds of layers, the two last ones of the fusion, and some where two sizes that were alike at first (16 questions of
    # 16 tokens) no longer are: torch's "duck sizing". Far from the number at which torch goes on without compiling.
    assert counters["stats"]["unique_graphs"] <= 8 and not counters["graph_break"]
    assert torch._dynamo.config.recompile_limit >= 64
    torch._dynamo.reset()


def test_a_training_step_takes_ordered_sums_on_a_gpu_and_nothing_else_does(
    root, tmp_path, monkeypatch
):
    run = started(root, tmp_path, "train.per_device_batch_size=64")
    seen = []

    def note(*_):
        enabled, warns = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        seen.append((enabled, warns, torch.utils.deterministic.fill_uninitialized_memory))

    run.model.register_forward_hook(note)
    trajectory(run, 1)
    monkeypatch.setattr(
        engine, "on_gpu", lambda: True
    )  # the step is still a CPU's, which has to take the setting too
    assert trajectory(run, 1).isfinite().all()
    note()
    assert seen == [(False, False, True), (True, False, False), (False, False, True)]


def test_cublas_is_told_before_the_gpu_is_used(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    engine.order_products()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ  # no GPU, nothing to say
    monkeypatch.setattr(engine, "on_gpu", lambda: True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with pytest.raises(
        RequestError, match="CUBLAS_WORKSPACE_CONFIG=:0:0: .* take :4096:8, or unset it"
    ):
        engine.order_products()
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    engine.order_products()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_the_average_is_what_is_evaluated_and_saved(root, tmp_path):
    run = started(root, tmp_path, "train.max_steps=4", "train.evaluate_every=4", "train.ema=0.5")
    first = {name: p.detach().clone() for name, p in run.bare_model.named_parameters()}
    seen = []
    plain = run.optimizer.step

    def step():
        plain()
        seen.append({name: p.detach().clone() for name, p in run.bare_model.named_parameters()})

    run.optimizer.step = step
    fit(run, Stop())
    expected = first
    for weights in seen:
        expected = {name: 0.5 * expected[name] + 0.5 * weights[name] for name in expected}
    saved = VLEForVQA.from_pretrained(str(tmp_path / "last"))
    for name, parameter in saved.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-5, atol=1e-6)
    assert all(
        torch.equal(p, seen[-1][name]) for name, p in run.bare_model.named_parameters()
    )  # training goes on with its own
    assert (
        json.loads((tmp_path / "last" / "training.json").read_text(encoding="utf-8"))["progress"][
            "ema"
        ]
        == 0.5
    )


def test_an_average_resumes_where_it_was():
    weight = torch.nn.Parameter(torch.zeros(3))
    average = AverageWeights(iter([weight]), 0.9)
    weight.data += 1
    average.update()
    state = average.state_dict()
    torch.testing.assert_close(state["averages"][0], torch.full((3,), 0.1))
    other = AverageWeights(iter([torch.nn.Parameter(torch.zeros(3))]), 0.9)
    other.load_state_dict(state)
    assert torch.equal(other.averages[0], state["averages"][0])


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("place", "call", "state"), [("optimizer_step", 5, 3), ("score_now", 2, 8)]
)
def test_a_run_with_an_average_goes_on_as_if_it_had_not_stopped(
    root, tmp_path, monkeypatch, capsys, place, call, state
):
    """Killed between two states, and in an evaluation, which has the averages in the place of the weights."""
    settings = [
        f"data.root={root}",
        "train.max_steps=8",
        "train.evaluate_every=4",
        "train.checkpoint_every=3",
        "train.ema=0.8",
    ]
    recipe = load_recipe(
        "demo/vqa-tiny",
        [
            *RECIPE,
            *settings,
            "model.config.hidden_dropout_prob=0.1",
            "model.config.attention_probs_dropout_prob=0.1",
        ],
    )
    train(recipe, tmp_path / "whole")
    plain, calls = getattr(vle_bench.training.train, place), []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return plain(*arguments)

    AcceleratorState._reset_state(reset_partial_state=True)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(vle_bench.training.train, place, killed)
        train(recipe, tmp_path / "killed")
    AcceleratorState._reset_state(reset_partial_state=True)
    capsys.readouterr()
    train(recipe, tmp_path / "killed", resume=True)
    assert (
        f"continuing from {tmp_path / 'killed' / 'checkpoints'}/step-{state:08d}"
        in capsys.readouterr().out
    )
    for name in ("best", "last"):
        one, two = (
            (tmp_path / run / name / "model.safetensors").read_bytes()
            for run in ("whole", "killed")
        )
        assert one == two
    one, two = (
        json.loads(
            (tmp_path / r / "checkpoints/step-00000008/progress.json").read_text(encoding="utf-8")
        )
        for r in ("whole", "killed")
    )
    assert (
        all(one[key] == two[key] for key in ("step", "samples", "best", "last", "losses"))
        and one["samples"] == 361 + 2 * 64
    )


def test_what_changes_the_result_is_compared_when_a_run_goes_on():
    recipe = load_recipe("demo/vqa-tiny", []).model_dump(mode="json")
    for key in (
        "tf32=true",
        "layer_decay=0.9",
        "ema=0.9",
        "precision=bf16",
        "compile=true",
        "gradient_checkpointing=true",
    ):
        assert changed_keys(
            recipe, load_recipe("demo/vqa-tiny", [f"train.{key}"]).model_dump(mode="json")
        )[0]


def test_deepspeed_has_no_states_to_go_on_from(tmp_path):
    check_deepspeed(load_recipe("demo/vqa-tiny", []).train)
    with pytest.raises(
        RequestError,
        match="train.checkpoint_every: with DeepSpeed, .*no training state .*take DDP or FSDP2, or null",
    ):
        check_deepspeed(load_recipe("demo/vqa-tiny", ["train.checkpoint_every=5"]).train)
    with pytest.raises(RequestError, match="train.ema: not with DeepSpeed"):
        check_deepspeed(load_recipe("demo/vqa-tiny", ["train.ema=0.9"]).train)
    run = SimpleNamespace(
        accelerator=SimpleNamespace(distributed_type=DistributedType.DEEPSPEED),
        step=5,
        saved_step=0,
    )
    with pytest.raises(
        RequestError,
        match="step-00000005: with DeepSpeed, .*no training state .*or give another --output-dir",
    ):
        restore(run, tmp_path / "step-00000005")  # a state of DDP's
    save_state(run)
    assert run.saved_step == 0
    run.total_steps, run.folder = 9, tmp_path
    assert stopped(run, "by SIGTERM").startswith(
        "stopped by SIGTERM at step 5 of 9; with DeepSpeed"
    )


def test_memory_is_divided_over_what_is_in_shards():
    def of(kind, world, precision="no"):
        return SimpleNamespace(
            num_processes=world, distributed_type=kind, mixed_precision=precision
        )

    assert (
        memory_estimate(100, 100, of(DistributedType.NO, 1), False) == 1600
    )  # weights, gradients, two moments: 4 bytes each
    assert memory_estimate(100, 80, of(DistributedType.MULTI_GPU, 8), True) == 400 + 80 * 16
    assert memory_estimate(100, 100, of(DistributedType.FSDP, 4), False) == 400
    assert memory_estimate(100, 100, of(DistributedType.DEEPSPEED, 4), False) == 400 + 300
    assert (
        memory_estimate(100, 100, of(DistributedType.DEEPSPEED, 4, "bf16"), False)
        == 200 + (200 + 400 + 800) / 4
    )


def test_only_what_no_checkpoint_held_is_new(root, tmp_path):
    run = started(root, tmp_path / "a", "train.max_steps=1")
    assert run.new_parameters == sum(p.numel() for p in run.model.parameters())
    run.bare_model.save_pretrained(tmp_path / "c")
    run.processor.save_pretrained(tmp_path / "c")
    from vle_bench.models.pretrained import load_counting_new

    model, new = load_counting_new(tmp_path / "c", "VLEForVQA")
    assert new == 0
    types = model.config.num_token_types
    model, new = load_counting_new(
        tmp_path / "c", "VLEForVCRQ2A", head_may_be_new=True, num_token_types=types + 3
    )
    head = sum(p.numel() for p in model.head_parameters())
    assert new == head + 3 * model.config.hidden_size


def test_a_tracker_is_given_every_number(root, tmp_path, monkeypatch):
    logged = []
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(accelerator, "log", lambda values, step: logged.append((step, values)))
    from vle_bench.training.train import write_log

    recipe = SimpleNamespace(train=SimpleNamespace(trackers=["tensorboard"]))
    run = SimpleNamespace(accelerator=accelerator, folder=tmp_path, recipe=recipe, step=7)
    write_log(run, {"step": 7, "loss": 0.5, "split": "val"})
    assert logged == [(7, {"step": 7, "loss": 0.5})]
    assert json.loads((tmp_path / "log.jsonl").read_text(encoding="utf-8")) == {
        "step": 7,
        "loss": 0.5,
        "split": "val",
    }


def test_tensorboard_reads_what_a_run_wrote(root, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = [
        f"data.root={root}",
        "train.max_steps=2",
        "train.trackers=[tensorboard]",
        "train.evaluate_every=2",
    ]
    train(load_recipe("demo/vqa-tiny", [*RECIPE, *settings]), tmp_path)
    files = [
        Path(folder) / name
        for folder, _, names in os.walk(tmp_path)
        for name in names
        if name.startswith("events.out")
    ]
    found = events.EventAccumulator(str(next(f for f in files if f.stat().st_size > 500)))
    found.Reload()
    logged = [
        json.loads(line)
        for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [e.value for e in found.Scalars("loss")] == pytest.approx(
        [e["loss"] for e in logged if "loss" in e]
    )
    assert [e.step for e in found.Scalars("accuracy")] == [2]


def test_recorded_passes_train_as_plain_ones(root, tmp_path, whole, monkeypatch):
    """The recorder runs the passes again on its held inputs, as a graph does."""
    recorded = []

    def record(run_pass, inputs):
        recorded.append(inputs["input_ids"].shape)
        weight, loss = torch.ones(()), torch.zeros(())
        return Recording(lambda: loss.copy_(run_pass(inputs, weight)), inputs, weight, loss)

    monkeypatch.setattr(graphs, "CudaRecorder", lambda: record)
    monkeypatch.setattr(engine, "check_graphs", lambda _: None)
    run = started(root, tmp_path, "train.cuda_graphs=true", "train.per_device_batch_size=16")
    torch.testing.assert_close(trajectory(run, 8), whole[:8], rtol=1e-5, atol=0)
    assert recorded and all(tokens % TEXT_MULTIPLE == 0 for _, tokens in recorded)
