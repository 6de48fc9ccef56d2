"""Templates escape every value, and no character of the data can hide or turn its neighbours."""

import pytest
from jinja2 import UndefinedError

from vle_bench.pages.html import ENVIRONMENT, Grid, GridCell, GridRow, plain_grid, write_page
from vle_bench.pages.palette import PALETTE

EVIL = "\"><script>alert(1)</script>&'<b>"


def grid(table):
    return ENVIRONMENT.get_template("pages/parts.html").module.grid(table)


def test_text_and_attributes_are_escaped():
    cell = GridCell(EVIL, {"class": EVIL}, sign=(EVIL, EVIL))
    markup = grid(Grid([cell], [GridRow([cell], {"class": EVIL})], EVIL, {"aria-label": EVIL}))
    assert "<script" not in markup and "<b>" not in markup and markup.count("&lt;script&gt;") == 9


def test_invisible_and_turning_characters_are_marked():
    markup = grid(plain_grid("don\ue000t \u202eabc \x07\ud800", ["a"], [["tab\tand\nline"]]))
    assert "don\ufffdt \ufffdabc \ufffd\ufffd" in markup and "tab\tand\nline" in markup


def test_a_missing_value_is_an_error_and_leaves_no_page(tmp_path):
    with pytest.raises(UndefinedError):
        write_page(tmp_path / "page.html", "demo/page.html", title="t")
    assert list(tmp_path.iterdir()) == []


def test_bars_have_the_width_of_their_fraction():
    markup = grid(plain_grid("label", ["a"], [[GridCell("x", bar=(0.25, (0.2, 0.3)))]]))
    assert '<rect width="25.0"' in markup and '<line x1="20.0" x2="30.0"' in markup
    assert 'aria-label="label"' in markup and "<caption><span>label<" in markup


def test_the_style_sheet_defines_every_colour_it_uses():
    style = ENVIRONMENT.globals["style"]()
    for name in PALETTE:
        assert style.count(f"--{name}:") == 2  # light and dark
    assert "url(" not in style and "@import" not in style and "</" not in style
