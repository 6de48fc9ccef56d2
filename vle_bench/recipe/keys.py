"""Keys of recipes: those that decide a result, those added or dropped, and their hashes."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping

from vle_bench.json_files import JsonObject

# Keys that change nothing about a run's weights, scores and record. A folder of data may have
# moved: its content is known by the hash of its manifest.
HARMLESS = re.compile(
    r"train\.(num_workers|log_every|checkpoint_every|keep|trackers)|data\.(root|pixels)|expect(\..*)?"
)
# How the global batch is shared out and padded: sums round differently, as on another number of
# processes. ITM draws its strangers from such a share, which is then part of the experiment.
LAYOUT = re.compile(r"train\.(per_device_batch_size|cuda_graphs)")
# Keys added after the first records. At these values they change nothing, so that they are left out
# of the hashes of a recipe.
ADDED = {
    "data.mix": None,
    "data.pixels": None,
    "data.targets": "normalised",
    "model.dropout": None,
    "model.family": "vle",
    "model.itm_candidates": 4,
    "model.new_head": False,
    "model.objectives": None,
    "model.resize": None,
    "train.cuda_graphs": False,
    "train.selection": "best",
}
# Keys of former versions, with the only values that are still understood: those that changed
# nothing. The hashes of a recipe still contain them.
DROPPED = {
    "augment.horizontal_flip": False,
    "augment.shuffle_names": False,
    "model.objects": "tagged",
}


def without_dropped(values: JsonObject) -> JsonObject:
    """Remove the keys of former versions from the groups of a recipe.

    Raises:
        ValueError: one of them has a value that changed the result, a line for each.
    """
    kept = dict(values)
    problems = []
    for key, default in DROPPED.items():
        group, _, name = key.partition(".")
        if not isinstance(kept.get(group), dict) or name not in kept[group]:
            continue
        value = kept[group][name]
        kept[group] = {k: v for k, v in kept[group].items() if k != name}
        if (type(value), value) != (type(default), default):
            problems.append(
                f"{key}: {value!r} is of an earlier version; this one knows only {default!r}, "
                "which needs no key"
            )
    if problems:
        raise ValueError("\n".join(problems))
    return kept


def hashed(values: JsonObject) -> JsonObject:
    """Return the values that a recipe's hash is computed of, group by group."""
    kept = {key: dict(v) if isinstance(v, dict) else v for key, v in values.items()}
    for key, unchanged in ADDED.items():
        group, _, name = key.partition(".")
        if kept[group][name] == unchanged:
            del kept[group][name]
    for key, value in DROPPED.items():
        group, _, name = key.partition(".")
        kept[group][name] = value
    return kept


def experiment_values(values: JsonObject) -> dict[str, object]:
    """Return the dotted keys that define an experiment: no seed, no layout, no harmless ones."""
    matching = (values["model"].get("objectives") or {}).get("itm")
    return {
        key: value
        for key, value in flat(hashed(values)).items()
        if not (HARMLESS.fullmatch(key) or key == "train.seed")
        and (matching or not LAYOUT.fullmatch(key))
    }


def digest(values: Mapping[str, object]) -> str:
    """Hash values to 16 hexadecimal digits."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Turn groups of keys into dotted keys."""
    dotted: dict[str, object] = {}
    for key, value in values.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        dotted |= inner
    return dotted


def changed_keys(
    old: Mapping[str, object], new: Mapping[str, object]
) -> tuple[list[str], list[str]]:
    """Compare two groups of values.

    Returns:
        Lines `dotted.key: old -> new`: of the keys that decide a result, and of harmless ones.
    """
    before, after = flat(old), flat(new)
    changed = [key for key in before | after if before.get(key) != after.get(key)]

    def lines(keys: Iterable[str]) -> list[str]:
        return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in keys]

    deciding = lines(key for key in changed if not HARMLESS.fullmatch(key))
    return deciding, lines(key for key in changed if HARMLESS.fullmatch(key))
