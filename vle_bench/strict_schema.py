"""Strict groups of keys, and lines that explain what is wrong with a file of them."""

import difflib
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict
from pydantic_core import ErrorDetails


class Group(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def dotted_keys(values: Mapping[str, object], prefix: str = "") -> list[str]:
    """List the dotted keys of groups of values, each group before its keys."""
    keys = []
    for key, value in values.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += dotted_keys(value, f"{prefix}{key}.")
    return keys


def valid_keys(group: type[BaseModel], prefix: str = "") -> list[str]:
    """List the dotted keys of the schema, each group before its keys."""
    keys = []
    for name, field in group.model_fields.items():
        keys.append(prefix + name)
        types = (field.annotation, *getattr(field.annotation, "__args__", ()))
        inner = next((t for t in types if isinstance(t, type) and issubclass(t, Group)), None)
        if inner is not None:
            keys += valid_keys(inner, f"{prefix}{name}.")
    return keys


def nearest_key(dotted: str, schema: type[BaseModel]) -> str:
    """Find the valid key most like a wrong one, preferably of the same group."""
    parent, _, last = dotted.rpartition(".")

    def likeness(key: str) -> float:
        group, _, name = key.rpartition(".")
        return difflib.SequenceMatcher(None, name, last).ratio() + 0.2 * (group == parent)

    return max(valid_keys(schema), key=likeness)


def describe(
    problem: ErrorDetails, schema: type[BaseModel], origins: Mapping[str, str], file: str
) -> list[str]:
    """Turn an error of pydantic into lines `file: dotted.key: message; nearest valid key`."""

    def line(dotted: str, message: str) -> str:
        # A missing key belongs to the file of its group.
        group = dotted
        while group and group not in origins:
            group = group.rpartition(".")[0]
        return f"{origins.get(group, file)}: " + (f"{dotted}: " if dotted else "") + message

    known = {*valid_keys(schema), *origins}
    parts = [str(p) for p in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        unknown = ".".join(parts)
        return [line(unknown, f"unknown key; nearest valid key: {nearest_key(unknown, schema)}")]
    if problem["type"] == "missing":
        return [line(".".join(parts), "this key is needed")]
    # pydantic appends the branch of a union, or the index in a list.
    while parts and ".".join(parts) not in known:
        parts.pop()
    dotted, message = ".".join(parts), problem["msg"].removeprefix("Value error, ")
    if problem["type"] != "value_error":
        given = shortened(problem["input"])
        return [line(dotted, f"{message[:1].lower()}{message[1:]}, not {given}")]
    # Checks of our own: a line for each problem, some with their key in front.
    lines = []
    for text in message.splitlines():
        key, _, rest = text.partition(": ")
        own_key = key in known or key.startswith("model.")
        lines.append(line(key, rest) if own_key else line(dotted, text))
    return lines


def shortened(value: object) -> str:
    """Write a value as Python does, in at most 200 characters."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
