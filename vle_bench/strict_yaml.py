"""YAML without its traps: 1e-5 is a number, yes is a word, and a key occurs once.

Errors name the file and the line.
"""

import itertools
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from vle_bench.errors import RequestError


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
    return content


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
        raise RequestError(f"{file}: not a YAML file: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise RequestError(f"{file}: not a recipe: its values are nested too deeply") from error
    if not isinstance(values, dict):
        raise RequestError(f"{file}: not a group of keys (`key: value` lines)")
    return values
