"""The bar on a terminal, and plain lines elsewhere."""

import io
import sys

import pytest

from vle_bench import progress
from vle_bench.progress import Bar, in_words, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_where_there_is_no_terminal(clock, capsys):
    with Bar("train", 100, initial=40) as bar:
        for clock[0] in (5.0, 16.0, 20.0, 31.0):
            bar.advance(10, f"loss {clock[0]}")
    assert capsys.readouterr().err.splitlines() == [
        "train: 60/100, loss 16.0, 32 s left",
        "train: 80/100, loss 31.0, 16 s left",
        "train: 80/100 in 31.0 s",
    ]


def test_bytes_in_words(clock, capsys):
    with Bar("a.zip", 2_500_000, in_bytes=True) as bar:
        clock[0] = 15.0
        bar.advance(500_000)
    assert capsys.readouterr().err.splitlines() == [
        "a.zip: 500.0 kB of 2.5 MB, 60 s left",
        "a.zip: 500.0 kB of 2.5 MB in 15.0 s",
    ]
    assert [in_words(n) for n in (999, 1_000, 13_500_000_000)] == ["999 bytes", "1.0 kB", "13.5 GB"]


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Bar("train", 4) as bar:
        bar.advance(1, "loss 0.5")
        bar.advance(3, "loss 0.25")
        bar._live.refresh()
    last = terminal.getvalue().split("\r")[-1]
    assert "train" in last and "4/4" in last and "loss 0.25" in last and "left" in last


def test_other_processes_print_nothing(monkeypatch, capsys):
    with Bar("train", 2, enabled=False) as bar:
        bar.advance(2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Bar("train", 2, enabled=False) as bar:
        bar.advance(2)
    assert terminal.getvalue() == ""


def test_track_yields_every_item(capsys):
    assert list(track("abc", "letters", 3)) == ["a", "b", "c"]
    assert capsys.readouterr().err.startswith("letters: 3/3 in ")
