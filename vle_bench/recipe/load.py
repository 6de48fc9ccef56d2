"""Read a recipe file with its bases and overrides, and check it."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vle_bench.errors import RequestError, closest
from vle_bench.recipe import strict_yaml
from vle_bench.recipe.schema import Group, Recipe, shortened

COMMAND_LINE = "command line"
PACKAGE = Path(__file__).parents[1]


def load_recipe(path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read, extend, override and check a recipe.

    Args:
        path: a file, or the name of a shipped recipe (`vqa/vle-base`).
        overrides: `dotted.key=value`, the value as in YAML.

    Raises:
        RequestError: a line for every problem: file, dotted key, message, nearest valid key.
    """
    file = find_recipe(path)
    values, origins = read_with_bases(file, ())
    for override in overrides:
        apply_override(values, origins, override)
    return recipe_of(values, str(file), origins)


def recipe_of(
    values: dict[str, Any], file: str, origins: Mapping[str, str] | None = None
) -> Recipe:
    """Check the values of a recipe; raises RequestError as `load_recipe` does.

    Args:
        file: where they were read.
        origins: the file of each dotted key, where it is not `file`.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        known = dict.fromkeys(dotted_keys(values), file) if origins is None else origins
        lines = [line for problem in error.errors() for line in describe(problem, known, file)]
        raise RequestError("\n".join(dict.fromkeys(lines))) from error


def shipped_recipes() -> dict[str, Path]:
    """Map names (`vqa/vle-base.yaml`) to files.

    They are inside an installed package, or beside the package in a checkout.
    """
    inside, beside = PACKAGE / "recipes", PACKAGE.parent / "recipes"
    root = beside if beside.is_dir() and not inside.is_dir() else inside
    files = sorted(p for p in root.rglob("*.yaml") if "accelerate" not in p.relative_to(root).parts)
    return {p.relative_to(root).as_posix(): p for p in files}


def find_recipe(path: str) -> Path:
    """Find a recipe by its file or its name; raises RequestError if there is none."""
    if Path(path).is_file():
        return Path(path)
    shipped = shipped_recipes()
    name = path.removeprefix("./").removeprefix("recipes/")
    for candidate in (name, f"{name}.yaml"):
        if candidate in shipped:
            return shipped[candidate]
    nearest = f"; nearest shipped recipe: recipes/{closest(name, list(shipped))}" if shipped else ""
    raise RequestError(f"{path}: no such recipe{nearest}")


def read_with_bases(file: Path, below: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a file and the files that it extends.

    Args:
        below: the files that extend this one.

    Returns:
        The values, those of `file` over the others; and the file of each dotted key.
    """
    if file.resolve() in below:
        chain = " extends ".join(p.name for p in (*below, file.resolve()))
        raise RequestError(f"{file}: extends: a recipe cannot extend itself: {chain}")
    values = strict_yaml.read_group(file)
    base = values.pop("extends", None)
    if base is None:
        return values, dict.fromkeys(dotted_keys(values), str(file))
    base_file = file.parent / str(base)
    if not base_file.is_file():
        shipped = shipped_recipes()
        name = str(base).removeprefix("recipes/")
        named = shipped.get(name) or shipped.get(f"{name}.yaml")
        if not isinstance(base, str) or named is None:
            raise RequestError(
                f"{file}: extends: no such file: {base_file}, and no shipped recipe of that name"
            )
        base_file = named
    base_values, origins = read_with_bases(base_file, (*below, file.resolve()))
    return merge(base_values, values), {**origins, **dict.fromkeys(dotted_keys(values), str(file))}


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge two groups of values; those of `over` replace those of `base`."""
    both = {
        k: merge(base[k], v)
        for k, v in over.items()
        if isinstance(v, dict) and isinstance(base.get(k), dict)
    }
    return {**base, **over, **both}


def dotted_keys(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List the dotted keys of groups of values, each group before its keys."""
    keys = []
    for key, value in values.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += dotted_keys(value, f"{prefix}{key}.")
    return keys


def apply_override(values: dict[str, Any], origins: dict[str, str], override: str) -> None:
    """Apply one `dotted.key=value` to `values` and `origins`, in place."""
    dotted, equals, text = override.partition("=")
    *groups, last = dotted.strip().split(".")
    if not equals or not last:
        raise RequestError(
            f"{COMMAND_LINE}: {override}: an override is key=value, such as train.seed=1"
        )
    try:
        value = strict_yaml.parse(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RequestError(
            f"{COMMAND_LINE}: {dotted}: {shortened(text)} is no YAML value"
        ) from error
    place = values
    for number, group in enumerate(groups, 1):
        if place.get(group) is None:
            place[group] = {}
        place = place[group]
        if not isinstance(place, dict):
            raise RequestError(
                f"{COMMAND_LINE}: {dotted}: {'.'.join(groups[:number])} is a value, "
                "not a group of keys"
            )
    place[last] = value
    origins[dotted.strip()] = COMMAND_LINE


def valid_keys(group: type[BaseModel] = Recipe, prefix: str = "") -> list[str]:
    """List the dotted keys of the schema, each group before its keys."""
    keys = []
    for name, field in group.model_fields.items():
        keys.append(prefix + name)
        types = (field.annotation, *getattr(field.annotation, "__args__", ()))
        inner = next((t for t in types if isinstance(t, type) and issubclass(t, Group)), None)
        if inner is not None:
            keys += valid_keys(inner, f"{prefix}{name}.")
    return keys


def nearest_key(dotted: str) -> str:
    """Find the valid key most like a wrong one, preferably of the same group."""
    parent, _, last = dotted.rpartition(".")

    def likeness(key: str) -> float:
        group, _, name = key.rpartition(".")
        return difflib.SequenceMatcher(None, name, last).ratio() + 0.2 * (group == parent)

    return max(valid_keys(), key=likeness)


def describe(problem: ErrorDetails, origins: Mapping[str, str], file: str) -> list[str]:
    """Turn an error of pydantic into lines `file: dotted.key: message; nearest valid key`."""

    def line(dotted: str, message: str) -> str:
        # A missing key belongs to the file of its group.
        group = dotted
        while group and group not in origins:
            group = group.rpartition(".")[0]
        return f"{origins.get(group, file)}: " + (f"{dotted}: " if dotted else "") + message

    known = {*valid_keys(), *origins}
    parts = [str(p) for p in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        unknown = ".".join(parts)
        return [line(unknown, f"unknown key; nearest valid key: {nearest_key(unknown)}")]
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


def default_run_folder(recipe: Recipe) -> Path:
    """Folder of a run for which none is given."""
    return Path("runs") / recipe.name
