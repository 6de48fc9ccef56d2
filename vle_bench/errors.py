"""Errors that end a command with one line."""

import difflib
from collections.abc import Sequence


class RequestError(ValueError):
    """A wrong request (key, file, record): one line with the problem and the way out; exit 2."""


class RunFailed(RuntimeError):
    """A run that failed after a correct request (non-finite loss, full disk): one line; exit 1."""


class Interrupted(Exception):
    """A signal ended the run after everything was saved: one line; exit 128 + signal number."""

    def __init__(self, signal: int, line: str) -> None:
        super().__init__(line)
        self.signal = signal


def closest(word: str, candidates: Sequence[str]) -> str:
    return max(candidates, key=lambda c: difflib.SequenceMatcher(None, c, word).ratio())
