"""Commands that run a checkpoint: `evaluate` and `predict`."""

import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vle_bench.cli.scores import is_first_process, print_record, published_lines
from vle_bench.data.sources import SOURCES
from vle_bench.errors import RequestError
from vle_bench.evaluation.request import (
    EVALUATION_BATCH_SIZE,
    Asked,
    Request,
    check_joined_output,
    check_record_output,
    evaluation_folder,
    predictions_file,
    record_file,
    refuse_existing,
)
from vle_bench.model_families import FAMILIES
from vle_bench.progress import quiet_libraries
from vle_bench.tasks.catalogue import JOINED, SCORED
from vle_bench.training.launch import check_launch

if TYPE_CHECKING:
    from accelerate import Accelerator

    from vle_bench.evaluation.record import Record


class Resize(str, Enum):
    crop = "crop"
    squash = "squash"
    published_vcr = "published-vcr"


Checkpoint = Annotated[
    Path,
    typer.Argument(
        help="a run folder, or a from_pretrained folder, such as that of hfl/vle-base-for-vqa"
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(help="recipe that names the data; the checkpoint's own if not given"),
]
DataOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="prepared data, instead of the recipe's")
]
TaskOption = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(SCORED),
        help="trained elsewhere: task, if config.json names no architecture",
    ),
]
LengthOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=4,
        max=100_000,
        help="trained elsewhere: most tokens of a text; 50 in VQA, 80 in VCR, or fewer if its "
        "tokenizer says so",
    ),
]
ResizeOption = Annotated[
    Resize | None,
    typer.Option(help="trained elsewhere: resize, if not as preprocessor_config.json says"),
]
TrainedOnOption = Annotated[
    str | None,
    typer.Option(
        metavar="SPLITS",
        help="trained elsewhere: training splits, such as train+val; without it, never ranked",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="|".join(FAMILIES),
        help="family of a checkpoint from elsewhere; one of another class is refused",
    ),
]
ProtocolOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="trained elsewhere: how it is asked, if not in the published way; "
        + "; ".join(
            f"{name}: {', '.join(family.protocols)}"
            for name, family in FAMILIES.items()
            if len(family.protocols) > 1
        ),
    ),
]
PromptOption = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="--model generate: the text around {question}"),
]
AnswersOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="--model blip: the answers to rank; the data's if not given"),
]
BatchSizeOption = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        max=100_000,
        help="questions (VCR: choices) a batch; changes memory and speed only",
    ),
]
PublishedOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="also print the figures of a model in published.yaml, such as VLE-base",
    ),
]
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
    checkpoint: Checkpoint,
    recipe: RecipeOption = None,
    data: DataOption = None,
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
    task: TaskOption = None,
    max_text_length: LengthOption = None,
    resize: ResizeOption = None,
    trained_on: TrainedOnOption = None,
    model: ModelOption = None,
    protocol: ProtocolOption = None,
    prompt: PromptOption = None,
    answers: AnswersOption = None,
    batch_size: BatchSizeOption = EVALUATION_BATCH_SIZE,
    published: PublishedOption = None,
) -> None:
    """Score a checkpoint on a split with labels.

    Prints the scores and writes the result record and the predictions: into the run folder, into
    results/NAME/ of the current folder for a checkpoint that was trained elsewhere, or where
    --output says. `evaluate Q2A --with QA2R` joins the predictions of two VCR checkpoints, both
    evaluated before, by annot_id: Q2AR; either may be a record that --output named. With
    --server-result the scores are the server's, and no model runs.
    """
    refuse_with_server_result(server_result, split, other)
    asked = Asked(
        task,
        max_text_length,
        resize.value if resize else None,
        trained_on,
        model,
        protocol,
        prompt,
        answers,
    )
    refuse_with_joined(other, {"--precision": precision, **asked.options})
    if published is not None:
        published_lines(published, "", "")  # refuse a misspelt name at once
    given = (checkpoint, recipe, data, split, precision, asked, batch_size)
    request = requested(*given, joined=other is not None)
    quiet_libraries()
    if other is not None:
        root = request.data_root if data or recipe else None
        record, written = join(request, other, output, root)
    else:
        record, written = score(request, output, server_result)
    if is_first_process():
        print_record(record)
        if published is not None:
            print("\n".join(published_lines(published, record.data["source"], record.task)))
        print("\n".join(f"written: {path}" for path in written))


def refuse_with_server_result(
    server_result: Path | None, split: str | None, other: Path | None
) -> None:
    """Refuse options that do not go with the server's scores; raises RequestError."""
    if server_result is not None and (split is None or other is not None):
        raise RequestError(
            "evaluate: --server-result goes with --split test-dev, and without --with"
        )


def refuse_with_joined(other: Path | None, options: Mapping[str, object]) -> None:
    """Refuse the options of a single checkpoint's evaluation, which --with would not heed."""
    given = [name for name, value in options.items() if value is not None]
    if other is not None and given:
        raise RequestError(
            f"evaluate: {given[0]} goes with one checkpoint; --with joins finished evaluations: "
            f"evaluate each with {given[0]} and --output FILE, then join the two files: evaluate "
            "Q2A.json --with QA2R.json --output Q2AR.json"
        )


def join(
    request: Request, other: Path, output: Path | None, data_root: Path | None
) -> tuple["Record", list[Path]]:
    """Join the predictions of two VCR checkpoints: the record, and the files written.

    Args:
        other: like `request.checkpoint` a checkpoint, or the record file of an evaluation.
    """
    from vle_bench.evaluation.vcr_join import join_vcr

    split, files = request.split, [p for p in (request.checkpoint, other) if p.is_file()]
    run, other_run = (
        path if path.is_file() else evaluation_folder(path) for path in (request.checkpoint, other)
    )
    if files and output is None:
        raise RequestError(f"{files[0]}: a record is joined into the file that --output names")
    target = output or run / "results" / f"{JOINED}.{split}.json"
    if files:
        refuse_existing(target)
    else:
        check_joined_output(target, run, other_run, split)
    accelerator = scoring_accelerator()
    record = join_vcr(run, other_run, split, target, accelerator=accelerator, data_root=data_root)
    return record, [target]


def score(
    request: Request, output: Path | None, server_result: Path | None
) -> tuple["Record", list[Path]]:
    """Score one checkpoint, or record the server's scores: the record, and the files written."""
    from vle_bench.analysis.model_card import write_cards
    from vle_bench.data.prepared import read_manifest
    from vle_bench.data.splits import other_name
    from vle_bench.evaluation.evaluate import evaluate_checkpoint
    from vle_bench.evaluation.other_models import task_asked
    from vle_bench.evaluation.published_checkpoint import read_training, trained_on
    from vle_bench.evaluation.server_result import record_server_result
    from vle_bench.models.pretrained import resolve

    checkpoint, split = request.checkpoint, request.split
    run, folder = evaluation_folder(checkpoint), resolve(checkpoint)
    training = read_training(folder)
    name, other_data = task_asked(folder, training, request), None
    if training is not None:
        trained = trained_on(folder, training)
        manifest = request.data_root / "manifest.json"  # opening the data says if it is missing
        data = read_manifest(manifest).identity if manifest.is_file() else trained
        other_data = other_name(data, trained)
    target = output or record_file(run, name, split, other_data)
    if training is not None:
        check_record_output(target, run, folder / "model.safetensors", name, request)
    accelerator = scoring_accelerator()
    if server_result is not None:
        record = record_server_result(request, server_result, target, accelerator=accelerator)
        written = [target]
    else:
        record = evaluate_checkpoint(request, target, accelerator=accelerator)
        written = [target, predictions_file(target, run, name, split)]
    if accelerator.is_main_process:
        write_cards(run)
    return record, written


def scoring_accelerator() -> "Accelerator":
    """Return the processes and the device that score, with the checkpoint's or --precision's type.

    Raises:
        RequestError: an accelerate configuration would change it, as in `train`.
    """
    from accelerate import Accelerator

    check_launch(os.environ, scoring=True)
    return Accelerator()


def predict(
    checkpoint: Checkpoint,
    split: Annotated[str, typer.Option(help="split to answer; it needs no labels")],
    output: Annotated[Path, typer.Option(help="results file to write; must not exist yet")],
    recipe: RecipeOption = None,
    data: DataOption = None,
    other: OtherRun = None,
    precision: Precision = None,
    task: TaskOption = None,
    max_text_length: LengthOption = None,
    resize: ResizeOption = None,
    model: ModelOption = None,
    protocol: ProtocolOption = None,
    prompt: PromptOption = None,
    answers: AnswersOption = None,
    batch_size: BatchSizeOption = EVALUATION_BATCH_SIZE,
) -> None:
    """Answer a split in the official submission format.

    VCR's file holds the answers of one checkpoint and the rationales of another: `predict Q2A
    --with QA2R`. A run of vcr_joint has both.
    """
    refuse_existing(output)
    asked = Asked(
        task,
        max_text_length,
        resize.value if resize else None,
        model=model,
        protocol=protocol,
        prompt=prompt,
        answers=answers,
    )
    request = requested(checkpoint, recipe, data, split, precision, asked, batch_size)
    quiet_libraries()
    from vle_bench.evaluation.evaluate import predict_checkpoint

    accelerator = scoring_accelerator()
    count, source = predict_checkpoint(request, output, accelerator=accelerator, other=other)
    if is_first_process():
        number = f"{count:,} answer" + "s" * (count != 1)
        print(f"written: {output} ({number}, each question of {split} once)")
        whole = SOURCES[source].server_split
        if whole is not None and split != whole:
            print(f"The server only accepts complete files: --split {whole} answers every question")


def requested(
    checkpoint: Path,
    recipe: str | None,
    data: Path | None,
    split: str | None,
    precision: str | None,
    asked: Asked,
    batch_size: int,
    *,
    joined: bool = False,
) -> Request:
    """Take data and split from the command line, or from a recipe.

    Args:
        recipe: None: the recipe of the training run, if there is one.
        joined: the checkpoint may be the record file of its evaluation.

    Raises:
        RequestError: the checkpoint does not exist, or nothing names the data or the split.
    """
    from vle_bench.recipe.load import load_recipe
    from vle_bench.recipe.schema import TrainGroup

    if not checkpoint.is_dir() and not (joined and checkpoint.is_file()):
        # OWNER/MODEL, and not a name in a folder that is here, such as runs/
        on_hub = len(checkpoint.parts) == 2 and not checkpoint.is_absolute()
        on_hub = on_hub and not checkpoint.parent.is_dir()
        target = f"checkpoints/{checkpoint.name}"
        fetch = f"; of the hub: `hf download {checkpoint} --local-dir {target}`"
        raise RequestError(f"{checkpoint}: no such folder{fetch * on_hub}")
    places = (checkpoint / "recipe.yaml", checkpoint.parent / "recipe.yaml")
    source = recipe or next((str(path) for path in places if path.is_file()), None)
    loaded = None if source is None else load_recipe(source, [])
    root = data or (Path(loaded.data.root) if loaded else None)
    chosen = split or (loaded.data.report if loaded else None)
    if root is None or chosen is None:
        options = (("--data DIR", root), ("--split S", chosen))
        missing = " and ".join(name for name, value in options if value is None)
        raise RequestError(f"{checkpoint}: no recipe.yaml beside it: name {missing}, or --recipe")
    workers = TrainGroup.model_fields["num_workers"].default
    if loaded is not None:
        workers = loaded.train.num_workers
    return Request(checkpoint, root, chosen, workers, batch_size, precision, asked)
