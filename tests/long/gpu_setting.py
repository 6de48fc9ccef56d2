"""What the parts of `make gpu-check` share: the device, the time that is left, models, batches,
one training step.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vle_bench import models
from vle_bench.models import SIZES, VLEConfig
from vle_bench.training import engine
from vle_bench.training.graphs import CudaRecorder, Pass, Recorder, Recording
from vle_bench.training.optim import learning_rate_schedule, parameter_groups

GOLDEN = Path(__file__).parents[1] / "golden"
MEDIUM = 256  # width of the models that are small but use the same kernels as VLE-base
MAX_TEXT = {
    "vqa": 50,
    "vcr": 80,
}  # tokens, as in recipes/vqa/vle-base.yaml and recipes/vcr/vle-base-q2a.yaml
ANSWERS = 3129  # of VQA v2 (METER)
QUESTIONS_PER_PICTURE = (5, 6, 5, 6, 5)  # 5.4 on average, as in VQA v2
CHOICES, OBJECTS = 4, 3
CPU = torch.device("cpu")
TOKENS = {
    "vqa": (7, 18),
    "vcr": (20, 56),
}  # shortest and longest text that is drawn, special tokens included


class TimeIsUp(BaseException):
    """A part has used its time. Not an Exception, so that nothing on the way takes it for a
    failure of its own.
    """


@dataclass
class Report:
    """What one part has to say: rows for the table, which are printed at once too, and figures
    for the JSON file.
    """

    name: str
    started: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    status: str = "done"
    seconds: float = 0.0

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:6.1f} s] {self.name}: {text}", flush=True)

    def row(self, label: str, text: str, ok: bool | None = None, **figures: Any) -> None:
        """Args: ok: whether a check holds; None for a measurement."""
        self.rows.append({"label": label, "text": text, "ok": ok, **figures})
        self.say(f"{label}: {text}{'' if ok is None else ' ok' if ok else ' FAILED'}")


@dataclass
class Setting:
    device: torch.device
    tiny: bool
    deadline: float = 0.0  # of the part that runs, by time.monotonic()
    peaks: dict[str, float] = field(
        default_factory=dict
    )  # FLOP/s by precision, measured by the part `peak`

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def left(self) -> float:
        """Seconds of the part that runs."""
        return self.deadline - time.monotonic()

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def autocast(self, dtype: torch.dtype = torch.bfloat16) -> Any:
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32)


@contextmanager
def exact_products(tf32: bool = False) -> Iterator[None]:
    """float32 products in float32, or in TF32; afterwards as before."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def base_config(tiny: bool, pixels: int = 384) -> VLEConfig:
    """VLE-base as the recipes train it; `tiny`: its smallest likeness."""
    labels = {"id2label": {i: str(i) for i in range(ANSWERS)}, "num_token_types": 2 + 2 * OBJECTS}
    if tiny:
        return small_config(32, 32, 8, 200) if pixels == 384 else small_config(32, pixels, 8, 200)
    values = {**SIZES["vle-base"], **labels}
    values["vision_config"] = {**values["vision_config"], "image_size": pixels}
    return VLEConfig(**values)


def small_config(
    width: int, pixels: int, patch: int, vocabulary: int, dropout: float = 0.1
) -> VLEConfig:
    """Two layers of everything, dropout everywhere that the published sizes have it."""
    text: dict[str, Any] = {
        **SIZES["vle-base"]["text_config"],
        "vocab_size": vocabulary,
        "hidden_dropout_prob": dropout,
    }
    text["attention_probs_dropout_prob"] = dropout
    heads = max(2, width // 64)
    size = {
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
    }
    return VLEConfig(
        text_config={**text, **size},
        vision_config={**size, "image_size": pixels, "patch_size": patch},
        **size,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        num_token_types=2 + 2 * OBJECTS,
        id2label={i: str(i) for i in range(17)},
    )


def new_model(architecture: str, config: VLEConfig, device: torch.device) -> Any:
    """Random weights, the same for the same configuration and device."""
    torch.manual_seed(0)
    with torch.device(device):
        model = getattr(models, architecture)(config)
    return model.to(device)


def vqa_batch(
    config: VLEConfig,
    questions: int,
    seed: int,
    shared: bool,
    longest: bool = False,
    device: torch.device = CPU,
) -> dict[str, Tensor]:
    """On `device`: questions with soft targets; 5.4 of them look at each picture where they are
    `shared`, else one.

    Args:
        longest: one text has as many tokens as may be drawn.
    """
    rng = torch.Generator().manual_seed(seed)
    counts, index = list(QUESTIONS_PER_PICTURE if shared else (1,)), []
    while len(index) < questions:
        picture = index[-1] + 1 if index else 0
        index += [picture] * counts[picture % len(counts)]
    index = index[:questions]
    inputs = texts(config, (questions,), "vqa", rng, longest)
    labels: Tensor = torch.zeros(questions, len(config.id2label or {}))
    labels[torch.arange(questions), torch.randint(labels.shape[1], (questions,), generator=rng)] = (
        1.0
    )
    inputs |= {"image_index": torch.tensor(index), "labels": labels}
    return on_device(inputs, device) | {
        "pixel_values": pictures(config, index[-1] + 1, rng, device)
    }


def vcr_batch(
    config: VLEConfig, questions: int, seed: int, longest: bool = False, device: torch.device = CPU
) -> dict[str, Tensor]:
    """On `device`: questions of four answers each, one picture a question, with objects."""
    rng = torch.Generator().manual_seed(seed)
    inputs = texts(config, (questions, CHOICES), "vcr", rng, longest)
    types = torch.randint(config.num_token_types, inputs["input_ids"].shape, generator=rng)
    shape = (questions, CHOICES, OBJECTS)
    inputs |= {
        "token_type_ids": types.clamp(max=4).where(types != 1, 0) * inputs["attention_mask"],
        "image_index": torch.arange(questions),
        "object_patch_mask": torch.rand(*shape, config.num_patches, generator=rng) < 0.1,
        "object_token_type_ids": torch.arange(OBJECTS).expand(shape) + 2,
        "object_mask": torch.ones(shape, dtype=torch.long),
        "labels": torch.randint(CHOICES, (questions,), generator=rng),
    }
    return on_device(inputs, device) | {"pixel_values": pictures(config, questions, rng, device)}


def texts(
    config: VLEConfig, shape: tuple[int, ...], kind: str, rng: torch.Generator, longest: bool
) -> dict[str, Tensor]:
    low, high = TOKENS[kind]
    lengths = torch.randint(low, high + 1, shape, generator=rng)
    if longest:
        lengths.view(-1)[0] = high
    width = int(lengths.max())
    ids = torch.randint(10, config.text_config.vocab_size, (*shape, width), generator=rng)
    mask = (torch.arange(width) < lengths[..., None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def pictures(config: VLEConfig, count: int, rng: torch.Generator, device: torch.device) -> Tensor:
    """Eight random pictures again and again: thousands would take longer to draw than to
    compute with.
    """
    size = config.vision_config.image_size
    drawn = torch.rand(min(count, 8), 3, size, size, generator=rng) * 4 - 2
    return drawn.to(device)[torch.arange(count, device=device) % len(drawn)]


def on_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def optimizer_of(model: Any) -> tuple[torch.optim.Optimizer, Any]:
    """As a recipe for VLE-base sets it up."""
    groups = parameter_groups(model, 7e-6, 50, 5, 0.01)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-8, fused=True)
    return optimizer, learning_rate_schedule(optimizer, "linear", 10_000, 0.1)


def training_step(
    setting: Setting,
    model: Any,
    optimizer: Any,
    schedule: Any,
    inputs: dict[str, Tensor],
    ordered: bool = True,
    recorded: Pass | None = None,
) -> Tensor:
    """Forward, backward, clipping, AdamW, schedule, as `vle_bench.training.train.optimizer_step`; the
    loss, on the device.

    Args:
        ordered: with the kernels that training takes, which add up in one order; else with
            torch's fastest.
        recorded: runs the passes, as `train.cuda_graphs` does.
    """
    with engine.deterministic() if ordered else nullcontext():
        loss = recorded(inputs, 1.0) if recorded else forward_backward(setting, model, inputs, 1.0)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=recorded is None)
    return loss


def forward_backward(
    setting: Setting, model: Any, inputs: Mapping[str, Tensor], weight: float | Tensor
) -> Tensor:
    """As `vle_bench.training.engine.forward_backward`, without Accelerate."""
    with setting.autocast():
        loss = model(**inputs).loss
    share: Tensor = loss * weight
    share.backward()
    return share.detach()


def recorder(on_gpu: bool) -> Recorder:
    """Record CUDA graphs; without a GPU, run the pass again on its held inputs."""

    def again(run_pass: Pass, inputs: dict[str, Tensor]) -> Recording:
        weight, loss = torch.ones(()), torch.zeros(())
        return Recording(lambda: loss.copy_(run_pass(inputs, weight)), inputs, weight, loss)

    return CudaRecorder() if on_gpu else again


@torch.no_grad()
def evaluation_step(setting: Setting, model: Any, inputs: dict[str, Tensor]) -> Tensor:
    with setting.autocast():
        logits: Tensor = model(
            **{name: value for name, value in inputs.items() if name != "labels"}
        ).logits
    return logits


def seconds_each(
    setting: Setting, work: Callable[[int], Any], seconds: float, warm_up: int = 2
) -> float:
    """Seconds of one call of `work(number)`, over as many as fit into `seconds`, without waits
    between them.
    """
    for number in range(warm_up):
        work(number)
    setting.wait()
    started = time.perf_counter()
    work(warm_up)
    setting.wait()
    count = min(
        100,
        max(1 if setting.tiny else 3, round(seconds / max(time.perf_counter() - started, 1e-6))),
    )
    started = time.perf_counter()
    for number in range(count):
        work(number)
    setting.wait()
    return (time.perf_counter() - started) / count


def forget(setting: Setting) -> None:
    """Give the memory of what is no longer used back to the device."""
    gc.collect()
    if setting.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def no_memory(error: RuntimeError) -> bool:
    """Whether the device, or a library of it, had no memory left."""
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in str(error)
        or "ALLOC_FAILED" in str(error)
    )


def one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
