"""Batches that worker processes load: the same batches, and named failures."""

import os
import signal
import time
from typing import Any

import pytest
import torch

from vle_bench.data.loader import load_batches
from vle_bench.errors import RequestError, RunFailed

PARTS = [[0, 1], [2], [3, 4, 5]]


def collate(part: list[int]) -> dict[str, Any]:
    return {"ids": part, "process": os.getpid(), "inputs": {"x": torch.tensor(part)}}


def refusing(part: list[int]) -> dict[str, Any]:
    if part == [2]:
        raise RequestError("a.jpg: cannot be decoded")
    return collate(part)


def dying(part: list[int]) -> dict[str, Any]:
    if part == [2]:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return collate(part)


def dying_at_the_long_one(part: list[int]) -> dict[str, Any]:
    if len(part) > 8:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return collate(part)


@pytest.mark.parametrize("num_workers", [0, 1, 2, 8])
def test_the_batches_do_not_depend_on_the_workers(num_workers: int) -> None:
    batches = list(load_batches(PARTS, collate, num_workers, pinned=False))
    assert [batch["ids"] for batch in batches] == PARTS
    assert [batch["inputs"]["x"].tolist() for batch in batches] == PARTS
    here = {batch["process"] == os.getpid() for batch in batches}
    assert here == {num_workers == 0}


def test_no_parts_and_one_part_need_no_worker() -> None:
    assert list(load_batches([], collate, 4, pinned=False)) == []
    (batch,) = load_batches([[1]], collate, 4, pinned=False)
    assert batch["process"] == os.getpid()


def test_workers_draw_no_numbers_of_the_training() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(load_batches(PARTS, collate, 2, pinned=False))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_refused_picture_is_one_line(num_workers: int) -> None:
    with pytest.raises(RequestError) as error:
        list(load_batches(PARTS, refusing, num_workers, pinned=False))
    assert str(error.value) == "a.jpg: cannot be decoded"


def test_a_dead_worker_is_named() -> None:
    told = (
        r"^a process that loads pictures has died \(pid \d+\), at rows 2 of the split "
        r"\(counted from 0\), perhaps because memory ran out; train.num_workers=0 "
    )
    started = time.monotonic()
    with pytest.raises(RunFailed, match=told):
        list(load_batches(PARTS, dying, 2, pinned=False))
    assert time.monotonic() - started < 30  # not a hang
    long = [list(range(20)), [2], [3]]
    with pytest.raises(RunFailed, match=r"at rows 0, 1, 2, 3, 4, 5, 6, 7 and 12 more of the split"):
        list(load_batches(long, dying_at_the_long_one, 2, pinned=False))
