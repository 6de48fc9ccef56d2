"""One list in a JSON file, record by record: the official files are too large to hold as Python objects."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from vle_bench.errors import RequestError

CHUNK = 1 << 22  # characters read at a time
LONGEST = 1 << 20  # characters that a record may have; the longest official ones have a few thousand
SPACE = " \t\n\r"


class Text:
    """A file's text from `place` on, with at least LONGEST characters ahead of it unless the file ends."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.text, self.place, self.before, self.ended = file, "", 0, 0, False
        self.decoder = json.JSONDecoder()

    def fill(self) -> None:
        while not self.ended and len(self.text) - self.place < LONGEST:
            more = self.file.read(CHUNK)
            self.ended = not more
            self.before += self.place
            self.text, self.place = self.text[self.place :] + more, 0

    def next(self) -> str:
        """The next character that is no space, not taken yet; "" at the end."""
        self.fill()
        while self.place < len(self.text) and self.text[self.place] in SPACE:
            self.place += 1
            if self.place == len(self.text):
                self.fill()
        return self.text[self.place : self.place + 1]

    def take(self, expected: str) -> str:
        """Take one of the expected characters; ValueError for another."""
        found = self.next()
        if not found or found not in expected:
            raise ValueError(f"{' or '.join(expected)} expected, {found or 'the end'} found")
        self.place += 1
        return found

    def value(self) -> Any:
        """Take a whole value."""
        self.next()
        self.fill()
        try:
            found, self.place = self.decoder.raw_decode(self.text, self.place)
        except json.JSONDecodeError as error:
            self.place = error.pos
            raise ValueError(error.msg) from error
        return found

    def values(self) -> Iterator[Any]:
        """Take a list, value by value."""
        self.take("[")
        if self.next() == "]":
            self.take("]")
            return
        yield self.value()
        while self.take(",]") == ",":
            yield self.value()


def stream(path: Path, key: str | None) -> Iterator[Any]:
    """The values of the list under `key` of the object in a file (None: the file is the list).

    Raises:
        RequestError: one line that names the file, at whatever place it turns out to be broken or cut off, also after the list.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = Text(file)
            try:
                yield from text.values() if key is None else member(text, path, key)
                if text.next():
                    raise ValueError("more after the end")
            except UnicodeDecodeError as error:
                raise RequestError(f"{path}: not UTF-8 text ({error.reason})") from error
            except RequestError:
                raise
            except ValueError as error:
                raise RequestError(f"{path}: broken or cut-off JSON at character {text.before + text.place}: {error}") from error
            except RecursionError as error:
                raise RequestError(f"{path}: JSON nested too deep to be an official file") from error
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise RequestError(f"{path}: a folder, not a file") from error
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from error


def member(text: Text, path: Path, key: str) -> Iterator[Any]:
    """The list under one key of an object; the values of its other keys are passed over."""
    found = False
    if text.next() == "{":
        text.take("{")
        more = text.next() != "}" or text.take("}") != "}"
        while more:
            name = text.value()
            text.take(":")
            if name != key:
                text.value()
            elif text.next() != "[":
                raise RequestError(f"{path}: {key} is no list of records")
            else:
                found = True
                yield from text.values()
            more = text.take(",}") == ","
    else:
        text.value()
    if not found:
        raise RequestError(f"{path}: has no key {key!r}; is it the official file?")
