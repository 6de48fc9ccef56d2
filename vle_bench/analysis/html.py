"""Parts of self-contained HTML pages: no other file, no network, no script, readable on a phone, light or dark.

Whatever is no `Html` is text from somewhere and is escaped.
"""

import base64
import unicodedata
from collections.abc import Sequence
from html import escape
from pathlib import Path

from vle_bench import atomic

STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --page: #fff; --line: #ddd; --muted: #666; --soft: #f4f4f4; --mark: 31 95 168;
  --link: #1f5fa8; --right: #1e6b32; --wrong: #b00f1c; --warn: #fff1d6; --warn-line: #b86e00;
  --s0: #1f5fa8; --s1: #c75b12; --s2: #6b6b6b; --s3: #2b7a3d; --s4: #8e5ea2; --s5: #93700a; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e8e8; --page: #161616; --line: #3a3a3a; --muted: #a3a3a3; --soft: #222;
  --mark: 92 154 226; --link: #8ab8f0; --right: #7fce92; --wrong: #ff8f8f; --warn: #3a2a08; --warn-line: #e0a030;
  --s0: #6aa9ea; --s1: #f0954f; --s2: #b5b5b5; --s3: #7fce92; --s4: #c79bdb; --s5: #dcb84a; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 76rem; margin: 0 auto;
  padding: 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: .4rem 0; }
a { color: var(--link); } p, li { max-width: 48rem; } .small { font-size: .85rem; color: var(--muted); }
.scroll { overflow-x: auto; max-width: 100%; } .scroll:focus-visible, a:focus-visible, summary:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0 1rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
caption span { display: block; position: sticky; left: 0; width: fit-content; max-width: min(100%, calc(100vw - 2rem)); }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: var(--page); }
@media (max-width: 30rem) { th, td { padding: .3rem .4rem; } table { font-size: .9rem; } }
 tbody th { font-weight: 400; }
tr.this > * { font-weight: 700; border-top: 2px solid var(--text); }
img.wide { width: 100%; min-width: 40rem; background: #fff; }
pre { overflow-x: auto; background: var(--soft); padding: .8rem; font-size: .8rem; white-space: pre; }
summary { cursor: pointer; font-weight: 600; margin-top: 1rem; }
.bar { display: block; width: 100%; min-width: 7rem; height: .5em; background: var(--soft); }
.bar rect { fill: rgb(var(--mark) / .6); } .bar line { stroke: var(--text); }
.tables { display: flex; flex-wrap: wrap; gap: 0 4rem; } .tables > * { max-width: 100%; } .nowrap { white-space: nowrap; }
.alert { border: 2px solid var(--warn-line); background: var(--warn); padding: .6rem .9rem; max-width: none; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .3rem 1rem; } dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
"""

UNSEEN = {"Cc", "Co", "Cs"}  # control, private-use, half a surrogate pair: no font has them

TURNING = {
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
}  # would turn the text around that follows


class Html(str):
    """Markup that is ready; any other string is text."""


def visible(value: object) -> str:
    """Text with a mark in the place of every character that cannot be seen, or that changes how its neighbours are read."""
    return "".join(
        "\ufffd"
        if (unicodedata.category(c) in UNSEEN and c not in "\n\t") or ord(c) in TURNING
        else c
        for c in str(value)
    )


def attribute(value: object) -> str:
    return escape(visible(value))


def text(value: object, isolated: bool = True) -> Html:
    """Markup as it is, anything else as text; isolated: text that is written from right to left leaves what stands beside alone."""
    if isinstance(value, Html):
        return value
    return Html(
        f"<bdi>{escape(visible(value))}</bdi>"
        if isolated and not str(value).isascii()
        else escape(visible(value))
    )


def write_document(output: Path, title: str, parts: Sequence[str], style: str = "") -> None:
    """Write a page; the browser itself refuses whatever is neither in it nor a style or a picture in it.

    Args:
        style: of this page, beside STYLE.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        f"<title>{escape(visible(title))}</title><style>{STYLE}{style}</style></head><body><main>",
        f"<h1>{text(title)}</h1>",
    ]
    atomic.write_text(output, "\n".join([*head, *parts, "</main></body></html>\n"]))


def section(name: str, heading: str, *parts: str) -> Html:
    """Args: name: of the section in the page's addresses (`#name`)."""
    return Html(
        "\n".join(
            [f'<section id="{name}"><h2>{text(heading)}</h2>', *map(text, parts), "</section>"]
        )
    )


def paragraph(value: str, kind: str = "") -> Html:
    return Html(f"<p{f' class={kind}' if kind else ''}>{text(value)}</p>")


def folded(heading: str, *parts: str) -> Html:
    return Html(f"<details><summary>{text(heading)}</summary>{''.join(map(text, parts))}</details>")


def preformatted(value: str) -> Html:
    return Html(f'<pre tabindex="0" dir="ltr">{text(value, isolated=False)}</pre>')


def terms(pairs: dict[str, str]) -> Html:
    return Html(
        "<dl>"
        + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs.items())
        + "</dl>"
    )


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    last_stands_out: bool = False,
    shades: Sequence[Sequence[float]] = (),
) -> Html:
    """A row's first cell is its heading; a table that is too wide scrolls by itself.

    Args:
        shades: 0..1, how dark the cells after the heading are, of the first rows and columns.
    """
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    body = ""
    for k, row in enumerate(rows):
        dark = [*(shades[k] if k < len(shades) else ()), *[0.0] * len(row)]
        style = [
            f' style="background: rgb(var(--mark) / {shade / 2:.2f})"' if shade else ""
            for shade in dark
        ]
        cells = "".join(f"<td{style[n]}>{text(cell)}</td>" for n, cell in enumerate(row[1:]))
        kind = " class=this" if last_stands_out and k == len(rows) - 1 else ""
        body += f'<tr{kind}><th scope="row">{text(row[0])}</th>{cells}</tr>\n'
    title = f"<caption><span>{text(caption)}</span></caption>" if caption else ""
    return scrolling(
        caption or "table",
        f"<table>{title}<thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>",
    )


def scrolling(label: str, content: str) -> Html:
    """What may be wider than a phone scrolls by itself, with the keyboard too."""
    return Html(
        f'<div class="scroll" role="region" tabindex="0" aria-label="{attribute(label)}">{content}</div>'
    )


def bar(value: float, interval: Sequence[float] | None) -> Html:
    """A small bar for a fraction, and a line for its interval; the numbers stand beside it."""
    low, high = (100 * end for end in interval or (value, value))
    return Html(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{100 * value:.1f}" height="10"/>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="5" y2="5" stroke-width="3"/></svg>'
    )


def data_address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def write_page(
    output: Path,
    title: str,
    rows: list[dict[str, str]],
    columns: list[str],
    images: dict[str, Path],
    sections: dict[str, str],
    notes: list[str],
) -> None:
    """Write a page with a table, pictures, notes, and long texts folded away.

    Args:
        rows: one dict a row, keyed by `columns`; the last row is the run itself and stands out.
        images: caption → PNG file, embedded.
        sections: heading → preformatted text.
    """
    pictures = [
        f"<h2>{text(caption)}</h2>\n{scrolling(caption, wide_picture(caption, path))}"
        for caption, path in images.items()
    ]
    parts = [
        table(
            "", columns, [[row[column] for column in columns] for row in rows], last_stands_out=True
        ),
        *map(paragraph, notes),
        *pictures,
        *(folded(name, preformatted(value)) for name, value in sections.items()),
    ]
    write_document(output, title, parts)


def wide_picture(caption: str, path: Path) -> str:
    return f'<img class="wide" alt="{attribute(caption)}" src="{data_address(path.read_bytes(), "png")}">'
