"""The one training loop."""

import importlib.util
import itertools
import json
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from vle_bench import atomic, checkpoint, models, run_folder, training_state
from vle_bench.errors import Interrupted, RequestError, RunFailed
from vle_bench.evaluate import (
    EVALUATION_BATCH_SIZE,
    check_labelled,
    check_labels,
    evaluate_checkpoint,
    predict,
)
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.optim import learning_rate_schedule, parameter_groups
from vle_bench.progress import Bar
from vle_bench.recipe import Recipe, batch_layout
from vle_bench.results import Record, load_record
from vle_bench.resume import restore, save_state
from vle_bench.run_folder import command_to_resume, first_decides, leave_after_the_first
from vle_bench.signals import Stop, agreement, in_loader, stop_on_signals
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
    step: int = 0
    best: float = -1.0
    training_seconds: float = 0.0
    losses: list[float] = field(default_factory=list)  # of the steps since the last line of the log
    saved_step: int = 0  # of the newest training state
    log_bytes: int = 0  # of log.jsonl then

    @property
    def bare_model(self) -> Any:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)


def train(recipe: Recipe, folder: Path, resume: bool = False) -> Record:
    """Fine-tune as the recipe says; writes the run folder and returns the record of the `data.report` split.

    Args:
        resume: go on from the newest whole training state in the folder, or from the beginning where there is none.
    """
    refuse_unbuilt(recipe)
    result = folder / "results" / f"{recipe.task}.{recipe.data.report}.json"
    with ExitStack() as stack:
        start = first_decides(lambda: run_folder.take(stack, recipe.model_dump(mode="json"), folder, result, resume))
        if start == "finished":
            return load_record(result)
        run = build(recipe, folder)
        first_stage(run, epoch=0)  # what it refuses is refused before anything is written
        if start is not None:
            settle_gradients(run)
            restore(run, Path(start))
        if run.accelerator.is_main_process:
            run_folder.tidy(folder, run.log_bytes)
            atomic.write_text(folder / "recipe.yaml", recipe.to_yaml())
            describe(run)
        run.accelerator.wait_for_everyone()
        with stop_on_signals(speaks=run.accelerator.is_main_process) as stop:
            fit(run, stop)
            stop.saved = stopped(run, "by a signal")
            record = evaluate_checkpoint(folder, Path(recipe.data.root), recipe.data.report, result, accelerator=run.accelerator)
        run.accelerator.end_training()
        return record


def settle_gradients(run: Run) -> None:
    """A backward pass for nothing: after its first, DDP lays the gradients out anew, and so sums and rounds them otherwise.

    Without it, the first step of a resumed run on three or more processes differs in the last bits.
    """
    if run.accelerator.num_processes > 1:
        _, _, micro_batches = next(steps(run))
        inputs = {name: value.to(run.accelerator.device) for name, value in micro_batches[0]["inputs"].items()}
        with run.accelerator.autocast():
            loss = run.model(**inputs).loss
        run.accelerator.backward(loss)
        run.optimizer.zero_grad(set_to_none=True)


def refuse_unbuilt(recipe: Recipe) -> None:
    """A key that this version reads and cannot honour stops the run; passing over it would be a wrong number."""
    unbuilt = {
        "train.ema": recipe.train.ema is not None,
    }
    if missing := [name for name in recipe.train.trackers if importlib.util.find_spec(name) is None]:
        raise RequestError(f"train.trackers: {', '.join(missing)}: not installed; pip install 'vle-bench[tracking]'")
    if names := [name for name, asked in unbuilt.items() if asked]:
        raise RequestError(f"{recipe.name}: {', '.join(names)}: not in this version yet; the recipe cannot be run as it says")


def build(recipe: Recipe, folder: Path) -> Run:
    """Data, model, optimiser and schedule of a recipe."""
    accelerator = Accelerator(
        mixed_precision=precision(recipe.train.precision),
        log_with=recipe.train.trackers or None,
        project_dir=str(folder),
    )
    if recipe.train.trackers:
        accelerator.init_trackers("vle-bench", config={"recipe": recipe.name, "hash": recipe.hash})
    accumulation = batch_layout(recipe.train.batch_size, recipe.train.per_device_batch_size, accelerator.num_processes)
    if accelerator.device.type == "cpu":  # torch's threads and the loading processes would take the same cores from each other
        torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) - recipe.train.num_workers)))
    set_seed(recipe.train.seed)
    task = TASKS[recipe.task]
    data = task.open(Path(recipe.data.root))
    questions = data.questions(recipe.data.train)
    for split in (recipe.data.train, recipe.data.evaluate, recipe.data.report):
        check_labelled(data, split)
    model, processor = build_model(recipe, task, data)
    inputs = task.inputs(recipe.model.model_dump(), model.config.num_token_types)
    for split in {recipe.data.train, recipe.data.evaluate, recipe.data.report}:
        task.check(data, split, inputs)
    if recipe.train.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    groups = parameter_groups(
        model, recipe.train.learning_rate, recipe.train.lr_mult_head, recipe.train.lr_mult_cross_modal,
        recipe.train.weight_decay,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(groups, betas=recipe.train.betas, eps=recipe.train.eps, fused=True)
    model = model.to(accelerator.device)
    if recipe.train.compile:
        model = torch.compile(model, dynamic=True)
    model, optimizer = accelerator.prepare(model, optimizer)
    parts = accumulation * accelerator.num_processes
    usable = len(task.training_order(questions, recipe.train.seed, 0, 1))
    whole, rest = divmod(usable, recipe.train.batch_size)
    steps_per_epoch = whole + (rest >= parts)  # as epoch_batches leaves out a batch too short to share
    if not steps_per_epoch:
        raise RequestError(f"data.train: {recipe.data.train} has {usable} questions to learn from, too few for one batch")
    total_steps = recipe.train.max_steps or math.ceil(recipe.train.epochs * steps_per_epoch)
    stage_steps = round(recipe.data.first_stage.fraction * total_steps) if recipe.data.first_stage else 0
    schedule = learning_rate_schedule(
        optimizer, recipe.train.schedule, total_steps, recipe.train.warmup_fraction, restart=stage_steps
    )
    return Run(
        recipe, folder, accelerator, task, data, questions, data.labels, model, processor, optimizer, schedule,
        accumulation, steps_per_epoch, total_steps, stage_steps, inputs,
    )  # fmt: skip


def precision(choice: str) -> str:
    """The recipe's word → Accelerate's; `auto` is bf16 on a GPU that has it, else float32."""
    if choice == "auto":
        return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
    return {"fp32": "no"}.get(choice, choice)


def build_model(recipe: Recipe, task: Task, data: Data) -> tuple[Any, Any]:
    """From a checkpoint folder, or from scratch with a tokenizer trained on the training split."""
    label_maps: dict[str, Any] = {}
    if data.labels:
        label_maps = {"id2label": dict(enumerate(data.labels)), "label2id": {a: i for i, a in enumerate(data.labels)}}
    if recipe.model.checkpoint is not None:
        folder = checkpoint.resolve(Path(recipe.model.checkpoint))
        if data.labels and (folder / "label_map.json").exists():
            check_labels(checkpoint.load_labels(folder), data)
        model = checkpoint.load_model(
            folder, task.architecture, head_may_be_new=True, image_size=recipe.model.image_size,
            num_token_types=checkpoint.at_least_token_types(folder, task.num_token_types), **label_maps,
        )  # fmt: skip
        processor = checkpoint.load_processor(folder, recipe.model.image_size)
        processor.patch_size = model.config.vision_config.patch_size
        return model, processor
    assert recipe.model.config is not None  # the schema asks for a checkpoint or a config
    tokenizer = task.tokenizer(data, recipe.data.train, recipe.model.tokenizer.vocab_size)
    values = dict(recipe.model.config)
    values["text_config"] = {
        **values["text_config"], "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    values["vision_config"] = {**values["vision_config"], "image_size": recipe.model.image_size}
    model = getattr(models, task.architecture)(models.VLEConfig(**values, **label_maps))
    return model, VLEProcessor.from_parts(tokenizer, recipe.model.image_size, model.config.vision_config.patch_size)


def epoch_batches(run: Run, epoch: int, stage: np.ndarray | None) -> list[list[np.ndarray]]:
    """The global batches of an epoch, each as its micro-batches for all processes in turn.

    A function of (seed, epoch) and the batch layout. The epoch's last batch may be short; where it has fewer questions than
    there are micro-batches it is left out.

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
    return [np.array_split(batch, parts) for batch in batches if len(batch) >= parts]


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


def steps(run: Run, start: int = 0) -> Iterator[Step]:
    """Collated steps, for ever: the first stage's, then those of all questions; the first `start` are passed over unread."""
    recipe, world, rank = run.recipe, run.accelerator.num_processes, run.accelerator.process_index
    done = 0
    for epoch in itertools.count():
        in_stage = done < run.stage_steps
        batches = epoch_batches(run, epoch, first_stage(run, epoch) if in_stage else None)
        if in_stage:
            batches = batches[: run.stage_steps - done]
        passed = min(max(start - done, 0), len(batches))
        done += len(batches)
        batches = batches[passed:]
        if not batches:
            continue
        augment = run.task.augmentation(recipe.augment.model_dump(), recipe.train.seed, epoch)
        collate = run.task.collator(run.questions, run.data.images, run.processor, run.labels, run.inputs, augment)
        mine: Any = [part for batch in batches for part in batch[rank::world]]
        loaded = iter(DataLoader(
            mine, batch_size=None, collate_fn=collate, num_workers=recipe.train.num_workers, worker_init_fn=in_loader,
            generator=torch.Generator(),  # its seed for the workers would else be drawn from the numbers that dropout uses
        ))  # fmt: skip
        for batch in batches:
            yield epoch, sum(map(len, batch)), [next(loaded) for _ in range(run.accumulation)]


def fit(run: Run, stop: Stop) -> None:
    """Optimiser steps until `total_steps`, with logging, evaluation, training states, and the best and last checkpoints."""
    settings, first = run.recipe.train, run.accelerator.is_main_process
    agree = agreement(run.accelerator.num_processes)
    if evaluation_is_due(run):  # a state is saved before its step's evaluation, so that a kill in that costs no step
        evaluate_and_save(run, stop)
    pending: list[tuple[int, list[int], torch.Tensor]] = []  # (step, ids, loss) since the last check
    mark = saved = time.monotonic()
    seconds_before, questions = run.training_seconds, 0
    run.model.train()
    stream = steps(run, run.step)
    with Bar(f"train {run.recipe.name}", run.total_steps, initial=run.step, enabled=first) as bar:
        while run.step < run.total_steps:
            epoch, count, micro_batches = next(stream)
            loss = optimizer_step(run, micro_batches, count)
            run.step += 1
            questions += count
            pending.append((run.step, [i for batch in micro_batches for i in batch["ids"]], loss))
            evaluating = evaluation_is_due(run)
            logging = evaluating or run.step % settings.log_every == 0
            number, saving = agree(stop.signal, checkpoint_is_due(run, time.monotonic() - saved))
            text = ""
            if logging or saving or number:
                run.losses += checked_losses(run, pending)
                now = time.monotonic()
                run.training_seconds, mark = run.training_seconds + now - mark, now
            if logging:
                text = log_training(run, epoch, questions / (run.training_seconds - seconds_before))
            bar.advance(text=text)
            if saving or number:
                save_state(run)
                mark = saved = time.monotonic()
                number, _ = agree(stop.signal, False)  # one that came meanwhile
            if number:
                interrupt(run, number)
            if evaluating:
                evaluate_and_save(run, stop)
                mark = time.monotonic()
                seconds_before, questions = run.training_seconds, 0


def evaluation_is_due(run: Run) -> bool:
    every = run.recipe.train.evaluate_every or run.steps_per_epoch
    return run.step > 0 and (run.step % every == 0 or run.step == run.total_steps)


def checkpoint_is_due(run: Run, seconds: float) -> bool:
    """Args: seconds: since the last; the first process's clock counts."""
    every = run.recipe.train.checkpoint_every
    if every is None or run.step == run.total_steps:
        return evaluation_is_due(run)
    if isinstance(every, int):
        return run.step % every == 0
    return run.accelerator.is_main_process and seconds >= 60 * int(every.removesuffix("min"))


def interrupt(run: Run, number: int) -> None:
    if not run.accelerator.is_main_process:
        leave_after_the_first(128 + number)
    raise Interrupted(number, stopped(run, f"by {signal.Signals(number).name}"))


def stopped(run: Run, how: str) -> str:
    saved = run.folder / "checkpoints" / training_state.name(run.step)
    return f"stopped {how} at step {run.step} of {run.total_steps}; {saved} holds all of it; go on with: {command_to_resume()}"


def optimizer_step(run: Run, micro_batches: list[dict[str, Any]], count: int) -> torch.Tensor:
    """One optimiser step over a global batch of `count` questions; returns this process's part of its mean loss."""
    accelerator = run.accelerator
    total = torch.zeros((), device=accelerator.device)
    for number, batch in enumerate(micro_batches, 1):
        inputs = {name: value.to(accelerator.device, non_blocking=True) for name, value in batch["inputs"].items()}
        with nullcontext() if number == len(micro_batches) else accelerator.no_sync(run.model):
            with accelerator.autocast():
                loss = run.model(**inputs).loss
            # Each question weighs the same, short last batches too. DDP averages over processes, hence their number.
            share = loss * (len(batch["ids"]) / count * accelerator.num_processes)
            accelerator.backward(share)
        total += share.detach()
    if run.recipe.train.max_grad_norm:
        accelerator.clip_grad_norm_(run.model.parameters(), run.recipe.train.max_grad_norm)
    run.optimizer.step()
    run.schedule.step()
    run.optimizer.zero_grad(set_to_none=True)
    return total


def checked_losses(run: Run, pending: list[tuple[int, list[int], torch.Tensor]]) -> list[float]:
    """The losses of the steps since the last check; stops the run at the first that is not finite.

    Looking at every loss at once keeps the device from waiting for the host at each step.
    """
    losses: list[float] = run.accelerator.reduce(torch.stack([loss for _, _, loss in pending]), reduction="mean").tolist()
    for (step, ids, _), loss in zip(pending, losses, strict=True):
        if not math.isfinite(loss):
            shown = ", ".join(map(str, ids[:8])) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
            raise RunFailed(f"the loss is {loss} at step {step}; the examples of that step: {shown}")
    pending.clear()
    return losses


def write_log(run: Run, entry: dict[str, Any]) -> None:
    if run.accelerator.is_main_process:
        with open(run.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(entry) + "\n")
    if run.recipe.train.trackers:
        run.accelerator.log({k: v for k, v in entry.items() if isinstance(v, float | int)}, step=run.step)


def log_training(run: Run, epoch: int, samples_per_second: float) -> str:
    loss = sum(run.losses) / len(run.losses)
    run.losses = []
    learning_rate = max(run.schedule.get_last_lr())
    write_log(run, {
        "step": run.step, "epoch": epoch, "loss": round(loss, 6), "lr": learning_rate,
        "samples_per_second": round(samples_per_second, 1), "seconds": round(run.training_seconds, 2),
    })  # fmt: skip
    return f"loss {loss:.4f}  lr {learning_rate:.1e}  {samples_per_second:.0f} questions/s"


def evaluate_and_save(run: Run, stop: Stop) -> None:
    """Score the `data.evaluate` split; `last/` is replaced, `best/` too where the score is the best so far."""
    recipe, model = run.recipe, run.bare_model
    if run.saved_step == run.step:
        stop.saved = stopped(run, "in the evaluation")
    rows = predict(
        model, run.processor, run.task, run.data, recipe.data.evaluate, run.labels, accelerator=run.accelerator,
        batch_size=EVALUATION_BATCH_SIZE, inputs=run.inputs,
    )  # fmt: skip
    metrics = run.task.score(rows, run.data.questions(recipe.data.evaluate))["metrics"]
    score = metrics[run.task.primary_metric]["value"]
    write_log(run, {
        "step": run.step, "split": recipe.data.evaluate, "seconds": round(run.training_seconds, 2),
        **{name: metric["value"] for name, metric in metrics.items()},
    })  # fmt: skip
    if run.accelerator.is_main_process:
        shown = "  ".join(f"{name} {100 * metric['value']:.2f}" for name, metric in metrics.items())
        print(f"step {run.step}: {recipe.data.evaluate}: {shown}", flush=True)
    progress = {
        "step": run.step, "steps": run.total_steps, "seconds": round(run.training_seconds, 1),
        "split": recipe.data.evaluate, "score": score,
    }  # fmt: skip
    training = {
        "task": run.task.name, "recipe": {"name": recipe.name, "hash": recipe.hash}, "seed": recipe.train.seed,
        "inputs": run.inputs, "data_root": recipe.data.root,
        "training_splits": sorted(names(recipe.data.train)), "progress": progress,
    }  # fmt: skip
    for name in ("best", "last") if score > run.best else ("last",):  # once `last/` is of the last step, `best/` stays
        first_decides(partial(checkpoint.save, run.folder / name, model, run.processor, run.labels, training))
    run.best = max(run.best, score)
    stop.saved = ""


def precision_name(run: Run) -> str:
    return {"no": "fp32"}.get(run.accelerator.mixed_precision, run.accelerator.mixed_precision)


def describe(run: Run) -> None:
    """What is about to run, before it runs."""
    recipe, world = run.recipe, run.accelerator.num_processes
    parameters = sum(p.numel() for p in run.model.parameters())
    print(f"{recipe.name} ({recipe.hash}) on {world} × {run.accelerator.device}, {precision_name(run)}")
    print(f"model: {parameters:,} parameters; data: {len(run.questions):,} questions of {recipe.data.train} in {recipe.data.root}")
    print(
        f"batch {recipe.train.batch_size} = {world} processes × {run.accumulation} micro-batches × "
        f"{recipe.train.per_device_batch_size}; {run.total_steps} steps; run folder {run.folder}",
        flush=True,
    )
