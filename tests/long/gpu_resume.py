"""Runs in processes of their own: a run that is killed and resumed, and FSDP2 on one device."""

import hashlib
import json
import os
import signal
import time
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.tensor import DTensor

from tests.long.gpu_setting import (
    Report,
    Setting,
    new_model,
    optimizer_of,
    recorder,
    small_config,
    vcr_batch,
)
from vle_bench import atomic
from vle_bench.training import checkpoints, engine
from vle_bench.training.graphs import Pass, RecordedPasses

SAVED, STEPS = 6, 12
CONTEXT = get_context("forkserver")
PLAIN, COMPILED = "as training runs", "as training runs, compiled"
GRAPHED = "as training runs, CUDA graphs"
LAYOUTS = 3  # different batches, so that recorded passes come again


def start_server() -> None:
    """Import what the processes need while the first parts run: each is a fork of one that has
    it all and no device.
    """
    from multiprocessing import forkserver

    CONTEXT.set_forkserver_preload([__name__])
    forkserver.ensure_running()


def started(work: Callable[..., None], folder: Path, *arguments: Any) -> Any:
    process = CONTEXT.Process(target=guarded, args=(work, folder, *arguments), daemon=True)
    process.start()
    return process


def guarded(work: Callable[..., None], folder: Path, *arguments: Any) -> None:
    """In the process: an error goes to a file that `result` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        work(folder, *arguments)
    except BaseException:
        atomic.write_json(folder / "result.json", {"error": traceback.format_exc()})
        raise


def result(folder: Path) -> dict[str, Any]:
    """What a process left; a RuntimeError with the last line of its error."""
    file = folder / "result.json"
    found: dict[str, Any] = (
        json.loads(file.read_text(encoding="utf-8"))
        if file.is_file()
        else {"error": "it ended without a result"}
    )
    if "error" in found:
        print(found["error"], flush=True)
        raise RuntimeError(found["error"].strip().splitlines()[-1])
    return found


def wait_for(
    setting: Setting, condition: Callable[[], bool], processes: list[Any], what: str
) -> None:
    while not condition():
        if setting.left < 0:
            raise TimeoutError(f"{what}: the part's time is over")
        if any(process.exitcode for process in processes):
            return
        time.sleep(0.02)


def model_config(tiny: bool, dropout: float = 0.1) -> Any:
    """Small, with the kernels of VLE-base: heads of 64, 577 image tokens, dropout, shared
    pictures, objects.
    """
    return (
        small_config(32, 32, 8, 200, dropout) if tiny else small_config(256, 384, 16, 2000, dropout)
    )


def set_up(device: str) -> Accelerator:
    engine.order_products()
    torch.set_num_threads(1)  # sums on a CPU round by the number of threads
    return Accelerator(mixed_precision="bf16", cpu=device == "cpu")


def train(accelerator: Accelerator, tiny: bool, folder: Path, role: str, mode: str) -> str:
    """A run of 12 steps; `killed`: saves after 6 and goes on until somebody ends it; `resumed`:
    goes on from there.

    Returns:
        SHA-256 of all weights.
    """
    config = model_config(tiny)
    model = new_model("VLEForVCRQ2A", config, accelerator.device)
    optimizer, schedule = optimizer_of(model)
    model, optimizer = engine.prepare(accelerator, model, optimizer, mode == COMPILED)
    passes: Pass = partial(engine.forward_backward, accelerator, model, 1)
    if mode == GRAPHED:
        record = recorder(accelerator.device.type == "cuda")
        passes = RecordedPasses(passes, list(model.parameters()), record)
    torch.manual_seed(1)
    step = 0
    if role == "resumed":
        path, _ = checkpoints.newest(folder)
        if path is None:
            raise RuntimeError(f"{folder}: no whole training state was left")
        checkpoints.put_back(path, accelerator, model, optimizer, schedule, None)
        step = checkpoints.read_progress(path)["step"]
    model.train()
    while step < STEPS or role == "killed":
        batch = vcr_batch(config, 4, step % LAYOUTS, device=accelerator.device)
        batch["image_index"] = torch.tensor([0, 0, 1, 2], device=accelerator.device)
        batch["pixel_values"] = batch["pixel_values"][:3]
        learn(accelerator, model, passes, optimizer, schedule, batch)
        step += 1
        if role == "killed" and step == SAVED:
            weights, state = checkpoints.gather(accelerator, model, optimizer, schedule, None)
            checkpoints.write_state(folder, weights, state, {"step": step}, keep=1)
        if role == "killed" and step == SAVED + 2:
            (folder / "on-its-way").touch()
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode() + weight.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@engine.deterministic()
def learn(
    accelerator: Accelerator,
    model: Any,
    passes: Pass,
    optimizer: Any,
    schedule: Any,
    batch: dict[str, Any],
) -> None:
    """One step, with what `vle_bench.training.train.optimizer_step` calls."""
    passes(batch, 1.0)
    engine.clip_gradients(accelerator, list(model.parameters()), 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad(set_to_none=not isinstance(passes, RecordedPasses))


def run(folder: Path, device: str, tiny: bool, mode: str, role: str, states: Path) -> None:
    accelerator = set_up(device)
    modes = [mode] * (2 if role == "whole" else 1) + [PLAIN] * (role == "whole" and mode == GRAPHED)
    digests = [train(accelerator, tiny, states, role, one) for one in modes]
    atomic.write_json(folder / "result.json", {"digests": digests})


def resume(setting: Setting, report: Report) -> None:
    with TemporaryDirectory() as root:
        in_mode(setting, report, PLAIN, Path(root))


def resume_compiled(setting: Setting, report: Report) -> None:
    with TemporaryDirectory() as root:
        in_mode(setting, report, COMPILED, Path(root))


def resume_graphs(setting: Setting, report: Report) -> None:
    with TemporaryDirectory() as root:
        in_mode(setting, report, GRAPHED, Path(root))


def in_mode(setting: Setting, report: Report, mode: str, folder: Path) -> None:
    """A run twice in one process, and one that is killed after it saved and resumed in another
    process.
    """
    states = folder / "states"
    states.mkdir()
    processes: list[Any] = []

    def start(role: str) -> Any:
        arguments = (setting.device.type, setting.tiny, mode, role, states)
        processes.append(started(run, folder / role, *arguments))
        return processes[-1]

    try:
        whole, killed = start("whole"), start("killed")
        mark = states / "on-its-way"
        wait_for(setting, mark.exists, [killed], f"the run to kill, {mode}")
        os.kill(killed.pid, signal.SIGKILL)
        killed.join()
        if not mark.exists():
            result(folder / "killed")
        resumed = start("resumed")
        wait_for(
            setting, lambda: not (whole.is_alive() or resumed.is_alive()), [], f"the runs, {mode}"
        )
        tell(report, mode, result(folder / "whole"), result(folder / "resumed"))
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()


def tell(report: Report, mode: str, whole: dict[str, Any], resumed: dict[str, Any]) -> None:
    """The run as users have it must end with the same bytes, compiled too: contract of the run
    folder.
    """
    twice = whole["digests"][0] == whole["digests"][1]
    same = resumed["digests"][0] == whole["digests"][0]
    words = {True: "the same bytes", False: "OTHER bytes"}
    text = f"killed and resumed: {words[same]}; whole run twice: {words[twice]}"
    plain = True
    if mode == GRAPHED:
        plain = whole["digests"][2] == whole["digests"][0]
        text += f"; without graphs: {words[plain]}"
    report.row(
        mode,
        text,
        ok=same and plain,
        equal_after_resume=same,
        equal_twice=twice,
    )


def sharded(folder: Path, device: str, tiny: bool) -> None:
    """Loss and gradients of one pass, plain and with Accelerate's FSDP2 over one process."""
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
        "NCCL_SOCKET_IFNAME": "lo",
    }
    torch.set_num_threads(1)
    kind = torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")
    if device == "cuda":
        torch.cuda.set_device(kind)
    torch.distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=torch.distributed.HashStore(),
        rank=0,
        world_size=1,
    )
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    config = model_config(tiny, dropout=0.0)
    config.text_config.attention_probs_dropout_prob = 0.0
    batch = vcr_batch(config, 4, 0, device=kind)
    plain = new_model("VLEForVCRQ2A", config, kind).train()
    losses, gradients = passed(plain, batch)
    model = new_model("VLEForVCRQ2A", config, kind).train()
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        reshard_after_forward=True,
        cpu_ram_efficient_loading=False,
    )
    if device == "cpu":
        say_sharded(plugin)
    accelerator = Accelerator(fsdp_plugin=plugin, cpu=device == "cpu")
    optimizer, _ = optimizer_of(model)
    model, _ = engine.prepare(accelerator, model, optimizer, False)
    if not all(isinstance(p, DTensor) for p in model.parameters()):
        raise RuntimeError("the weights are not in shards")
    own_losses, own = passed(model, batch)
    found = {"loss": losses[0], "loss_fsdp2": own_losses[0]}
    # some gradients are 0 but for rounding, those of the keys' biases
    worst = max(
        ((own[name] - value).norm() / (value.norm() + 1e-4)).item()
        for name, value in gradients.items()
    )
    atomic.write_json(
        folder / "result.json", found | {"worst_gradient": worst, "gradients": len(gradients)}
    )
    torch.distributed.destroy_process_group()


def say_sharded(plugin: Any) -> None:
    """On CPUs Accelerate 1.15 takes DDP whatever it is told (see tests/miniature/fsdp_on_cpu.py)."""
    plain = AcceleratorState.__init__

    def init(self: Any, *arguments: Any, fsdp_plugin: Any = None, **more: Any) -> None:
        plain(self, *arguments, fsdp_plugin=fsdp_plugin, **more)
        self.distributed_type = PartialState._shared_state["distributed_type"] = (
            DistributedType.FSDP
        )
        self.fsdp_plugin = plugin

    AcceleratorState.__init__ = init  # type: ignore[method-assign]


def passed(model: Any, batch: dict[str, Any]) -> tuple[list[float], dict[str, torch.Tensor]]:
    loss = model(**batch).loss
    loss.backward()
    whole = {
        name: p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    return [loss.item()], {
        name.replace("_orig_mod.", ""): value.detach().clone() for name, value in whole.items()
    }


def fsdp(setting: Setting, report: Report) -> None:
    with TemporaryDirectory() as root:
        process = started(sharded, Path(root) / "fsdp", setting.device.type, setting.tiny)
        try:
            wait_for(setting, lambda: not process.is_alive(), [], "FSDP2")
        finally:
            if process.is_alive():
                process.kill()
        found = result(Path(root) / "fsdp")
    off = abs(found["loss"] - found["loss_fsdp2"])
    report.row(
        "loss and gradients beside plain",
        f"loss off by {off:.1e}, {found['gradients']} gradients by at most {found['worst_gradient']:.1e}",
        ok=off <= 1e-5 and found["worst_gradient"] <= 1e-4,
        **found,
    )
