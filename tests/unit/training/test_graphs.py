"""Recorded passes with a recorder that works without a GPU: the same numbers, and what is recorded when."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn

from vle_bench.errors import RequestError, RunFailed
from vle_bench.recipe.load import load_recipe
from vle_bench.training import graphs
from vle_bench.training.graphs import (
    Pass,
    RecordedPasses,
    Recording,
    check_graphs,
)
from vle_bench.training.run import faster_with_graphs


class Recorder:
    """Runs the pass again on the held inputs, as a graph would."""

    def __init__(self) -> None:
        self.recorded: list[dict[str, torch.Size]] = []
        self.replays = 0

    def __call__(self, run_pass: Pass, inputs: dict[str, Tensor]) -> Recording:
        self.recorded.append({name: value.shape for name, value in inputs.items()})
        weight, loss = torch.ones(()), torch.full((), torch.nan)

        def replay() -> None:
            self.replays += 1
            loss.copy_(run_pass(inputs, weight))

        return Recording(replay, inputs, weight, loss)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))


def run_pass(of: nn.Module, inputs: dict[str, Tensor], weight: float | Tensor) -> Tensor:
    share: Tensor = of(inputs["x"]).square().mean() * weight
    share.backward()
    return share.detach()


def steps(of: nn.Module, passes: Any, zero: Callable[[], None]) -> list[list[Tensor]]:
    """Three steps of two micro-batches: their losses and the gradients."""
    torch.manual_seed(1)
    figures = []
    for step in range(3):
        losses = [
            passes({"x": torch.full((rows, 3), float(step + rows))}, 1 / rows) for rows in (2, 5)
        ]
        figures.append([*losses, *(p.grad.clone() for p in of.parameters())])
        zero()
    return figures


def test_recorded_passes_give_the_same_losses_and_gradients_as_plain_ones() -> None:
    plain, recorded, record = model(), model(), Recorder()
    passes = RecordedPasses(partial(run_pass, recorded), list(recorded.parameters()), record)
    expected = steps(plain, partial(run_pass, plain), plain.zero_grad)
    found = steps(recorded, passes, lambda: recorded.zero_grad(set_to_none=False))
    for one, other in zip(expected, found, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)
    # The first step runs plainly, the second records, the third finds both layouts.
    assert record.recorded == [{"x": torch.Size([2, 3])}, {"x": torch.Size([5, 3])}]
    assert record.replays == 4


def test_a_loss_that_was_returned_outlives_the_next_pass() -> None:
    of, record = model().eval(), Recorder()
    passes = RecordedPasses(partial(run_pass, of), list(of.parameters()), record)
    losses = [passes({"x": torch.full((2, 3), float(n))}, 1.0) for n in range(4)]
    assert len({loss.item() for loss in losses}) == 4 and record.replays == 3


def test_another_type_or_name_is_another_layout_and_their_number_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)
    weight, record = nn.Parameter(torch.ones(())), Recorder()

    def passed(inputs: dict[str, Tensor], share: float | Tensor) -> Tensor:
        loss = sum(value.float().sum() for value in inputs.values()) * weight * share
        loss.backward()
        return loss.detach()

    passes = RecordedPasses(passed, [weight], record)
    x = torch.ones(2)
    for inputs in ({"x": x}, {"x": x.double()}, {"y": x}):
        assert [passes(inputs, 1.0).item() for _ in range(3)] == [2.0, 2.0, 2.0]
    assert len(record.recorded) == 2 and record.replays == 4
    assert weight.grad is not None and weight.grad.item() == 18.0


def test_gradients_that_were_thrown_away_are_noticed() -> None:
    of = model()
    passes = RecordedPasses(partial(run_pass, of), list(of.parameters()), Recorder())
    for _ in range(2):
        passes({"x": torch.ones(2, 3)}, 1.0)
    of.zero_grad(set_to_none=True)
    with pytest.raises(RuntimeError, match="gradients are not where"):
        passes({"x": torch.ones(2, 3)}, 1.0)


@pytest.mark.parametrize(
    ("device", "kind", "why"),
    [
        ("cpu", DistributedType.NO, "needs an NVIDIA GPU"),
        ("cuda", DistributedType.MULTI_GPU, "one process on one GPU only"),
        ("cuda", DistributedType.FSDP, "without FSDP2"),
        ("cuda", DistributedType.DEEPSPEED, "DeepSpeed"),
    ],
)
def test_where_it_was_not_made_for_it_is_refused(
    device: str, kind: DistributedType, why: str
) -> None:
    accelerator: Any = SimpleNamespace(device=torch.device(device), distributed_type=kind)
    with pytest.raises(RequestError, match=f"^train.cuda_graphs: .*{why}"):
        check_graphs(accelerator)


def test_one_process_on_a_gpu_is_fine() -> None:
    accelerator: Any = SimpleNamespace(
        device=torch.device("cuda"), distributed_type=DistributedType.NO
    )
    check_graphs(accelerator)


@pytest.mark.parametrize(
    ("device", "kind", "precision", "changes", "texts", "hinted"),
    [
        ("cuda", DistributedType.NO, "bf16", [], 32, True),
        ("cuda", DistributedType.NO, "bf16", [], 128, False),
        ("cuda", DistributedType.NO, "no", [], 32, False),
        ("cuda", DistributedType.NO, "bf16", ["train.cuda_graphs=true"], 32, False),
        ("cuda", DistributedType.NO, "bf16", ["train.compile=true"], 32, False),
        ("cuda", DistributedType.NO, "bf16", ["train.gradient_checkpointing=true"], 32, False),
        ("cuda", DistributedType.MULTI_GPU, "bf16", [], 32, False),
        ("cpu", DistributedType.NO, "bf16", [], 32, False),
    ],
)
def test_one_gpu_is_told_what_graphs_would_bring(
    device: str,
    kind: DistributedType,
    precision: str,
    changes: list[str],
    texts: int,
    hinted: bool,
) -> None:
    accelerator: Any = SimpleNamespace(
        device=torch.device(device), distributed_type=kind, mixed_precision=precision
    )
    settings = load_recipe("demo/vqa-tiny", changes).train
    hint = faster_with_graphs(settings, accelerator, texts)
    assert bool(hint) == hinted and "\n" not in hint
    assert ("train.cuda_graphs=true" in hint) == hinted


def test_a_pass_that_cannot_be_recorded_ends_the_run_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", SimpleNamespace)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool, capture_error_mode: nullcontext())

    def waits(inputs: dict[str, Tensor], weight: float | Tensor) -> Tensor:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    with pytest.raises(RunFailed) as raised:
        graphs.CudaRecorder()(waits, {"x": torch.ones(2)})
    assert str(raised.value) == (
        "train.cuda_graphs: a pass cannot be recorded: operation not permitted when stream is "
        "capturing; train.cuda_graphs=false"
    )


@pytest.mark.parametrize(
    "other", ["train.compile=true", "train.gradient_checkpointing=true", "train.precision=fp16"]
)
def test_what_cannot_be_recorded_is_refused(other: str) -> None:
    with pytest.raises(RequestError, match=f"train.cuda_graphs: not with {other}; "):
        load_recipe("demo/vqa-tiny", ["train.cuda_graphs=true", other])


def test_it_changes_the_rounding_of_a_run_and_not_the_experiment() -> None:
    plain, graphed = (
        load_recipe("demo/vqa-tiny", [f"train.cuda_graphs={value}"]) for value in ("false", "true")
    )
    assert plain.experiment == graphed.experiment and plain.hash != graphed.hash
    assert plain.hash == load_recipe("demo/vqa-tiny").hash
