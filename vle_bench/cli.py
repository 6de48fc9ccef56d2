"""The command line: parse, load, call one function. Nothing heavy is imported before a command needs it."""

import errno
import io
import json
import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from vle_bench import __version__, cli_checkpoints, cli_data, cli_files, cli_runs
from vle_bench.cli_files import print_rows
from vle_bench.errors import Interrupted, RequestError, RunFailed
from vle_bench.launch import check_launch, meet_on_cpu

app = typer.Typer(
    name="vle-bench", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Fine-tune and benchmark the vision-language encoders VLE and METER.",
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
app.add_typer(cli_files.score_app, name="score", help="Official score of a results file from anywhere.")
app.add_typer(cli_files.check_app, name="check-submission", help="What an official server would reject about a file.")

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="recipe file, or the name of a shipped one")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[key=value]...", help="recipe keys to change")]
OtherRun = Annotated[Path | None, typer.Option("--with", metavar="RUN", help="VCR: the run of the other task, QA2R for Q2A")]

Precision = Annotated[
    str | None, typer.Option(metavar="fp32|bf16|fp16", help="precision to compute in; that of the training if not given")
]


def show_version(value: bool) -> None:
    if value:
        print(f"vle-bench {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="show the version")] = False,
) -> None: ...


@app.command(epilog="Example: vle-bench train recipes/vqa/vle-base.yaml train.seed=1")
def train(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    output_dir: Annotated[Path | None, typer.Option(help="run folder; runs/<recipe name> if not given")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with a run that was broken off")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check the recipe and stop, as `validate` does")] = False,
) -> None:
    """Fine-tune as a recipe says, evaluate, write the record.

    SIGTERM and SIGINT (Ctrl-C) end a run after the step, with all of it saved; the same command with --resume goes on.
    """
    from vle_bench.inputs import missing_inputs
    from vle_bench.recipe import default_run_folder, load_recipe

    loaded = load_recipe(recipe, overrides or [])
    if dry_run:
        return validate([recipe], overrides)
    if missing := missing_inputs(loaded):
        raise RequestError("\n".join(missing))
    quiet_libraries()
    from vle_bench.train import train as run_training

    folder = output_dir or default_run_folder(loaded)
    record = run_training(loaded, folder, resume)
    if is_first_process():
        print_record(record)
        print(f"written: {folder}/ (best/, last/, log.jsonl, results/, predictions/)")


@app.command(epilog="Example: vle-bench evaluate checkpoints/vle-base-for-vqa --data data/vqav2 --split minival")
def evaluate(
    checkpoint: cli_checkpoints.Checkpoint,
    recipe: cli_checkpoints.RecipeOption = None,
    data: cli_checkpoints.DataOption = None,
    split: Annotated[str | None, typer.Option(help="split to score; the recipe's `report` if not given")] = None,
    output: Annotated[
        Path | None, typer.Option(help="result record to write, DIR/x.json; its predictions go to DIR/x.predictions.jsonl")
    ] = None,
    other: OtherRun = None,
    server_result: Annotated[
        Path | None, typer.Option(metavar="FILE", help="vqav2, --split test-dev: the result file of the challenge's server")
    ] = None,
    precision: Precision = None,
    task: cli_checkpoints.TaskOption = None,
    max_text_length: cli_checkpoints.LengthOption = None,
    resize: cli_checkpoints.ResizeOption = None,
    trained_on: cli_checkpoints.TrainedOnOption = None,
    published: cli_checkpoints.PublishedOption = None,
) -> None:
    """Score a checkpoint on a split with labels.

    Prints the scores and writes the result record and the predictions: into the run folder, for a checkpoint that was trained
    elsewhere into results/NAME/ of the current folder, or where --output says. `evaluate Q2A --with QA2R` joins the predictions
    of two VCR checkpoints, both evaluated before, by annot_id: Q2AR. With --server-result the scores are the server's, and no
    model runs.
    """
    if server_result is not None and (split is None or other is not None):
        raise RequestError("evaluate: --server-result goes with --split test-dev, and without --with")
    if precision is not None and other is not None:
        raise RequestError("evaluate: --precision goes with one checkpoint; --with joins what both were evaluated to before")
    wanted = cli_checkpoints.requested(checkpoint, recipe, data, split)
    if published is not None:
        cli_checkpoints.published_lines(published, "", "")  # a misspelt name should show before the work
    quiet_libraries()
    from vle_bench import outputs
    from vle_bench.checkpoint import resolve
    from vle_bench.evaluate import evaluate_checkpoint, join_vcr
    from vle_bench.published_checkpoint import evaluation_folder, is_elsewhere, task_asked

    asked = cli_checkpoints.asked_of(task, max_text_length, resize, trained_on)
    run = evaluation_folder(checkpoint)
    name = "vcr_q2ar" if other is not None else task_asked(checkpoint, asked)
    target = output or run / "results" / f"{name}.{wanted.split}.json"
    if other is not None:
        outputs.check_joined_output(target, run, evaluation_folder(other), wanted.split)
    elif not is_elsewhere(checkpoint):
        outputs.check_record_output(target, run, resolve(checkpoint) / "model.safetensors", name, wanted.split)
    if server_result is not None:
        from vle_bench.server_result import record_server_result

        record = record_server_result(
            checkpoint, wanted.data_root, wanted.split, server_result, target, accelerator=scoring_accelerator(),
            precision=precision, asked=asked,
        )  # fmt: skip
    elif other is not None:
        root = wanted.data_root if data or recipe else None
        record = join_vcr(run, evaluation_folder(other), wanted.split, target, accelerator=scoring_accelerator(), data_root=root)
    else:
        record = evaluate_checkpoint(
            checkpoint, wanted.data_root, wanted.split, target, accelerator=scoring_accelerator(), run=run,
            precision=precision, asked=asked,
        )  # fmt: skip
    if is_first_process():
        print_record(record)
        if published is not None:
            print("\n".join(cli_checkpoints.published_lines(published, record.data["source"], record.task)))
        print(f"written: {target}")
        if server_result is None and other is None:
            print(f"written: {outputs.predictions_file(target, run, name, wanted.split)}")


@app.command(epilog="Example: vle-bench report runs/vle-base-vqa --split minival")
def report(
    run: Annotated[Path, typer.Argument(help="a run folder, or a checkpoint that was trained elsewhere")],
    split: Annotated[str | None, typer.Option(help="split that was evaluated; the recipe's `report` if not given")] = None,
    output: Annotated[Path | None, typer.Option(help="page to write; RUN/report.<task>.<split>.html if not given")] = None,
    other: OtherRun = None,
    data: Annotated[Path | None, typer.Option(help="the prepared data, where it has moved, or no recipe names it")] = None,
) -> None:
    """Where a run errs, on one HTML page.

    Scores by what questions are like, calibration, confusion, the 50 most confident mistakes with their pictures, learning curves,
    recipe and provenance; from the record and the predictions that `evaluate` wrote.
    """
    from vle_bench.outputs import refuse_existing

    if output is not None:
        refuse_existing(output)
    quiet_libraries()
    from vle_bench.published_checkpoint import evaluation_folder
    from vle_bench.report import write_report

    folder, joined = evaluation_folder(run), None if other is None else evaluation_folder(other)
    print(f"written: {write_report(folder, split, output, joined, data)}")


def scoring_accelerator() -> Any:
    """The processes and the device that score; their precision follows from the checkpoint or --precision.

    Raises:
        RequestError: an accelerate configuration that would change it, as `train` refuses it.
    """
    from accelerate import Accelerator

    check_launch(os.environ)
    return Accelerator()


@app.command(epilog="Example: vle-bench predict runs/vle-base-vqa --split test --output vqa_test.json")
def predict(
    checkpoint: cli_checkpoints.Checkpoint,
    split: Annotated[str, typer.Option(help="split to answer; it needs no labels")],
    output: Annotated[Path, typer.Option(help="results file to write; must not exist yet")],
    recipe: cli_checkpoints.RecipeOption = None,
    data: cli_checkpoints.DataOption = None,
    other: OtherRun = None,
    precision: Precision = None,
    task: cli_checkpoints.TaskOption = None,
    max_text_length: cli_checkpoints.LengthOption = None,
    resize: cli_checkpoints.ResizeOption = None,
) -> None:
    """Answer a split in the official submission format.

    VCR's file holds the answers of one checkpoint and the rationales of another: `predict Q2A --with QA2R`; a run of vcr_joint has
    both.
    """
    from vle_bench.outputs import refuse_existing

    refuse_existing(output)
    wanted = cli_checkpoints.requested(checkpoint, recipe, data, split)
    quiet_libraries()
    from vle_bench.evaluate import predict_checkpoint

    asked = cli_checkpoints.asked_of(task, max_text_length, resize, None)
    count, source = predict_checkpoint(
        checkpoint, wanted.data_root, split, output, accelerator=scoring_accelerator(), other=other, precision=precision,
        asked=asked,
    )  # fmt: skip
    if is_first_process():
        print(f"written: {output} ({count:,} answers, each question of {split} once)")
        if source == "vqav2" and split != "test":
            print("The VQA v2 server wants every question of test2015 answered, for test-dev too: --split test")


app.command(epilog="Example: vle-bench download vqav2 --output data/vqav2-official")(cli_data.download)
app.command(epilog="Example: vle-bench prepare easy-vqa --output data/easy-vqa")(cli_data.prepare)


@app.command(
    epilog="Example: vle-bench convert meter_clip16_224_roberta_pretrain.ckpt --output meter-base --tokenizer roberta-base"
)
def convert(
    output: Annotated[Path, typer.Option(help="folder to write; new or empty")],
    checkpoint: Annotated[Path | None, typer.Argument(help="METER's or VLE's training checkpoint, one file")] = None,
    config: Annotated[Path | None, typer.Option(help="VLEConfig (JSON) for what tensors cannot tell: head counts, answers")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="folder of the text encoder's tokenizer, for the processor")] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="label map of a VQA head, or VQA v2's official files (a folder), for METER's and VLE's own order"),
    ] = None,
    text: Annotated[Path | None, typer.Option(help="instead of CHECKPOINT: folder of a DeBERTa or RoBERTa ...")] = None,
    vision: Annotated[Path | None, typer.Option(help="... and of a CLIP, to build a fresh VLE from")] = None,
    keep_last_vision_layer: Annotated[
        bool, typer.Option("--keep-last-vision-layer", help="fresh VLE: the published models drop CLIP's last layer")
    ] = False,
) -> None:
    """A training checkpoint, or two encoders, → a folder that from_pretrained loads."""
    fresh = text is not None or vision is not None
    if fresh == (checkpoint is not None) or (fresh and (text is None or vision is None)):
        raise RequestError("convert: give either a CHECKPOINT, or --text and --vision")
    if checkpoint is None and answers is not None:
        raise RequestError("convert: --answers goes with a CHECKPOINT, whose head they name")
    if checkpoint is not None and keep_last_vision_layer:
        raise RequestError("convert: --keep-last-vision-layer goes with --text and --vision")
    quiet_libraries()
    from vle_bench.models.vle.convert import convert_checkpoint, convert_encoders

    if text is not None and vision is not None:
        lines = convert_encoders(text, vision, output, config, tokenizer, keep_last_vision_layer)
    elif checkpoint is not None:
        lines = convert_checkpoint(checkpoint, output, config, tokenizer, None if answers is None else read_answers(answers))
    print("\n".join(lines))


def read_answers(path: Path) -> list[str]:
    """A label map, or the published order of the official files' answers."""
    from vle_bench.data.vqav2 import published_vocabulary
    from vle_bench.label_map import read_label_map

    return published_vocabulary(path) if path.is_dir() else read_label_map(path)


@app.command(epilog="Example: vle-bench validate recipes/vqa/vle-base.yaml train.batch_size=512")
def validate(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE... [key=value]...", help="recipes and keys to change")],
    overrides: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Check recipes and print them resolved.

    Loads neither data nor weights; prints the derived numbers and what is missing to run.
    """
    from vle_bench.inputs import missing_inputs
    from vle_bench.recipe import batch_layout, load_recipe

    changes = [a for a in recipes if "=" in a] + list(overrides or [])
    for path in (a for a in recipes if "=" not in a):
        loaded = load_recipe(path, changes)
        print(f"# {path}: valid, hash {loaded.hash}")
        print(loaded.to_yaml().rstrip())
        micro = batch_layout(loaded.train.batch_size, loaded.train.per_device_batch_size, 1)
        print(f"# one process: {micro} micro-batches of {loaded.train.per_device_batch_size} a step")
        for line in missing_inputs(loaded):
            print("# missing: " + line.replace("\n", "\n#   "))


@app.command(epilog="Example: vle-bench table --add runs/vle-base-vqa")
def table(
    formats: Annotated[
        str | None, typer.Option("--format", help="md,csv,tex,html,figures, or some of them; all if not given")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="write nothing; exit 1 if a file would change")] = False,
    root: Annotated[Path, typer.Option(help="the leaderboards folder")] = Path("leaderboards"),
    add: Annotated[list[Path] | None, typer.Option(metavar="RUN", help="take in a run's record, or a record file, first")] = None,
    if_new: Annotated[bool, typer.Option("--if-new", help="with --add: pass over what is there, with the same figures")] = False,
) -> None:
    """Regenerate leaderboards/ from published.yaml and the records.

    A record is taken in once and never replaced. One of another number of examples than its split has, or of a run that is there
    already, is refused; one whose split was trained on, or of code that is in no commit, is marked.
    """
    from vle_bench.leaderboard import FORMATS, add_record, write_tables

    chosen = list(FORMATS) if formats is None else [name.strip() for name in formats.split(",")]
    if unknown := [name for name in chosen if name not in FORMATS]:
        raise RequestError(f"table: --format: {', '.join(unknown)}: not among {', '.join(FORMATS)}")
    if add and check:
        raise RequestError("table: --check writes nothing, --add does: one of the two")
    for source in add or ():
        path, marks = add_record(source, root, if_new)
        print(f"in the tables: {path}" + (f" ({'; '.join(marks)})" if marks else ""))
    changed = write_tables(root, chosen, check=check)
    if check and changed:
        raise RunFailed("out of date: " + ", ".join(map(str, changed)) + "; run `vle-bench table`")
    for path in changed:
        print(f"written: {path}")
    if not changed:
        print(f"{root}: up to date")


app.command(epilog="Example: vle-bench compare runs/vle-base-vqa runs/vle-base-vqa-seed-1")(cli_runs.compare)
app.command(epilog="Example: vle-bench reproduce recipes/vqa/vle-base.yaml")(cli_runs.reproduce)


class Half(str, Enum):
    vqa = "vqa"
    vcr = "vcr"


@app.command(epilog="Example: vle-bench demo --only vqa --seeds 3")
def demo(
    overrides: Overrides = None,
    only: Annotated[Half | None, typer.Option(help="one of the two halves")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="vqa: how many seeds to train")] = 1,
    output_dir: Annotated[Path, typer.Option(help="folder of the runs and pictures")] = Path("runs/demo"),
) -> None:
    """The whole road on embedded data, on a CPU.

    VQA on the real easy-VQA: prepares, fine-tunes, evaluates on the official test set, prints the table and draws the pictures.
    VCR on drawn pictures: both tasks with the alignment of words and boxes, without it, and without pictures.
    """
    quiet_libraries()
    if only != Half.vcr:
        from vle_bench.demo import run_demo

        run_demo("recipes/demo/vqa-tiny.yaml", overrides or [], seeds, output_dir)
    if only != Half.vqa:
        from vle_bench.demo_vcr import run_vcr_demo

        run_vcr_demo(overrides or [], output_dir)


@app.command(epilog="Example: vle-bench bench recipes/vqa/vle-base.yaml --synthetic --naive model.image_size=224")
def bench(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(metavar="N", help="training steps and evaluation batches to time, after a warm-up")] = 10,
    evaluation_batch_size: Annotated[
        int, typer.Option(metavar="N", help="questions in an evaluation batch, VCR: texts; 128 in `evaluate`")
    ] = 128,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="made data and random weights of the recipe's sizes, also where its own are there")
    ] = False,
    naive: Annotated[
        bool, typer.Option("--naive", help="each step also the published way: image once a choice, padded texts, eager attention")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object, units in its names")] = False,
) -> None:
    """Speed and memory of a recipe.

    Samples a second of training, of evaluation and of loading, where the time of a step goes, the share of this machine's peak, and
    the peak memory. Where the recipe's data or checkpoint are not there, both are made up in the recipe's sizes.
    """
    from vle_bench.inputs import missing_inputs
    from vle_bench.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    because = "asked for" if synthetic else "; ".join(line.split("; it comes with")[0] for line in missing_inputs(loaded))
    quiet_libraries()
    from vle_bench.bench import run_bench

    report = run_bench(loaded, steps, evaluation_batch_size, synthetic=because or None, naive=naive)
    if as_json:
        print(json.dumps(report))
        return
    from vle_bench.bench_table import print_report

    print_report(report)


@app.command(epilog="Example: vle-bench env")
def env() -> None:
    """Versions, devices, and what is missing."""
    import importlib.util

    import torch

    from vle_bench.results import code_version, library_versions

    print(f"vle-bench {__version__}, commit {code_version()['commit'] or 'unknown (installed)'}")
    for name, version in library_versions().items():
        print(f"{name:14} {version}")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"{'devices':14} {', '.join(devices) or f'CPU, {torch.get_num_threads()} threads'}")
    if importlib.util.find_spec("easy_vqa") is None:
        print("missing: easy-vqa (the demo's data): pip install 'vle-bench[demo]'")


def print_record(record: Any) -> None:
    from vle_bench.results import precision_of

    print(f"\n{record.model['name']} on {record.split} of {record.data['source']}, {record.n:,} examples")
    print_rows([(name, metric.value, metric.interval, metric.n) for name, metric in record.metrics.items()])
    for kind, groups in record.breakdown.items():
        print(f"by {kind}")
        print_rows([(f"  {name}", metric.value, metric.interval, metric.n) for name, metric in groups.items()])
    if record.training.get("precision", record.precision) != record.precision:
        print(f"scored in {precision_of(record)}")
    if record.kind == "elsewhere":
        known = ", ".join(record.training_splits) or "what is not known (--trained-on): not ranked"
        print(f"trained elsewhere, on {known}; {settings_of(record)}")
        if record.task == "vqa" and record.processes and "soft_score_in_vocabulary" not in record.metrics:
            print("soft_score_in_vocabulary is left out: the data's label map is not the checkpoint's, which the")
            print("accuracy does not need")
    if record.contaminated:
        print(f"contaminated: {record.split} shares images with the training splits; this score is never ranked")


def settings_of(record: Any) -> str:
    """What the folder of a checkpoint from elsewhere said, or what was asked for instead."""
    if "pictures" not in record.model:
        return "joined by annot_id"
    asked = f" (asked for: {record.model['asked']})" if "asked" in record.model else ""
    return f"texts of at most {record.model['max_text_length']} tokens, pictures: {record.model['pictures']}{asked}"


def quiet_libraries() -> None:
    """Their bars and advice would bury our own lines."""
    meet_on_cpu(os.environ)
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def is_first_process() -> bool:
    from accelerate import PartialState

    return PartialState().is_main_process


def show_whatever_can_be_shown() -> None:
    """Let a terminal that has no "→" or "±" show a "?" instead; stderr escapes such characters by itself."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def main() -> None:
    """The console script: a known mistake is one line and exit status 2, a failed run one line and 1."""
    show_whatever_can_be_shown()
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")  # so that it may stand anywhere
    try:
        app()
    except (RequestError, RunFailed) as error:
        if debug:
            raise
        print(f"vle-bench: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, RequestError) else 1)
    except Interrupted as error:
        print(f"vle-bench: {error}", file=sys.stderr)
        sys.exit(128 + error.signal)
    except OSError as error:  # a file where a folder should be, no permission, a full disk
        if debug:
            raise
        print(f"vle-bench: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1 if error.errno in (errno.ENOSPC, errno.EDQUOT) else 2)
    except Exception as error:
        if debug:
            raise
        print(f"vle-bench: {type(error).__name__}: {error} (a defect of ours? --debug shows where)", file=sys.stderr)
        sys.exit(1)
