"""What is drawn with matplotlib: learning curves, calibration, scores against sizes."""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass
from typing import Any, Literal, TypedDict

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import IdentityTransform

from vle_bench.pages.figures import svg
from vle_bench.pages.labels import DESCENT, place_labels
from vle_bench.pages.palette import LIGHT

Points = Sequence[tuple[float, float]]

Layout = Literal["constrained"] | None

# Curves in turn: colour, dashes. Neighbours differ in both.
CURVES = (
    ("blue", "-"),
    ("orange", "--"),
    ("grey", "-."),
    ("green", "-"),
    ("violet", "--"),
    ("gold", "-."),
)

# Curves with more points are drawn as means of neighbours, to keep the page small.
MOST_POINTS = 300

# Curves with at most so many points get a dot at each.
DOTTED = 40

# Pixels. The text of a chart this wide is as large on a phone as the page's own small print.
WIDTH, HEIGHT = 350, 240

# DejaVu Sans comes with matplotlib, so that the layout is the same on every machine.
STYLE = {
    "font.family": "DejaVu Sans",
    "text.color": LIGHT["text"],
    "axes.labelcolor": LIGHT["text"],
    "axes.edgecolor": LIGHT["muted"],
    "axes.linewidth": 1,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "grid.color": LIGHT["line"],
    "grid.linewidth": 1,
    "xtick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["text"],
    "ytick.color": LIGHT["text"],
    "ytick.left": False,
    "legend.frameon": False,
    "legend.borderpad": 0,
    "legend.handletextpad": 0.4,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "vle-bench",
}


class Bin(TypedDict):
    """A bin of confidence, as `metrics.error_analysis.calibration` gives it."""

    low: float
    high: float
    n: int
    confidence: float | None
    score: float | None


def styled(font_size: int = 11) -> AbstractContextManager[None]:
    """The context in which figures are made and drawn."""
    style: Any = STYLE | {"font.size": font_size}
    return matplotlib.rc_context(style)


def new_figure(width: float, height: float, layout: Layout = "constrained") -> Figure:
    """An empty figure of so many pixels."""
    return Figure(figsize=(width / 72, height / 72), dpi=72, layout=layout)


def line_chart(
    name: str,
    title: str,
    series: Mapping[str, Points],
    x_label: str,
    y_range: tuple[float, float] | None = None,
    log: bool = False,
) -> Markup:
    """Curves over the same axes, with a legend if there are several.

    Args:
        name: unique on the page.
        series: name -> points (x, y), in the order of x; at least one point in all.
        y_range: range of the y axis; that of the points if not given.
        log: draw the y axis logarithmically if every value is positive.
    """
    ends = [(key, points[-1]) for key, points in series.items() if points]
    last = ", ".join(f"{key} {number(y)} at {number(x)}" for key, (x, y) in ends)
    with styled():
        figure = new_figure(WIDTH, HEIGHT)
        draw_curves(figure.subplots(), series, x_label, y_range, log)
        return svg(figure, name, f"{title}, over {x_label}: {last}")


def draw_curves(
    axes: Axes,
    series: Mapping[str, Points],
    x_label: str,
    y_range: tuple[float, float] | None = None,
    log: bool = False,
) -> None:
    """Draw curves into `axes`; the arguments are those of `line_chart`."""
    thinned = {name: thin(points) for name, points in series.items()}
    xs, ys = zip(*(point for points in thinned.values() for point in points), strict=True)
    for k, (name, points) in enumerate(thinned.items()):
        color, dashes = CURVES[k % len(CURVES)]
        dot = "o" if len(points) <= DOTTED else ""
        x, y = zip(*points, strict=True) if points else ((), ())
        axes.plot(
            x, y, dashes, color=LIGHT[color], marker=dot, markersize=4, label=name, clip_on=False
        )
    if log and min(ys) > 0:
        low, high = min(ys) / 1.1, max(ys) * 1.1
        axes.set(yscale="log", ylim=(low, high))
        axes.yaxis.set(major_locator=log_locator(low, high), minor_locator=NullLocator())
    else:
        axes.set_ylim(y_range or padded(min(ys), max(ys)))
    axes.set_xlim(min(0, *xs), max(xs) or 1)
    axes.set_xlabel(x_label)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    if len(series) > 1:
        legend_above(axes)


def legend_above(axes: Axes) -> None:
    """A legend of two columns between the title and the axes."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.3)


def reliability_diagram(name: str, title: str, bins: Sequence[Bin]) -> Markup:
    """Bars of each bin's mean score, of its distance from the mean confidence, and of its size.

    Args:
        name: unique on the page.
    """
    filled = [one for one in bins if one["n"]]
    said = "; ".join(
        f"{one['low']:.1f} to {one['high']:.1f}: {one['n']:,} questions, score {one['score']:.2f}"
        for one in filled
    )
    middles = [(one["low"] + one["high"]) / 2 for one in filled]
    scores = [one["score"] or 0.0 for one in filled]
    gaps = [(one["confidence"] or 0.0) - score for one, score in zip(filled, scores, strict=True)]
    counts = [one["n"] for one in filled]
    width = 0.94 / len(bins)
    with styled():
        figure = new_figure(WIDTH, 340)
        above, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 5))
        above.bar(middles, counts, width, color=LIGHT["grey"])
        above.set_axis_off()
        above.set_title(f"questions, at most {max(counts):,} in a bin", loc="left", fontsize=11)
        axes.bar(middles, scores, width, color=LIGHT["blue"], label="mean score")
        axes.bar(
            middles,
            gaps,
            width,
            scores,
            color=LIGHT["orange"],
            alpha=0.5,
            label="from there to the mean confidence",
        )
        axes.plot((0, 1), (0, 1), ":", color=LIGHT["muted"])
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        figure.legend(loc="outside lower left", ncols=2, columnspacing=1, handlelength=1.5)
        return svg(figure, name, f"{title}: score in each bin of confidence. {said}")


def thin(points: Points) -> Points:
    """Means of neighbours: at most MOST_POINTS points."""
    size = -(-len(points) // MOST_POINTS)
    if size <= 1:
        return points
    groups = [points[k : k + size] for k in range(0, len(points), size)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


def padded(low: float, high: float) -> tuple[float, float]:
    """The range of an axis: that of the values and a margin, from 0 if 0 is near."""
    margin = (high - low) / 20 or abs(high) / 2 or 1.0
    return (0.0 if 0 <= low <= margin * 20 else low - margin), high + margin


def log_locator(low: float, high: float) -> Locator:
    """Ticks of a logarithmic axis: as on a linear one within a decade, which has few powers."""
    if high / low < 10:
        return MaxNLocator(6, steps=[1, 2, 5, 10])
    return LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,))


def number(value: float) -> str:
    """A figure on an axis: 1,500 or 0.25, with a true minus."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}".replace("e-0", "e-").replace("-", "−")


@dataclass(frozen=True)
class Point:
    """One score in a scatter plot.

    Args:
        interval: lowest and highest value of its 95 % interval.
    """

    name: str
    x: float
    y: float
    kind: Literal["published", "measured"]
    interval: tuple[float, float] | None = None


BOARD = (720, 440)  # pixels of a scatter plot

AXES = (48, 52, 706, 364)  # left, bottom, right, top of its axes, y upwards

FONT = 13

RADIUS = 5  # pixels of a mark

# A ring and a diamond: told apart without colour too.
MARKS: dict[str, dict[str, Any]] = {
    "published": {
        "marker": "o",
        "markersize": 10,
        "markerfacecolor": "none",
        "markeredgewidth": 2,
        "color": LIGHT["blue"],
    },
    "measured": {"marker": "D", "markersize": 9, "markeredgewidth": 0, "color": LIGHT["orange"]},
}


def scatter(name: str, title: str, x_label: str, points: Sequence[Point]) -> Markup:
    """Accuracies against sizes on a logarithmic axis, with a name at each point.

    Args:
        name: unique on the page.

    Raises:
        ValueError: there are no points, or one cannot be drawn.
    """
    points = in_order(title, points)
    said = [f"{point.name}: {decimals(point.y)} at {count(point.x)}" for point in points]
    with styled(FONT):
        figure = new_figure(*BOARD, layout=None)
        left, bottom, right, top = AXES
        width, height = BOARD
        axes = figure.add_axes(
            (left / width, bottom / height, (right - left) / width, (top - bottom) / height)
        )
        scale_axes(axes, points)
        axes.set_xlabel(x_label, loc="left", color=LIGHT["muted"])
        figure.text(12 / width, 1 - 26 / height, title, size=16, weight="bold")
        figure.text(12 / width, (top + 14) / height, "accuracy, %", color=LIGHT["muted"])
        draw_marks(axes, points)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.6)
        left_out = len(points) - draw_names(figure, axes, points)
        if left_out:
            figure.text(
                right / width,
                10 / height,
                f"{left_out} of {len(points)} without a name, for want of room",
                ha="right",
                color=LIGHT["muted"],
            )
        return svg(figure, name, title, [astuple(point) for point in points], said)


def in_order(title: str, points: Sequence[Point]) -> list[Point]:
    """Points in an order of their own, measured ones last so that they are drawn on top."""
    if not points:
        raise ValueError(f"{title}: no points to draw")
    for point in points:
        low, high = point.interval or (point.y, point.y)
        finite = all(map(math.isfinite, (point.x, point.y, low, high)))
        if not finite or low > high or point.x <= 0:
            raise ValueError(f"{title}: {point.name} cannot be drawn: {point}")
    return sorted(
        points, key=lambda p: (p.kind == "measured", p.x, p.y, p.name, p.interval or (p.y, p.y))
    )


def scale_axes(axes: Axes, points: Sequence[Point]) -> None:
    """Ranges with some room for names around the points, and round ticks."""
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
    """A mark for each point, with a bar for its interval, and one of each kind in the legend."""
    bars = ", bar: 95 % interval" if any(point.interval for point in points) else ""
    labels = {"published": "published", "measured": f"measured{bars}"}
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
    room = (AXES[0], AXES[1] + 2, BOARD[0] - 4, AXES[3] + 8)
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
    """A score as papers print it: 82.0 or 77.68."""
    text = f"{score:.2f}"
    return text.removesuffix("0") if text.endswith("0") else text


def count(value: float) -> str:
    """A number of parameters or pairs as the tables write it: 345M, 2.1 B."""
    for unit, name in ((1e9, " B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}"
