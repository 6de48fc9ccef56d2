"""The ways in which a command can end early for a reason that we can name."""

import difflib
from collections.abc import Sequence


class RequestError(ValueError):
    """What was asked for is wrong (a key, a file, a record): one line that says what and the way out; exit status 2."""


class RunFailed(RuntimeError):
    """The request was fine and the run failed (a non-finite loss, a full disk): one line; exit status 1."""


class Interrupted(Exception):
    """A signal ended the run after all of it was saved: one line; exit status 128 + the signal's number."""

    def __init__(self, signal: int, line: str) -> None:
        super().__init__(line)
        self.signal = signal


def closest(word: str, candidates: Sequence[str]) -> str:
    return max(candidates, key=lambda c: difflib.SequenceMatcher(None, c, word).ratio())
