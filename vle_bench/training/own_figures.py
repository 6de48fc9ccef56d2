"""The figures that a model has for the training's log beside its loss, from their sums."""

from collections.abc import Sequence
from itertools import zip_longest

LOSS = "_loss"  # ends the name of a loss; other figures are shares


def added(sums: Sequence[float], means: Sequence[float], processes: int) -> list[float]:
    """Add the sums of a step, of which the means over the processes are given.

    Args:
        sums: of the steps before; empty if there are none.
    """
    return [a + processes * b for a, b in zip_longest(sums, means, fillvalue=0.0)]


def quotients(names: Sequence[str], sums: Sequence[float]) -> dict[str, float]:
    """Divide the numerators by the denominators behind them.

    A figure without an example in these steps is left out.
    """
    tops, bottoms = sums[: len(names)], sums[len(names) :]
    figures = zip(names, tops, bottoms, strict=True)
    return {name: top / bottom for name, top, bottom in figures if bottom > 0}


def in_words(figures: dict[str, float]) -> str:
    """Return losses by the names of their objectives, and shares in percent after them."""
    return "".join(
        f"  {name.removesuffix(LOSS)} {value:.3f}"
        if name.endswith(LOSS)
        else f" {100 * value:.0f} %"
        for name, value in figures.items()
    )
