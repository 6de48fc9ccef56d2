"""A training run: its parts, how it is built from a recipe, and the lines that describe it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType, set_seed
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from vle_bench.data.collate import Batch, padded_text
from vle_bench.data.prepared import PreparedData
from vle_bench.evaluation.environment import device_name, on_gpu, precision_name
from vle_bench.evaluation.pretraining import pretraining_of, say_mixed
from vle_bench.json_files import JsonObject
from vle_bench.models.base import TrainableModel
from vle_bench.recipe.schema import Recipe, TrainGroup
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Settings, Task
from vle_bench.tasks.catalogue import CATALOGUE
from vle_bench.training import engine, feed
from vle_bench.training.graphs import Pass, RecordedPasses
from vle_bench.training.model import Built, model_of
from vle_bench.training.optim import (
    AverageWeights,
    learning_rate_schedule,
    parameter_groups,
    warmup_steps,
)

MIB = 2**20
# Texts of a micro-batch, up to which the processor bounded a step of VLE-base on an H200, roughly:
# it took 0.25 s to start the kernels, the device 2.5 ms for a text of VQA; docs/speed.md.
FEW_TEXTS = 100


@dataclass(kw_only=True)
class Run(feed.Feed):
    """A training run: the feed of its recipe, and the model with optimizer and progress.

    Args:
        accumulation: micro-batches that each process accumulates for one global batch.
        stage_steps: number of steps in the first stage of the data; 0 for none.
        pixels_note: why stores of the data are not used.
        average: moving average of the weights, if the recipe wants one.
        new_parameters: number of parameters that no checkpoint held.
        samples: number of questions trained on.
        started: start by `time.monotonic`, earlier by the time that a resumed run took before.
        losses: of the steps since the last line of the log.
        sums: since then, of the model's own figures: numerators, then denominators.
        saved_step: step of the newest training state.
        log_bytes: size of log.jsonl when that was saved.
    """

    folder: Path
    accelerator: Accelerator
    model: nn.Module
    optimizer: AcceleratedOptimizer
    schedule: LambdaLR
    accumulation: int
    steps_per_epoch: int
    total_steps: int
    stage_steps: int
    pixels_note: str = ""
    average: AverageWeights | None = None
    new_parameters: int = 0
    step: int = 0
    samples: int = 0
    best: float = -1.0
    last: float = -1.0
    training_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    losses: list[float] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)
    saved_step: int = 0
    log_bytes: int = 0

    @property
    def bare_model(self) -> Any:
        """The trainable model without the wrappers of Accelerate and torch.compile."""
        model: Any = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        return model

    @cached_property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters, in the order of the model."""
        return list(self.model.parameters())

    @cached_property
    def forward_backward(self) -> Pass:
        """The passes over a micro-batch, recorded if the recipe says so."""
        plain = partial(engine.forward_backward, self.accelerator, self.model, self.accumulation)
        return RecordedPasses(plain, self.parameters) if self.recipe.train.cuda_graphs else plain

    @cached_property
    def pretraining(self) -> list[JsonObject]:
        """The trainings that the recipe's checkpoint comes from."""
        checkpoint = self.recipe.model.checkpoint
        return [] if checkpoint is None else pretraining_of(Path(checkpoint))

    def steps(self, start: int = 0) -> Iterator[feed.Step]:
        """Load this process's part of the steps from `start` on, without end."""
        accelerator = self.accelerator
        return self.load_steps(
            accumulation=self.accumulation,
            stage_steps=self.stage_steps,
            start=start,
            pinned=accelerator.device.type == "cuda",
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        )

    def model_inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Move the tensors of a micro-batch to the device.

        Texts are padded to fewer lengths if passes are compiled or recorded.
        """
        inputs = batch["inputs"]
        if self.recipe.train.pads_texts:
            pad_token_id = self.processor.tokenizer.pad_token_id
            inputs = padded_text(inputs, self.input_settings["max_text_length"], pad_token_id)
        device = self.accelerator.device
        return {name: value.to(device, non_blocking=True) for name, value in inputs.items()}


def build(
    recipe: Recipe,
    folder: Path,
    build_model: Callable[[Recipe, Task, PreparedData], Built] | None = None,
) -> Run:
    """Open the data and build model, optimizer and schedule of a recipe.

    Args:
        build_model: replaces `model_of`.

    Raises:
        RequestError: the recipe does not fit the data, the checkpoint or the hardware.
    """
    train = recipe.train
    accelerator = engine.accelerator_for(train, folder)
    engine.leave_cores(accelerator, train.num_workers)
    set_seed(train.seed)
    task = load_task(recipe.task)
    data = feed.open_data(recipe, task)
    task = task.for_data(data)
    mix = feed.mix_of(recipe, task, data)
    questions = (mix or data).questions(recipe.data.train)
    model, processor, new_parameters = (build_model or model_of)(recipe, task, data)
    input_settings = checked_settings(recipe, task, model.num_token_types, data, mix)
    recipe = engine.with_number(recipe, model, accelerator)
    accumulation = engine.share_out(accelerator, recipe.train)
    pixels, pixels_note = feed.pixels_of(recipe, data, processor)
    if train.gradient_checkpointing:
        engine.checkpoint_activations(model)
    optimizer = adamw(recipe, model)
    wrapped, optimizer = engine.prepare(accelerator, model, optimizer, train.compile)
    if accelerator.num_processes > 1:
        # All processes have the same weights now. With one seed they would drop the same units.
        set_seed(train.seed, device_specific=True)
    steps_per_epoch, total_steps, stage_steps = feed.lengths(recipe, task, questions)
    schedule = learning_rate_schedule(
        optimizer, train.schedule, total_steps, train.warmup_fraction, restart=stage_steps
    )
    return Run(
        recipe=recipe,
        task=task,
        data=data,
        questions=questions,
        processor=processor,
        input_settings=input_settings,
        pixels=pixels,
        mix=mix,
        pixels_note=pixels_note,
        folder=folder,
        accelerator=accelerator,
        model=wrapped,
        optimizer=optimizer,
        schedule=schedule,
        accumulation=accumulation,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        stage_steps=stage_steps,
        average=AverageWeights(wrapped.parameters(), train.ema) if train.ema else None,
        new_parameters=new_parameters,
    )


def checked_settings(
    recipe: Recipe, task: Task, num_token_types: int, data: PreparedData, mix: PreparedData | None
) -> Settings:
    """Return `Task.input_settings`; raises RequestError for examples that they cannot represent."""
    input_settings = task.input_settings(recipe.model.model_dump(), num_token_types)
    task.check(mix or data, recipe.data.train, input_settings)
    for split in {recipe.data.evaluate, recipe.data.report}:
        task.check(data, split, input_settings)
    return input_settings


def adamw(recipe: Recipe, model: TrainableModel) -> torch.optim.AdamW:
    """Create the optimizer with the learning rates of a recipe."""
    train = recipe.train
    groups = parameter_groups(
        model,
        train.learning_rate,
        train.lr_mult_head,
        train.lr_mult_cross_modal,
        train.weight_decay,
        train.layer_decay,
    )
    return torch.optim.AdamW(groups, betas=train.betas, eps=train.eps, fused=True)


def announce(run: Run) -> None:
    """Print a summary of the run before it starts."""
    recipe, accelerator = run.recipe, run.accelerator
    train, world = recipe.train, accelerator.num_processes
    parameters = list(run.bare_model.parameters())
    total = sum(p.numel() for p in parameters)
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    kind = {
        DistributedType.NO: "",
        DistributedType.FSDP: ", FSDP2",
        DistributedType.DEEPSPEED: ", DeepSpeed",
    }.get(accelerator.distributed_type, ", DDP")
    precision = precision_name(accelerator.mixed_precision)
    memory = engine.memory_estimate(total, trainable, accelerator, train.ema is not None)
    print(
        f"{recipe.name} ({recipe.hash}) on {world} × {device_name(accelerator)}, {precision}{kind}"
    )
    print(
        f"model: {total:,} parameters, {trainable:,} trainable, {run.new_parameters:,} new; data: "
        f"{len(run.questions):,} {'pairs' if run.task.name == 'pretrain' else 'questions'} of "
        f"{recipe.data.train} in {run.training_data.root}"
    )
    print(
        f"batch {train.batch_size} = {world} process{'es' * (world > 1)} × {run.accumulation} "
        f"micro-batch{'es' * (run.accumulation > 1)} × {train.micro_batch}; "
        f"{run.total_steps} steps, {warmup_steps(run.total_steps, train.warmup_fraction)} of them "
        f"warm-up; run folder {run.folder}"
    )
    if run.mix:
        for split in dict.fromkeys((recipe.data.evaluate, recipe.data.report)):
            parts = [data for data, _ in run.mix.parts]
            say_mixed(parts, recipe.data.train, run.data, split, say=True)
    if run.pixels or run.pixels_note:
        print(f"pixels: {f'from {run.pixels.folder}' if run.pixels else run.pixels_note}")
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        print(engine.NO_STATES)
    texts = CATALOGUE[recipe.task].texts * train.micro_batch
    for hint in (
        faster_on_cpu(train.precision),
        faster_with_graphs(train, accelerator, texts),
    ):
        if hint:
            print(hint)
    if train.compile:
        print(
            "compiling with the first steps, which takes minutes; "
            "signals wait for the end of a step"
            + "; on a CPU it made steps 1.09 times as fast at most, so train.compile=false"
            * (accelerator.device.type == "cpu")
        )
    print(
        f"memory: {memory / MIB:,.0f} MiB a device for weights, gradients"
        f"{', averages' * bool(train.ema)} and optimiser states; activations, autocast's copies of "
        "the weights and buffers come on top",
        flush=True,
    )


def faster_on_cpu(choice: str) -> str:
    """Say what bf16 would bring where `auto` takes fp32 on a CPU with AMX; else an empty string.

    `auto` stays fp32 there, so that the same recipe gives the same scores on CPUs without it.
    """
    if choice != "auto" or on_gpu() or not torch.cpu._is_amx_tile_supported():
        return ""
    # The factors: VLE-base at 224 and 384 pixels, VQA and VCR, two cores; docs/speed.md.
    return (
        "precision: auto is fp32 on a CPU; this one has AMX, where train.precision=bf16 made "
        "VLE-base 1.4 to 1.8 times as fast in training and 1.8 to 2.9 times in evaluation; small "
        "models may lose: `vle-bench bench RECIPE` measures both"
    )


def faster_with_graphs(settings: TrainGroup, accelerator: Accelerator, texts: int) -> str:
    """Say what `train.cuda_graphs` would bring where it is off and may pay; else an empty string.

    It stays off unless asked for: it pads texts, which rounds sums otherwise, and it takes memory
    that a run may not have.

    Args:
        texts: of a micro-batch.
    """
    others = settings.cuda_graphs or settings.compile or settings.gradient_checkpointing
    one_gpu = accelerator.device.type == "cuda" and (
        accelerator.distributed_type == DistributedType.NO
    )
    if others or not one_gpu or accelerator.mixed_precision != "bf16" or texts > FEW_TEXTS:
        return ""
    return (
        "small micro-batches leave a fast GPU idle: train.cuda_graphs=true made training of "
        "VLE-base 2.8 to 4.2 times as fast on an H200, with 1.3 to 1.5 times the memory"
    )


def summary(run: Run) -> str:
    """Describe the scores on `data.evaluate` and the times, those before a resume included."""
    seconds = time.monotonic() - run.started
    rate = run.samples / max(run.training_seconds, 1e-9)
    best = f"best {100 * run.best:.2f}, " if run.recipe.train.selection == "best" else ""
    return (
        f"{run.recipe.data.evaluate}: {best}last {100 * run.last:.2f}; "
        f"{seconds:.0f} s in all, {run.training_seconds:.0f} s of them training, "
        f"{rate:.1f} samples/s"
    )
