"""The leaderboards' page in a real browser: headers sort, the field and the boxes filter, a phone shows all of it."""

import json
import os
import re
import shutil
import subprocess
from html import unescape

import pytest

from vle_bench.leaderboard.markup import Cell, Column, Page, Row, Table
from vle_bench.leaderboard.page import index_page
from vle_bench.pages.scatter import Point, count, scatter

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000")
# Scores in an order that neither text nor number gives; two are equal, two are missing; Ö and a come after Z by code units.
ROWS = (
    ("published", "Zeta", "9.5", 9.5),
    ("published", "alpha", "80.0 †", 80.0),
    ("baseline", "Beta", "–", None),
    ("measured", "Öl", "80.0", 80.0),
    ("published", "Alpha", "100", 100.0),
    ("measured", "gamma seed 0", "–", None),
    ("measured", "gamma seed 1", "−3.5", -3.5),
)
GIVEN = [row[1] for row in ROWS]


@pytest.fixture(scope="module")
def chromium():
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        required = os.environ.get("VLE_BENCH_CHROMIUM") == "required"
        (pytest.fail if required else pytest.skip)(f"no browser: none of {', '.join(BROWSERS)}")
    return found


def size(parameters):
    return Cell("unknown") if parameters is None else Cell(count(parameters), parameters)


def board(rows=ROWS):
    sizes = dict(
        zip(GIVEN, (2.1e9, 345e6, None, 930e6, 1e6, 5e3, 2e9), strict=True)
    )  # written with units, in no right-aligned column
    cells = tuple(
        Row(kind, (Cell(name), Cell(text, order), size(sizes.get(name))))
        for kind, name, text, order in rows
    )
    scores = Table(
        "scores",
        "Scores",
        "Percent.",
        (Column("Model"), Column("VQA", True), Column("Params")),
        cells,
    )
    columns = (Column("Model"), *(Column(f"a score of a long name {i}", True) for i in range(9)))
    wide = Row(
        "published", (Cell("Zeta " + "long" * 20), *(Cell(f"{i}.00 ± 0.12", i) for i in range(9)))
    )
    figures = {
        "vqa": scatter("vqa", "VQA", "parameters", [Point("CoCa", 2.1e9, 82.3, "published")])
    }
    pages = [
        Page("a", "A", (scores,)),
        Page("b", "B", (Table("wide", "Wide", "w" * 200, columns, (wide,)),)),
    ]
    return index_page(pages, "note", figures)


def dump(chromium, page, folder, *flags):
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    command = [
        chromium,
        *FLAGS,
        *flags,
        "--dump-dom",
        f"--user-data-dir={folder / 'profile'}",
        file.as_uri(),
    ]
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=120, check=True
    ).stdout


def answers(chromium, folder, script, width=None, rows=ROWS):
    """What `script`, the body of a function that is run in the page, returns; in a frame of so many pixels if there is a width."""
    page = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", board(rows))
    helpers = """
      const $$ = what => [...document.querySelectorAll(what)];
      const names = () => $$("#table-scores tbody tr").filter(r => !r.hidden).map(r => r.cells[0].lastChild.textContent);
      const press = column => $$("#table-scores th button")[column].click();
      const field = $$("input[type=search]")[0];
      const type = text => { field.value = text; field.dispatchEvent(new Event("input", {bubbles: true})); };
    """
    tell = f"<script>parent.postMessage(JSON.stringify((() => {{ {helpers} {script} }})()), '*')</script></body>"
    (folder / "inner.html").write_text(page.replace("</body>", tell), encoding="utf-8")
    outer = (
        "<!doctype html><body><script>addEventListener('message', e => document.body.append(Object.assign("
        "document.createElement('pre'), {textContent: e.data})))</script>"
        f'<iframe src="inner.html" style="border:0;width:{width or 1280}px;height:844px"></iframe>'
    )
    (said,) = re.findall(r"<pre>(.*?)</pre>", dump(chromium, outer, folder), re.DOTALL)
    return json.loads(unescape(said))


def test_the_page_as_it_is_runs_its_script_and_its_policy_refuses_others(chromium, tmp_path):
    page = board()
    shown = dump(chromium, page, tmp_path)
    assert page.count("<button") == 0 and shown.count('<button type="button">') == 3 + 10
    assert '<form id="filter" role="search">' in shown and "8 of 8 rows" in shown
    evil = page.replace("</body>", "<script>document.title = 'evil'</script></body>")
    assert "<title>vle-bench leaderboards</title>" in dump(chromium, evil, tmp_path)


def test_headers_sort(chromium, tmp_path):
    script = """
      const seen = [[names(), null]];
      for (const column of [1, 1, 1, 0, 0, 0, 1, 0, 2]) {
        press(column);
        seen.push([names(), $$("#table-scores thead th").map(h => h.getAttribute("aria-sort"))]);
      }
      return seen;
    """
    seen = answers(chromium, tmp_path, script)
    best = [
        "Alpha",
        "alpha",
        "Öl",
        "Zeta",
        "gamma seed 1",
        "Beta",
        "gamma seed 0",
    ]  # equal: as given; missing: last
    worst = ["gamma seed 1", "Zeta", "alpha", "Öl", "Alpha", "Beta", "gamma seed 0"]
    largest = ["Zeta", "gamma seed 1", "Öl", "alpha", "Alpha", "gamma seed 0", "Beta"]
    letters = ["Alpha", "Beta", "Zeta", "alpha", "gamma seed 0", "gamma seed 1", "Öl"]
    assert [order for order, _ in seen] == [
        GIVEN,
        best,
        worst,
        GIVEN,
        letters,
        letters[::-1],
        GIVEN,
        best,
        letters,
        largest,
    ]
    assert [said for _, said in seen[1:]] == [
        [None, "descending", None],
        [None, "ascending", None],
        [None] * 3,
        ["ascending", None, None],
        ["descending", None, None],
        [None] * 3,
        [None, "descending", None],
        ["ascending", None, None],
        [None, None, "descending"],
    ]


def test_headers_are_reached_by_keyboard(chromium, tmp_path):
    script = """
      return $$("#table-scores th button").map(b => {
        b.focus();
        return [b.textContent, b.tabIndex, document.activeElement === b, getComputedStyle(b).outlineStyle, b.matches(":disabled")];
      });
    """
    found = answers(chromium, tmp_path, script)
    assert [(text, index, focused, disabled) for text, index, focused, _, disabled in found] == [
        (title, 0, True, False) for title in ("Model", "VQA", "Params")
    ]


def test_the_field_and_the_boxes_filter(chromium, tmp_path):
    script = """
      const seen = [];
      const look = () => seen.push([names(), $$("output")[0].textContent, $$(".count").map(c => c.hidden ? "" : c.textContent)]);
      const box = kind => $$(`input[value=${kind}]`)[0].click();
      type("GAMMA 1"); look();
      type("a9.5"); look();
      type("öL"); look();
      type("zeta"); look();
      type(""); box("published"); look();
      press(0); look();
      box("measured"); look();
      box("published"); box("measured"); look();
      return seen;
    """
    seen = answers(chromium, tmp_path, script)
    assert seen == [
        [["gamma seed 1"], "1 of 8 rows", ["1 of 7 rows", "0 of 1 rows"]],
        [[], "0 of 8 rows", ["0 of 7 rows", "0 of 1 rows"]],
        [["Öl"], "1 of 8 rows", ["1 of 7 rows", "0 of 1 rows"]],
        [["Zeta"], "2 of 8 rows", ["1 of 7 rows", ""]],
        [
            ["Beta", "Öl", "gamma seed 0", "gamma seed 1"],
            "4 of 8 rows",
            ["4 of 7 rows", "0 of 1 rows"],
        ],
        [
            ["Beta", "gamma seed 0", "gamma seed 1", "Öl"],
            "4 of 8 rows",
            ["4 of 7 rows", "0 of 1 rows"],
        ],
        [["Beta"], "1 of 8 rows", ["1 of 7 rows", "0 of 1 rows"]],
        [
            ["Alpha", "Beta", "Zeta", "alpha", "gamma seed 0", "gamma seed 1", "Öl"],
            "8 of 8 rows",
            ["", ""],
        ],
    ]


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_never_scrolls_sideways_and_names_stay_in_sight(chromium, tmp_path, width):
    script = """
      scrollTo(9999, 0);
      const box = $$("#table-wide .scroll")[0], cell = $$("#table-wide tbody th")[0];
      box.scrollLeft = 300;
      const at = cell.getBoundingClientRect(), around = box.getBoundingClientRect();
      return {inner: innerWidth, body: document.documentElement.scrollWidth, x: scrollX, moved: box.scrollLeft,
              stays: Math.round(at.left - around.left), part: at.width / around.width,
              outside: $$("body *").filter(e => !e.closest(".scroll") && e.getBoundingClientRect().right > innerWidth).length};
    """
    seen = answers(chromium, tmp_path, script, width)
    assert (
        seen["inner"] == width and seen["body"] <= width and seen["x"] == 0 and seen["outside"] == 0
    )
    assert seen["moved"] > 40 and abs(seen["stays"]) <= 1 and seen["part"] < 0.65


def test_numbers_can_be_selected_and_signs_are_left_out(chromium, tmp_path):
    script = """
      getSelection().selectAllChildren($$("#table-scores tbody tr")[0]);
      const row = getSelection().toString();
      getSelection().selectAllChildren($$("svg.drawing")[0]);
      return [row, getSelection().toString(), getComputedStyle($$("td.number")[0]).fontVariantNumeric];
    """
    row, figure, numerals = answers(chromium, tmp_path, script)
    assert (
        row.split() == ["Zeta", "9.5", "2.1", "B"]
        and "CoCa" in figure
        and "80" in figure
        and numerals == "tabular-nums"
    )


def test_five_hundred_rows_are_sorted_and_filtered_at_once(chromium, tmp_path):
    rows = [
        ("measured", f"run-{i:03}", f"{(i * 37) % 500}.0", float((i * 37) % 500))
        for i in range(500)
    ]
    script = "press(1); const first = names().slice(0, 2); type('run-49'); return [first, names().length, $$('output')[0].textContent];"
    first, left, said = answers(chromium, tmp_path, script, rows=rows)
    assert first == [
        f"run-{next(i for i in range(500) if i * 37 % 500 == best):03}" for best in (499, 498)
    ]
    assert left == 10 and said == "10 of 501 rows"
