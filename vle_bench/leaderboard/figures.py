"""Scores drawn against the size of a model or of its pre-training data, as SVG and PNG.

The SVG is written here, not by matplotlib: its bytes are the same on every machine and under every version of matplotlib, its
numbers are text that can be selected, and its colours follow the reader's light or dark theme. A PNG holds pixels of letters, which
differ between versions of matplotlib and FreeType; it says what it shows and who drew it, so that `same_figure` can tell.
"""

import hashlib
import io
import platform
from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any

import matplotlib
import numpy as np
from matplotlib import ft2font
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from vle_bench.leaderboard.scatter import (
    FONT,
    HEIGHT,
    RADIUS,
    WIDTH,
    Line,
    Mark,
    Point,
    Shape,
    Text,
    scatter_shapes,
)

__all__ = ["Point", "same_figure", "scatter"]

# Light, dark. Blue and orange are told apart by colour-blind readers too; the marks also differ in shape and filling.
INKS = {
    "text": ("#1b1b1b", "#e8e8e8"),
    "muted": ("#5c5c5c", "#a8a8a8"),
    "grid": ("#e4e4e4", "#333333"),
    "axis": ("#8a8a8a", "#7d7d7d"),
    "published": ("#1f5fa8", "#6aa9ea"),
    "measured": ("#c75b12", "#f0954f"),
    "card": ("#ffffff", "#161616"),
}

DIAMOND = RADIUS + 1.5  # half of its diagonal: about the area of the circle

FONTS = '"DejaVu Sans",Verdana,Geneva,sans-serif'  # wide ones: labels that fit in these fit in any other

SCALE = 2  # pixels of the PNG to one of the SVG

POINTS = 0.72  # in a pixel, at 100 pixels an inch

DRAWN_BY = f"matplotlib {matplotlib.__version__}, FreeType {ft2font.__freetype_version__}, {platform.machine()}"

SHOWS, BY = "Shows", "Software"  # text chunks of a PNG


def scatter(
    points: Sequence[Point], title: str, x_label: str, y_label: str, log_x: bool
) -> tuple[bytes, bytes]:
    """One figure, as SVG and as PNG.

    Raises:
        ValueError: there are no points, or one that cannot be drawn.
    """
    shapes = scatter_shapes(points, title, x_label, y_label, log_x)
    drawing = svg(shapes, title).encode()
    return drawing, png(shapes, hashlib.sha256(drawing).hexdigest())


def same_figure(old: bytes, new: bytes) -> bool:
    """Whether a file that lies there still shows what `scatter` has drawn anew.

    An SVG does if its bytes are the same. A PNG does, too, if
    - another version of matplotlib or FreeType, or another kind of processor, drew what the same SVG shows, whose SHA-256 is in it.
      The letters may then differ by some pixels; or
    - the same version drew the same pixels, and only another zlib packed them.
    The same version with other pixels was edited: not the same.
    """
    if old == new:
        return True
    try:
        pictures = [Image.open(io.BytesIO(file), formats=["PNG"]) for file in (old, new)]
        pixels = [np.asarray(picture.convert("RGBA")) for picture in pictures]
    except (OSError, SyntaxError, ValueError):
        return False  # one is no PNG, or a broken one
    before, after = (dict(picture.info) for picture in pictures)
    if SHOWS not in after or before.get(SHOWS) != after[SHOWS]:
        return False
    return before.get(BY) != after.get(BY) or (
        before == after and np.array_equal(pixels[0], pixels[1])
    )


def number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def svg(shapes: Sequence[Shape], title: str) -> str:
    """A card of its own, light or dark: it is readable on whatever page it lies."""
    rules = [theme(0), f"@media (prefers-color-scheme:dark){{{theme(1)}}}"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="board" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(title)}">',
        f"<style>.board{{font:{FONT}px {FONTS}}}.board .bold{{font-weight:700}}.board .ring{{stroke-width:2}}",
        f"{''.join(rules)}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" class="card"/>',
        *map(element, shapes),
        "</svg>\n",
    ]
    return "\n".join(parts)


def theme(which: int) -> str:
    ink = {name: pair[which] for name, pair in INKS.items()}
    rules = [f".board .{name}{{fill:{ink[name]}}}" for name in ("text", "muted", "card")]
    rules += [f".board line.{name}{{stroke:{ink[name]}}}" for name in ("grid", "axis", "measured")]
    rules += [
        f".board .ring{{fill:none;stroke:{ink['published']}}}",
        f".board .diamond{{fill:{ink['measured']}}}",
    ]
    return "".join(rules)


def element(shape: Shape) -> str:
    match shape:
        case Line((x1, y1), (x2, y2), ink, width):
            ends = f'x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"'
            return f'<line class="{ink}" {ends} stroke-width="{width:g}"/>'
        case Mark(x, y, kind, says):
            hint = f"<title>{escape(says)}</title>" if says else ""
            if kind == "published":
                return f'<circle class="ring" cx="{number(x)}" cy="{number(y)}" r="{RADIUS}">{hint}</circle>'
            return f'<polygon class="diamond" points="{corners(x, y)}">{hint}</polygon>'
        case Text(x, y, text, anchor, ink, size, bold):
            style = f' font-size="{size}"' if size != FONT else ""
            style += f' text-anchor="{anchor}"' if anchor != "start" else ""
            return f'<text class="{ink}{" bold" if bold else ""}" x="{number(x)}" y="{number(y)}"{style}>{escape(text)}</text>'


def corners(x: float, y: float) -> str:
    places = ((0, -DIAMOND), (DIAMOND, 0), (0, DIAMOND), (-DIAMOND, 0))
    return " ".join(f"{number(x + right)},{number(y + down)}" for right, down in places)


def png(shapes: Sequence[Shape], shows: str) -> bytes:
    """The light card, drawn by matplotlib.

    Args:
        shows: SHA-256 of the SVG of the same shapes.
    """
    with matplotlib.rc_context({"font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(WIDTH / 100, HEIGHT / 100), facecolor=INKS["card"][0])
        canvas = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
        canvas.set_axis_off()
        for level, (_, alike) in enumerate(groupby(shapes, look)):
            draw(canvas, list(alike), level)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=100 * SCALE, metadata={BY: DRAWN_BY, SHOWS: shows})
    return file.getvalue()


def look(shape: Shape) -> tuple[object, ...]:
    """Neighbours that look alike are drawn in one call: hundreds of lines are one collection."""
    match shape:
        case Line(_, _, ink, width):
            return Line, ink, width
        case Mark(_, _, kind):
            return Mark, kind
        case Text():
            return (Text,)


def draw(canvas: Axes, alike: Sequence[Shape], level: int) -> None:
    """Shapes of one look, above all of a lower level."""
    match alike[0]:
        case Line(_, _, ink, width):
            ends = [(line.start, line.end) for line in alike if isinstance(line, Line)]
            canvas.add_collection(
                LineCollection(ends, colors=INKS[ink][0], linewidths=width * POINTS, zorder=level)
            )
        case Mark(_, _, kind):
            x, y = zip(*((mark.x, mark.y) for mark in alike if isinstance(mark, Mark)), strict=True)
            style: dict[str, Any] = {
                "marker": "o",
                "markersize": 2 * RADIUS * POINTS,
                "markerfacecolor": "none",
                "markeredgewidth": 2 * POINTS,
            }
            if kind == "measured":  # matplotlib measures a diamond by its side
                style = {
                    "marker": "D",
                    "markersize": 2 * DIAMOND / 2**0.5 * POINTS,
                    "markeredgewidth": 0,
                }
            canvas.plot(x, y, linestyle="none", color=INKS[kind][0], zorder=level, **style)
        case _:
            for text in alike:
                if isinstance(text, Text):
                    side = {"start": "left", "middle": "center", "end": "right"}[text.anchor]
                    canvas.text(
                        text.x,
                        text.y,
                        text.text,
                        size=text.size * POINTS,
                        color=INKS[text.ink][0],
                        ha=side,
                        va="baseline",
                        zorder=level,
                        fontweight="bold" if text.bold else "normal",
                        parse_math=False,
                    )
