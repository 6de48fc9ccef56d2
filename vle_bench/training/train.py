"""The one training loop."""

import importlib.util
import json
import math
import signal
import time
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch
from accelerate.utils import gather_object
from torch.nn import functional as F

from vle_bench import atomic
from vle_bench.data.collate import Batch
from vle_bench.data.splits import names
from vle_bench.errors import Interrupted, RequestError, RunFailed, first_of
from vle_bench.evaluation.environment import precision_name
from vle_bench.evaluation.evaluate import evaluate_checkpoint
from vle_bench.evaluation.record import Record, load_record
from vle_bench.evaluation.request import EVALUATION_BATCH_SIZE, Request
from vle_bench.json_files import JsonObject
from vle_bench.models import pretrained
from vle_bench.progress import Bar
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks.base import Inference
from vle_bench.tasks.predictions import Id
from vle_bench.training import checkpoints, engine, run_folder
from vle_bench.training.checkpoints import restore, save_state
from vle_bench.training.own_figures import added, in_words, quotients
from vle_bench.training.processes import (
    Stop,
    agreement,
    exit_after_main,
    on_main,
    stop_on_signals,
)
from vle_bench.training.run import Run, announce, build, summary
from vle_bench.training.run_folder import command_to_resume

# The step, the ids of this process's examples, and (2 + n,) the loss, the norm of the gradients,
# and the sums of the model's own figures.
Unchecked = tuple[int, list[Id], torch.Tensor]


def train(recipe: Recipe, folder: Path, resume: bool = False) -> Record:
    """Fine-tune a model: write the run folder and return the record of the `data.report` split.

    Args:
        resume: go on from the newest whole training state in the folder, or from the beginning if
            it has none.

    Raises:
        RequestError: the recipe, the data or the folder do not fit; RunFailed: the run diverged, or
            its files cannot be written; Interrupted: a signal stopped it.
    """
    check_trackers(recipe)
    started = time.monotonic()
    result = folder / "results" / f"{recipe.task}.{recipe.data.report}.json"
    with ExitStack() as stack:
        values = recipe.model_dump(mode="json")
        start = on_main(lambda: run_folder.take(stack, values, folder, result, resume))
        if start == "finished":
            return load_record(result)
        run = build(run_folder.with_kept_number(recipe, start), folder)
        run.started = started
        begin(run, start)
        with stop_on_signals(prints=run.accelerator.is_main_process) as stop:
            fit(run, stop)
            stop.saved = stopped(run, "by a signal")
            record = evaluate_checkpoint(
                Request(
                    folder,
                    Path(recipe.data.root),
                    recipe.data.report,
                    num_workers=recipe.train.num_workers,
                ),
                result,
                accelerator=run.accelerator,
            )
        if run.accelerator.is_main_process:
            print(summary(run), flush=True)
        run.accelerator.end_training()
        return record


def check_trackers(recipe: Recipe) -> None:
    """Refuse trackers that are not installed; raises RequestError."""
    trackers = recipe.train.trackers
    if missing := [name for name in trackers if importlib.util.find_spec(name) is None]:
        raise RequestError(
            f"train.trackers: {', '.join(missing)}: not installed; "
            "pip install 'vle-bench[tracking]'"
        )


def begin(run: Run, state: str | None) -> None:
    """Restore a training state if there is one, and write the first files of the run folder."""
    recipe = run.recipe
    if recipe.train.trackers:
        # Trackers may draw random numbers, so they start before the state of those is restored.
        config = {"recipe": recipe.name, "hash": recipe.hash}
        run.accelerator.init_trackers("vle-bench", config=config)
    if state is not None:
        restore(run, Path(state))
    if run.accelerator.is_main_process:
        run_folder.tidy(run.folder, run.log_bytes)
        atomic.write_text(run.folder / "recipe.yaml", recipe.to_yaml())
        announce(run)
    run.accelerator.wait_for_everyone()


def fit(run: Run, stop: Stop) -> None:
    """Train up to `total_steps`, with logging, evaluation, training states and checkpoints."""
    settings, is_main = run.recipe.train, run.accelerator.is_main_process
    agree = agreement(run.accelerator.num_processes)
    # A state is saved before the evaluation of its step, so that a kill during that loses no step.
    if evaluation_is_due(run):
        evaluate(run, stop)
    unchecked: list[Unchecked] = []
    mark = saved = time.monotonic()
    seconds_before, questions = run.training_seconds, 0
    run.model.train()
    stream = run.steps(run.step)
    with Bar(f"train {run.recipe.name}", run.total_steps, initial=run.step, enabled=is_main) as bar:
        while run.step < run.total_steps:
            epoch, count, micro_batches = next(stream)
            figures = optimizer_step(run, micro_batches, count)
            run.step += 1
            questions += count
            ids = [i for batch in micro_batches for i in batch["ids"]]
            unchecked.append((run.step, ids, figures))
            evaluating = evaluation_is_due(run)
            logging = evaluating or run.step % settings.log_every == 0
            number, saving = agree(stop.signal, checkpoint_is_due(run, time.monotonic() - saved))
            text = ""
            if logging or saving or number:
                run.losses += checked_losses(run, unchecked)
                now = time.monotonic()
                run.training_seconds, mark = run.training_seconds + now - mark, now
            if logging:
                text = log_training(run, epoch, questions / (run.training_seconds - seconds_before))
            bar.advance(text=text)
            if saving or number:
                save_state(run)
                mark = saved = time.monotonic()
                number, _ = agree(stop.signal, False)  # a signal may have come while saving
            if number:
                interrupt(run, number)
            if evaluating:
                evaluate(run, stop)
                mark = time.monotonic()
                seconds_before, questions = run.training_seconds, 0


def evaluation_is_due(run: Run) -> bool:
    """Tell whether the run evaluates after this step."""
    every = run.recipe.train.evaluate_every or run.steps_per_epoch
    return run.step > 0 and (run.step % every == 0 or run.step == run.total_steps)


def checkpoint_is_due(run: Run, seconds: float) -> bool:
    """Tell whether a training state is saved after this step.

    Args:
        seconds: time since the last one. Only the clock of the main process counts.
    """
    every = run.recipe.train.checkpoint_every
    if every is None or run.step == run.total_steps:
        return evaluation_is_due(run)
    if isinstance(every, int):
        return run.step % every == 0
    return run.accelerator.is_main_process and seconds >= 60 * int(every.removesuffix("min"))


def interrupt(run: Run, number: int) -> NoReturn:
    """End every process after a signal; raises Interrupted on the main process."""
    if not run.accelerator.is_main_process:
        exit_after_main(128 + number)
    raise Interrupted(number, stopped(run, f"by {signal.Signals(number).name}"))


def stopped(run: Run, how: str) -> str:
    """Say where a run stopped, and how to go on."""
    where = f"stopped {how} at step {run.step} of {run.total_steps}"
    if run.saved_step != run.step:
        return f"{where}; {engine.NO_STATES}"
    saved = run.folder / "checkpoints" / checkpoints.name(run.step)
    return f"{where}; its state is in {saved}; continue with: {command_to_resume()}"


@engine.deterministic()
def optimizer_step(run: Run, micro_batches: list[Batch], count: int) -> torch.Tensor:
    """Run one optimizer step over a global batch of `count` questions.

    Returns:
        (2 + n,): this process's part of the mean loss, the norm of all gradients, and the n sums of
        the model's own figures. They stay on the device, so that nobody waits for them.
    """
    accelerator, settings = run.accelerator, run.recipe.train
    total = torch.zeros(1, device=accelerator.device)
    # Accelerate counts micro-batches; after --resume on another number of processes its count would
    # go on from a wrong number.
    accelerator.step = 0
    for batch in micro_batches:
        # Each question weighs the same, also in a short last batch. DDP averages over processes,
        # hence their number.
        weight = len(batch["ids"]) / count * accelerator.num_processes
        # Gradients are added up over processes in the last micro-batch only.
        with accelerator.accumulate(run.model):
            part = run.forward_backward(run.model_inputs(batch), weight).flatten()
        # The examples of a stand-in are those of another micro-batch.
        total = total + part if batch["ids"] else F.pad(total, (0, len(part) - len(total)))
    norm = engine.clip_gradients(accelerator, run.parameters, settings.max_grad_norm)
    run.optimizer.step()
    run.schedule.step()
    # CUDA graphs add to the same places in every step.
    run.optimizer.zero_grad(set_to_none=not settings.cuda_graphs)
    if run.average is not None:
        run.average.update()
    run.samples += count
    return torch.cat([total[:1], norm.flatten(), total[1:]])


def checked_losses(run: Run, unchecked: list[Unchecked]) -> list[float]:
    """Return the losses since the last check and stop the run at the first that is not finite.

    Checking several steps at once keeps the device from waiting for the host in each of them.
    Nothing is saved without a check.
    """
    figures = torch.stack([figures for _, _, figures in unchecked])
    means = run.accelerator.reduce(figures, reduction="mean").tolist()
    for (step, ids, _), (loss, norm, *sums) in zip(unchecked, means, strict=True):
        if sums:
            run.sums = added(run.sums, sums, run.accelerator.num_processes)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            diverged(run, step, sorted(gather_object(list(ids))), loss, norm)
    unchecked.clear()
    return [loss for loss, *_ in means]


def diverged(run: Run, step: int, ids: list[Id], loss: float, norm: float) -> NoReturn:
    """Stop a run that diverged; best/, last/ and the training states stay as they are."""
    if not run.accelerator.is_main_process:
        exit_after_main(1)
    rate = learning_rate(run, step)
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
        f"diverged: loss {loss}, gradient norm {norm} at step {step}, learning rate {rate:.3g}; "
        f"the examples of that step: {first_of(ids)} (all in {run.folder / 'diverged.json'}); "
        + (f"kept: {', '.join(kept)}" if kept else "nothing saved")
    )


def write_log(run: Run, entry: dict[str, float | str]) -> None:
    """Append a line to log.jsonl, and send its numbers to the trackers."""
    if run.accelerator.is_main_process:
        with open(run.folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    if run.recipe.train.trackers:
        numbers = {k: v for k, v in entry.items() if isinstance(v, float | int)}
        run.accelerator.log(numbers, step=run.step)


def learning_rate(run: Run, step: int) -> float:
    """Return the learning rate of a step, for weights without a multiplier."""
    return float(run.recipe.train.learning_rate * run.schedule.lr_lambdas[0](step - 1))


def log_training(run: Run, epoch: int, samples_per_second: float) -> str:
    """Log the means since the last line; return a text for the progress bar."""
    loss, rate = math.fsum(run.losses) / len(run.losses), learning_rate(run, run.step)
    figures = quotients(run.bare_model.figure_names, run.sums) if run.sums else {}
    run.losses, run.sums = [], []
    write_log(
        run,
        {
            "step": run.step,
            "epoch": epoch,
            "loss": round(loss, 6),
            "lr": rate,
            "samples_per_second": round(samples_per_second, 1),
            "seconds": round(run.training_seconds, 2),
            **{f"train_{name}": round(value, 6) for name, value in figures.items()},
        },
    )
    return (
        f"loss {loss:.4f}  lr {rate:.1e}  {samples_per_second:.0f} questions/s{in_words(figures)}"
    )


def evaluate(run: Run, stop: Stop) -> None:
    """Evaluate and save checkpoints, with the averaged weights if the run has them."""
    if run.saved_step == run.step:
        stop.saved = stopped(run, "in the evaluation")
    with run.average.in_place() if run.average else nullcontext():
        score = score_now(run)
        save_checkpoints(run, score)
    stop.saved = ""


def score_now(run: Run) -> float:
    """Score the `data.evaluate` split and log it; returns the primary metric."""
    split = run.recipe.data.evaluate
    # Runs the code of `vle-bench evaluate`, so that the numbers are the same.
    with torch.compiler.set_stance("force_eager"):
        predictions = run.task.predict(
            Inference(
                run.bare_model,
                run.data,
                split,
                run.processor,
                run.data.labels,
                run.input_settings,
                run.accelerator,
                EVALUATION_BATCH_SIZE,
                run.recipe.train.num_workers,
            )
        )
    scores = run.task.score(predictions, run.data.questions(split))
    values = {name: metric["value"] for name, metric in scores.metrics.items()}
    seconds = round(run.training_seconds, 2)
    write_log(
        run, {"step": run.step, "split": split, "seconds": seconds, **values, **scores.losses}
    )
    if run.accelerator.is_main_process:
        shown = [f"{name} {100 * value:.2f}" for name, value in values.items()]
        shown += [f"{name} {value:.4f}" for name, value in scores.losses.items()]
        print(f"step {run.step}: {split}: {'  '.join(shown)}", flush=True)
    run.last = float(values[run.task.primary_metric])
    return run.last


def save_checkpoints(run: Run, score: float) -> None:
    """Replace `last/`, and `best/` too if the score is the best so far."""
    weights = engine.whole_weights(run.accelerator, run.model)
    training = training_facts(run, score)
    # Once `last/` is of the last step, `best/` does not change any more: it comes first.
    for name in ("best", "last") if score > run.best else ("last",):
        save = partial(
            pretrained.save,
            run.folder / name,
            run.bare_model,
            run.processor,
            run.data.labels,
            training,
            weights,
        )
        on_main(save)
    run.best = max(run.best, score)


def training_facts(run: Run, score: float) -> JsonObject:
    """Return the content of training.json: the facts about a checkpoint for result records."""
    recipe = run.recipe
    progress = {
        "step": run.step,
        "steps": run.total_steps,
        "seconds": round(run.training_seconds, 1),
        "split": recipe.data.evaluate,
        "score": score,
        "selection": recipe.train.selection,
        **({"ema": recipe.train.ema} if run.average else {}),
        "precision": precision_name(run.accelerator.mixed_precision),
        "tf32": recipe.train.tf32,
    }
    return {
        "task": run.task.name,
        "selection": recipe.train.selection,
        "recipe": {"name": recipe.name, "hash": recipe.hash, "experiment": recipe.experiment},
        "expect": recipe.expect.model_dump() if recipe.expect else None,
        "seed": recipe.train.seed,
        "inputs": run.input_settings,
        "data_root": recipe.data.root,
        "data": run.data.manifest.identity,
        "training_splits": sorted(names(recipe.data.train)),
        **({"mixed": parts} if (parts := run.mix and run.mix.identities) else {}),
        **({"pretraining": run.pretraining} if run.pretraining else {}),
        "progress": progress,
    }
