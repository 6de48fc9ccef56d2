"""Where the lines and bars of a chart lie, and what its SVG holds."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from vle_bench.pages import charts
from vle_bench.pages.charts import (
    HEIGHT,
    MOST_POINTS,
    WIDTH,
    draw_curves,
    line_chart,
    log_locator,
    new_figure,
    reliability_diagram,
    styled,
    thin,
)
from vle_bench.pages.figures import contents
from vle_bench.pages.palette import LIGHT, PALETTE

SVG = "{http://www.w3.org/2000/svg}"
BINS = [
    {"low": k / 2, "high": (k + 1) / 2, "n": 0, "confidence": None, "score": None} for k in range(2)
]
BINS[1] |= {"n": 8, "confidence": 0.75, "score": 1.0}


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def curves(*series, **options):
    """Curves drawn into axes; returns the axes and the pixels of each curve's points."""
    with charts.styled():
        figure = charts.new_figure(charts.WIDTH, charts.HEIGHT)
        axes = figure.subplots()
        named = {f"curve {k}": points for k, points in enumerate(series)}
        charts.draw_curves(axes, named, "step", **options)
        figure.draw_without_rendering()
    return axes, [axes.transData.transform(line.get_xydata()) for line in axes.get_lines()]


def test_a_line_goes_from_corner_to_corner():
    axes, [line] = curves([(0, 0.0), (50, 0.5), (100, 1.0)], y_range=(0.0, 1.0))
    box = axes.get_window_extent()
    assert line[0] == pytest.approx((box.x0, box.y0)) and line[2] == pytest.approx((box.x1, box.y1))
    assert line[1] == pytest.approx(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))


def test_a_logarithmic_axis_makes_equal_steps_of_equal_ratios():
    _, [line] = curves([(0, 1.0), (1, 0.1), (2, 0.01)], log=True)
    first, second = line[0][1] - line[1][1], line[1][1] - line[2][1]
    assert first == pytest.approx(second) and first > 50


@pytest.mark.parametrize(
    "points", [[(5, 0.3)], [(0, 0.0)], [(1, 2.0), (2, 2.0)], [(3, -1.0), (4, 0.0)]]
)
@pytest.mark.parametrize("log", [False, True])
def test_odd_curves_are_drawn_inside(points, log):
    axes, [line] = curves(points, log=log)
    box = axes.get_window_extent()
    assert len(line) == len(points)
    assert all(box.x0 <= x <= box.x1 and box.y0 - 0.1 <= y <= box.y1 + 0.1 for x, y in line)
    assert line_chart("c", "t", {"a": points}, "step", log=log).startswith("<svg ")


def test_several_lines_have_a_legend_whose_names_are_text():
    svg = line_chart("c", "t", {"a<b $x$": [(0, 1.0)], "c": [(0, 2.0)]}, "step")
    assert {"a<b $x$", "c"} <= set(texts(svg)) and "a<b" not in svg
    assert "a" not in texts(line_chart("c", "t", {"a": [(0, 1.0)]}, "step"))


def test_seven_curves_take_colours_again():
    axes, lines = curves(*([(0, float(k)), (1, float(k))] for k in range(7)))
    assert len(lines) == 7 and axes.get_lines()[6].get_color() == axes.get_lines()[0].get_color()


def test_long_curves_are_means_of_neighbours():
    points = thin([(float(k), 2.0 * k) for k in range(3 * MOST_POINTS)])
    assert len(points) == MOST_POINTS and points[:2] == [(1.0, 2.0), (4.0, 8.0)]
    assert thin([(0.0, 1.0)] * MOST_POINTS) == [(0.0, 1.0)] * MOST_POINTS


@pytest.mark.parametrize(
    ("high", "expected"),
    [(1.0, ["0", "0.2", "0.8", "1"]), (1500.0, ["0", "500", "1,000", "1,500"])],
)
def test_ticks_are_round(high, expected):
    axes, _ = curves([(0, 0.0), (high, 0.0)])
    ticks = [tick for tick in axes.get_xticks() if 0 <= tick <= high]
    formatter = axes.xaxis.get_major_formatter()
    assert set(expected) <= {formatter(tick) for tick in ticks} and 3 <= len(ticks) <= 6


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 20, [0.01, 0.1, 1, 10]),
        (0.4, 6, [0.5, 1, 2, 5]),
        (1.31, 1.39, [1.32, 1.34, 1.36, 1.38]),
    ],
)
def test_ticks_of_a_logarithmic_axis(low, high, expected):
    ticks = [tick for tick in log_locator(low, high).tick_values(low, high) if low <= tick <= high]
    assert ticks == pytest.approx(expected)


def test_the_reliability_diagram_by_hand(monkeypatch):
    figures = []
    draw = charts.svg
    monkeypatch.setattr(
        charts, "svg", lambda figure, *a: figures.append(figure) or draw(figure, *a)
    )
    svg = reliability_diagram("c", "t", BINS)
    above, axes = figures[0].axes
    [count], (score, gap) = above.patches, axes.patches
    assert count.get_height() == 8
    for bar in (count, score, gap):  # only for the bin with examples
        assert 0.5 < bar.get_x() and bar.get_x() + bar.get_width() < 1
    assert (score.get_y(), score.get_height()) == (0, 1)
    assert (gap.get_y(), gap.get_height()) == (1, -0.25)  # from the score down to the confidence
    assert "0.5 to 1.0: 8 questions, score 1.00" in svg
    assert "questions, at most 8 in a bin" in texts(svg)


def test_colours_follow_the_theme():
    """No colour of the palette is left as such outside of the variables' definitions."""
    svg = reliability_diagram("c", "t", BINS)
    definitions = ElementTree.fromstring(svg).find(f"{SVG}style").text
    drawing = svg.replace(definitions, "")
    assert "fill: var(--blue)" in drawing and not re.findall("#[0-9a-f]{6}", drawing)
    light, dark = definitions.split("@media (prefers-color-scheme:dark)")
    used = set(re.findall(r"var\(--(\w+)\)", drawing))
    for name, (of_day, of_night) in PALETTE.items():
        assert (f"--{name}:{of_day};" in light) == (f"--{name}:{of_night};" in dark)
        assert (f"--{name}:" in light) == (name in used)


def test_a_palette_colour_is_one_name():
    assert len(set(LIGHT.values())) == len(LIGHT)


def test_charts_on_one_page_share_no_ids_and_style_nothing_else():
    one, two = (reliability_diagram(name, "t", BINS) for name in ("one", "two"))
    ids = re.findall(r' id="([^"]*)"', one + two)
    assert ids and len(set(ids)) == len(ids)
    for svg in (one, two):
        referred = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg)
        assert {"".join(pair) for pair in referred} <= set(re.findall(r' id="([^"]*)"', svg))
        assert "*{" not in svg and "matplotlib" not in svg and "date" not in svg.lower()


def test_contents_are_the_data_and_the_text():
    svg = line_chart("c", "t", {"a": [(0, 1.0), (1, 2.0)], "b": [(0, 3.0)]}, "step")
    moved = re.sub(r"(x|y)=\"[\d.]+\"", r'\1="7.5"', svg)
    assert moved != svg
    assert contents(f"<p>x</p>{svg}") == contents(f"<p>x</p>{moved}")
    assert contents(svg) != contents(svg.replace(">a<", ">z<"))
    assert contents(f"<p>x</p>{svg}") != contents(f"<p>y</p>{svg}")


def test_long_names_leave_the_curves_their_room():
    names = [f"VLE-tiny, MLM + ITM + {number}" for number in "ABCDEF"]
    series = {name: [(0, 1.0), (500, 2.0)] for name in names}
    with styled():
        figure = new_figure(WIDTH, HEIGHT)
        axes = figure.subplots()
        draw_curves(axes, series, "steps")
        figure.draw_without_rendering()
    assert axes.get_position().width > 0.7
    few, many = (line_chart("c", "t", one, "steps") for one in ({"a": [(0, 1.0)]}, series))
    height = lambda svg: float(re.search(r'viewBox="0 0 \S+ (\S+)"', svg)[1])  # noqa: E731
    assert height(many) > height(few) + 50
