"""Commands on trained checkpoints: `evaluate`, `predict`, `report` and `compare`."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vle_bench.cli import checkpoints
from vle_bench.cli.environment import is_first_process, print_rows, quiet_libraries
from vle_bench.data.sources import SOURCES
from vle_bench.errors import RequestError
from vle_bench.tasks.catalogue import CATALOGUE, JOINED
from vle_bench.training.launch import check_launch

if TYPE_CHECKING:
    from accelerate import Accelerator

    from vle_bench.evaluation.published_checkpoint import Asked
    from vle_bench.evaluation.record import Record

OtherRun = Annotated[
    Path | None,
    typer.Option("--with", metavar="RUN", help="VCR: the run of the other task, QA2R for Q2A"),
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="fp32|bf16|fp16", help="precision to compute in; that of the training if not given"
    ),
]
ServerResult = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="result file of the challenge's server, for a split that only it can score",
    ),
]


def evaluate(
    checkpoint: checkpoints.Checkpoint,
    recipe: checkpoints.RecipeOption = None,
    data: checkpoints.DataOption = None,
    split: Annotated[
        str | None, typer.Option(help="split to score; the recipe's `report` if not given")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="record to write, DIR/x.json, with DIR/x.predictions.jsonl beside it"),
    ] = None,
    other: OtherRun = None,
    server_result: ServerResult = None,
    precision: Precision = None,
    task: checkpoints.TaskOption = None,
    max_text_length: checkpoints.LengthOption = None,
    resize: checkpoints.ResizeOption = None,
    trained_on: checkpoints.TrainedOnOption = None,
    published: checkpoints.PublishedOption = None,
) -> None:
    """Score a checkpoint on a split with labels.

    Prints the scores and writes the result record and the predictions: into the run folder, into
    results/NAME/ of the current folder for a checkpoint that was trained elsewhere, or where
    --output says. `evaluate Q2A --with QA2R` joins the predictions of two VCR checkpoints, both
    evaluated before, by annot_id: Q2AR. With --server-result the scores are the server's, and no
    model runs.
    """
    if server_result is not None and (split is None or other is not None):
        raise RequestError(
            "evaluate: --server-result goes with --split test-dev, and without --with"
        )
    if precision is not None and other is not None:
        raise RequestError(
            "evaluate: --precision goes with one checkpoint; --with joins finished evaluations"
        )
    request = checkpoints.requested(checkpoint, recipe, data, split)
    if published is not None:
        checkpoints.published_lines(published, "", "")  # refuse a misspelt name before the work
    quiet_libraries()
    asked = checkpoints.asked_of(task, max_text_length, resize, trained_on)
    if other is not None:
        root = request.data_root if data or recipe else None
        record, written = join(checkpoint, other, request.split, output, root)
    else:
        record, written = score(checkpoint, request, output, server_result, precision, asked)
    if is_first_process():
        print_record(record)
        if published is not None:
            source = record.data["source"]
            print("\n".join(checkpoints.published_lines(published, source, record.task)))
        print("\n".join(f"written: {path}" for path in written))


def join(
    checkpoint: Path, other: Path, split: str, output: Path | None, data_root: Path | None
) -> tuple["Record", list[Path]]:
    """Join the predictions of two VCR checkpoints: the record, and the files written."""
    from vle_bench.evaluation import outputs
    from vle_bench.evaluation.published_checkpoint import evaluation_folder
    from vle_bench.evaluation.vcr_join import join_vcr

    run, other_run = evaluation_folder(checkpoint), evaluation_folder(other)
    target = output or run / "results" / f"{JOINED}.{split}.json"
    outputs.check_joined_output(target, run, other_run, split)
    accelerator = scoring_accelerator()
    record = join_vcr(run, other_run, split, target, accelerator=accelerator, data_root=data_root)
    return record, [target]


def score(
    checkpoint: Path,
    request: checkpoints.Request,
    output: Path | None,
    server_result: Path | None,
    precision: str | None,
    asked: "Asked",
) -> tuple["Record", list[Path]]:
    """Score one checkpoint, or record the server's scores: the record, and the files written."""
    from vle_bench.analysis.model_card import write_cards
    from vle_bench.evaluation import outputs
    from vle_bench.evaluation.evaluate import evaluate_checkpoint
    from vle_bench.evaluation.published_checkpoint import (
        evaluation_folder,
        is_elsewhere,
        task_asked,
    )
    from vle_bench.evaluation.server_result import record_server_result
    from vle_bench.models.pretrained import resolve

    run, split, root = evaluation_folder(checkpoint), request.split, request.data_root
    name = task_asked(checkpoint, asked)
    target = output or run / "results" / f"{name}.{split}.json"
    if not is_elsewhere(checkpoint):
        weights = resolve(checkpoint) / "model.safetensors"
        outputs.check_record_output(target, run, weights, name, split, root)
    accelerator = scoring_accelerator()
    if server_result is not None:
        record = record_server_result(
            checkpoint,
            root,
            split,
            server_result,
            target,
            accelerator=accelerator,
            precision=precision,
            asked=asked,
        )
        written = [target]
    else:
        record = evaluate_checkpoint(
            checkpoint,
            root,
            split,
            target,
            accelerator=accelerator,
            run=run,
            num_workers=request.num_workers,
            precision=precision,
            asked=asked,
        )
        written = [target, outputs.predictions_file(target, run, name, split)]
    if accelerator.is_main_process:
        write_cards(run)
    return record, written


def scoring_accelerator() -> "Accelerator":
    """The processes and the device that score; checkpoint or --precision decide the precision.

    Raises:
        RequestError: an accelerate configuration would change it, as in `train`.
    """
    from accelerate import Accelerator

    check_launch(os.environ)
    return Accelerator()


def report(
    run: Annotated[
        Path, typer.Argument(help="a run folder, or a checkpoint that was trained elsewhere")
    ],
    split: Annotated[
        str | None,
        typer.Option(help="split that was evaluated; the recipe's `report` if not given"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="page to write; RUN/report.<task>.<split>.html if not given")
    ] = None,
    other: OtherRun = None,
    data: Annotated[
        Path | None, typer.Option(help="prepared data, if moved, or if no recipe names them")
    ] = None,
) -> None:
    """Write one HTML page about the errors of a run.

    Shows scores by kind of question, calibration, confusions, the 50 most confident mistakes with
    their pictures, learning curves, recipe and provenance, from the record and the predictions that
    `evaluate` wrote.
    """
    from vle_bench.evaluation.outputs import refuse_existing

    if output is not None:
        refuse_existing(output)
    quiet_libraries()
    from vle_bench.analysis.report import write_report
    from vle_bench.evaluation.published_checkpoint import evaluation_folder

    folder = evaluation_folder(run)
    other_folder = None if other is None else evaluation_folder(other)
    print(f"written: {write_report(folder, split, output, other_folder, data)}")


def predict(
    checkpoint: checkpoints.Checkpoint,
    split: Annotated[str, typer.Option(help="split to answer; it needs no labels")],
    output: Annotated[Path, typer.Option(help="results file to write; must not exist yet")],
    recipe: checkpoints.RecipeOption = None,
    data: checkpoints.DataOption = None,
    other: OtherRun = None,
    precision: Precision = None,
    task: checkpoints.TaskOption = None,
    max_text_length: checkpoints.LengthOption = None,
    resize: checkpoints.ResizeOption = None,
) -> None:
    """Answer a split in the official submission format.

    VCR's file holds the answers of one checkpoint and the rationales of another: `predict Q2A
    --with QA2R`. A run of vcr_joint has both.
    """
    from vle_bench.evaluation.outputs import refuse_existing

    refuse_existing(output)
    request = checkpoints.requested(checkpoint, recipe, data, split)
    quiet_libraries()
    from vle_bench.evaluation.evaluate import predict_checkpoint

    count, source = predict_checkpoint(
        checkpoint,
        request.data_root,
        split,
        output,
        accelerator=scoring_accelerator(),
        other=other,
        num_workers=request.num_workers,
        precision=precision,
        asked=checkpoints.asked_of(task, max_text_length, resize, None),
    )
    if is_first_process():
        print(f"written: {output} ({count:,} answers, each question of {split} once)")
        whole = SOURCES[source].server_split
        if whole is not None and split != whole:
            print(f"The server only accepts complete files: --split {whole} answers every question")


def print_record(record: "Record") -> None:
    """Print the scores of a record, overall and by kind of question, and what limits them."""
    from vle_bench.evaluation.record import precision_of

    source = record.data["source"]
    print(f"\n{record.model['name']} on {record.split} of {source}, {record.n:,} examples")
    print_rows([(name, m.value, m.interval, m.n) for name, m in record.metrics.items()])
    for kind, groups in record.breakdown.items():
        print(f"by {kind}")
        print_rows([(f"  {name}", m.value, m.interval, m.n) for name, m in groups.items()])
    if record.training.get("precision", record.precision) != record.precision:
        print(f"scored in {precision_of(record)}")
    if record.kind == "elsewhere":
        splits = ", ".join(record.training_splits) or "unknown splits (--trained-on): not ranked"
        print(f"trained elsewhere, on {splits}; {settings_of(record)}")
        soft_score = CATALOGUE[record.task].label_metric
        if soft_score and record.processes and soft_score not in record.metrics:
            print(f"{soft_score} is left out: the data's label map is not the checkpoint's, which")
            print("the accuracy does not need")
    if record.contaminated:
        shared = f"{record.split} shares images with the training splits"
        print(f"contaminated: {shared}; this score is never ranked")


def settings_of(record: "Record") -> str:
    """Text length and pictures of a checkpoint from elsewhere, and what was asked for instead."""
    model = record.model
    if "pictures" not in model:
        return "joined by annot_id"
    asked = f" (asked for: {model['asked']})" if "asked" in model else ""
    length = f"texts of at most {model['max_text_length']} tokens"
    return f"{length}, pictures: {model['pictures']}{asked}"


def compare(
    run_a: Annotated[Path, typer.Argument(help="a run folder")],
    run_b: Annotated[Path, typer.Argument(help="another, evaluated on the same questions")],
    split: Annotated[
        str | None,
        typer.Option(help="split that both were evaluated on; the recipes' `report` if not given"),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="prepared data, if moved")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object, fractions unrounded")
    ] = False,
) -> None:
    """Test whether two runs differ.

    Prints the difference, B minus A on the same questions, with a 95 % interval from a paired
    bootstrap over images, McNemar's exact test for VCR, the same by kind of question, and the
    examples that changed most, from the records and predictions that `evaluate` wrote.
    """
    from vle_bench.analysis.compare import compare_runs, comparison_lines
    from vle_bench.evaluation.published_checkpoint import evaluation_folder

    comparison = compare_runs(evaluation_folder(run_a), evaluation_folder(run_b), split, data)
    for run, record in zip(comparison.runs, comparison.records, strict=True):
        if record.contaminated:
            trained = f"{run} was trained on images of {record.split}"
            warning = f"CONTAMINATED: {trained}; its gain there does not carry over to other data"
            print(warning, file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(comparison.as_json()))  # ASCII, whatever the terminal's encoding
    else:
        print("\n".join(comparison_lines(comparison)))
