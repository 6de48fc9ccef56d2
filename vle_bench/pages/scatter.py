"""Scatter plots of scores against sizes, with a name at each point."""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Literal

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from matplotlib.transforms import IdentityTransform

from vle_bench.pages.charts import log_locator, new_figure, number, styled
from vle_bench.pages.figures import svg
from vle_bench.pages.labels import DESCENT, place_labels
from vle_bench.pages.palette import LIGHT


@dataclass(frozen=True)
class Point:
    """One score in a scatter plot.

    Args:
        interval: lowest and highest value of its 95 % interval.
    """

    name: str
    x: float
    y: float
    kind: Literal["published", "measured", "external"]
    interval: tuple[float, float] | None = None


BOARD = (720, 440)  # pixels of a scatter plot
AXES_BOX = (48, 52, 706, 364)  # left, bottom, right, top of its axes, y upwards
FONT = 13
RADIUS = 5  # pixels of a mark

# A ring, a diamond and a square, which differ without colour too.
MARKS: dict[str, dict[str, Any]] = {
    "published": {
        "marker": "o",
        "markersize": 10,
        "markerfacecolor": "none",
        "markeredgewidth": 2,
        "color": LIGHT["blue"],
    },
    "measured": {"marker": "D", "markersize": 9, "markeredgewidth": 0, "color": LIGHT["orange"]},
    "external": {
        "marker": "s",
        "markersize": 9,
        "markerfacecolor": "none",
        "markeredgewidth": 2,
        "color": LIGHT["violet"],
    },
}


def scatter(name: str, title: str, x_label: str, points: Sequence[Point]) -> Markup:
    """Draw accuracies against sizes on a logarithmic axis, with a name at each point.

    Args:
        name: unique on the page.

    Raises:
        ValueError: there are no points, or one cannot be drawn.
    """
    points = in_order(title, points)
    hints = [f"{point.name}: {decimals(point.y)} at {count(point.x)}" for point in points]
    with styled(FONT):
        figure = new_figure(*BOARD, layout=None)
        left, bottom, right, top = AXES_BOX
        width, height = BOARD
        axes = figure.add_axes(
            (left / width, bottom / height, (right - left) / width, (top - bottom) / height)
        )
        scale_axes(axes, points)
        axes.set_xlabel(x_label, loc="left", color=LIGHT["muted"])
        figure.text(12 / width, 1 - 26 / height, title, size=16, weight="bold")
        figure.text(12 / width, (top + 14) / height, "accuracy, %", color=LIGHT["muted"])
        draw_marks(axes, points)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.6)
        left_out = len(points) - draw_names(figure, axes, points)
        if left_out:
            figure.text(
                right / width,
                10 / height,
                f"{left_out} of {len(points)} without a name, for want of room",
                ha="right",
                color=LIGHT["muted"],
            )
        return svg(figure, name, title, [astuple(point) for point in points], hints)


def in_order(title: str, points: Sequence[Point]) -> list[Point]:
    """Return points in an order of their own, measured ones last so that they are drawn on top."""
    if not points:
        raise ValueError(f"{title}: no points to draw")
    for point in points:
        low, high = point.interval or (point.y, point.y)
        finite = all(map(math.isfinite, (point.x, point.y, low, high)))
        if not finite or low > high or point.x <= 0:
            raise ValueError(f"{title}: {point.name} cannot be drawn: {point}")
    return sorted(
        points, key=lambda p: (p.kind != "published", p.x, p.y, p.name, p.interval or (p.y, p.y))
    )


def scale_axes(axes: Axes, points: Sequence[Point]) -> None:
    """Set ranges with some room for names around the points, and round ticks."""
    xs = [point.x for point in points]
    ys = [value for point in points for value in (point.y, *(point.interval or ()))]
    room = (max(xs) / min(xs)) ** 0.14 if max(xs) > min(xs) else 2.0
    low, high = min(xs) / room, max(xs) * room
    margin = 0.15 * (max(ys) - min(ys)) or abs(max(ys)) * 0.05 or 1.0
    axes.set(xscale="log", xlim=(low, high), ylim=(min(ys) - margin, max(ys) + margin))
    axes.xaxis.set(major_locator=log_locator(low, high), minor_locator=NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def draw_marks(axes: Axes, points: Sequence[Point]) -> None:
    """Draw a mark for each point, a bar for its interval, and one of each kind in the legend."""
    bars = ", bar: 95 % interval" if any(point.interval for point in points) else ""
    labels = {kind: kind if kind == "published" else f"{kind}{bars}" for kind in MARKS}
    for k, point in enumerate(points):
        style = MARKS[point.kind]
        if point.interval:
            low, high = point.interval
            errors = [[point.y - low], [high - point.y]]
            axes.errorbar(
                point.x, point.y, errors, fmt="none", ecolor=style["color"], capsize=4, zorder=2
            )
        axes.plot(
            *(point.x, point.y),
            **style,
            linestyle="none",
            gid=f"hint-{k}",
            # matplotlib leaves labels with an underscore out of the legend
            label=labels.pop(point.kind, "_"),
            zorder=3,
        )


def draw_names(figure: Figure, axes: Axes, points: Sequence[Point]) -> int:
    """Write the names that find room, and return how many do."""
    to_pixels = axes.transData.transform
    marks = [tuple(to_pixels((point.x, point.y))) for point in points]
    obstacles = [(x - 6, y - 6, x + 6, y + 6) for x, y in marks]
    for point, (x, _) in zip(points, marks, strict=True):
        if point.interval:
            low, high = (to_pixels((point.x, value))[1] for value in point.interval)
            obstacles.append((x - 4, low, x + 4, high))
    room = (AXES_BOX[0], AXES_BOX[1] + 2, BOARD[0] - 4, AXES_BOX[3] + 8)
    labels = place_labels(marks, [point.name for point in points], obstacles, room, FONT)
    for label in labels:
        x, y = marks[label.index]
        if label.leader is not None:
            part = RADIUS / math.dist((x, y), label.leader)
            start = x + part * (label.leader[0] - x), y + part * (label.leader[1] - y)
            xs, ys = zip(start, label.leader, strict=True)
            axes.plot(xs, ys, color=LIGHT["muted"], linewidth=0.7, transform=IdentityTransform())
        left, bottom, right, _ = label.box
        figure.text(
            (left, (left + right) / 2, right)[1 - label.side],
            bottom + DESCENT * FONT,
            points[label.index].name,
            ha=("right", "center", "left")[label.side + 1],
            transform=IdentityTransform(),
        )
    return len(labels)


def decimals(score: float) -> str:
    """Return a score as papers print it: 82.0 or 77.68."""
    text = f"{score:.2f}"
    return text.removesuffix("0") if text.endswith("0") else text


def count(value: float) -> str:
    """Return a number of parameters or pairs as the tables write it: 345M, 2.1 B."""
    for unit, name in ((1e9, " B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}"
