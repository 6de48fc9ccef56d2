"""Where the lines and bars of a chart lie."""

import re

import pytest

from vle_bench.analysis.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    POINTS,
    RIGHT,
    TOP,
    WIDTH,
    line_chart,
    log_ticks,
    reliability_diagram,
    thin,
    ticks,
)


def lines(svg):
    return [
        [tuple(map(float, point.split(","))) for point in path.split()]
        for path in re.findall(r'points="([^"]*)"', svg)
    ]


def test_a_line_goes_from_corner_to_corner():
    [line] = lines(
        line_chart("score", {"accuracy": [(0, 0.0), (50, 0.5), (100, 1.0)]}, "step", (0.0, 1.0))
    )
    assert line[0] == (LEFT, HEIGHT - BOTTOM) and line[2] == (WIDTH - RIGHT, TOP)
    assert line[1] == pytest.approx(
        ((LEFT + WIDTH - RIGHT) / 2, (HEIGHT - BOTTOM + TOP) / 2), abs=0.1
    )


def test_a_logarithmic_axis_makes_equal_steps_of_equal_ratios():
    [line] = lines(line_chart("loss", {"loss": [(0, 1.0), (1, 0.1), (2, 0.01)]}, "step", log=True))
    first, second = line[1][1] - line[0][1], line[2][1] - line[1][1]
    assert first == pytest.approx(second, abs=0.11) and first > 50


@pytest.mark.parametrize(
    "points", [[(5, 0.3)], [(0, 0.0)], [(1, 2.0), (2, 2.0)], [(3, -1.0), (4, 0.0)]]
)
@pytest.mark.parametrize("log", [False, True])
def test_odd_curves_are_drawn_inside(points, log):
    [line] = lines(line_chart("t", {"a": points}, "step", log=log))
    assert all(
        LEFT <= x <= WIDTH - RIGHT and TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1 for x, y in line
    ) and len(line) == len(points)


def test_several_lines_have_a_legend_whose_names_are_text():
    svg = line_chart("t", {"a<b": [(0, 1.0)], "c": [(0, 2.0)]}, "step")
    assert svg.count("<li>") == 2 and "a&lt;b" in svg and "a<b" not in svg
    assert "<li>" not in line_chart("t", {"a": [(0, 1.0)]}, "step")


def test_long_curves_are_means_of_neighbours():
    points = thin([(float(k), 2.0 * k) for k in range(3 * POINTS)])
    assert len(points) == POINTS and points[:2] == [(1.0, 2.0), (4.0, 8.0)]
    assert thin([(0.0, 1.0)] * POINTS) == [(0.0, 1.0)] * POINTS


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 1500, [0, 500, 1000, 1500]),
        (0, 0, [0]),
        (97, 99, [97, 97.5, 98, 98.5, 99]),
    ],
)
def test_ticks_are_round(low, high, found):
    assert ticks(low, high) == pytest.approx(found)


def test_ticks_of_a_logarithmic_axis():
    assert log_ticks(0.01, 10) == pytest.approx([0.01, 0.1, 1, 10])
    assert log_ticks(0.5, 5) == pytest.approx([0.5, 1, 2, 5])
    assert log_ticks(1.31, 1.39) == pytest.approx([1.32, 1.34, 1.36, 1.38])


def test_the_reliability_diagram_by_hand():
    bins = [
        {"low": k / 2, "high": (k + 1) / 2, "n": 0, "confidence": None, "score": None}
        for k in range(2)
    ]
    bins[1] |= {"n": 8, "confidence": 0.75, "score": 1.0}
    svg = reliability_diagram("t", bins)
    bars = {
        kind: list(map(float, found))
        for kind, *found in re.findall(
            r'<rect class="(\w+)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', svg
        )
    }
    assert set(bars) == {"accuracy", "gap", "count"}  # of the bin with examples alone
    (x, y, width, height), gap = bars["accuracy"], bars["gap"]
    assert x == pytest.approx(LEFT + (WIDTH - LEFT - RIGHT) / 2 + 1) and x + width == pytest.approx(
        WIDTH - RIGHT - 1
    )
    assert gap == pytest.approx([x, y, width, height / 4], abs=0.2)  # from 1 down to 0.75
    assert "0.5 to 1.0: 8 questions, score 1.00" in svg
