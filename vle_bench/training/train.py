"""The one training loop."""

import importlib.util
import json
import math
import signal
import time
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from vle_bench import atomic
from vle_bench.data.splits import names
from vle_bench.errors import Interrupted, RequestError, RunFailed
from vle_bench.evaluation.evaluate import EVALUATION_BATCH_SIZE, evaluate_checkpoint
from vle_bench.evaluation.record import Record, load_record
from vle_bench.models import pretrained
from vle_bench.progress import Bar
from vle_bench.recipe.schema import Recipe
from vle_bench.training import checkpoints, engine, run_folder
from vle_bench.training.batches import first_stage, model_inputs, steps
from vle_bench.training.processes import agreement, first_decides, leave_after_the_first
from vle_bench.training.resume import restore, save_state
from vle_bench.training.run import Run, build
from vle_bench.training.run_folder import command_to_resume
from vle_bench.training.signals import Stop, stop_on_signals
from vle_bench.training.summary import describe, precision_name, summary


def train(recipe: Recipe, folder: Path, resume: bool = False) -> Record:
    """Fine-tune as the recipe says; writes the run folder and returns the record of the `data.report` split.

    Args:
        resume: go on from the newest whole training state in the folder, or from the beginning where there is none.
    """
    check_trackers(recipe)
    started = time.monotonic()
    result = folder / "results" / f"{recipe.task}.{recipe.data.report}.json"
    with ExitStack() as stack:
        start = first_decides(
            lambda: run_folder.take(stack, recipe.model_dump(mode="json"), folder, result, resume)
        )
        if start == "finished":
            return load_record(result)
        run = build(recipe, folder)
        run.started = started
        first_stage(run, epoch=0)  # what it refuses is refused before anything is written
        if (
            recipe.train.trackers
        ):  # which may draw random numbers, so before those of the state are put back
            run.accelerator.init_trackers(
                "vle-bench", config={"recipe": recipe.name, "hash": recipe.hash}
            )
        if start is not None:
            restore(run, Path(start))
        if run.accelerator.is_main_process:
            run_folder.tidy(folder, run.log_bytes)
            atomic.write_text(folder / "recipe.yaml", recipe.to_yaml())
            describe(run)
        run.accelerator.wait_for_everyone()
        with stop_on_signals(speaks=run.accelerator.is_main_process) as stop:
            fit(run, stop)
            stop.saved = stopped(run, "by a signal")
            record = evaluate_checkpoint(
                folder,
                Path(recipe.data.root),
                recipe.data.report,
                result,
                accelerator=run.accelerator,
                num_workers=recipe.train.num_workers,
            )
        if run.accelerator.is_main_process:
            print(summary(run), flush=True)
        run.accelerator.end_training()
        return record


def check_trackers(recipe: Recipe) -> None:
    if missing := [
        name for name in recipe.train.trackers if importlib.util.find_spec(name) is None
    ]:
        raise RequestError(
            f"train.trackers: {', '.join(missing)}: not installed; pip install 'vle-bench[tracking]'"
        )


def fit(run: Run, stop: Stop) -> None:
    """Optimiser steps until `total_steps`, with logging, evaluation, training states, and the best and last checkpoints."""
    settings, first = run.recipe.train, run.accelerator.is_main_process
    agree = agreement(run.accelerator.num_processes)
    if evaluation_is_due(
        run
    ):  # a state is saved before its step's evaluation, so that a kill in that costs no step
        evaluate(run, stop)
    pending: list[
        tuple[int, list[int], torch.Tensor]
    ] = []  # (step, ids, loss and norm) since the last check
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
                evaluate(run, stop)
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
    where = f"stopped {how} at step {run.step} of {run.total_steps}"
    if run.saved_step != run.step:
        return f"{where}; {engine.NO_STATES}"
    saved = run.folder / "checkpoints" / checkpoints.name(run.step)
    return f"{where}; {saved} holds all of it; go on with: {command_to_resume()}"


@engine.deterministic()
def optimizer_step(run: Run, micro_batches: list[dict[str, Any]], count: int) -> torch.Tensor:
    """One optimiser step over a global batch of `count` questions.

    Returns:
        (2,): this process's part of the mean loss, and the norm of all gradients; on the device, which nobody waits for.
    """
    accelerator, settings = run.accelerator, run.recipe.train
    total = torch.zeros((), device=accelerator.device)
    accelerator.step = 0  # its count of micro-batches; it would go on from another number of processes after --resume
    for batch in micro_batches:
        inputs = model_inputs(run, batch)
        with accelerator.accumulate(
            run.model
        ):  # gradients are added up over processes in the last of them only
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


def checked_losses(run: Run, pending: list[tuple[int, list[int], torch.Tensor]]) -> list[float]:
    """The losses of the steps since the last check; stops the run at the first that is not finite.

    Looking at every loss at once keeps the device from waiting for the host at each step. Nothing is saved without a look.
    """
    figures = run.accelerator.reduce(
        torch.stack([figures for _, _, figures in pending]), reduction="mean"
    ).tolist()
    for (step, ids, _), (loss, norm) in zip(pending, figures, strict=True):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            diverged(run, step, sorted(gather_object(list(ids))), loss, norm)
    pending.clear()
    return [loss for loss, _ in figures]


def diverged(run: Run, step: int, ids: list[Any], loss: float, norm: float) -> None:
    """Stop the run; best/, last/ and the training states stay as they were before."""
    if not run.accelerator.is_main_process:
        leave_after_the_first(1)
    rate = learning_rate(run, step)
    shown = ", ".join(map(str, ids[:8])) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    kept = [f"{name}/" for name in ("best", "last") if (run.folder / name).is_dir()]
    kept += [f"checkpoints/{name}/" for name in checkpoints.names(run.folder / "checkpoints")[-1:]]
    entry = {
        "step": step,
        "learning_rate": rate,
        "loss": str(loss),
        "gradient_norm": str(norm),
        "ids": ids,
    }
    atomic.write_json(run.folder / "diverged.json", entry)
    raise RunFailed(
        f"diverged: loss {loss}, gradient norm {norm} at step {step}, learning rate {rate:.3g}; the examples of that "
        f"step: {shown} (all in {run.folder / 'diverged.json'}); "
        + (f"kept: {', '.join(kept)}" if kept else "nothing saved")
    )


def write_log(run: Run, entry: dict[str, Any]) -> None:
    if run.accelerator.is_main_process:
        with open(run.folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    if run.recipe.train.trackers:
        run.accelerator.log(
            {k: v for k, v in entry.items() if isinstance(v, float | int)}, step=run.step
        )


def learning_rate(run: Run, step: int) -> float:
    """The rate that a step was made with, of weights without a multiplier: the recipe's learning_rate times the schedule."""
    return run.recipe.train.learning_rate * run.schedule.lr_lambdas[0](step - 1)


def log_training(run: Run, epoch: int, samples_per_second: float) -> str:
    loss, rate = math.fsum(run.losses) / len(run.losses), learning_rate(run, run.step)
    run.losses = []
    write_log(
        run,
        {
            "step": run.step,
            "epoch": epoch,
            "loss": round(loss, 6),
            "lr": rate,
            "samples_per_second": round(samples_per_second, 1),
            "seconds": round(run.training_seconds, 2),
        },
    )
    return f"loss {loss:.4f}  lr {rate:.1e}  {samples_per_second:.0f} questions/s"


def evaluate(run: Run, stop: Stop) -> None:
    if run.saved_step == run.step:
        stop.saved = stopped(run, "in the evaluation")
    with run.average.in_place() if run.average else nullcontext():
        evaluate_and_save(run)
    stop.saved = ""


def evaluate_and_save(run: Run) -> None:
    """Score the `data.evaluate` split; `last/` is replaced, `best/` too where the score is the best so far."""
    recipe, model = run.recipe, run.bare_model
    with torch.compiler.set_stance(
        "force_eager"
    ):  # the code that `vle-bench evaluate` runs, so the same numbers
        predictions = run.task.predict(
            model,
            run.data,
            recipe.data.evaluate,
            processor=run.processor,
            labels=run.labels,
            inputs=run.inputs,
            accelerator=run.accelerator,
            batch_size=EVALUATION_BATCH_SIZE,
            num_workers=recipe.train.num_workers,
        )
    metrics = run.task.score(predictions, run.data.questions(recipe.data.evaluate)).metrics
    score = run.last = metrics[run.task.primary_metric]["value"]
    weights = engine.whole_weights(run.accelerator, run.model)
    write_log(
        run,
        {
            "step": run.step,
            "split": recipe.data.evaluate,
            "seconds": round(run.training_seconds, 2),
            **{name: metric["value"] for name, metric in metrics.items()},
        },
    )
    if run.accelerator.is_main_process:
        shown = "  ".join(f"{name} {100 * metric['value']:.2f}" for name, metric in metrics.items())
        print(f"step {run.step}: {recipe.data.evaluate}: {shown}", flush=True)
    progress = {
        "step": run.step,
        "steps": run.total_steps,
        "seconds": round(run.training_seconds, 1),
        "split": recipe.data.evaluate,
        "score": score,
        "selection": recipe.train.selection,
        **({"ema": recipe.train.ema} if run.average else {}),
        "precision": precision_name(run.accelerator),
        "tf32": recipe.train.tf32,
    }
    training = {
        "task": run.task.name,
        "selection": recipe.train.selection,
        "recipe": {"name": recipe.name, "hash": recipe.hash, "experiment": recipe.experiment},
        "expect": recipe.expect.model_dump() if recipe.expect else None,
        "seed": recipe.train.seed,
        "inputs": run.inputs,
        "data_root": recipe.data.root,
        "training_splits": sorted(names(recipe.data.train)),
        "progress": progress,
    }
    for name in (
        ("best", "last") if score > run.best else ("last",)
    ):  # once `last/` is of the last step, `best/` stays
        first_decides(
            partial(
                pretrained.save,
                run.folder / name,
                model,
                run.processor,
                run.labels,
                training,
                weights,
            )
        )
    run.best = max(run.best, score)
