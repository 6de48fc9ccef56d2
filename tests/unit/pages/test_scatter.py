"""Scatter plots: the same bytes for the same data, every name readable, kinds told apart."""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

from vle_bench.leaderboard.render import same_content
from vle_bench.pages import charts, labels
from vle_bench.pages.labels import place_labels, text_width
from vle_bench.pages.scatter import AXES_BOX, BOARD, FONT, Point, count, draw_marks, scatter

ROOT = Path(__file__).parents[3]
SVG = "{http://www.w3.org/2000/svg}"


def published(*rows):
    return [Point(name, x, y, "published") for name, x, y in rows]


# VLE's own comparison, and what stands closest together in it.
VQA = published(
    ("CoCa", 2.1e9, 82.3),
    ("BeiT-3", 1.9e9, 84.2),
    ("OFA", 930e6, 82.0),
    ("BLIP", 385e6, 78.3),
    ("METER-base", 345e6, 77.7),
    ("METER-base †‡", 345e6, 76.8),
    ("METER-Huge", 878e6, 80.3),
    ("VLE-base ‡", 378e6, 77.6),
    ("VLE-large ‡", 930e6, 79.3),
)
PAIRS = published(
    ("BeiT-3", 21e6, 84.2),
    ("OFA", 20e6, 82.0),
    ("BLIP", 130e6, 78.3),
    ("METER-base", 9e6, 77.7),
    ("METER-base †‡", 9e6, 76.8),
    ("METER-Huge", 20e6, 80.3),
    ("VLE-base ‡", 15e6, 77.6),
    ("VLE-large ‡", 15e6, 79.3),
)
VCR = published(
    ("METER-base §", 345e6, 79.8), ("VLE-base §", 378e6, 83.7), ("VLE-large §", 930e6, 87.5)
)
MEASURED = Point("vle-base-vqa, 3 seeds", 378e6, 77.3, "measured", (76.9, 77.6))
METER = Point("meter-base-vqa", 345e6, 76.9, "measured", (76.5, 77.3))
SETS = {"vqa": VQA, "pairs": PAIRS, "vcr": VCR, "measured": [*VQA, MEASURED, METER], "one": VCR[:1]}


def draw(points, title="VQA v2"):
    return scatter("vqa", title, "parameters", points)


def elements(svg, tag):
    return list(ElementTree.fromstring(svg).iter(f"{SVG}{tag}"))


def texts(svg):
    return [element.text for element in elements(svg, "text")]


def text_box(element):
    """left, top, right, bottom of a text of the SVG, y downwards."""
    x, y = float(element.get("x")), float(element.get("y"))
    size = float(re.search(r"(\d+)px", element.get("style"))[1])
    anchor = re.search(r"text-anchor: (\w+)", element.get("style"))
    width = text_width(element.text, size)
    shift = {"start": 0, "middle": width / 2, "end": width}[anchor[1] if anchor else "start"]
    return x - shift, y - labels.ASCENT * size, x - shift + width, y + labels.DESCENT * size


def marks(svg):
    """Hint -> centre of its mark in pixels, y downwards."""
    groups = [g for g in elements(svg, "g") if g.find(f"{SVG}title") is not None]
    uses = {g.find(f"{SVG}title").text: next(g.iter(f"{SVG}use")) for g in groups}
    return {hint: (float(use.get("x")), float(use.get("y"))) for hint, use in uses.items()}


def overlap(a, b):
    return a[0] < b[2] and a[2] > b[0] and a[1] < b[3] and a[3] > b[1]


def test_two_processes_draw_the_same_bytes_in_whatever_order_the_points_come():
    code = (
        "import hashlib\nfrom tests.unit.pages.test_scatter import *\n"
        "print(hashlib.sha256(draw([MEASURED, *VQA[::-1]]).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"}
    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout
    assert other.strip() == hashlib.sha256(draw([*VQA, MEASURED]).encode()).hexdigest()


def test_marks_are_where_their_values_are():
    """The axes are fixed in the figure, so that no version of matplotlib moves the marks."""
    rows = {hint: (round(x, 1), round(y, 1)) for hint, (x, y) in marks(draw(VCR)).items()}
    assert rows == {
        "METER-base §: 79.8 at 345M": (120.0, 352.0),
        "VLE-base §: 83.7 at 378M": (167.3, 230.4),
        "VLE-large §: 87.5 at 930M": (634.0, 112.0),
    }


@pytest.mark.parametrize("name", SETS)
def test_every_name_stands_where_nothing_else_does(name):
    points = SETS[name]
    svg = draw(points)
    assert {point.name for point in points} <= set(texts(svg))
    boxes = [(element.text, text_box(element)) for element in elements(svg, "text")]
    assert [(a, b) for (a, p), (b, q) in combinations(boxes, 2) if overlap(p, q)] == []
    for x, y in marks(svg).values():
        square = (x - 4, y - 4, x + 4, y + 4)
        assert [text for text, box in boxes if overlap(box, square)] == []
    for left, top, right, bottom in (box for _, box in boxes):
        assert left >= 0 and top >= 0 and right <= BOARD[0] and bottom <= BOARD[1]


def test_a_line_to_a_name_passes_all_other_marks_and_names():
    centres = [(100.0, 100.0), (110.0, 104.0), (104.0, 110.0), (96.0, 96.0), (100.0, 90.0)]
    names = [f"a long name {k}" for k in range(5)]
    obstacles = [(x - 6, y - 6, x + 6, y + 6) for x, y in centres]
    placed = place_labels(centres, names, obstacles, (0, 0, 400, 300), FONT)
    distant = [label for label in placed if label.leader]
    assert len(placed) == 5 and distant
    for label in distant:
        start, end = np.array(centres[label.index]), np.array(label.leader)
        along = [start + t * (end - start) for t in np.linspace(0, 1, 60)]
        clear = [tuple(spot) * 2 for spot in along[:-1] if np.linalg.norm(spot - start) > 12]
        others = [other.box for other in placed if other is not label]
        others += [box for k, box in enumerate(obstacles) if k != label.index]
        assert [(box, spot) for box in others for spot in clear if overlap(box, spot)] == []


def test_a_crowd_leaves_out_names_and_says_how_many():
    draws = random.Random(0)
    crowd = [
        Point(f"model-{i}", 10 ** draws.uniform(8, 9), draws.uniform(70, 80), "published")
        for i in range(400)
    ]
    svg = draw(crowd)
    names = [e for e in elements(svg, "text") if e.text.startswith("model-")]
    assert 10 < len(names) < 400
    assert f"{400 - len(names)} of 400 without a name, for want of room" in texts(svg)
    boxes = [text_box(element) for element in names]
    assert not any(overlap(a, b) for a, b in combinations(boxes, 2))
    assert len(marks(svg)) == 400


def test_no_text_is_wider_than_it_is_taken_to_be():
    renderer, font = RendererAgg(100, 100, 72), FontProperties(family="DejaVu Sans", size=100)
    for text in ("METER-base †‡", "vle-base-vqa, 3 seeds", "±−×–—…é", "WWW", "a"):
        drawn = renderer.get_text_width_height_descent(text, font, False)[0]
        # older versions count the room beside the first and last letter
        assert drawn == pytest.approx(text_width(text, 100), rel=0.01, abs=10), text


def test_published_and_measured_differ_in_shape_and_filling():
    svg = draw([*VQA, MEASURED])
    shapes = [use.get("href") for use in elements(svg, "use")]
    styles = {use.get("href"): use.get("style") for use in elements(svg, "use")}
    rings = [h for h in shapes if "fill-opacity: 0; stroke: var(--blue)" in styles[h]]
    diamonds = [h for h in shapes if "fill: var(--orange)" in styles[h]]
    diamonds = [h for h in diamonds if shapes.count(h) == 2 and "stroke-width" not in styles[h]]
    assert len(rings) == len(VQA) + 1 and len(set(rings)) == 1  # one in the legend
    assert len(set(rings) & set(diamonds)) == 0
    assert "vle-base-vqa, 3 seeds: 77.3 at 378M" in marks(svg)
    words = texts(svg)
    assert "published" in words and "measured, bar: 95 % interval" in words
    only = texts(draw(VQA))
    assert "published" in only and not [word for word in only if word.startswith("measured")]


def test_scores_and_intervals_stand_at_their_values():
    with charts.styled():
        figure = charts.new_figure(*BOARD, layout=None)
        axes = figure.add_axes((0, 0, 1, 1))
        draw_marks(axes, [MEASURED])
        (bar,) = axes.collections[0].get_segments()
    assert bar[:, 1] == pytest.approx([76.9, 77.6]) and bar[0, 0] == bar[1, 0] == 378e6
    svg = draw([*VQA, MEASURED])
    ticks = {
        float(e.text): float(e.get("y"))
        for e in elements(svg, "text")
        if re.fullmatch(r"\d+", e.text)
    }
    low, high = min(ticks), max(ticks)
    # the text of a tick hangs a fixed length below its line
    hang = ticks[low] - (AXES_BOX[3] - AXES_BOX[1] + BOARD[1] - AXES_BOX[3])
    spots = marks(svg)
    one, other = spots["CoCa: 82.3 at 2.1 B"][1], spots["METER-base †‡: 76.8 at 345M"][1]
    scale = (ticks[low] - ticks[high]) / (high - low)
    assert (other - one) / scale == pytest.approx(82.3 - 76.8, abs=0.01) and abs(hang) < 60


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (300e6, 2.5e9, ["500M", "1 B", "1.5 B", "2 B", "2.5 B"]),
        (8e6, 150e6, ["10M", "20M", "50M", "100M"]),
        (1e6, 2e9, ["1M", "10M", "100M", "1 B"]),
    ],
)
def test_ticks_are_round_numbers(low, high, expected):
    ticks = charts.log_locator(low, high).tick_values(low, high)
    assert [count(tick) for tick in ticks if low <= tick <= high] == expected


def test_names_are_text_and_never_markup():
    name = 'a <b> & "c" $x^2$'
    svg = draw([Point(name, 1e8, 50.0, "published")], title="<script>alert(1)</script>")
    assert name in texts(svg) and "<script>alert(1)</script>" in texts(svg)
    assert "<script" not in svg


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([], "no points"),
        ([Point("x", 1e8, float("nan"), "published")], "x cannot be drawn"),
        ([Point("x", 0, 70.0, "published")], "x cannot be drawn"),
        ([Point("x", 1e8, 70.0, "measured", (71.0, 69.0))], "x cannot be drawn"),
        ([Point("x", 1e8, 70.0, "measured", (69.0, float("inf")))], "x cannot be drawn"),
    ],
)
def test_what_cannot_be_drawn_is_refused(points, says):
    with pytest.raises(ValueError, match=says):
        draw(points)


def test_the_same_figure():
    """The points and the text count; another version of matplotlib may draw them otherwise."""
    svg, other = draw(VQA).encode(), draw(VQA[1:]).encode()
    assert same_content(svg, svg) and not same_content(svg, other)
    elsewhere = re.sub(rb' (x|y)="([\d.]+)"', rb' \1="\g<2>1"', svg)
    assert elsewhere != svg and same_content(elsewhere, svg)
    assert not same_content(svg.replace(b">METER-base<", b">OTHER<"), svg)
    assert not same_content(svg.replace(b"82.3", b"83.2"), svg)
    for broken in (b"", svg[:300], b"<svg/>", b"\xff"):
        assert not same_content(broken, svg)


def test_an_svg_holds_the_points_that_it_shows():
    data = json.loads(ElementTree.fromstring(draw([*VQA, MEASURED])).get("data-points"))
    expected = [[p.name, p.x, p.y, p.kind, p.interval] for p in [*VQA, MEASURED]]
    assert sorted(data) == sorted([*row[:4], list(row[4]) if row[4] else None] for row in expected)
