"""Commands in the process of the tests: one takes as long to import torch as all of its work on a miniature."""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.miniature import asker
from vle_bench.cli.app import main


def run(*arguments, cwd, code=0):
    """Run `vle-bench` in this process; returns stdout and stderr."""
    status, shown, errors = outcome(*arguments, cwd=cwd)
    assert status == code, shown + errors
    return shown, errors


def outcome(*arguments, cwd):
    """Run `vle-bench` in this process; returns the exit status, stdout and stderr."""
    shown, errors, before = io.StringIO(), io.StringIO(), (sys.argv, os.getcwd())
    sys.argv = ["vle-bench", *map(str, arguments)]
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(errors):
            main()
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
    finally:
        sys.argv = before[0]
        os.chdir(before[1])
        forget_precision()
    return status, shown.getvalue(), errors.getvalue()


def forget_precision():
    """Accelerate keeps the precision of the first Accelerator of a process; a command would have had one of its own."""
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)


def make(*arguments, cwd, code=0):
    """Run make with a Python that hands `vle-bench` to this process; returns stdout and stderr."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        path = Path(folder) / "s"  # such a path has at most about 100 characters
        server.bind(str(path))
        server.listen()
        server.settimeout(0.05)
        python = f"PYTHON={sys.executable} -IS {asker.__file__} {path}"
        with (
            open(path.with_name("out"), "w+b") as shown,
            open(path.with_name("err"), "w+b") as errors,
        ):
            process = subprocess.Popen(
                ["make", *map(str, arguments), python], cwd=cwd, stdout=shown, stderr=errors
            )
            while process.poll() is None:
                with contextlib.suppress(TimeoutError), server.accept()[0] as line:
                    line.settimeout(None)
                    answer(line)
            said = []
            for file in (shown, errors):
                file.seek(0)
                said.append(file.read().decode())
    assert process.returncode == code, "".join(said)
    return said[0], said[1]


def answer(line):
    """Run the command that tests/miniature/asker.py sent."""
    folder, arguments = json.loads(line.makefile(encoding="utf-8").readline())
    line.sendall(json.dumps(outcome(*arguments, cwd=folder)).encode())
