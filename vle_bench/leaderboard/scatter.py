"""Where everything of a scatter plot stands: axes, ticks, marks, and labels that do not overlap. Plain arithmetic, no drawing."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

WIDTH, HEIGHT = 720, 440  # pixels of the figure, y downwards

LEFT, TOP, RIGHT, BOTTOM = 48, 76, 706, 388  # of the axes in it

FONT, TITLE = 13, 16  # heights of the letters

RADIUS = 5  # of a mark

GAP = 4  # between a mark and its label

FARTHEST = 120  # of a label from its mark; a line leads to it if it is not beside it

CROWD = 80  # points: in more than these nobody follows a line

# No character of DejaVu Sans is wider, in heights of the letters; tests compare them with the font.
NARROW, WIDE = 0.42, 1.0

NARROW_CHARACTERS, WIDE_CHARACTERS = (
    frozenset("fijlrt.,:;!|'’()[]/- "),
    frozenset("mwMWQO@%#&<>=^~+±−×→—…"),
)

CAPITAL, OTHER = 0.78, 0.65

Box = tuple[float, float, float, float]  # left, top, right, bottom

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Point:
    """One score.

    Args:
        interval: lowest and highest value of its 95 % interval.
    """

    name: str
    x: float
    y: float
    kind: Literal["published", "measured"]
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Line:
    start: tuple[float, float]
    end: tuple[float, float]
    ink: str
    width: float = 1


@dataclass(frozen=True)
class Mark:
    x: float
    y: float
    kind: Literal["published", "measured"]
    says: str = ""  # when pointed at


@dataclass(frozen=True)
class Text:
    x: float
    y: float  # of the line that the letters stand on
    text: str
    anchor: Anchor = "start"
    ink: str = "text"
    size: int = FONT
    bold: bool = False


Shape = Line | Mark | Text


@dataclass(frozen=True)
class Axis:
    """Values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def pixel(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Round numbers in the range: 1, 2 and 5, or finer where that would be fewer than four."""
        if not self.log:
            rough = (self.high - self.low) / 6
            unit = 10.0 ** math.floor(math.log10(rough))
            step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            return [round(i * step, 9) for i in range(first, last + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in (
            (1.0,),
            (1, 3),
            (1, 2, 5),
            (1, 1.5, 2, 3, 5, 7),
            (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
        ):
            found = [
                v
                for k in decades
                for d in digits
                if self.low <= (v := float(f"{d}e{k}")) <= self.high
            ]
            if len(found) >= 4:
                break
        return found


def decimals(score: float) -> str:
    """As papers print it, 82.0 or 77.68."""
    shown = f"{score:.2f}"
    return shown.removesuffix("0") if shown.endswith("0") else shown


def count(value: float) -> str:
    """345M, 2.1 B: as the tables write them."""
    for unit, name in ((1e9, " B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}"


@cache
def text_width(text: str, size: float) -> float:
    """Pixels, rather too many: which font a browser takes is not known."""
    return size * sum(
        NARROW
        if c in NARROW_CHARACTERS
        else WIDE
        if c in WIDE_CHARACTERS or ord(c) > 0x2E7F
        else CAPITAL
        if c.isupper()
        else OTHER
        for c in text
    )


def text_box(text: Text) -> Box:
    width = text_width(text.text, text.size)
    left = text.x - {"start": 0.0, "middle": width / 2, "end": width}[text.anchor]
    return left, text.y - 0.8 * text.size, left + width, text.y + 0.25 * text.size


def scatter_shapes(
    points: Sequence[Point], title: str, x_label: str, y_label: str, log_x: bool
) -> list[Shape]:
    """All that is drawn, what lies above last.

    Raises:
        ValueError: there are no points, or one that cannot be drawn.
    """
    if not points:
        raise ValueError(f"{title}: no points to draw")
    for point in points:
        low, high = point.interval or (point.y, point.y)
        if not (
            all(map(math.isfinite, (point.x, point.y, low, high)))
            and low <= high
            and (point.x > 0 or not log_x)
        ):
            raise ValueError(f"{title}: {point.name} cannot be drawn: {point}")
    points = sorted(
        points, key=lambda p: (p.kind == "measured", p.x, p.y, p.name, p.interval or (p.y, p.y))
    )
    x = Axis(*span([p.x for p in points], log_x), LEFT, RIGHT, log_x)
    y = Axis(*span([v for p in points for v in (p.y, *(p.interval or ()))], False), BOTTOM, TOP)
    shapes: list[Shape] = [
        Text(LEFT - 36, 26, title, size=TITLE, bold=True),
        *legend(points),
        *axes(x, y, x_label, y_label),
    ]
    marks = [
        Mark(x.pixel(p.x), y.pixel(p.y), p.kind, f"{p.name}: {decimals(p.y)} at {count(p.x)}")
        for p in points
    ]
    bars = [
        bar
        for p, mark in zip(points, marks, strict=True)
        if p.interval
        for bar in error_bar(mark.x, *map(y.pixel, p.interval))
    ]
    labels, leaders = place_labels(marks, [p.name for p in points], bars)
    left_out = len(points) - len(labels)
    if left_out:
        said = f"{left_out} of {len(points)} without a name, for want of room"
        shapes.append(Text(RIGHT, HEIGHT - 10, said, "end", "muted"))
    above = sorted(
        marks, key=lambda mark: mark.kind == "published"
    )  # through a ring one sees what lies below
    return [*shapes, *leaders, *bars, *above, *labels]


def span(values: Iterable[float], log: bool) -> tuple[float, float]:
    """The range of an axis: that of the values, and some room."""
    low, high = min(values := list(values)), max(values)
    if log:
        room = 0.14 * math.log10(high / low) or 0.3
        return low / 10**room, high * 10**room
    room = 0.15 * (high - low) or abs(high) * 0.05 or 1.0
    return low - room, high + room


def axes(x: Axis, y: Axis, x_label: str, y_label: str) -> list[Shape]:
    shapes: list[Shape] = [Text(LEFT - 36, TOP - 14, y_label, ink="muted")]
    for tick in y.ticks():
        at = y.pixel(tick)
        shapes += [
            Line((LEFT, at), (RIGHT, at), "grid"),
            Text(LEFT - 8, round(at + 0.36 * FONT, 1), f"{tick:g}", "end", "muted"),
        ]
    shapes.append(Line((LEFT, BOTTOM), (RIGHT, BOTTOM), "axis"))
    room = LEFT - 20.0  # the right end of the tick before
    for tick in x.ticks():
        at = x.pixel(tick)
        name = Text(at, BOTTOM + 21, count(tick), "middle", "muted")
        shapes.append(Line((at, BOTTOM), (at, BOTTOM + 5), "axis"))
        if text_box(name)[0] > room:
            shapes.append(name)
            room = text_box(name)[2] + 4
    return [*shapes, Text(LEFT, HEIGHT - 10, x_label, ink="muted")]


def legend(points: Sequence[Point]) -> list[Shape]:
    """From the right: only what is there."""
    interval = ", bar: 95 % interval" if any(p.interval for p in points) else ""
    shapes: list[Shape] = []
    right = float(RIGHT)
    for kind, says in (("measured", f"measured{interval}"), ("published", "published")):
        if any(p.kind == kind for p in points):
            left = round(right - text_width(says, FONT), 1)
            shapes += [Mark(left - RADIUS - 5, TOP - 18, kind), Text(left, TOP - 14, says)]  # type: ignore[arg-type]
            right = left - 2 * RADIUS - 24
    return shapes


def error_bar(x: float, low: float, high: float) -> list[Line]:
    return [
        Line((x, low), (x, high), "measured", 1.5),
        *(Line((x - 4, y), (x + 4, y), "measured", 1.5) for y in (low, high)),
    ]


def place_labels(
    marks: Sequence[Mark], names: Sequence[str], bars: Sequence[Line]
) -> tuple[list[Text], list[Line]]:
    """Each name at the first place around its mark that is free, beside it or farther; a name without room is left out.

    Returns:
        the names, and for each that stands apart the line that leads to it, past all other marks and names.
    """
    taken = [
        (m.x - RADIUS - 1, m.y - RADIUS - 1, m.x + RADIUS + 1, m.y + RADIUS + 1) for m in marks
    ]
    taken += [
        (
            bar.start[0] - 4,
            min(bar.start[1], bar.end[1]),
            bar.start[0] + 4,
            max(bar.start[1], bar.end[1]),
        )
        for bar in bars[::3]
    ]
    boxes = np.array(taken)
    labels, leaders = [], []
    for mark, name in zip(marks, names, strict=True):
        for label, way in around(mark, name, FARTHEST if len(marks) <= CROWD else 0):
            box = text_box(label)
            if is_inside(box) and not hit(box, boxes) and not any(hit(step, boxes) for step in way):
                labels.append(label)
                boxes = np.vstack([boxes, box, *way])
                if way:
                    leaders.append(leader(mark, nearest(mark, box)))
                break
    return labels, leaders


def around(mark: Mark, name: str, farthest: int) -> Iterator[tuple[Text, list[Box]]]:
    """Right, left, above, below, and the four corners; then ever farther, where there are directions between these, too.

    Yields:
        a label, and the small boxes that a line to it runs through.
    """
    for distance in range(0, farthest + 1, 12):
        side, below, middle = (
            RADIUS + GAP + distance,
            RADIUS + GAP + 0.8 * FONT + distance,
            0.28 * FONT,
        )
        near, under = 0.7 * side, 0.7 * below
        places: tuple[tuple[float, float, Anchor], ...] = (
            (side, middle, "start"),
            (-side, middle, "end"),
            (0, -side, "middle"),
            (0, below, "middle"),
            (near, -near, "start"),
            (near, under, "start"),
            (-near, -near, "end"),
            (-near, under, "end"),
        )
        between: tuple[tuple[float, float, Anchor], ...] = (
            (side, -side / 2, "start"),
            (side, below / 2, "start"),
            (-side, -side / 2, "end"),
            (-side, below / 2, "end"),
            (side / 2, -side, "start"),
            (side / 2, below, "start"),
            (-side / 2, -side, "end"),
            (-side / 2, below, "end"),
        )
        for right, down, anchor in (*places, *between) if distance else places:
            label = Text(round(mark.x + right, 1), round(mark.y + down, 1), name, anchor)
            yield label, steps(mark, nearest(mark, text_box(label))) if distance else []


def nearest(mark: Mark, box: Box) -> tuple[float, float]:
    left, top, right, bottom = box
    return round(min(max(mark.x, left), right), 1), round(min(max(mark.y, top), bottom), 1)


def leader(mark: Mark, end: tuple[float, float]) -> Line:
    """From the edge of a mark."""
    part = RADIUS / math.dist((mark.x, mark.y), end)
    return Line(
        (round(mark.x + part * (end[0] - mark.x), 1), round(mark.y + part * (end[1] - mark.y), 1)),
        end,
        "axis",
        0.7,
    )


def steps(mark: Mark, end: tuple[float, float]) -> list[Box]:
    """A line from clear of its mark, in boxes of two pixels, four pixels apart."""
    right, down = end[0] - mark.x, end[1] - mark.y
    length = math.hypot(right, down)
    along = [at / length for at in range(2 * RADIUS + 2, int(length), 4)]
    return [
        (x - 1, y - 1, x + 1, y + 1)
        for t in along
        for x, y in [(mark.x + t * right, mark.y + t * down)]
    ]


def is_inside(box: Box) -> bool:
    left, top, right, bottom = box
    return left >= LEFT and right <= WIDTH - 4 and top >= TOP - 8 and bottom <= BOTTOM - 2


def hit(box: Box, taken: np.ndarray) -> bool:
    """Whether a box overlaps one of `taken` (N, 4), or all but touches it."""
    left, top, right, bottom = box
    return bool(
        (
            (taken[:, 0] < right + 1)
            & (taken[:, 2] > left - 1)
            & (taken[:, 1] < bottom)
            & (taken[:, 3] > top)
        ).any()
    )
