"""Progress of long work: a bar on a terminal, a plain line every 15 seconds otherwise.

Libraries show none of their own.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 15.0
WITH_TEXT = "{l_bar}{bar:24}| {n_fmt}/{total_fmt} {postfix} [{elapsed}, {remaining} left]"


class Bar:
    """A context manager that counts towards `total` and shows a text, such as the loss.

    Args:
        initial: count at the start, such as the steps of a resumed run.
        enabled: False on processes other than the main one, which then print nothing.
        in_bytes: the count is in bytes.
    """

    def __init__(
        self,
        description: str,
        total: int,
        *,
        initial: int = 0,
        enabled: bool = True,
        in_bytes: bool = False,
    ) -> None:
        self.description, self.total, self.done, self.initial = description, total, initial, initial
        self.enabled, self.in_bytes, self._text = enabled, in_bytes, ""

    def __enter__(self) -> "Bar":
        self._start = self._last_line = time.monotonic()
        self._live = tqdm(
            desc=self.description,
            total=self.total,
            initial=self.initial,
            unit="B" if self.in_bytes else "it",
            unit_scale=self.in_bytes,
            bar_format=WITH_TEXT,
            dynamic_ncols=True,
            disable=not (self.enabled and sys.stderr.isatty()),
        )
        return self

    def advance(self, amount: int = 1, text: str = "") -> None:
        self.done += amount
        self._text = text or self._text
        if not self._live.disable:
            self._live.set_postfix_str(self._text, refresh=False)
            self._live.update(amount)
        elif self.enabled and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            seconds_each = (self._last_line - self._start) / max(self.done - self.initial, 1)
            left = f"{seconds_each * (self.total - self.done):.0f} s left"
            self._print(f", {self._text}, {left}" if self._text else f", {left}")

    def _print(self, ending: str) -> None:
        if self.in_bytes:
            count = f"{in_words(self.done)} of {in_words(self.total)}"
        else:
            count = f"{self.done}/{self.total}"
        print(f"{self.description}: {count}{ending}", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._live.disable and self.enabled and self.done:
            self._print(f" in {time.monotonic() - self._start:.1f} s")
        self._live.close()


def in_words(size: int) -> str:
    """Write a number of bytes in decimal units, as servers and disks count."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Iterate with a bar."""
    with Bar(description, total) as bar:
        for item in items:
            yield item
            bar.advance()


def quiet_libraries() -> None:
    """Silence the progress bars and warnings of libraries, which would bury our own lines."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
