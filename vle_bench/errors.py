"""Errors that end a command with one line."""

import difflib
from collections.abc import Iterable, Sequence

START, END = 1200, 500  # characters that are shown of a longer message


def shortened(message: str) -> str:
    """Cut the middle out of a message that is too long; a file may hold a value of any length.

    Its start names the file and the key, its end the way out.
    """
    if len(message) <= START + END:
        return message
    return f"{message[:START]} ... ({len(message) - START - END:,} characters) ... {message[-END:]}"


class RequestError(ValueError):
    """A wrong request (key, file, record): one line with the problem and the way out; exit 2."""

    def __init__(self, message: str) -> None:
        super().__init__(shortened(message))


class RunFailed(RuntimeError):
    """A run that failed after a correct request (non-finite loss, full disk): one line; exit 1."""

    def __init__(self, message: str) -> None:
        super().__init__(shortened(message))


class Interrupted(Exception):
    """A signal ended the run after everything was saved: one line; exit 128 + signal number."""

    def __init__(self, signal: int, line: str) -> None:
        super().__init__(line)
        self.signal = signal


def first_line(error: Exception) -> str:
    """Return the first line of a library's message; the kind of the error if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def first_of(items: Sequence[object], most: int = 8, separator: str = ", ") -> str:
    """Name the first items of a list, and count the others."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return separator.join(map(str, items[:most])) + more


def plural(count: int, noun: str) -> str:
    """Return a number with its noun: `1 problem`, `2,000 problems`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def few(names: Iterable[str]) -> str:
    """Format the number of names and the first five of them."""
    ordered = sorted(names)
    return f"{len(ordered)} ({', '.join(ordered[:5])}{', ...' if len(ordered) > 5 else ''})"


def closest(word: str, candidates: Sequence[str]) -> str:
    return max(candidates, key=lambda c: difflib.SequenceMatcher(None, c, word).ratio())
