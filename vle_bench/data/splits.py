"""Names of splits: which tables a name stands for, and which splits share images."""

from vle_bench.data.sources import ALIASES, IMAGES_OF, SOURCES


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


def tables(split: str, there: set[str]) -> list[str]:
    """Return the tables of a composed split, in order; an unknown name stands for itself.

    Args:
        there: the tables of a prepared folder.
    """
    found = []
    for name in names(split):
        found += (
            [name]
            if name in there or name not in ALIASES
            else tables("+".join(ALIASES[name]), there)
        )
    return found


def atoms(split: str) -> frozenset[str]:
    """Return the smallest sets of images that a composed split consists of."""
    found: set[str] = set()
    for name in names(split):
        found |= atoms("+".join(IMAGES_OF[name])) if name in IMAGES_OF else {name}
    return frozenset(found)


def overlap(one: str, other: str) -> bool:
    """Return whether two splits may share an image, as far as their names tell."""
    return bool(atoms(one) & atoms(other))
