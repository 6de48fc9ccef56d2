"""Places for the names of points in a plot, so that no name covers another or a mark.

adjustText was tried for this. On the leaderboards' figures it lets names touch marks and cross
intervals, and it needs scipy, which is larger than all of our other plotting code.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

# Between a mark's centre and its name, in pixels, for a mark of radius 5.
REACH = 9
# Farthest distance of a name from its mark; a line leads to a name that is not beside it.
FARTHEST = 120
# With more points than these, nobody follows a line.
CROWD = 80
# How often names without room are tried again, before the others.
ATTEMPTS = 4
# Height above and depth below the line that the letters stand on, as parts of the font size.
ASCENT, DESCENT = 0.8, 0.25

# Right, left, above, below, the four corners; then the directions between, for distant names.
DIRECTIONS = (
    *((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7)),
    *((1, 0.5), (1, -0.5), (-1, 0.5), (-1, -0.5), (0.5, 1), (0.5, -1), (-0.5, 1), (-0.5, -1)),
)

Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels, y upwards


@dataclass(frozen=True)
class Label:
    """A placed name; `side` (-1, 0, 1) tells on which side of its mark it is.

    `leader` is the point of its box that a line from a distant mark leads to.
    """

    index: int
    box: Box
    side: int
    leader: tuple[float, float] | None


@cache
def text_width(text: str, size: float) -> float:
    """Return the width in pixels, from the outlines of the letters: the same on every machine."""
    outline = TextPath((0, 0), text, size, prop=FontProperties(family="DejaVu Sans"), usetex=False)
    return float(outline.get_extents().x1) + 1


def place_labels(
    marks: Sequence[tuple[float, float]],
    names: Sequence[str],
    obstacles: Sequence[Box],
    room: Box,
    size: float,
) -> list[Label]:
    """Put each name at the first free place around its mark, or leave it out.

    Args:
        marks: centres in pixels.
        obstacles: what no name may cover, the marks included.
        room: no name may leave it.
        size: of the font in pixels.
    """
    order = list(range(len(marks)))
    labels = place_in_order(order, marks, names, obstacles, room, size)
    for _ in range(ATTEMPTS if len(marks) <= CROWD else 0):
        placed = {label.index for label in labels}
        if len(placed) == len(order):
            break
        # a name that found no room goes first the next time
        order.sort(key=placed.__contains__)
        again = place_in_order(order, marks, names, obstacles, room, size)
        labels = max(labels, again, key=len)
    return labels


def place_in_order(
    order: Sequence[int],
    marks: Sequence[tuple[float, float]],
    names: Sequence[str],
    obstacles: Sequence[Box],
    room: Box,
    size: float,
) -> list[Label]:
    """Place the names one after the other, each around those that are placed already."""
    taken = np.array(obstacles, dtype=float).reshape(-1, 4)
    labels = []
    farthest = FARTHEST if len(marks) <= CROWD else 0
    for index in order:
        shape = text_width(names[index], size), (ASCENT + DESCENT) * size
        for box, side, distant in candidates(marks[index], shape, farthest):
            end = nearest(marks[index], box) if distant else None
            path = line_boxes(marks[index], end) if end else []
            if inside(box, room) and not any(overlaps(each, taken) for each in (box, *path)):
                labels.append(Label(index, box, side, end))
                taken = np.vstack([taken, box, *path])
                break
    return labels


def candidates(
    mark: tuple[float, float], shape: tuple[float, float], farthest: int
) -> Iterator[tuple[Box, int, bool]]:
    """Yield boxes around a mark, the nearest first; with the side and whether it is distant."""
    width, height = shape
    for distance in range(0, farthest + 1, 6):
        for right, up in DIRECTIONS if distance else DIRECTIONS[:8]:
            side, rise = int(math.copysign(1, right)) if right else 0, up / abs(up) if up else 0
            left = mark[0] + (REACH + distance) * right - width * (1 - side) / 2
            bottom = mark[1] + (REACH + distance) * up - height * (1 - rise) / 2
            yield (left, bottom, left + width, bottom + height), side, distance > 0


def nearest(mark: tuple[float, float], box: Box) -> tuple[float, float]:
    """Return the point of a box that is nearest to a mark."""
    left, bottom, right, top = box
    return min(max(mark[0], left), right), min(max(mark[1], bottom), top)


def line_boxes(mark: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    """Return the line from clear of its mark to `end` as boxes of two pixels, four pixels apart."""
    right, up = end[0] - mark[0], end[1] - mark[1]
    length = math.hypot(right, up)
    parts = [at / length for at in range(12, int(length), 4)]
    centres = [(mark[0] + part * right, mark[1] + part * up) for part in parts]
    return [(x - 1, y - 1, x + 1, y + 1) for x, y in centres]


def inside(box: Box, room: Box) -> bool:
    return box[0] >= room[0] and box[1] >= room[1] and box[2] <= room[2] and box[3] <= room[3]


def overlaps(box: Box, taken: NDArray[np.float64]) -> bool:
    """Tell whether a box overlaps one of `taken` (N, 4), or leaves less than a pixel beside it."""
    left, bottom, right, top = box
    beside = (taken[:, 0] < right + 1) & (taken[:, 2] > left - 1)
    return bool((beside & (taken[:, 1] < top) & (taken[:, 3] > bottom)).any())
