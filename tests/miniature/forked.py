"""Processes that a launcher would start, forked from one that has imported everything: importing torch takes each 5 seconds."""

import os
import runpy
import socket
import sys
import tempfile
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from vle_bench.demo.jobs import context

SECONDS = 300.0  # that a command may take


def launched(
    processes: int, *arguments: object, cwd: Path, program: Path | None = None, **environment: str
) -> str:
    """Run `vle-bench` on so many CPU processes, as torchrun would; returns what they print.

    Args:
        program: a script to run in its place.
        environment: variables to set.
    """
    command = ["vle-bench" if program is None else str(program), *map(str, arguments)]
    variables = {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", **environment}
    if processes > 1:
        variables |= {
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": free_port(),
        }
    with tempfile.TemporaryDirectory() as folder:
        files = (Path(folder) / "shown", Path(folder) / "errors")
        started = []
        for rank in range(processes):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
            started.append(
                context().Process(target=work, args=(command, str(cwd), variables | own, files))
            )
            started[-1].start()
        statuses = ended(started)
        shown, errors = (file.read_text(encoding="utf-8") for file in files)
    assert statuses == [0] * processes, shown + errors
    return shown


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def ended(started: list[ForkServerProcess]) -> list[int | None]:
    """Wait for all; their exit statuses. As by torchrun, no process outlives one that failed."""
    end = time.monotonic() + SECONDS
    while any(process.exitcode is None for process in started):
        if time.monotonic() > end or any(process.exitcode for process in started):
            for process in started:
                process.kill()
        time.sleep(0.02)
    return [process.exitcode for process in started]


def work(
    command: list[str], folder: str, variables: dict[str, str], files: tuple[Path, Path]
) -> None:
    """Do what one process does; what it prints is added to the files."""
    os.environ |= variables
    os.chdir(folder)
    for file, number in zip(files, (1, 2), strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = command
    if command[0] == "vle-bench":
        runpy.run_module("vle_bench", run_name="__main__")
    else:
        runpy.run_path(command[0], run_name="__main__")
