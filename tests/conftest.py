"""One thread for each process of the tests, and the option that shows where their time goes."""

import gc
import os
from collections.abc import Iterator

import pytest

from tests.miniature.cpu_durations import CpuDurations

# As many processes as cores run tests, and some tests start processes of their own: with more threads than cores they spin
# against each other and take ten times as long. Set before torch is imported, and inherited by every process that a test starts.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = "1"
# `make test ARGS=...` would hand its ARGS on to every make that a test starts.
for name in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL"):
    os.environ.pop(name, None)

# Imports make two million objects that stay: the collector walks through them again and again, a tenth of all CPU time.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cpu-durations",
        type=int,
        default=0,
        metavar="N",
        help="show the N files, tests and fixtures that took the most CPU time, children included",
    )


def pytest_configure(config: pytest.Config) -> None:
    shown = config.getoption("--cpu-durations")
    if shown:
        config.pluginmanager.register(CpuDurations(config, shown), "cpu-durations")


@pytest.fixture
def fresh_state() -> Iterator[None]:
    """Accelerate keeps the precision of the first Accelerator of a process; every command starts one."""
    import torch
    from accelerate.state import AcceleratorState

    threads = torch.get_num_threads()
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(threads)
