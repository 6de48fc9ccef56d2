"""Figures: the same bytes for the same data, every name readable, published and measured told apart without colour."""

import io
import math
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
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font, LoadFlags
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vle_bench.leaderboard import figures, scatter
from vle_bench.leaderboard.figures import Point, same_figure

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


def draw(points, log_x=True, title="VQA v2"):
    return figures.scatter(points, title, "parameters", "accuracy, %", log_x)


def shapes(points, kind, log_x=True):
    return [
        s
        for s in scatter.scatter_shapes(points, "t", "parameters", "%", log_x)
        if isinstance(s, kind)
    ]


def overlap(a, b):
    return a[0] < b[2] and a[2] > b[0] and a[1] < b[3] and a[3] > b[1]


def test_two_processes_draw_the_same_bytes_in_whatever_order_the_points_come():
    code = (
        "import hashlib\nfrom tests.unit.leaderboard.test_figures import *\n"
        "print([hashlib.sha256(f).hexdigest() for f in draw([*VQA, MEASURED][::STEP])])"
    )
    printed = set()
    for seed, step in (("1", "1"), ("2", "-1")):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code.replace("STEP", step)]
        printed.add(
            subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
            ).stdout
        )
    assert len(printed) == 1 and len(set(re.findall("[0-9a-f]{64}", printed.pop()))) == 2


def test_the_svg_is_fixed_for_good():
    """No version of matplotlib and no machine has a part in it: this is what it is everywhere."""
    drawing = draw(VCR)[0].decode()
    assert "matplotlib" not in drawing
    inside = re.sub(r"<style>.*</style>\n", "", drawing, flags=re.DOTALL).splitlines()
    assert [line for line in inside if "circle" in line and "title" in line] == [
        '<circle class="ring" cx="120" cy="352" r="5"><title>METER-base §: 79.8 at 345M</title></circle>',
        '<circle class="ring" cx="167.3" cy="230.4" r="5"><title>VLE-base §: 83.7 at 378M</title></circle>',
        '<circle class="ring" cx="634" cy="112" r="5"><title>VLE-large §: 87.5 at 930M</title></circle>',
    ]


@pytest.mark.parametrize("log_x", [True, False])
@pytest.mark.parametrize("name", SETS)
def test_every_name_stands_where_nothing_else_does(name, log_x):
    points = SETS[name]
    texts, marks = shapes(points, scatter.Text, log_x), shapes(points, scatter.Mark, log_x)
    assert {p.name for p in points} <= {t.text for t in texts}
    boxes = {t: scatter.text_box(t) for t in texts}
    assert [
        (a.text, b.text) for a, b in combinations(texts, 2) if overlap(boxes[a], boxes[b])
    ] == []
    for mark in marks:
        square = (mark.x - 4, mark.y - 4, mark.x + 4, mark.y + 4)
        assert [t.text for t in texts if overlap(boxes[t], square)] == []
    leaders = [line for line in shapes(points, scatter.Line, log_x) if line.width == 0.7]
    for line in leaders:  # it ends at the one name, and passes all other marks and names
        passed = [
            (
                line.start[0] + t * (line.end[0] - line.start[0]),
                line.start[1] + t * (line.end[1] - line.start[1]),
            )
            for t in np.linspace(0, 1, 60)
        ]
        others = [
            (m.x - 4, m.y - 4, m.x + 4, m.y + 4)
            for m in marks
            if math.dist((m.x, m.y), line.start) > 5.2
        ]
        touched = {
            b
            for b in (*others, *boxes.values())
            for x, y in passed[:-1]
            if overlap(b, (x, y, x, y))
        }
        assert (
            touched
            - {
                b
                for b in boxes.values()
                if b[0] <= line.end[0] <= b[2] and b[1] <= line.end[1] <= b[3]
            }
            == set()
        )
    for left, top, right, bottom in boxes.values():
        assert left >= 0 and top >= 0 and right <= scatter.WIDTH and bottom <= scatter.HEIGHT


def test_a_crowd_leaves_out_names_and_says_how_many():
    draws = random.Random(0)
    crowd = [
        Point(f"model-{i}", 10 ** draws.uniform(8, 9), draws.uniform(70, 80), "published")
        for i in range(400)
    ]
    texts = shapes(crowd, scatter.Text)
    labels = [t for t in texts if t.text.startswith("model-")]
    assert 10 < len(
        labels
    ) < 400 and f"{400 - len(labels)} of 400 without a name, for want of room" in {
        t.text for t in texts
    }
    assert not any(
        overlap(scatter.text_box(a), scatter.text_box(b)) for a, b in combinations(labels, 2)
    )
    assert len(shapes(crowd, scatter.Mark)) == 400 + 1  # and the legend's


def test_no_text_is_wider_than_it_is_taken_to_be():
    font = FT2Font(findfont(FontProperties(family="DejaVu Sans")))
    font.set_size(100, 72)
    for character in [chr(i) for i in range(32, 127)] + list("†‡§±−×–—…é"):
        width = font.load_char(ord(character), LoadFlags.NO_HINTING).linearHoriAdvance / 65536
        assert width <= scatter.text_width(character, 100) + 0.01, character


def test_published_and_measured_differ_in_shape_and_filling():
    drawing = ElementTree.fromstring(draw([*VQA, MEASURED])[0])
    rings, diamonds = drawing.findall(f"{SVG}circle"), drawing.findall(f"{SVG}polygon")
    assert len(rings) == len(VQA) + 1 and len(diamonds) == 1 + 1  # one each in the legend
    assert [d.find(f"{SVG}title").text for d in diamonds[1:]] == [
        "vle-base-vqa, 3 seeds: 77.3 at 378M"
    ]
    style = drawing.find(f"{SVG}style").text
    assert style.count(".board .ring{fill:none;") == 2 and "prefers-color-scheme:dark" in style
    words = [t.text for t in drawing.findall(f"{SVG}text")]
    assert "published" in words and "measured, bar: 95 % interval" in words
    only = [t.text for t in ElementTree.fromstring(draw(VQA)[0]).findall(f"{SVG}text")]
    assert "published" in only and not [w for w in only if w.startswith("measured")]


def test_scores_and_intervals_stand_at_their_values():
    y = {
        float(t.text): t.y - 0.36 * scatter.FONT
        for t in shapes([*VQA, MEASURED], scatter.Text)
        if re.fullmatch(r"\d+", t.text)
    }
    low, high = min(y), max(y)

    def value(pixel):
        return low + (pixel - y[low]) / (y[high] - y[low]) * (high - low)

    bars = [line for line in shapes([*VQA, MEASURED], scatter.Line) if line.ink == "measured"]
    assert [round(value(p), 1) for p in (bars[0].start[1], bars[0].end[1])] == [76.9, 77.6]
    marks = shapes([*VQA, MEASURED], scatter.Mark)
    found = {m.says: round(value(m.y), 1) for m in marks if m.says}
    assert found == {
        f"{p.name}: {scatter.decimals(p.y)} at {scatter.count(p.x)}": p.y for p in [*VQA, MEASURED]
    }


@pytest.mark.parametrize(
    ("low", "high", "log", "said"),
    [
        (300e6, 2.5e9, True, ["300M", "500M", "700M", "1 B", "1.5 B", "2 B"]),
        (8e6, 150e6, True, ["10M", "20M", "50M", "100M"]),
        (1e6, 2e9, True, ["1M", "10M", "100M", "1 B"]),
        (0, 1e9, False, ["0", "200M", "400M", "600M", "800M", "1 B"]),
    ],
)
def test_ticks_are_round_numbers(low, high, log, said):
    assert [scatter.count(tick) for tick in scatter.Axis(low, high, 0, 600, log).ticks()] == said


def test_names_are_text_and_never_markup():
    drawing = draw(
        [Point('a <b> & "c" $x^2$', 1e8, 50.0, "published")], title="<script>alert(1)</script>"
    )[0]
    words = [t.text for t in ElementTree.fromstring(drawing).findall(f"{SVG}text")]
    assert 'a <b> & "c" $x^2$' in words and b"<script" not in drawing


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


def packed(file, change=None, level=1, **texts):
    """The PNG again, packed by another zlib: other pixels or other texts if asked for."""
    picture = Image.open(io.BytesIO(file))
    said = PngInfo()
    for name, text in {**picture.text, **texts}.items():
        said.add_text(name, text)
    pixels = np.array(picture)
    if change:
        pixels[change] = 0
    output = io.BytesIO()
    Image.fromarray(pixels).save(
        output, "PNG", pnginfo=said, compress_level=level, dpi=picture.info["dpi"]
    )
    return output.getvalue()


def test_the_same_figure():
    drawing, picture = draw(VQA)
    other_drawing, other = draw(VQA[1:])
    assert same_figure(drawing, drawing) and same_figure(picture, picture)
    assert not same_figure(drawing, other_drawing) and not same_figure(picture, other)
    again = packed(picture)
    assert again != picture and same_figure(again, picture)  # another zlib
    edited = packed(picture, (slice(200, 210), slice(200, 210)))
    assert not same_figure(edited, picture)
    elsewhere = packed(
        picture,
        (slice(200, 210), slice(200, 210)),
        Software="matplotlib 3.9.0, FreeType 2.6.1, aarch64",
    )
    assert same_figure(elsewhere, picture)  # its letters may differ
    stale = packed(other, Software="matplotlib 3.9.0, FreeType 2.6.1, aarch64")
    assert not same_figure(stale, picture)  # other data
    assert not same_figure(drawing.replace(b"METER", b"OTHER"), drawing)
    for broken in (b"", picture[:300], b"<svg/>", packed(picture, Shows="")):
        assert not same_figure(broken, picture)


def test_a_png_says_what_it_shows_and_who_drew_it():
    text = Image.open(io.BytesIO(draw(VQA)[1])).text
    assert set(text) == {"Shows", "Software"} and re.fullmatch("[0-9a-f]{64}", text["Shows"])
    assert re.fullmatch(r"matplotlib [\d.\w+]+, FreeType [\d.]+, \w+", text["Software"])


def test_the_png_shows_what_the_svg_shows():
    pixels = np.asarray(Image.open(io.BytesIO(draw([*VQA, MEASURED])[1])).convert("RGB")).astype(
        int
    )
    assert pixels.shape[:2] == (2 * scatter.HEIGHT, 2 * scatter.WIDTH)

    def is_ink(at, colour):
        return bool((np.abs(pixels[round(2 * at[1]), round(2 * at[0])] - colour) < 12).all())

    blue, orange, white = (31, 95, 168), (199, 91, 18), (255, 255, 255)
    for mark in shapes([*VQA, MEASURED], scatter.Mark)[:2]:  # the legend's
        assert is_ink((mark.x, mark.y), orange if mark.kind == "measured" else white)
        assert is_ink((mark.x - 5, mark.y), orange if mark.kind == "measured" else blue)
