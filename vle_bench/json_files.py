"""One list in a JSON file, record by record: the official files are too large to hold as Python objects."""

import gc
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from vle_bench.errors import RequestError

CHUNK = 1 << 22  # characters read at a time
LONGEST = (
    1 << 20
)  # characters that a record may have; the longest official ones have a few thousand
SPACE = " \t\n\r"


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError if a key stands twice, because Python would keep the last value without a word."""
    values = dict(pairs)
    if len(values) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"the key {counts.most_common(1)[0][0]!r} stands twice in one object")
    return values


def loads(text: str | bytes, **options: Any) -> Any:
    """`json.loads` of a file that anybody may have written: every key stands once in its object."""
    return json.loads(text, object_pairs_hook=once, **options)


class Text:
    """A file's text from `place` on, with at least LONGEST characters ahead of it unless the file ends."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.text, self.place, self.before, self.ended = file, "", 0, 0, False
        self.decoder = json.JSONDecoder(object_pairs_hook=once)

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
                raise RequestError(
                    f"{path}: broken or cut-off JSON at character {text.before + text.place}: {error}"
                ) from error
            except RecursionError as error:
                raise RequestError(
                    f"{path}: JSON nested too deep to be an official file"
                ) from error
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise RequestError(f"{path}: a folder, not a file") from error
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from error


def member(text: Text, path: Path, key: str) -> Iterator[Any]:
    """The list under one key of an object; the values of its other keys are passed over."""
    found, names = False, set()
    if text.next() == "{":
        text.take("{")
        more = text.next() != "}" or text.take("}") != "}"
        while more:
            name = text.value()
            if not isinstance(name, str):
                raise ValueError(f"a key is expected, {_short(name)} found")
            if name in names:
                raise ValueError(f"the key {name!r} stands twice in one object")
            names.add(name)
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


def jsonl_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, record) of a JSON-lines file, one line in memory at a time; empty lines are passed over."""
    for number, line in jsonl_lines(path):
        yield number, parse(line, f"{path}: line {number}")


def jsonl_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line), for who wants to go on after a line that `parse` refuses."""
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise RequestError(f"{path}: a folder, not a file") from error
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error}") from error


def parse(line: bytes, name: str) -> dict[str, Any]:
    """A JSON object; `name` is what the error calls it."""
    try:
        record = loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RequestError(f"{name}: not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise RequestError(
            f"{name}: broken or cut-off JSON at column {error.colno}: {error.msg}"
        ) from error
    except RecursionError as error:
        raise RequestError(f"{name}: JSON nested too deep to be a record") from error
    except ValueError as error:  # a key twice, a number of thousands of digits
        raise RequestError(f"{name}: JSON that is no record: {error}") from error
    if not isinstance(record, dict):
        raise RequestError(f"{name}: {_short(record)} is not an object")
    return record


def _short(value: Any) -> str:
    """As Python writes it, in one line and not longer than a line should be."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Millions of new objects, none of them garbage, would be looked through again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_json(path: Path) -> Any:
    """A JSON file; whatever is wrong with it is one line that names it."""
    try:
        with _no_garbage_collection():
            return loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise RequestError(f"{path}: a folder, not a file") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise RequestError(
            f"{path}: broken or cut-off JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except RecursionError as error:
        raise RequestError(f"{path}: JSON nested too deep to be an official file") from error
    except (
        OSError,
        ValueError,
    ) as error:  # no permission, a path below a file, a number of thousands of digits
        raise RequestError(f"{path}: cannot be read: {error}") from error
