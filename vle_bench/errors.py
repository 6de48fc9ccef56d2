"""The ways in which a command can end early for a reason that we can name."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class RequestError(ValueError):
    """What was asked for is wrong (a key, a file, a record): one line that says what and the way out; exit status 2."""


class RunFailed(RuntimeError):
    """The request was fine and the run failed (a non-finite loss, a full disk): one line; exit status 1."""


class Interrupted(Exception):
    """A signal ended the run after all of it was saved: one line; exit status 128 + the signal's number."""

    def __init__(self, signal: int, line: str) -> None:
        super().__init__(line)
        self.signal = signal


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """A text file that cannot be opened or decoded is a RequestError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise RequestError(f"{path}: a folder, not a file") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not UTF-8 text") from error
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error}") from error


def closest(word: str, candidates: Sequence[str]) -> str:
    return max(candidates, key=lambda c: difflib.SequenceMatcher(None, c, word).ratio())
