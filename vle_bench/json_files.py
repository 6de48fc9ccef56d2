"""JSON files, read whole, by line or by record; every problem is one line that names the file.

A double key or NaN is refused, since a reader would silently drop a value or spread it.
"""

import gc
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

from vle_bench.errors import RequestError

CHUNK = 1 << 22  # characters read at a time
LONGEST = 1 << 20  # characters of a record at most; the longest official ones have a few thousand
SPACE = " \t\n\r"
JsonObject = dict[str, Any]
Row = JsonObject  # of prepared data
Record = Mapping[str, Any]  # of an official file, which nobody changes
SHOWN = 60  # characters of a wrong value that an error shows


@contextmanager
def reading(name: Path | str) -> Iterator[None]:
    """Turn errors of opening, decoding or parsing into a RequestError that begins with `name`."""
    try:
        yield
    except RequestError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "no such file"
        case IsADirectoryError():
            return "a folder, not a file"
        case OSError():
            return f"cannot be read: {error.strerror or error}"
        case UnicodeDecodeError():
            return f"not UTF-8 text (byte {error.start}){_other_format(error.object)}"
        case json.JSONDecodeError():
            place = f"line {error.lineno}, column {error.colno}"
            return f"broken or cut-off JSON at {place}: {error.msg}"
        case RecursionError():
            return "JSON nested too deep"
    return str(error)


# First bytes of files that are taken for text → their format, and the way out. UTF-32 is before
# UTF-16, whose mark it begins with.
_CONVERT = "begins with the byte order mark of {0}; `iconv -f {0} -t UTF-8` converts it"
_OTHER_FORMATS = {
    b"\xff\xfe\x00\x00": _CONVERT.format("UTF-32"),
    b"\x00\x00\xfe\xff": _CONVERT.format("UTF-32"),
    b"\xff\xfe": _CONVERT.format("UTF-16"),
    b"\xfe\xff": _CONVERT.format("UTF-16"),
    b"\x1f\x8b": "compressed by gzip; decompress it first, with `gunzip`",
    b"PK\x03\x04": "a zip archive; unpack it first, with `unzip`",
}


# Bytes that Excel and others write for letters with accents.
_ONE_BYTE = "; if it is Latin-1 or Windows-1252, `iconv -f WINDOWS-1252 -t UTF-8` converts it"


def _other_format(content: bytes) -> str:
    """Say what bytes that are no UTF-8 are; empty if that is not known."""
    known = (what for first, what in _OTHER_FORMATS.items() if content.startswith(first))
    if (what := next(known, None)) is not None:
        return f": {what}"
    return "" if b"\0" in content else _ONE_BYTE


def once(pairs: list[tuple[str, object]]) -> JsonObject:
    """Build an object of pairs; ValueError for a repeated key, where Python keeps the last one."""
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {double!r} occurs twice in one object")
    return record


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=once, parse_constant=_refuse_constant)


def loads(text: str | bytes, **options: Any) -> Any:
    """Parse JSON like `json.loads` with its options, but refuse double keys and NaN."""
    hooks: JsonObject = {"object_pairs_hook": once, "parse_constant": _refuse_constant}
    return json.loads(text, **(hooks | options))


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    with reading(path), _no_garbage_collection():
        return _DECODER.decode(path.read_text(encoding="utf-8-sig"))


def parse(content: bytes | str, name: Path | str) -> Any:
    """Parse the JSON text of a file or line; errors begin with `name`."""
    with reading(name):
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        try:
            return _DECODER.decode(text)
        except json.JSONDecodeError as error:  # `name` may have a line already
            place = f"column {error.colno}"
            raise RequestError(f"{name}: broken or cut-off JSON at {place}: {error.msg}") from error


def parse_record(content: bytes, name: Path | str) -> JsonObject:
    """Parse a JSON object; errors begin with `name`."""
    record = parse(content, name)
    if not isinstance(record, dict):
        raise RequestError(f"{name}: {short(record)} is not an object")
    return record


def jsonl_records(path: Path) -> Iterator[tuple[int, JsonObject]]:
    """Yield (line number from 1, record) of a JSON-lines file, without its empty lines."""
    for number, line in jsonl_lines(path):
        yield number, parse_record(line, f"{path}: line {number}")


def jsonl_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line), for callers that go on after a wrong line."""
    with reading(path), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def short(value: object) -> str:
    """Return the value as Python writes it, cut to the length of an error message."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Switch garbage collection off: parsing makes millions of objects and no garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Text:
    """The text of a file from `place` on, with LONGEST characters buffered unless it ends."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.text, self.place, self.before, self.ended = file, "", 0, 0, False

    def fill(self) -> None:
        while not self.ended and len(self.text) - self.place < LONGEST:
            more = self.file.read(CHUNK)
            self.ended = not more
            self.before += self.place
            self.text, self.place = self.text[self.place :] + more, 0

    def next(self) -> str:
        """Return the next character that is not a space, without consuming it; "" at the end."""
        self.fill()
        while self.place < len(self.text) and self.text[self.place] in SPACE:
            self.place += 1
            if self.place == len(self.text):
                self.fill()
        return self.text[self.place : self.place + 1]

    def take(self, expected: str) -> str:
        """Consume one of the expected characters; ValueError for another."""
        character = self.next()
        if not character or character not in expected:
            raise ValueError(f"{' or '.join(expected)} expected, {character or 'the end'} found")
        self.place += 1
        return character

    def value(self) -> object:
        """Consume a whole value."""
        self.next()
        self.fill()
        try:
            value, self.place = _DECODER.raw_decode(self.text, self.place)
        except json.JSONDecodeError as error:
            self.place = error.pos
            raise ValueError(error.msg) from error
        return value

    def values(self) -> Iterator[object]:
        """Consume a list, value by value."""
        self.take("[")
        if self.next() == "]":
            self.take("]")
            return
        yield self.value()
        while self.take(",]") == ",":
            yield self.value()


def stream(path: Path, key: str | None) -> Iterator[Any]:
    """Yield the values of the list under `key` of the object in a file; None: the file is the list.

    The official files are too large to hold as Python objects. (ijson 3.6 needs 1.9 s of a
    processor for a file of 170 MB and lets double keys pass; this needs 1.4 s, 2.0 s with the check
    of keys, and 30 MB more memory.)

    Raises:
        RequestError: the file is broken or cut off, wherever that turns out, also after the list.
    """
    with _streaming(path) as text:
        yield from text.values() if key is None else _member(text, path, key)


def stream_items(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield key and value of the one object in a file; the caller checks for double keys.

    Raises:
        RequestError: as `stream`, or the file is no object.
    """
    with _streaming(path) as text:
        if text.next() != "{":
            raise RequestError(f"{path}: no object of records; is it the official file?")
        for key in _keys(text):
            yield key, text.value()


@contextmanager
def _streaming(path: Path) -> Iterator[_Text]:
    """Open a file to be read value by value; it must end where the caller has finished."""
    with reading(path), open(path, encoding="utf-8-sig") as file:
        text = _Text(file)
        try:
            yield text
            if text.next():
                raise ValueError("more after the end")
        except (RequestError, UnicodeDecodeError):
            raise
        except ValueError as error:
            place = text.before + text.place
            raise ValueError(f"broken or cut-off JSON at character {place}: {error}") from error


def _keys(text: _Text) -> Iterator[str]:
    """Yield the keys of an object; the caller consumes the value of each before the next."""
    text.take("{")
    more = text.next() != "}" or text.take("}") != "}"
    while more:
        name = text.value()
        if not isinstance(name, str):
            raise ValueError(f"a key is expected, {short(name)} found")
        text.take(":")
        yield name
        more = text.take(",}") == ","


def _member(text: _Text, path: Path, key: str) -> Iterator[object]:
    """Yield the list under one key of an object; other keys are skipped."""
    seen: set[str] = set()
    if text.next() == "{":
        for name in _keys(text):
            if name in seen:
                raise ValueError(f"the key {name!r} occurs twice in one object")
            seen.add(name)
            if name != key:
                text.value()
            elif text.next() != "[":
                raise RequestError(f"{path}: {key} is no list of records")
            else:
                yield from text.values()
    else:
        text.value()
    if key not in seen:
        raise RequestError(f"{path}: has no key {key!r}; is it the official file?")
