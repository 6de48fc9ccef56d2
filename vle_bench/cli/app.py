"""The console script: every command, and the line and the exit status of an error."""

import errno
import io
import os
import sys
from typing import Annotated

import typer

from vle_bench import __version__
from vle_bench.cli import score
from vle_bench.cli.analysis import compare, report
from vle_bench.cli.data import download, prepare
from vle_bench.cli.evaluate import evaluate, predict
from vle_bench.cli.leaderboard import reproduce, table
from vle_bench.cli.look import look
from vle_bench.cli.record import record_app
from vle_bench.cli.study import study
from vle_bench.cli.train import bench, convert, demo, train, validate
from vle_bench.errors import Interrupted, RequestError, RunFailed
from vle_bench.training.launch import meet_on_cpu

app = typer.Typer(
    name="vle-bench",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Fine-tune and benchmark the vision-language encoders VLE and METER.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(score.score_app, name="score", help="Score a results file of any program.")
app.add_typer(
    score.check_app, name="check-submission", help="List what an official server would reject."
)
app.add_typer(record_app, name="record", help="Make a record of predictions of any program.")


def show_version(value: bool) -> None:
    if value:
        print(f"vle-bench {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="print the version"),
    ] = False,
) -> None: ...


def env() -> None:
    """Print versions, devices and missing packages."""
    import importlib.util

    import torch

    from vle_bench.evaluation.environment import code_version, library_versions

    print(f"vle-bench {__version__}, commit {code_version()['commit'] or 'unknown (installed)'}")
    for name, version in library_versions().items():
        print(f"{name:14} {version}")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"{'devices':14} {', '.join(devices) or f'CPU, {torch.get_num_threads()} threads'}")
    if importlib.util.find_spec("easy_vqa") is None:
        print("missing: easy-vqa (the demo's data): pip install 'vle-bench[demo]'")


# Each command with an example, in the order of the help.
COMMANDS = (
    (train, "train recipes/vqa/vle-base.yaml train.seed=1"),
    (evaluate, "evaluate checkpoints/vle-base-for-vqa --data data/vqav2 --split minival"),
    (report, "report runs/vle-base-vqa --split minival"),
    (predict, "predict runs/vle-base-vqa --split test --output vqa_test.json"),
    (download, "download vqav2 --output data/vqav2-official"),
    (prepare, "prepare easy-vqa --output data/easy-vqa"),
    (look, "look recipes/demo/vqa-tiny.yaml --split val"),
    (convert, "convert meter_clip16_224_roberta_pretrain.ckpt --output meter-base"),
    (validate, "validate recipes/vqa/vle-base.yaml train.batch_size=512"),
    (table, "table --add runs/vle-base-vqa"),
    (compare, "compare runs/vle-base-vqa runs/vle-base-vqa-seed-1"),
    (reproduce, "reproduce recipes/vqa/vle-base.yaml"),
    (demo, "demo --only vqa --seeds 3"),
    (study, "study --only vle-scratch,vle-mlm-itm-pbc-mpc --seeds 1"),
    (bench, "bench recipes/vqa/vle-base.yaml --synthetic --naive model.image_size=224"),
    (env, "env"),
)
for command, example in COMMANDS:
    app.command(epilog=f"Example: vle-bench {example}")(command)


def replace_unprintable_characters() -> None:
    """Let a terminal without "→" or "±" print "?" instead; stderr escapes such characters."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def main() -> None:
    """Run the console script.

    A wrong request is one line on stderr and exit status 2, a failed run one line and 1.
    """
    replace_unprintable_characters()
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")  # it may be given anywhere
    try:
        meet_on_cpu(os.environ)
        app()
    except Exception as error:
        if debug and not isinstance(error, Interrupted):
            raise
        print(f"vle-bench: {message(error)}", file=sys.stderr)
        sys.exit(status(error))


def message(error: Exception) -> str:
    """Return one line about an error; a group of problems of one request may have several."""
    if isinstance(error, (RequestError, RunFailed, Interrupted)):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}"
    where = "unexpected; --debug shows the traceback, which names the module at fault"
    return f"{type(error).__name__}: {error} ({where})"


def status(error: Exception) -> int:
    """Return the exit status: 2 for a wrong request, 128 + signal if interrupted, else 1."""
    if isinstance(error, Interrupted):
        return 128 + error.signal
    # a folder in the place of a file or a missing permission is a wrong request, a full disk is not
    wrong_path = isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT)
    return 2 if isinstance(error, RequestError) or wrong_path else 1
