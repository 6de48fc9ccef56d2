"""Count the files and functions that one training step and one evaluation cross.

Runs real commands on a small prepared data set and follows their calls: every function of the
package from the command line to the first `optimizer.step()`, and from the command line to the
printed scores. The lines are those of the functions that were called.

    python -m tests.long.road [--list]
"""

import argparse
import inspect
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import NoReturn
from unittest import mock

import torch

import vle_bench
from vle_bench.cli.app import main as command_line

PACKAGE = Path(vle_bench.__file__).parent
RECIPE = "recipes/demo/vqa-tiny.yaml"
TITLES = ("one training step", "one evaluation")


class AtStep(BaseException):
    """Ends a command at its first optimizer step; no handler of `Exception` catches it."""


def arrive(*_: object, **__: object) -> NoReturn:
    raise AtStep


def crossed(command: Callable[[], None]) -> dict[CodeType, int]:
    """Run a command; return the functions of the package that it called, with their lines."""
    called: set[CodeType] = set()

    def follow(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            called.add(frame.f_code)

    sys.setprofile(follow)
    try:
        command()
    except (AtStep, SystemExit):
        pass
    finally:
        sys.setprofile(None)
    # Lambdas and comprehensions are part of the function around them, and the body of a module or
    # of a class runs at its import.
    functions = [
        code
        for code in called
        if not code.co_name.startswith("<") and code.co_flags & inspect.CO_NEWLOCALS
    ]
    return {code: len(inspect.getsourcelines(code)[0]) for code in functions}


def run(*arguments: str) -> None:
    with mock.patch.object(sys, "argv", ["vle-bench", *arguments]):
        command_line()


def finished(*arguments: str) -> None:
    """Run a command to its end; raises SystemExit if it fails."""
    try:
        run(*arguments)
    except SystemExit as status:
        if status.code:
            raise


def roads(scratch: Path) -> list[dict[CodeType, int]]:
    """Follow a training step and an evaluation; data and run are written into `scratch`."""
    data, folder = str(scratch / "data"), str(scratch / "run")
    finished("prepare", "easy-vqa", "--output", data, "--limit-images", "40")
    small = ["train.max_steps=1", "train.num_workers=0", f"data.root={data}"]
    train = ["train", RECIPE, *small, "--output-dir", folder]
    with mock.patch.object(torch.optim.AdamW, "step", arrive):
        training = crossed(lambda: run(*train))
    finished(*train, "--resume")
    return [training, crossed(lambda: run("evaluate", folder, "--split", "test"))]


def show(title: str, road: dict[CodeType, int], listed: bool) -> None:
    files = sorted({Path(code.co_filename).relative_to(PACKAGE).as_posix() for code in road})
    print(f"{title}: {len(files)} files, {len(road)} functions, {sum(road.values()):,} lines")
    for file in files if listed else ():
        inside = {
            c.co_name: lines for c, lines in road.items() if c.co_filename.endswith(f"/{file}")
        }
        names = ", ".join(sorted(inside))
        print(f"  {file}: {len(inside)} functions, {sum(inside.values())} lines: {names}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="name every file and function")
    listed = parser.parse_args().list
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for title, road in zip(TITLES, roads(Path(scratch)), strict=True):
            show(title, road, listed)


if __name__ == "__main__":
    main()
