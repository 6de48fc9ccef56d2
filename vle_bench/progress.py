"""Long work shows how far it is: a bar on a terminal, a plain line now and then otherwise."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 15.0


class Bar:
    """Counts towards `total` and shows a free text (loss, learning rate, ...) beside the count; a context manager.

    Args:
        in_bytes: what is counted are bytes, shown as MB or GB.
        enabled: False on processes other than the first, which then print nothing.
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
        self.description, self.total, self.done, self.initial, self.enabled = (
            description,
            total,
            initial,
            initial,
            enabled,
        )
        self.in_bytes = in_bytes
        self._console = Console(stderr=True)
        self._live: Progress | None = None
        self._text = ""

    def __enter__(self) -> "Bar":
        self._start = self._last_line = time.monotonic()
        if self.enabled and self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                DownloadColumn() if self.in_bytes else MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._live = Progress(*columns, console=self._console)
            self._live.start()
            self._task = self._live.add_task(
                self.description, total=self.total, completed=self.initial, text=""
            )
        return self

    def advance(self, amount: int = 1, text: str = "") -> None:
        self.done += amount
        self._text = text or self._text
        if self._live is not None:
            self._live.update(self._task, completed=self.done, text=self._text)
        elif self.enabled:
            now = time.monotonic()
            if now - self._last_line >= SECONDS_BETWEEN_LINES:
                self._last_line = now
                fresh = max(self.done - self.initial, 1)
                left = (now - self._start) / fresh * (self.total - self.done)
                text = f"{self._text}, " if self._text else ""
                print(
                    f"{self.description}: {self.count()}, {text}{left:.0f} s left",
                    file=sys.stderr,
                    flush=True,
                )

    def count(self) -> str:
        return (
            f"{in_words(self.done)} of {in_words(self.total)}"
            if self.in_bytes
            else f"{self.done}/{self.total}"
        )

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        elif self.enabled and self.done:
            seconds = time.monotonic() - self._start
            print(
                f"{self.description}: {self.count()} in {seconds:.1f} s",
                file=sys.stderr,
                flush=True,
            )


def in_words(size: int) -> str:
    """Bytes, in the unit that fits; decimal units, as servers and disks count."""
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
