"""Read a recipe file with its bases and overrides, and check it."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from vle_bench import strict_yaml
from vle_bench.errors import RequestError, closest
from vle_bench.json_files import JsonObject
from vle_bench.recipe.schema import Recipe
from vle_bench.strict_yaml import dotted_keys, shortened, validated

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
    return validated(Recipe, values, str(file), origins)


def shipped_recipes() -> dict[str, Path]:
    """Map names (`vqa/vle-base.yaml`) to files.

    They are inside an installed package, or beside the package in a checkout.
    """
    inside, beside = PACKAGE / "recipes", PACKAGE.parent / "recipes"
    root = beside if beside.is_dir() and not inside.is_dir() else inside
    files = sorted(p for p in root.rglob("*.yaml") if "accelerate" not in p.relative_to(root).parts)
    return {p.relative_to(root).as_posix(): p for p in files}


def shipped_recipe(name: str) -> Path | None:
    """Find a shipped recipe; `recipes/` before and `.yaml` after its name may be left out."""
    name = name.removeprefix("./").removeprefix("recipes/").removesuffix(".yaml")
    return shipped_recipes().get(f"{name}.yaml")


def find_recipe(path: str) -> Path:
    """Find a recipe by its file or its name; raises RequestError if there is none."""
    if Path(path).is_file():
        return Path(path)
    if (shipped := shipped_recipe(path)) is not None:
        return shipped
    known = list(shipped_recipes())
    nearest = f"; nearest shipped recipe: recipes/{closest(path, known)}" if known else ""
    raise RequestError(f"{path}: no such recipe{nearest}")


def read_with_bases(file: Path, below: tuple[Path, ...]) -> tuple[JsonObject, dict[str, str]]:
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
        shipped = shipped_recipe(base) if isinstance(base, str) else None
        if shipped is None:
            raise RequestError(
                f"{file}: extends: no such file: {base_file}, and no shipped recipe of that name"
            )
        base_file = shipped
    base_values, origins = read_with_bases(base_file, (*below, file.resolve()))
    return merge(base_values, values), {**origins, **dict.fromkeys(dotted_keys(values), str(file))}


def merge(base: JsonObject, over: JsonObject) -> JsonObject:
    """Merge two groups of values; those of `over` replace those of `base`."""
    both = {
        k: merge(base[k], v)
        for k, v in over.items()
        if isinstance(v, dict) and isinstance(base.get(k), dict)
    }
    return {**base, **over, **both}


def apply_override(values: JsonObject, origins: dict[str, str], override: str) -> None:
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


def default_run_folder(recipe: Recipe) -> Path:
    """Return the folder of a run for which none is given."""
    return Path("runs") / recipe.name
