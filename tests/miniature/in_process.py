"""Commands in the process of the tests: one takes as long to import torch as all of its work on a miniature."""

import contextlib
import io
import os
import sys

from vle_bench.cli.app import main


def run(*arguments, cwd, code=0):
    """Run `vle-bench` in this process; returns stdout and stderr."""
    shown, errors, before = io.StringIO(), io.StringIO(), (sys.argv, os.getcwd())
    sys.argv = ["vle-bench", *map(str, arguments)]
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(errors):
            main()
        done = 0
    except SystemExit as stop:
        done = stop.code or 0
    finally:
        sys.argv = before[0]
        os.chdir(before[1])
        forget_precision()
    assert done == code, shown.getvalue() + errors.getvalue()
    return shown.getvalue(), errors.getvalue()


def forget_precision():
    """Accelerate keeps the precision of the first Accelerator of a process; a command would have had one of its own."""
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)
