"""Count the files and functions that one training step and one evaluation cross.

Runs real commands on a small prepared data set and follows their calls: every function of the
package from the command line to the first `optimizer.step()`, and from the command line to the
printed scores. A second step, from the end of the first `optimizer.step()` to the second one, has
a line of its own: the loop itself. The lines are those of the functions that were called; lines of
a function inside another one count once. Code is what is left of them without docstrings, comments
and empty lines.

    python -m tests.long.road [--list]
"""

import argparse
import ast
import inspect
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from unittest import mock

import torch

import vle_bench
from vle_bench.cli.app import main as command_line

PACKAGE = Path(vle_bench.__file__).parent
RECIPE = "recipes/demo/vqa-tiny.yaml"


class AtStep(BaseException):
    """Ends a command at its second optimizer step; no handler of `Exception` catches it."""


def ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(str(PACKAGE))


def frames() -> Iterator[FrameType]:
    """Yield the frames that are being run, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


class Road:
    """The functions of the package that were called, since the last `cut`."""

    def __init__(self) -> None:
        self.called: set[CodeType] = set()

    def follow(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and ours(frame):
            self.called.add(frame.f_code)

    def run(self, command: Callable[[], None]) -> None:
        sys.setprofile(self.follow)
        try:
            command()
        except (AtStep, SystemExit):
            pass
        finally:
            sys.setprofile(None)

    def cut(self) -> dict[str, dict[str, set[int]]]:
        """Return file -> function -> its lines, and begin anew."""
        files: dict[str, dict[str, set[int]]] = {}
        for code in self.called:
            # Lambdas and comprehensions are part of the function around them, and the body of a
            # module or of a class runs at its import.
            if code.co_name.startswith("<") or not code.co_flags & inspect.CO_NEWLOCALS:
                continue
            source, first = inspect.getsourcelines(code)
            file = Path(code.co_filename).relative_to(PACKAGE).as_posix()
            lines = set(range(first, first + len(source)))
            name = getattr(code, "co_qualname", code.co_name)  # from Python 3.11 on
            files.setdefault(file, {})[f"{name}:{first}"] = lines
        self.called = set()
        return files


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


def roads(scratch: Path) -> dict[str, dict[str, dict[str, set[int]]]]:
    """Follow training steps and an evaluation; data and run are written into `scratch`."""
    data, folder = str(scratch / "data"), str(scratch / "run")
    finished("prepare", "easy-vqa", "--output", data, "--limit-images", "40")
    small = ["train.max_steps=2", "train.num_workers=0", f"data.root={data}"]
    train = ["train", RECIPE, *small, "--output-dir", folder]
    road, files = Road(), {}
    step = torch.optim.AdamW.step

    def arrive(*arguments: object, **options: object) -> object:
        sys.setprofile(None)
        # `optimizer_step`, the function of the loop around it, and so on up to the command line.
        stack = [frame.f_code for frame in frames() if ours(frame)]
        if files:
            raise AtStep
        files["one training step"] = road.cut()
        road.called.add(stack[1])
        done = step(*arguments, **options)  # type: ignore[arg-type]
        sys.setprofile(road.follow)
        return done

    with mock.patch.object(torch.optim.AdamW, "step", arrive):
        road.run(lambda: run(*train))
    files["a second step"] = road.cut()
    finished(*train, "--resume")
    road.run(lambda: run("evaluate", folder, "--split", "test"))
    files["one evaluation"] = road.cut()
    return files


def lines_of_code(file: str) -> set[int]:
    """Return the lines of a file without docstrings, comments and empty lines."""
    text = (PACKAGE / file).read_text(encoding="utf-8")
    strings = [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    written = {
        number
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    }
    return written.difference(*strings)


def show(title: str, files: dict[str, dict[str, set[int]]], listed: bool) -> None:
    functions = sum(map(len, files.values()))
    on_road = {file: set[int]().union(*inside.values()) for file, inside in files.items()}
    lines = {file: len(numbers) for file, numbers in on_road.items()}
    code = sum(len(numbers & lines_of_code(file)) for file, numbers in on_road.items())
    print(
        f"{title}: {len(files)} files, {functions} functions, {sum(lines.values()):,} lines, "
        f"{code:,} of them code"
    )
    for file in sorted(files) if listed else ():
        names = ", ".join(
            f"{name.split(':')[0]} {len(of)}" for name, of in sorted(files[file].items())
        )
        print(f"  {file}: {len(files[file])} functions, {lines[file]} lines: {names}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="name every file and function")
    listed = parser.parse_args().list
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for title, files in roads(Path(scratch)).items():
            show(title, files, listed)


if __name__ == "__main__":
    main()
