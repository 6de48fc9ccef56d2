"""What a run holds, and how it is built from a recipe."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from vle_bench import models
from vle_bench.data.prepared import check_labelled
from vle_bench.errors import RequestError
from vle_bench.models import pretrained
from vle_bench.models.vle.convert.converted import few, not_finite
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.recipe.preflight import wrong_targets
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Data, Task
from vle_bench.training import engine
from vle_bench.training.optim import AverageWeights, learning_rate_schedule, parameter_groups


@dataclass
class Run:
    """What one training run holds."""

    recipe: Recipe
    folder: Path
    accelerator: Accelerator
    task: Task
    data: Data
    questions: Any
    labels: list[str]
    model: Any
    processor: Any
    optimizer: torch.optim.Optimizer
    schedule: Any
    accumulation: int
    steps_per_epoch: int
    total_steps: int
    stage_steps: int  # of them in the first stage
    inputs: dict[str, Any]  # see Task.inputs
    average: AverageWeights | None = None
    new_parameters: int = 0  # of a head or of rows that no checkpoint held
    step: int = 0
    samples: int = 0  # trained on
    best: float = -1.0
    last: float = -1.0
    training_seconds: float = 0.0
    started: float = field(
        default_factory=time.monotonic
    )  # moved back by what the run took before it was resumed
    losses: list[float] = field(default_factory=list)  # of the steps since the last line of the log
    saved_step: int = 0  # of the newest training state
    log_bytes: int = 0  # of log.jsonl then

    @property
    def bare_model(self) -> Any:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)


ModelBuilder = Callable[[Recipe, Task, Data], tuple[Any, Any, int]]  # see `model_of`


def build(recipe: Recipe, folder: Path, build_model: ModelBuilder | None = None) -> Run:
    """Data, model, optimiser and schedule of a recipe.

    Args:
        build_model: in the place of `model_of`.
    """
    accelerator, accumulation = engine.accelerator_for(recipe, folder)
    if (
        accelerator.device.type == "cpu"
    ):  # torch's threads and the loading processes would take the same cores from each other
        torch.set_num_threads(
            max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) - recipe.train.num_workers))
        )
    set_seed(recipe.train.seed)
    task = load_task(recipe.task)
    data = task.open(Path(recipe.data.root))
    questions = data.questions(recipe.data.train)
    for split in (recipe.data.train, recipe.data.evaluate, recipe.data.report):
        check_labelled(data, split)
    if problem := wrong_targets(recipe.data, data.manifest.targets):
        raise RequestError(problem)
    model, processor, new_parameters = (build_model or model_of)(recipe, task, data)
    inputs = task.inputs(recipe.model.model_dump(), model.config.num_token_types)
    for split in {recipe.data.train, recipe.data.evaluate, recipe.data.report}:
        task.check(data, split, inputs)
    if recipe.train.gradient_checkpointing:
        checkpoint_activations(model)
    groups = parameter_groups(
        model,
        recipe.train.learning_rate,
        recipe.train.lr_mult_head,
        recipe.train.lr_mult_cross_modal,
        recipe.train.weight_decay,
        recipe.train.layer_decay,
    )
    optimizer = torch.optim.AdamW(
        groups, betas=recipe.train.betas, eps=recipe.train.eps, fused=True
    )
    model, optimizer = engine.prepare(accelerator, model, optimizer, recipe.train.compile)
    if (
        accelerator.num_processes > 1
    ):  # one seed for all gave them the same weights; one each, else they drop the same units
        set_seed(recipe.train.seed, device_specific=True)
    average = AverageWeights(model.parameters(), recipe.train.ema) if recipe.train.ema else None
    usable = len(task.training_order(questions, recipe.train.seed, 0, 1))
    steps_per_epoch = math.ceil(usable / recipe.train.batch_size)
    if not steps_per_epoch:
        raise RequestError(f"data.train: {recipe.data.train} has no questions to learn from")
    total_steps = recipe.train.max_steps or math.ceil(recipe.train.epochs * steps_per_epoch)
    stage_steps = (
        round(recipe.data.first_stage.fraction * total_steps) if recipe.data.first_stage else 0
    )
    schedule = learning_rate_schedule(
        optimizer,
        recipe.train.schedule,
        total_steps,
        recipe.train.warmup_fraction,
        restart=stage_steps,
    )
    return Run(
        recipe,
        folder,
        accelerator,
        task,
        data,
        questions,
        data.labels,
        model,
        processor,
        optimizer,
        schedule,
        accumulation,
        steps_per_epoch,
        total_steps,
        stage_steps,
        inputs,
        average,
        new_parameters,
    )


def checkpoint_activations(model: Any) -> None:
    """Recompute activations in the backward pass. transformers 5.23 renamed the call; 5.20 has the old name only."""
    enable = (
        getattr(model, "activation_checkpointing_enable", None)
        or model.gradient_checkpointing_enable
    )
    enable()


def model_of(recipe: Recipe, task: Task, data: Data) -> tuple[Any, Any, int]:
    """From a checkpoint folder, or from scratch with a tokenizer trained on the training split.

    Returns:
        The model, the processor, and how many parameters no checkpoint held.
    """
    label_maps: dict[str, Any] = {}
    if data.labels:
        label_maps = {
            "id2label": dict(enumerate(data.labels)),
            "label2id": {a: i for i, a in enumerate(data.labels)},
        }
    if recipe.model.checkpoint is not None:
        folder = pretrained.resolve(Path(recipe.model.checkpoint))
        if data.labels and not recipe.model.new_head:
            refuse_other_answers(folder, data)
        model, new = pretrained.load_counting_new(
            folder,
            task.architecture,
            head_may_be_new=True,
            new_head=recipe.model.new_head,
            image_size=recipe.model.image_size,
            num_token_types=pretrained.at_least_token_types(folder, task.num_token_types),
            **label_maps,
        )
        if damaged := not_finite(model.named_parameters()):
            raise RequestError(
                f"{folder}: weights that are not finite (NaN or infinite): {few(damaged)}"
            )
        processor = pretrained.load_processor(folder, recipe.model.image_size, recipe.model.resize)
        processor.patch_size = model.config.vision_config.patch_size
        return model, processor, new
    assert recipe.model.config is not None  # the schema asks for a checkpoint or a config
    tokenizer = task.tokenizer(data, recipe.data.train, recipe.model.tokenizer.vocab_size)
    values = dict(recipe.model.config)
    values["text_config"] = {
        **values["text_config"],
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
    }
    values["vision_config"] = {**values["vision_config"], "image_size": recipe.model.image_size}
    model = getattr(models, task.architecture)(models.VLEConfig(**values, **label_maps))
    processor = VLEProcessor.from_parts(
        tokenizer,
        recipe.model.image_size,
        model.config.vision_config.patch_size,
        recipe.model.resize or "squash",
    )
    return model, processor, sum(p.numel() for p in model.parameters())


def refuse_other_answers(folder: Path, data: Data) -> None:
    """A checkpoint's trained head must answer with the answers that the data was prepared with."""
    answers = pretrained.own_answers(folder)
    if answers is not None and answers != data.labels:
        raise RequestError(
            f"{folder}: its {len(answers)} answers are not the {len(data.labels)} of {data.root}: start with a fresh head "
            f"(model.new_head: true), or prepare the data with --label-map {folder}/config.json"
        )
