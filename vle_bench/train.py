"""The one training loop."""

import importlib.util
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch.utils.data import DataLoader

from vle_bench import atomic, checkpoint, engine, models
from vle_bench.announce import describe, summary
from vle_bench.average import AverageWeights
from vle_bench.errors import RequestError, RunFailed
from vle_bench.evaluate import EVALUATION_BATCH_SIZE, check_labelled, check_labels, evaluate_checkpoint, predict
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.optim import learning_rate_schedule, parameter_groups
from vle_bench.progress import Bar
from vle_bench.recipe import Recipe
from vle_bench.results import Record
from vle_bench.splits import names
from vle_bench.tasks import TASKS, Data, Task


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

    @property
    def bare_model(self) -> Any:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)


def train(recipe: Recipe, folder: Path) -> Record:
    """Fine-tune as the recipe says; writes the run folder and returns the record of the `data.report` split."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        held = "holds another run" if (folder / "recipe.yaml").is_file() else "is there and not an empty folder"
        raise RequestError(f"{folder}: {held}; give --output-dir a new folder, or remove this one")
    refuse_unbuilt(recipe)
    started = time.monotonic()
    run = build(recipe, folder)
    first_stage(run, epoch=0)  # what it refuses is refused before anything is written
    if run.accelerator.is_main_process:
        atomic.write_text(folder / "recipe.yaml", recipe.to_yaml())
        describe(run)
    run.accelerator.wait_for_everyone()
    fit(run)
    record = evaluate_checkpoint(
        folder, Path(recipe.data.root), recipe.data.report,
        folder / "results" / f"{run.task.name}.{recipe.data.report}.json", accelerator=run.accelerator,
    )  # fmt: skip
    if run.accelerator.is_main_process:
        print(summary(run, time.monotonic() - started), flush=True)
    run.accelerator.end_training()
    return record


def refuse_unbuilt(recipe: Recipe) -> None:
    """A key that this version reads and cannot honour stops the run; passing over it would be a wrong number."""
    unbuilt = {
        "train.checkpoint_every": recipe.train.checkpoint_every is not None,
    }
    if missing := [name for name in recipe.train.trackers if importlib.util.find_spec(name) is None]:
        raise RequestError(f"train.trackers: {', '.join(missing)}: not installed; pip install 'vle-bench[tracking]'")
    if names := [name for name, asked in unbuilt.items() if asked]:
        raise RequestError(f"{recipe.name}: {', '.join(names)}: not in this version yet; the recipe cannot be run as it says")


def build(recipe: Recipe, folder: Path) -> Run:
    """Data, model, optimiser and schedule of a recipe."""
    accelerator, accumulation = engine.accelerator_for(recipe, folder)
    if accelerator.device.type == "cpu":  # torch's threads and the loading processes would take the same cores from each other
        torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) - recipe.train.num_workers)))
    set_seed(recipe.train.seed)
    task = TASKS[recipe.task]
    data = task.open(Path(recipe.data.root))
    questions = data.questions(recipe.data.train)
    for split in (recipe.data.train, recipe.data.evaluate, recipe.data.report):
        check_labelled(data, split)
    model, processor, new_parameters = build_model(recipe, task, data)
    inputs = task.inputs(recipe.model.model_dump(), model.config.num_token_types)
    for split in {recipe.data.train, recipe.data.evaluate, recipe.data.report}:
        task.check(data, split, inputs)
    if recipe.train.gradient_checkpointing:
        checkpoint_activations(model)
    groups = parameter_groups(
        model, recipe.train.learning_rate, recipe.train.lr_mult_head, recipe.train.lr_mult_cross_modal,
        recipe.train.weight_decay, recipe.train.layer_decay,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(groups, betas=recipe.train.betas, eps=recipe.train.eps, fused=True)
    model, optimizer = engine.prepare(accelerator, model, optimizer, recipe.train.compile)
    if accelerator.num_processes > 1:  # one seed for all gave them the same weights; one each, else they drop the same units
        set_seed(recipe.train.seed, device_specific=True)
    average = AverageWeights(model.parameters(), recipe.train.ema) if recipe.train.ema else None
    usable = len(task.training_order(questions, recipe.train.seed, 0, 1))
    steps_per_epoch = math.ceil(usable / recipe.train.batch_size)
    if not steps_per_epoch:
        raise RequestError(f"data.train: {recipe.data.train} has no questions to learn from")
    total_steps = recipe.train.max_steps or math.ceil(recipe.train.epochs * steps_per_epoch)
    stage_steps = round(recipe.data.first_stage.fraction * total_steps) if recipe.data.first_stage else 0
    if recipe.train.trackers:  # last, so that a run that is refused leaves none behind
        accelerator.init_trackers("vle-bench", config={"recipe": recipe.name, "hash": recipe.hash})
    schedule = learning_rate_schedule(
        optimizer, recipe.train.schedule, total_steps, recipe.train.warmup_fraction, restart=stage_steps
    )
    return Run(
        recipe, folder, accelerator, task, data, questions, data.labels, model, processor, optimizer, schedule,
        accumulation, steps_per_epoch, total_steps, stage_steps, inputs, average, new_parameters,
    )  # fmt: skip


def checkpoint_activations(model: Any) -> None:
    """Recompute activations in the backward pass. transformers 5.23 renamed the call; 5.20 has the old name only."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()


def build_model(recipe: Recipe, task: Task, data: Data) -> tuple[Any, Any, int]:
    """From a checkpoint folder, or from scratch with a tokenizer trained on the training split.

    Returns:
        The model, the processor, and how many parameters no checkpoint held.
    """
    label_maps: dict[str, Any] = {}
    if data.labels:
        label_maps = {"id2label": dict(enumerate(data.labels)), "label2id": {a: i for i, a in enumerate(data.labels)}}
    if recipe.model.checkpoint is not None:
        folder = checkpoint.resolve(Path(recipe.model.checkpoint))
        if data.labels and (folder / "label_map.json").exists():
            check_labels(checkpoint.load_labels(folder), data)
        model, new = checkpoint.load_counting_new(
            folder, task.architecture, head_may_be_new=True, image_size=recipe.model.image_size,
            num_token_types=checkpoint.at_least_token_types(folder, task.num_token_types), **label_maps,
        )  # fmt: skip
        processor = checkpoint.load_processor(folder, recipe.model.image_size)
        processor.patch_size = model.config.vision_config.patch_size
        return model, processor, new
    assert recipe.model.config is not None  # the schema asks for a checkpoint or a config
    tokenizer = task.tokenizer(data, recipe.data.train, recipe.model.tokenizer.vocab_size)
    values = dict(recipe.model.config)
    values["text_config"] = {
        **values["text_config"], "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    values["vision_config"] = {**values["vision_config"], "image_size": recipe.model.image_size}
    model = getattr(models, task.architecture)(models.VLEConfig(**values, **label_maps))
    processor = VLEProcessor.from_parts(tokenizer, recipe.model.image_size, model.config.vision_config.patch_size)
    return model, processor, sum(p.numel() for p in model.parameters())


def epoch_batches(run: Run, epoch: int, stage: np.ndarray | None) -> list[list[np.ndarray]]:
    """The global batches of an epoch, each as its micro-batches for all processes in turn.

    A function of (seed, epoch) and the batch layout. The epoch's last batch may be short, and then some of its micro-batches
    may be empty: no question is left out, and a global batch holds the same questions however it is shared out.

    Args:
        stage: (questions,) bool, which questions take part; None: all.
    """
    settings, data = run.recipe.train, run.recipe.data
    per_image = 1 if data.grouping == "question" else data.questions_per_image or len(run.questions)
    order = run.task.training_order(run.questions, settings.seed, epoch, per_image)
    if stage is not None:
        order = order[stage[order]]
    parts = run.accumulation * run.accelerator.num_processes
    batches = [order[start : start + settings.batch_size] for start in range(0, len(order), settings.batch_size)]
    return [np.array_split(batch, parts) for batch in batches]


TEXT_MULTIPLE = 16  # tokens; a power of two that keeps the shapes of a compiled model few


def micro_batch(collate: Callable[[np.ndarray], dict[str, Any]], stand_in: np.ndarray, part: np.ndarray) -> dict[str, Any]:
    """Collate a part of a global batch.

    An empty part becomes a stand-in without ids, which weighs nothing in the loss: every process has to make as many passes
    as the others, which wait for it to add up the gradients.
    """
    return collate(part) if len(part) else {**collate(stand_in), "ids": []}


def padded_text(inputs: dict[str, torch.Tensor], longest: int, pad_token_id: int) -> dict[str, torch.Tensor]:
    """Texts padded to a multiple of `TEXT_MULTIPLE` tokens, at most `longest`; (..., T) each."""
    length = inputs["input_ids"].shape[-1]
    more = max(length, min(math.ceil(length / TEXT_MULTIPLE) * TEXT_MULTIPLE, longest)) - length
    fill = {"input_ids": pad_token_id, "attention_mask": 0, "token_type_ids": 0}
    return inputs | {
        name: torch.nn.functional.pad(inputs[name], (0, more), value=value) for name, value in fill.items() if name in inputs
    }


def first_stage(run: Run, epoch: int) -> np.ndarray | None:
    """(questions,) bool, which questions the first stage sees in this epoch."""
    stage, data = run.recipe.data.first_stage, run.recipe.data
    if stage is None:
        return None
    try:
        return run.task.first_stage(run.questions, stage.question_types, stage.other_share, run.recipe.train.seed, epoch)
    except ValueError as error:
        raise RequestError(f"data.first_stage.question_types: {data.train} in {data.root}: {error}") from error


Step = tuple[int, int, list[dict[str, Any]]]  # epoch, questions in the global batch, this process's micro-batches


def steps(run: Run) -> Iterator[Step]:
    """Collated steps, for ever: the first stage's, then those of all questions."""
    recipe, world, rank = run.recipe, run.accelerator.num_processes, run.accelerator.process_index
    done = 0
    for epoch in itertools.count():
        in_stage = done < run.stage_steps
        batches = epoch_batches(run, epoch, first_stage(run, epoch) if in_stage else None)
        if in_stage:
            batches = batches[: run.stage_steps - done]
        augment = run.task.augmentation(recipe.augment.model_dump(), recipe.train.seed, epoch)
        collate = run.task.collator(run.questions, run.data.images, run.processor, run.labels, run.inputs, augment)
        mine: Any = [part for batch in batches for part in batch[rank::world]]
        collate = partial(micro_batch, collate, batches[-1][0][:1])
        loaded = iter(DataLoader(mine, batch_size=None, collate_fn=collate, num_workers=recipe.train.num_workers))
        for batch in batches:
            yield epoch, sum(map(len, batch)), [next(loaded) for _ in range(run.accumulation)]
        done += len(batches)


def fit(run: Run) -> None:
    """Optimiser steps until `total_steps`, with logging, evaluation and the best and last checkpoints."""
    settings = run.recipe.train
    evaluate_every = settings.evaluate_every or run.steps_per_epoch
    pending: list[tuple[int, list[int], torch.Tensor]] = []  # (step, ids, loss) since the last check
    started, seconds_before, questions = time.monotonic(), run.training_seconds, 0
    run.model.train()
    stream = steps(run)
    with Bar(f"train {run.recipe.name}", run.total_steps, enabled=run.accelerator.is_main_process) as bar:
        while run.step < run.total_steps:
            epoch, count, micro_batches = next(stream)
            loss = optimizer_step(run, micro_batches, count)
            run.step += 1
            questions += count
            pending.append((run.step, [i for batch in micro_batches for i in batch["ids"]], loss))
            evaluating = run.step % evaluate_every == 0 or run.step == run.total_steps
            text = ""
            if evaluating or run.step % settings.log_every == 0:
                value = checked_loss(run, pending)
                seconds = time.monotonic() - started
                run.training_seconds = seconds_before + seconds
                text = log_training(run, epoch, value, questions / seconds)
            bar.advance(text=text)
            if evaluating:
                with run.average.in_place() if run.average else nullcontext():
                    evaluate_and_save(run)
                started, seconds_before, questions = time.monotonic(), run.training_seconds, 0


def optimizer_step(run: Run, micro_batches: list[dict[str, Any]], count: int) -> torch.Tensor:
    """One optimiser step over a global batch of `count` questions.

    Returns:
        (2,): this process's part of the mean loss, and the norm of all gradients; on the device, which nobody waits for.
    """
    accelerator, settings = run.accelerator, run.recipe.train
    total = torch.zeros((), device=accelerator.device)
    accelerator.step = 0  # its count of micro-batches; it would go on from another number of processes after --resume
    for batch in micro_batches:
        inputs = batch["inputs"]
        if settings.compile:
            inputs = padded_text(inputs, run.inputs["max_text_length"], run.processor.tokenizer.pad_token_id)
        inputs = {name: value.to(accelerator.device, non_blocking=True) for name, value in inputs.items()}
        with accelerator.accumulate(run.model):  # gradients are added up over processes in the last of them only
            with accelerator.autocast():
                loss = run.model(**inputs).loss
            # Each question weighs the same, short last batches too. DDP averages over processes, hence their number.
            share = loss * (len(batch["ids"]) / count * accelerator.num_processes)
            accelerator.backward(share * run.accumulation)  # which divides by it
        total += share.detach()
    norm = engine.clip_gradients(accelerator, run.model, settings.max_grad_norm)
    run.optimizer.step()
    run.schedule.step()
    run.optimizer.zero_grad(set_to_none=True)
    if run.average is not None:
        run.average.update()
    run.samples += count
    return torch.stack([total, norm])


def checked_loss(run: Run, pending: list[tuple[int, list[int], torch.Tensor]]) -> float:
    """The mean loss of the steps since the last check; stops the run at the first that is not finite.

    Looking at every loss at once keeps the device from waiting for the host at each step. Nothing is saved without a look.
    """
    if not pending:
        return float("nan")
    figures = run.accelerator.reduce(torch.stack([figures for _, _, figures in pending]), reduction="mean").tolist()
    for (step, ids, _), (loss, norm) in zip(pending, figures, strict=True):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            diverged(run, step, sorted(gather_object(list(ids))), loss, norm)
    pending.clear()
    return sum(loss for loss, _ in figures) / len(figures)


def diverged(run: Run, step: int, ids: list[Any], loss: float, norm: float) -> None:
    """Stop the run; best/ and last/ stay as they were before."""
    rates = zip(run.schedule.base_lrs, run.schedule.lr_lambdas, strict=True)
    learning_rate = max(rate * factor(step - 1) for rate, factor in rates)
    shown = ", ".join(map(str, ids[:8])) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    kept = [f"{name}/" for name in ("best", "last") if (run.folder / name).is_dir()]
    if run.accelerator.is_main_process:
        entry = {"step": step, "learning_rate": learning_rate, "loss": str(loss), "gradient_norm": str(norm), "ids": ids}
        atomic.write_json(run.folder / "diverged.json", entry)
    raise RunFailed(
        f"diverged: loss {loss}, gradient norm {norm} at step {step}, learning rate {learning_rate:.3g}; the examples of that "
        f"step: {shown} (all in {run.folder / 'diverged.json'}); " + (f"kept: {', '.join(kept)}" if kept else "nothing saved")
    )


def write_log(run: Run, entry: dict[str, Any]) -> None:
    if run.accelerator.is_main_process:
        with open(run.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(entry) + "\n")
    if run.recipe.train.trackers:
        run.accelerator.log({k: v for k, v in entry.items() if isinstance(v, float | int)}, step=run.step)


def log_training(run: Run, epoch: int, loss: float, samples_per_second: float) -> str:
    learning_rate = max(run.schedule.get_last_lr())
    write_log(run, {
        "step": run.step, "epoch": epoch, "loss": round(loss, 6), "lr": learning_rate,
        "samples_per_second": round(samples_per_second, 1), "seconds": round(run.training_seconds, 2),
    })  # fmt: skip
    return f"loss {loss:.4f}  lr {learning_rate:.1e}  {samples_per_second:.0f} questions/s"


def evaluate_and_save(run: Run) -> None:
    """Score the `data.evaluate` split; `last/` is replaced, `best/` too where the score is the best so far."""
    recipe, model = run.recipe, run.bare_model
    rows = predict(
        model, run.processor, run.task, run.data, recipe.data.evaluate, run.labels, accelerator=run.accelerator,
        batch_size=EVALUATION_BATCH_SIZE, inputs=run.inputs,
    )  # fmt: skip
    metrics = run.task.score(rows, run.data.questions(recipe.data.evaluate))["metrics"]
    score = run.last = metrics[run.task.primary_metric]["value"]
    weights = engine.whole_weights(run.accelerator, run.model)
    write_log(run, {
        "step": run.step, "split": recipe.data.evaluate, "seconds": round(run.training_seconds, 2),
        **{name: metric["value"] for name, metric in metrics.items()},
    })  # fmt: skip
    if run.accelerator.is_main_process:
        shown = "  ".join(f"{name} {100 * metric['value']:.2f}" for name, metric in metrics.items())
        print(f"step {run.step}: {recipe.data.evaluate}: {shown}", flush=True)
        progress = {
            "step": run.step, "steps": run.total_steps, "seconds": round(run.training_seconds, 1),
            "split": recipe.data.evaluate, "score": score, **({"ema": recipe.train.ema} if run.average else {}),
        }  # fmt: skip
        training = {
            "task": run.task.name, "recipe": {"name": recipe.name, "hash": recipe.hash}, "seed": recipe.train.seed,
            "inputs": run.inputs, "data_root": recipe.data.root,
            "training_splits": sorted(names(recipe.data.train)), "progress": progress,
        }  # fmt: skip
        for name in ("last", "best") if score > run.best else ("last",):
            checkpoint.save(run.folder / name, model, run.processor, run.labels, training, weights)
    run.best = max(run.best, score)
    run.accelerator.wait_for_everyone()
