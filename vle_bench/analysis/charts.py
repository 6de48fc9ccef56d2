"""Charts as inline SVG: their text stays text, and their colours follow the page, light or dark, through its style sheet."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vle_bench.analysis.html import Html, attribute, text

# One unit is one pixel on a phone, so that text is as large there as the page's own small print.
WIDTH, HEIGHT = 350, 240

LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 36

POINTS = 300  # a curve of more is drawn as means of neighbours

MARKED = 40  # so many points have a dot each

Points = Sequence[tuple[float, float]]

STYLE = """
.charts { display: grid; gap: 1rem 2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.chart { margin: 0; max-width: 32rem; } .chart figcaption { font-weight: 600; }
.chart svg { width: 100%; height: auto; display: block; font-size: 11px; font-variant-numeric: tabular-nums; }
.chart svg text { fill: var(--text); } .axis { stroke: var(--muted); } .grid { stroke: var(--line); }
.curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .diagonal { stroke: var(--muted); stroke-dasharray: 4 3; }
.accuracy { fill: var(--s0); } .gap { fill: var(--s1); fill-opacity: .5; stroke: var(--s1); } .count { fill: var(--muted); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .2rem 0; padding: 0; font-size: .85rem; }
.legend svg { width: 1.6rem; height: .7rem; display: inline-block; vertical-align: baseline; margin-right: .3rem; }
""" + "".join(
    f".s{k} {{ stroke: var(--s{k}); stroke-dasharray: {dash}; }} .dot{k} {{ fill: var(--s{k}); }}\n"
    for k, dash in enumerate(("none", "6 3", "2 2", "8 3 2 3", "none", "6 3"))
)


def line_chart(
    title: str,
    series: Mapping[str, Points],
    x_label: str,
    y_range: tuple[float, float] | None = None,
    log: bool = False,
) -> Html:
    """Lines over the same axes; a name for each, which stands in the legend if there are several.

    Args:
        series: name → points (x, y), in the order of x; at least one point in all.
        y_range: of the axis; that of the points, if not given.
        log: a logarithmic y axis, where every value is positive.
    """
    thinned = {name: thin(points) for name, points in series.items()}
    drawn = [point for points in thinned.values() for point in points]
    low, high = y_range or spread([y for _, y in drawn])
    log = log and min(y for _, y in drawn) > 0
    if log:
        low, high = min(y for _, y in drawn) / 1.1, max(y for _, y in drawn) * 1.1
    x_low, x_high = min(0.0, *(x for x, _ in drawn)), max(x for x, _ in drawn)
    scale = math.log if log else float

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1)
        up = (scale(y) - scale(low)) / (scale(high) - scale(low))
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (
            HEIGHT - TOP - BOTTOM
        )

    parts = axes(
        place,
        ticks(x_low, x_high),
        log_ticks(low, high) if log else ticks(low, high),
        (x_low, low),
        x_label,
    )
    for k, points in enumerate(thinned.values()):
        spots = [place(*point) for point in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f'<polyline class="curve s{k}" points="{path}"/>')
        if len(spots) <= MARKED:
            parts += [
                f'<circle class="dot{k}" cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>' for x, y in spots
            ]
    last = ", ".join(
        f"{name} {shown(points[-1][1])} at {shown(points[-1][0])}"
        for name, points in thinned.items()
        if points
    )
    return figure(
        title,
        f"{title}, over {x_label}: {last}",
        HEIGHT,
        parts,
        list(series) if len(series) > 1 else [],
    )


def reliability_diagram(title: str, bins: list[dict[str, Any]]) -> Html:
    """Bars of the mean score in each bin of confidence, how far each is from the mean confidence, and how many examples it has.

    Args:
        bins: as `metrics.error_analysis.calibration` gives them.
    """
    band, height = 44, 330  # of the counts above the diagram; of all
    top = TOP + band + 14

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + x * (WIDTH - LEFT - RIGHT), height - BOTTOM - y * (height - BOTTOM - top)

    fifths = [k / 5 for k in range(6)]
    parts = axes(place, fifths, fifths, (0.0, 0.0), "confidence", height)
    most = max(found["n"] for found in bins)
    parts.append(f'<text x="{LEFT}" y="{TOP + 2}">questions, at most {most:,} in a bin</text>')
    for found in bins:
        if not found["n"]:
            continue
        (x1, y), (x2, zero) = place(found["low"], found["score"]), place(found["high"], 0)
        sure = place(0, found["confidence"])[1]
        x, width = x1 + 1, x2 - x1 - 2
        tall = band * found["n"] / most
        parts += [
            rectangle("accuracy", x, y, width, zero - y),
            rectangle("gap", x, min(y, sure), width, abs(sure - y)),
            rectangle("count", x, TOP + 8 + band - tall, width, tall),
        ]
    (x1, y1), (x2, y2) = place(0, 0), place(1, 1)
    parts.append(f'<line class="diagonal" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    words = [
        f"{one['low']:.1f} to {one['high']:.1f}: {one['n']:,} questions, score {one['score']:.2f}"
        for one in bins
        if one["n"]
    ]
    drawn = figure(
        title, f"{title}: score in each bin of confidence. {'; '.join(words)}", height, parts, []
    )
    swatch = '<svg viewBox="0 0 32 10" aria-hidden="true"><rect class="{}" width="32" height="10"/></svg>'
    said = {
        "accuracy": "mean score",
        "gap": "from there to the mean confidence",
        "count": "questions",
    }
    return Html(
        f'{drawn}<ul class="legend">{"".join(f"<li>{swatch.format(kind)}{words}</li>" for kind, words in said.items())}</ul>'
    )


def axes(
    place: Any,
    xs: list[float],
    ys: list[float],
    origin: tuple[float, float],
    x_label: str,
    height: int = HEIGHT,
) -> list[str]:
    parts = []
    for y in ys:
        x0, at = place(origin[0], y)
        parts.append(
            f'<line class="grid" x1="{x0:.1f}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(f'<text x="{x0 - 5:.1f}" y="{at + 4:.1f}" text-anchor="end">{shown(y)}</text>')
    bottom = place(*origin)[1]
    parts.append(
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom:.1f}" y2="{bottom:.1f}"/>'
    )
    for x in xs:
        at = place(x, origin[1])[0]
        anchor = "end" if at > WIDTH - RIGHT - 12 else "middle"
        parts.append(
            f'<text x="{at:.1f}" y="{bottom + 14:.1f}" text-anchor="{anchor}">{shown(x)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle:.1f}" y="{height - 6}" text-anchor="middle">{text(x_label, isolated=False)}</text>'
    )
    return parts


def rectangle(kind: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    )


def figure(title: str, description: str, height: int, parts: list[str], names: list[str]) -> Html:
    swatch = '<svg viewBox="0 0 32 10" aria-hidden="true"><line class="curve s{}" x1="0" x2="32" y1="5" y2="5"/></svg>'
    legend = "".join(f"<li>{swatch.format(k)}{text(name)}</li>" for k, name in enumerate(names))
    return Html(
        f'<figure class="chart"><figcaption>{text(title)}</figcaption><svg role="img" viewBox="0 0 {WIDTH} {height}" '
        f'aria-label="{attribute(description)}">{"".join(parts)}</svg>'
        + (f'<ul class="legend">{legend}</ul>' if names else "")
        + "</figure>"
    )


def thin(points: Points) -> Points:
    """At most POINTS points: means of neighbours."""
    size = -(-len(points) // POINTS)
    if size <= 1:
        return points
    groups = [points[k : k + size] for k in range(0, len(points), size)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


def spread(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) / 20 or abs(high) / 2 or 1.0
    return (0.0 if 0 <= low <= margin * 20 else low - margin), high + margin


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, four to nine of them."""
    span = (high - low) or 1.0
    rough = 10.0 ** math.floor(math.log10(span / 4))
    step = next(
        rough * factor for factor in (10, 5, 2, 1) if span / (rough * factor) >= 3 or factor == 1
    )
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, or the powers alone over many decades; where few of them fit, as on a plain axis."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        found = [
            factor * 10.0**decade
            for decade in decades
            for factor in factors
            if low <= factor * 10.0**decade <= high
        ]
        if len(found) >= 3:
            return found
    return [value for value in ticks(low, high) if value >= low]


def shown(value: float) -> str:
    return (
        f"{value:,.0f}"
        if abs(value) >= 1000
        else f"{value:.4g}".replace("e-0", "e-").replace("-", "−")
    )
