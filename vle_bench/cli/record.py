"""Commands that make a record of predictions from anywhere: `record vqa` and `record vcr`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

record_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

DataOption = Annotated[
    Path, typer.Option(metavar="DIR", help="prepared data, whose metric scores the predictions")
]
SplitOption = Annotated[str, typer.Option(help="split that was predicted, with labels")]
ModelOption = Annotated[str, typer.Option(metavar="NAME", help="name in the tables")]
TrainedOnOption = Annotated[
    str | None,
    typer.Option(
        metavar="SPLITS",
        help="training splits of these data, such as train+val; without it, never ranked",
    ),
]
ParametersOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="number of the model's parameters")
]
PretrainingOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help='pre-training data, such as "14M(I-T)"')
]
SourceOption = Annotated[
    str | None, typer.Option(metavar="URL", help="where the model or its predictions come from")
]
OutputOption = Annotated[
    Path | None,
    typer.Option(help="record to write; results/NAME/results/TASK.SPLIT.json if not given"),
]


@record_app.command(
    "vqa",
    epilog="Example: vle-bench record vqa --predictions predictions.json --data data/vqav2 "
    "--split minival --model my-model --trained-on train",
)
def record_vqa(
    predictions: Annotated[
        Path,
        typer.Option(
            help="results file in the official form of the data: [{question_id, answer}]; of "
            "multiple-choice questions the text of the choice"
        ),
    ],
    data: DataOption,
    split: SplitOption,
    model: ModelOption,
    trained_on: TrainedOnOption = None,
    parameters: ParametersOption = None,
    pretraining: PretrainingOption = None,
    source: SourceOption = None,
    output: OutputOption = None,
) -> None:
    """Score predictions of any program, as a record that `table --add` takes.

    One answer for each question of the split is needed, and no other. The record has the digest of
    the file in place of a checkpoint's, and the tables mark its row.
    """
    about = (model, trained_on, parameters, pretraining, source)
    record(predictions, data, split, about, output, vcr=False)


@record_app.command(
    "vcr",
    epilog="Example: vle-bench record vcr --predictions leaderboard.csv --data data/vcr "
    "--split val --model my-model --trained-on train",
)
def record_vcr(
    predictions: Annotated[
        Path, typer.Option(help="leaderboard CSV: annot_id, 4 answer and 16 rationale scores")
    ],
    data: DataOption,
    split: SplitOption,
    model: ModelOption,
    trained_on: TrainedOnOption = None,
    parameters: ParametersOption = None,
    pretraining: PretrainingOption = None,
    source: SourceOption = None,
    output: OutputOption = None,
) -> None:
    """Score predictions of any program, Q2A, QA2R and Q2AR, as a record that `table --add` takes.

    One row for each annot_id of the split is needed, and no other. The record has the digest of the
    file in place of a checkpoint's, and the tables mark its row.
    """
    about = (model, trained_on, parameters, pretraining, source)
    record(predictions, data, split, about, output, vcr=True)


def record(
    predictions: Path,
    data: Path,
    split: str,
    about: tuple[str, str | None, int | None, str | None, str | None],
    output: Path | None,
    *,
    vcr: bool,
) -> None:
    """Write the record, and print its scores and the way into the tables."""
    from vle_bench.cli.scores import print_record
    from vle_bench.progress import quiet_libraries

    quiet_libraries()
    from vle_bench.evaluation.external import ExternalModel, record_external

    result, written, notes = record_external(
        predictions, data, split, ExternalModel(*about), output, vcr=vcr
    )
    for note in notes:
        print(f"{predictions}: warning: {note}", file=sys.stderr)
    print_record(result)
    print(f"written: {written}\nto the tables: vle-bench table --add {written}")
