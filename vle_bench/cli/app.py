"""The command line: parse, load, call one function. Nothing heavy is imported before a command needs it."""

import errno
import io
import sys
from typing import Annotated

import typer

from vle_bench import __version__
from vle_bench.cli import score
from vle_bench.cli.data import download, prepare
from vle_bench.cli.environment import env
from vle_bench.cli.evaluate import compare, evaluate, predict, report
from vle_bench.cli.leaderboard import reproduce, table
from vle_bench.cli.train import bench, convert, demo, train, validate
from vle_bench.errors import Interrupted, RequestError, RunFailed

app = typer.Typer(
    name="vle-bench",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Fine-tune and benchmark the vision-language encoders VLE and METER.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(score.score_app, name="score", help="Official score of a results file from anywhere.")
app.add_typer(
    score.check_app,
    name="check-submission",
    help="What an official server would reject about a file.",
)


def show_version(value: bool) -> None:
    if value:
        print(f"vle-bench {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="show the version"),
    ] = False,
) -> None: ...


def show_whatever_can_be_shown() -> None:
    """Let a terminal that has no "→" or "±" show a "?" instead; stderr escapes such characters by itself."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


app.command(epilog="Example: vle-bench train recipes/vqa/vle-base.yaml train.seed=1")(train)
app.command(
    epilog="Example: vle-bench evaluate checkpoints/vle-base-for-vqa --data data/vqav2 --split minival"
)(evaluate)
app.command(epilog="Example: vle-bench report runs/vle-base-vqa --split minival")(report)
app.command(
    epilog="Example: vle-bench predict runs/vle-base-vqa --split test --output vqa_test.json"
)(predict)
app.command(epilog="Example: vle-bench download vqav2 --output data/vqav2-official")(download)
app.command(epilog="Example: vle-bench prepare easy-vqa --output data/easy-vqa")(prepare)
app.command(
    epilog="Example: vle-bench convert meter_clip16_224_roberta_pretrain.ckpt --output meter-base --tokenizer roberta-base"
)(convert)
app.command(epilog="Example: vle-bench validate recipes/vqa/vle-base.yaml train.batch_size=512")(
    validate
)
app.command(epilog="Example: vle-bench table --add runs/vle-base-vqa")(table)
app.command(epilog="Example: vle-bench compare runs/vle-base-vqa runs/vle-base-vqa-seed-1")(compare)
app.command(epilog="Example: vle-bench reproduce recipes/vqa/vle-base.yaml")(reproduce)
app.command(epilog="Example: vle-bench demo --only vqa --seeds 3")(demo)
app.command(
    epilog="Example: vle-bench bench recipes/vqa/vle-base.yaml --synthetic --naive model.image_size=224"
)(bench)
app.command(epilog="Example: vle-bench env")(env)


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
        print(
            f"vle-bench: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr
        )
        sys.exit(1 if error.errno in (errno.ENOSPC, errno.EDQUOT) else 2)
    except Exception as error:
        if debug:
            raise
        print(
            f"vle-bench: {type(error).__name__}: {error} (a defect of ours? --debug shows where)",
            file=sys.stderr,
        )
        sys.exit(1)
