"""Curves and reliability diagrams, and the style of all charts."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from vle_bench.metrics.error_analysis import Bin
from vle_bench.metrics.numbers import mean
from vle_bench.pages.figures import svg
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
# Bars of a histogram, and the whole numbers on either side of its middle at least.
MOST_BARS, FEWEST_PLACES = 30, 3
# Pixels. The text of a chart this wide is as large on a phone as the page's own small print.
WIDTH, HEIGHT = 350, 240
# Two names of more characters do not fit beside each other in a legend; pixels of its rows.
LONGEST_NAME, LEGEND_ROW = 20, 17

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


def styled(font_size: int = 11) -> AbstractContextManager[None]:
    """Return the context in which figures are made and drawn."""
    style: Any = STYLE | {"font.size": font_size}
    return matplotlib.rc_context(style)


def new_figure(width: float, height: float, layout: Layout = "constrained") -> Figure:
    """Return an empty figure of so many pixels."""
    return Figure(figsize=(width / 72, height / 72), dpi=72, layout=layout)


def line_chart(
    name: str,
    title: str,
    series: Mapping[str, Points],
    x_label: str,
    y_range: tuple[float, float] | None = None,
    log: bool = False,
) -> Markup:
    """Draw curves over the same axes, with a legend if there are several.

    Args:
        name: unique on the page.
        series: name -> points (x, y), in the order of x; at least one point in all.
        y_range: range of the y axis; that of the points if not given.
        log: draw the y axis logarithmically if every value is positive.
    """
    ends = [(key, points[-1]) for key, points in series.items() if points]
    last = ", ".join(f"{key} {number(y)} at {number(x)}" for key, (x, y) in ends)
    rows, _ = legend_shape(series)
    with styled():
        figure = new_figure(WIDTH, HEIGHT + LEGEND_ROW * max(0, rows - 2))
        draw_curves(figure.subplots(), series, x_label, y_range, log)
        return svg(figure, name, f"{title}, over {x_label}: {last}")


def legend_shape(names: Collection[str]) -> tuple[int, int]:
    """Return the rows and the columns of a legend; none for a single name."""
    if len(names) < 2:
        return 0, 1
    columns = 2 if max(map(len, names)) <= LONGEST_NAME else 1
    return -(-len(names) // columns), columns


def draw_curves(
    axes: Axes,
    series: Mapping[str, Points],
    x_label: str,
    y_range: tuple[float, float] | None = None,
    log: bool = False,
    heading: str = "",
) -> None:
    """Draw curves into `axes`, below a heading; the other arguments are those of `line_chart`."""
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
    legend_rows, columns = legend_shape(series)
    if legend_rows:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.3)
    if heading:
        axes.set_title(heading, pad=6 + 1.6 * legend_rows * matplotlib.rcParams["font.size"])


def reliability_diagram(name: str, title: str, bins: Sequence[Bin]) -> Markup:
    """Draw each bin's mean score, its distance from the mean confidence, and its size as bars.

    Args:
        name: unique on the page.
    """
    filled = [one for one in bins if one["n"]]
    summary = "; ".join(
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
        return svg(figure, name, f"{title}: score in each bin of confidence. {summary}")


def histogram(
    name: str, title: str, values: ArrayLike, x_label: str, limit: float | None = None
) -> Markup:
    """Draw how many values there are of each size as bars.

    Args:
        name: unique on the page.
        values: whole numbers, at least one.
        limit: drawn as a line.
    """
    numbers = np.asarray(values)
    low, high = int(numbers.min()), int(numbers.max())
    width = max(1, -(-(high - low + 1) // MOST_BARS))
    edges = np.arange(low, high + width + 1, width) - 0.5
    counts, _ = np.histogram(numbers, edges)
    with styled():
        figure = new_figure(WIDTH, HEIGHT)
        axes = figure.subplots()
        axes.bar(edges[:-1] + width / 2, counts, 0.9 * width, color=LIGHT["blue"])
        if limit is not None:
            axes.axvline(limit + 0.5, color=LIGHT["orange"], linestyle="--")
        if high - low < FEWEST_PLACES:
            middle = (low + high) // 2
            axes.set_xlim(middle - FEWEST_PLACES, middle + FEWEST_PLACES)
        axes.set_xlabel(x_label)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
            axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        median = number(float(np.median(numbers)))
        line = f", with a line at the limit of {number(limit)}" if limit is not None else ""
        described = f"{title}: {number(low)} to {number(high)}, median {median}{line}"
        return svg(figure, name, described)


def thin(points: Points) -> Points:
    """Return the means of neighbours: at most MOST_POINTS points."""
    size = -(-len(points) // MOST_POINTS)
    if size <= 1:
        return points
    groups = [points[k : k + size] for k in range(0, len(points), size)]
    return [(mean([x for x, _ in group]), mean([y for _, y in group])) for group in groups]


def padded(low: float, high: float) -> tuple[float, float]:
    """Return the range of an axis: that of the values and a margin, from 0 if 0 is near."""
    margin = (high - low) / 20 or abs(high) / 2 or 1.0
    return (0.0 if 0 <= low <= margin * 20 else low - margin), high + margin


def log_locator(low: float, high: float) -> Locator:
    """Return the ticks of a logarithmic axis; within one decade, those of a linear axis."""
    if high / low < 10:
        return MaxNLocator(6, steps=[1, 2, 5, 10])
    return LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,))


def number(value: float) -> str:
    """Return a figure on an axis: 1,500 or 0.25, with a true minus."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}".replace("e-0", "e-").replace("-", "−")
