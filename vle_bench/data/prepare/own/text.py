"""Read texts and ids from the cells of a table."""

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def kind_of(value: object) -> str:
    """Name the type of a value as people do."""
    match value:
        case bool():
            return "true or false"
        case str():
            return "text"
        case int() | float():
            return "a number"
        case list():
            return f"a list of {kind_of(value[0])}" if value else "a list"
        case dict() if "bytes" in value or "path" in value:
            return "a picture"
        case dict():
            return "an object"
        case bytes():
            return "bytes"
    return type(value).__name__


def text(value: object, cells: bool = False) -> str:
    """Return text that is not empty."""
    if value is None:
        raise ValueError("missing")
    if not isinstance(value, str):
        raise ValueError(f"{kind_of(value)}, not text")
    if not value.strip():
        raise ValueError("empty")
    if not value.isascii() and _SURROGATE.search(value):
        raise ValueError("half of a surrogate pair, which is no text")
    return value


def key(value: object, cells: bool = False) -> str:
    """Return an id or a group: text or a whole number, as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{kind_of(value)}, neither text nor a whole number")
    return text(value)
