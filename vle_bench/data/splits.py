"""Names of splits and of data: which tables they stand for, which share pictures. No torch."""

from collections.abc import Iterable, Mapping

from vle_bench.data.sources import SOURCES, UNKNOWN

ALIASES = {name: parts for source in SOURCES.values() for name, parts in source.aliases.items()}
IMAGES_OF = ALIASES | {
    name: parts for source in SOURCES.values() for name, parts in source.images_of.items()
}


def wrong_split(split: str, source: str) -> str | None:
    """Describe why names alone forbid to train on a split or to score it; None if they do not."""
    labelled, unlabelled = SOURCES[source].splits, SOURCES[source].unlabelled
    for name in names(split):
        if name in unlabelled:
            return f"{name} of {source} has no labels; `vle-bench predict` writes the answers to it"
        if name not in labelled:
            return f"{name!r} is no split of {source}; there are {', '.join(labelled)}"
    parts = tables(split, set(labelled) - set(SOURCES[source].aliases))
    return (
        f"{split} names a split twice, and so every question in it"
        if len(set(parts)) != len(parts)
        else None
    )


def names(split: str) -> list[str]:
    """Split `train+val-minival` → [train, val-minival]; `+` joins, a minus is part of a name."""
    return [name.strip() for name in split.split("+")]


def tables(split: str, existing: set[str]) -> list[str]:
    """Return the tables of a composed split, in order; an unknown name stands for itself.

    Args:
        existing: the tables of a prepared folder.
    """
    parts = []
    for name in names(split):
        parts += (
            [name]
            if name in existing or name not in ALIASES
            else tables("+".join(ALIASES[name]), existing)
        )
    return parts


def atoms(split: str) -> frozenset[str]:
    """Return the smallest sets of images that a composed split consists of."""
    sets: set[str] = set()
    for name in names(split):
        sets |= atoms("+".join(IMAGES_OF[name])) if name in IMAGES_OF else {name}
    return frozenset(sets)


def overlap(one: str, other: str) -> bool:
    """Tell whether two splits may share an image, as far as their names tell."""
    return bool(atoms(one) & atoms(other))


def seen(source: str, split: str, trained_on: str, training_splits: Iterable[str]) -> bool | None:
    """Tell whether a model may have been trained on pictures of a split, by their names.

    Args:
        source, split: the scored dataset and split.
        trained_on: the dataset of the training.

    Returns:
        None: the pictures of the splits are not known.
    """
    splits = "+".join(training_splits)
    if source == trained_on:
        return overlap(split, splits)
    scored, trained = pictures_of(source, split), pictures_of(trained_on, splits)
    if scored and trained and UNKNOWN in names(f"{scored}+{trained}"):
        return None
    return bool(scored and trained) and overlap(scored, trained)


def pictures_of(source: str, split: str) -> str:
    """Return the splits of VQA v2 whose pictures a split is about; empty if there are none."""
    pictures = SOURCES[source].pictures if source in SOURCES else {}
    return "+".join(pictures[name] for name in names(split) if name in pictures)


def same_dataset(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Tell whether two `data` are of one dataset.

    Named datasets may be prepared in different ways. Users' own data must have the same manifest
    hash, if both have one: another version of them has the same name and other splits.
    """
    if any(one.get(key) != other.get(key) for key in ("source", "name")):
        return False
    hashes = {data["manifest_hash"] for data in (one, other) if data.get("manifest_hash")}
    return "name" not in one or len(hashes) < 2


def name_in(data: Mapping[str, str]) -> str:
    """Return the user's name for their own data, else the dataset's; empty if nothing is known."""
    return data.get("name", data.get("source", ""))


def other_name(data: Mapping[str, str], others: Mapping[str, str]) -> str | None:
    """Return the name that tells data from others: their name, or `NAME-HASH` for a namesake.

    Returns:
        None: they are the same data, or one of the two is not known.
    """
    if not data or not others or same_dataset(data, others):
        return None
    name = name_in(data)
    return name if name != name_in(others) else f"{name}-{data.get('manifest_hash', '')[:8]}"
