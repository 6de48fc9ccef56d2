"""A training run: what it holds, how it is built from a recipe, and how it describes itself."""

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
from transformers import PreTrainedTokenizerBase

from vle_bench import models
from vle_bench.data.collate import Batch, padded_text
from vle_bench.data.prepared import PreparedData
from vle_bench.errors import RequestError, few
from vle_bench.evaluation.other_models import recognised
from vle_bench.evaluation.precision import device_name, faster_on_cpu, precision_name
from vle_bench.model_families import FAMILIES, VLE, module_of
from vle_bench.models import pretrained
from vle_bench.models.base import TrainableModel
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Settings, Task
from vle_bench.tasks.catalogue import CATALOGUE
from vle_bench.training import engine, feed, reader
from vle_bench.training.graphs import Pass, RecordedPasses, faster_with_graphs
from vle_bench.training.micro_batch import with_number
from vle_bench.training.optim import (
    AverageWeights,
    learning_rate_schedule,
    parameter_groups,
    warmup_steps,
)

MIB = 2**20

# A trainable model, its processor, and how many of its parameters no checkpoint held.
Built = tuple[Any, Any, int]


@dataclass(kw_only=True)
class Run(feed.Feed):
    """A training run: what its recipe feeds, and the model that learns from it.

    Args:
        accumulation: micro-batches that each process accumulates for one global batch.
        stage_steps: number of steps in the first stage of the data; 0 for none.
        pixels_note: why stores of the data are not used.
        average: moving average of the weights, if the recipe wants one.
        new_parameters: number of parameters that no checkpoint held.
        samples: number of questions trained on.
        started: start by `time.monotonic`, earlier by the time that a resumed run took before.
        losses: of the steps since the last line of the log.
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
    accelerator, _ = engine.accelerator_for(train, folder)
    engine.leave_cores(accelerator, train.num_workers)
    set_seed(train.seed)
    task = load_task(recipe.task)
    data = feed.open_data(recipe, task)
    task = task.for_data(data)
    mix = feed.mix_of(recipe, task, data)
    questions = (mix or data).questions(recipe.data.train)
    model, processor, new_parameters = (build_model or model_of)(recipe, task, data)
    input_settings = checked_settings(recipe, task, model.num_token_types, data, mix)
    recipe = with_number(recipe, model, accelerator)
    accumulation = engine.share_out(accelerator, recipe.train)
    pixels, pixels_note = feed.pixels_of(recipe, data, processor)
    if train.gradient_checkpointing:
        engine.checkpoint_activations(model)
    optimizer = adamw(recipe, model)
    wrapped, optimizer = engine.prepare(accelerator, model, optimizer, train.compile)
    if accelerator.num_processes > 1:
        # All have the same weights now. With one seed they would go on to drop the same units.
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


def model_of(recipe: Recipe, task: Task, data: PreparedData) -> Built:
    """Load the model of a recipe from its checkpoint, or build it from scratch.

    A model from scratch gets a tokenizer that is trained on the training split.

    Returns:
        The model, the processor, and how many parameters no checkpoint held.
    """
    if recipe.model.checkpoint is not None:
        refuse_other_family(pretrained.resolve(Path(recipe.model.checkpoint)), recipe.model.family)
    if recipe.model.family != VLE:
        return of_family(recipe, task, data)
    if recipe.model.checkpoint is not None:
        return from_checkpoint(recipe, task, data, Path(recipe.model.checkpoint))
    return from_config(recipe, task, *reader.from_scratch(recipe, task, data))


def from_config(
    recipe: Recipe, task: Task, config: VLEConfig, tokenizer: PreTrainedTokenizerBase
) -> Built:
    """Build a model with random weights."""
    model = getattr(models, task.architecture)(config)
    processor = reader.new_processor(recipe, config, tokenizer)
    return model, processor, sum(p.numel() for p in model.parameters())


def from_checkpoint(recipe: Recipe, task: Task, data: PreparedData, checkpoint: Path) -> Built:
    """Load a model from a checkpoint or run folder, with a new head where it has none."""
    folder, wanted = pretrained.resolve(checkpoint), recipe.model
    # A head of another kind is left out, whatever its answers.
    if data.labels and not wanted.new_head and may_hold(folder, task.architecture):
        refuse_other_answers(folder, data)
    model, new = pretrained.load_counting_new(
        folder,
        task.architecture,
        head_may_be_new=True,
        new_head=wanted.new_head,
        image_size=wanted.image_size,
        num_token_types=pretrained.at_least_token_types(folder, task.num_token_types),
        **reader.head_settings(recipe, data),
    )
    refuse_damaged(folder, model)
    return model, reader.saved_processor(recipe, folder, model.config), new


def of_family(recipe: Recipe, task: Task, data: PreparedData) -> Built:
    """Load or build a model that is not VLE; see `model_of`."""
    wanted, module = recipe.model, module_of(recipe.model.family)
    processor = reader.processor_of_family(recipe, task, data)
    if wanted.checkpoint is None:
        model = module.from_scratch(
            wanted.config, data.labels, processor.tokenizer, wanted.image_size
        )
        return model, processor, sum(p.numel() for p in model.parameters())
    folder = pretrained.resolve(Path(wanted.checkpoint))
    if not wanted.new_head:
        refuse_other_answers(folder, data)
    model, new = module.as_start(folder, data.labels, wanted.new_head, wanted.dropout)
    refuse_damaged(folder, model)
    return model, processor, new


def refuse_other_family(folder: Path, family: str) -> None:
    """Refuse a checkpoint of another family than the recipe's, or one that is not trained here."""
    own, _ = recognised(folder)
    if own in (None, family):
        return  # loading says what is wrong with an unknown one
    title = FAMILIES[own].title
    way = (
        f"model.family: {own} fine-tunes it"
        if FAMILIES[own].trained
        else "it is scored here, not trained"
    )
    raise RequestError(f"{folder}: of {title}, and the recipe's model.family is {family}; {way}")


def refuse_damaged(folder: Path, model: nn.Module) -> None:
    """Refuse weights that are not finite."""
    if damaged := pretrained.not_finite(model.named_parameters()):
        raise RequestError(
            f"{folder}: weights that are not finite (NaN or infinite): {few(damaged)}"
        )


def may_hold(folder: Path, architecture: str) -> bool:
    """Tell whether a checkpoint may have the head of an architecture, by its configuration."""
    saved = pretrained.read_json(folder / "config.json").get("architectures")
    return not saved or architecture in saved


def refuse_other_answers(folder: Path, data: PreparedData) -> None:
    """Refuse a trained head whose answers are not those that the data were prepared with."""
    answers = pretrained.own_answers(folder)
    if answers is not None and answers != data.labels:
        raise RequestError(
            f"{folder}: its {len(answers)} answers are not the {len(data.labels)} of {data.root}: "
            "start with a fresh head (model.new_head: true), or prepare the data with "
            f"--label-map {folder}/config.json"
        )


def announce(run: Run) -> None:
    """Print what is about to run."""
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
        f"{len(run.questions):,} questions of {recipe.data.train} in {run.training_data.root}"
    )
    print(
        f"batch {train.batch_size} = {world} process{'es' * (world > 1)} × {run.accumulation} "
        f"micro-batch{'es' * (run.accumulation > 1)} × {train.micro_batch}; "
        f"{run.total_steps} steps, {warmup_steps(run.total_steps, train.warmup_fraction)} of them "
        f"warm-up; run folder {run.folder}"
    )
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
        )
    print(
        f"memory: {memory / MIB:,.0f} MiB a device for weights, gradients"
        f"{', averages' * bool(train.ema)} and optimiser states; activations, autocast's copies of "
        "the weights and buffers come on top",
        flush=True,
    )


def summary(run: Run) -> str:
    """Scores on the split that picks the checkpoint, and times, before a resume included."""
    seconds = time.monotonic() - run.started
    rate = run.samples / max(run.training_seconds, 1e-9)
    return (
        f"{run.recipe.data.evaluate}: best {100 * run.best:.2f}, last {100 * run.last:.2f}; "
        f"{seconds:.0f} s in all, {run.training_seconds:.0f} s of them training, "
        f"{rate:.1f} samples/s"
    )
