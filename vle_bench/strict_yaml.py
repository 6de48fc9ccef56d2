"""YAML without its traps, and schemas of its groups of keys.

1e-5 is a number, yes is a word, and a key occurs once. Errors name the file, and the line or key.
"""

import difflib
import functools
import itertools
import pickle
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from vle_bench.errors import RequestError, first_line


class Loader(yaml.SafeLoader):
    """Safe YAML: 1e-5 is a number, only true and false are booleans, and a key occurs once."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, object]:
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} occurs twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class Dumper(yaml.SafeDumper):
    """Quotes a string that either YAML's usual rules or Loader's would read as something else."""

    yaml_implicit_resolvers = {
        first: list(rules) for first, rules in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }

    def ignore_aliases(self, data: object) -> bool:
        return True


for tag, pattern, first_characters in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?(?:0|[1-9][0-9_]*)$", list("-+0123456789")),
    (
        "float",
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$",
        list("-+.0123456789"),
    ),
    ("merge", r"^<<$", ["<"]),
):
    for resolver in (Loader, Dumper):
        resolver.add_implicit_resolver(
            f"tag:yaml.org,2002:{tag}", re.compile(pattern), first_characters
        )


# PyYAML builds this from its own, stricter pattern.
def construct_float(_: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(node.value.replace("_", ""))


Loader.add_constructor("tag:yaml.org,2002:float", construct_float)


# Values in a file. References to anchors (`*name`) can turn a few lines into billions.
MOST_VALUES = 100_000
# Nested brackets. PyYAML takes seconds for thousands of them.
MOST_BRACKETS = 100


def parse(text: str) -> Any:
    """Parse YAML.

    Raises:
        yaml.YAMLError: the text is not YAML, or too large; ValueError: a number has thousands of
            digits.
    """
    return pickle.loads(_parsed(text))


# A process reads the published figures and the bases of recipes several times, and PyYAML takes
# 80 ms for the former. Pickled, since whoever asks may change what it gets.
@functools.lru_cache(maxsize=32)
def _parsed(text: str) -> bytes:
    depths = itertools.accumulate(1 if c in "[{" else -1 for c in text if c in "[]{}")
    if max(depths, default=0) > MOST_BRACKETS:
        raise yaml.YAMLError(f"more than {MOST_BRACKETS} brackets within each other")
    content = yaml.load(text, Loader)
    waiting, count = [content], 0
    while waiting:
        value = waiting.pop()
        inner = (
            list(value.values())
            if isinstance(value, dict)
            else value
            if isinstance(value, list)
            else []
        )
        count += len(inner)
        if count > MOST_VALUES:
            raise yaml.YAMLError(
                f"more than {MOST_VALUES:,} values, with those that anchors repeat"
            )
        waiting += inner
    return pickle.dumps(content)


def dump(value: object) -> str:
    """Write YAML that `parse` reads back."""
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)


def read_group(file: Path) -> dict[str, Any]:
    """Read a YAML file that holds a group of keys; raises RequestError if it does not."""
    try:
        values = parse(file.read_text(encoding="utf-8-sig"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        way_out = (
            "; YAML takes no tabs outside of quotes, put spaces there"
            if r"'\t'" in str(error.problem)
            else ""
        )
        raise RequestError(f"{file}: line {line}: {error.problem}{way_out}") from error
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise RequestError(f"{file}: not a YAML file: {first_line(error)}") from error
    except RecursionError as error:
        raise RequestError(f"{file}: not a recipe: its values are nested too deeply") from error
    if not isinstance(values, dict):
        raise RequestError(f"{file}: not a group of keys (`key: value` lines)")
    return values


class Group(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


G = TypeVar("G", bound=Group)


def validated(
    schema: type[G], values: dict[str, Any], file: str, origins: Mapping[str, str] | None = None
) -> G:
    """Check the values of a file against its schema.

    Args:
        file: where they were read.
        origins: the file of each dotted key, where it is not `file`.

    Raises:
        RequestError: a line for every problem: file, dotted key, message, nearest valid key.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        known = dict.fromkeys(dotted_keys(values), file) if origins is None else origins
        lines = [line for one in error.errors() for line in explained(one, schema, known, file)]
        raise RequestError("\n".join(dict.fromkeys(lines))) from error


def dotted_keys(values: Mapping[str, object], prefix: str = "") -> list[str]:
    """List the dotted keys of groups of values, each group before its keys."""
    keys = []
    for key, value in values.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += dotted_keys(value, f"{prefix}{key}.")
    return keys


def valid_keys(group: type[BaseModel], prefix: str = "") -> list[str]:
    """List the dotted keys of the schema, each group before its keys; of a list, entry 0."""
    keys = []
    for name, field in group.model_fields.items():
        keys.append(prefix + name)
        types = (field.annotation, *getattr(field.annotation, "__args__", ()))
        inner = next((t for t in types if isinstance(t, type) and issubclass(t, Group)), None)
        if inner is not None:
            keys += valid_keys(inner, f"{prefix}{name}.")
        for entry in (arg for t in types if get_origin(t) is list for arg in get_args(t)):
            if isinstance(entry, type) and issubclass(entry, Group):
                keys += valid_keys(entry, f"{prefix}{name}.0.")
    return keys


def nearest_key(dotted: str, schema: type[BaseModel]) -> str:
    """Find the valid key most like a wrong one, preferably of the same group."""
    parent, _, last = dotted.rpartition(".")

    def likeness(key: str) -> float:
        group, _, name = key.rpartition(".")
        same = group == first_entry(parent)
        return difflib.SequenceMatcher(None, name, last).ratio() + 0.2 * same

    nearest = max(valid_keys(schema), key=likeness)
    group, _, name = nearest.rpartition(".")
    return f"{parent}.{name}" if parent and group == first_entry(parent) else nearest


def first_entry(dotted: str) -> str:
    """Return a dotted key with 0 for the number of each entry of a list."""
    return ".".join("0" if part.isdecimal() else part for part in dotted.split("."))


def explained(
    error: ErrorDetails, schema: type[BaseModel], origins: Mapping[str, str], file: str
) -> list[str]:
    """Turn an error of pydantic into lines `file: dotted.key: message; nearest valid key`."""

    def line(dotted: str, message: str) -> str:
        # A missing key belongs to the file of its group.
        group = dotted
        while group and group not in origins:
            group = group.rpartition(".")[0]
        return f"{origins.get(group, file)}: " + (f"{dotted}: " if dotted else "") + message

    known = {*valid_keys(schema), *origins}
    parts = [str(p) for p in error["loc"]]
    if error["type"] == "extra_forbidden":
        unknown = ".".join(parts)
        return [line(unknown, f"unknown key; nearest valid key: {nearest_key(unknown, schema)}")]
    if error["type"] == "missing":
        return [line(".".join(parts), "this key is needed")]
    # pydantic appends the branch of a union, or the index in a list.
    while parts and not {".".join(parts), first_entry(".".join(parts))} & known:
        parts.pop()
    dotted, message = ".".join(parts), error["msg"].removeprefix("Value error, ")
    if error["type"] != "value_error":
        given = shortened(error["input"])
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
