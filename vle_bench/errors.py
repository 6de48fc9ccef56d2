"""The ways in which a command can end early for a reason that we can name."""

import difflib
from collections.abc import Sequence

START, END = 1200, 500  # characters that are shown of a longer message


def shortened(message: str) -> str:
    """A message without its middle if it is too long to read: a file may hold a value of any length.

    Its start names the file and the key, its end the way out.
    """
    if len(message) <= START + END:
        return message
    return f"{message[:START]} ... ({len(message) - START - END:,} characters) ... {message[-END:]}"


class RequestError(ValueError):
    """What was asked for is wrong (a key, a file, a record): one line that says what and the way out; exit status 2."""

    def __init__(self, message: str) -> None:
        super().__init__(shortened(message))


class RunFailed(RuntimeError):
    """The request was fine and the run failed (a non-finite loss, a full disk): one line; exit status 1."""

    def __init__(self, message: str) -> None:
        super().__init__(shortened(message))


class Interrupted(Exception):
    """A signal ended the run after all of it was saved: one line; exit status 128 + the signal's number."""

    def __init__(self, signal: int, line: str) -> None:
        super().__init__(line)
        self.signal = signal


def closest(word: str, candidates: Sequence[str]) -> str:
    return max(candidates, key=lambda c: difflib.SequenceMatcher(None, c, word).ratio())
