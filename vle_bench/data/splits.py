"""Names of splits: which tables a name stands for, and which splits share images."""

from vle_bench.data.sources import ALIASES, IMAGES_OF, SOURCES


def wrong_split(split: str, source: str) -> str | None:
    """What is wrong with a split to train on or to score, as far as names tell."""
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
    """`train+val-minival` → [train, val-minival]; `+` joins, and a minus is part of a name."""
    return [name.strip() for name in split.split("+")]


def tables(split: str, there: set[str]) -> list[str]:
    """The tables of a composed split, in its order; a name that is neither there nor an alias stands for itself.

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
    """The smallest sets of images that a composed split is made of; two splits share images if these meet."""
    found: set[str] = set()
    for name in names(split):
        found |= atoms("+".join(IMAGES_OF[name])) if name in IMAGES_OF else {name}
    return frozenset(found)


def overlap(one: str, other: str) -> bool:
    """Whether an image of one may be an image of the other, as far as names tell."""
    return bool(atoms(one) & atoms(other))
