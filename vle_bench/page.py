"""One self-contained HTML page of a run: no other file, no network, readable on a phone."""

import base64
from html import escape
from pathlib import Path

from vle_bench import atomic

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.2; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
tr.this td { font-weight: 700; border-top: 2px solid #1b1b1b; }
img { width: 100%; min-width: 40rem; } pre { overflow-x: auto; background: #f5f5f5; padding: .8rem; font-size: .8rem; }
summary { cursor: pointer; font-weight: 600; margin-top: 1rem; }
@media (prefers-color-scheme: dark) {
  body { color: #e8e8e8; background: #161616; } th, td { border-color: #444; } tr.this td { border-top-color: #e8e8e8; }
  pre { background: #242424; } img { background: #fff; }
}
"""


def write_page(
    output: Path, title: str, rows: list[dict[str, str]], columns: list[str], images: dict[str, Path],
    sections: dict[str, str], notes: list[str],
) -> None:  # fmt: skip
    """Write a page with a table, pictures, notes, and long texts folded away.

    Args:
        rows: one dict a row, keyed by `columns`; the last row is the run itself and stands out.
        images: caption → PNG file, embedded.
        sections: heading → preformatted text.
    """
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f"<tr{' class=this' if row is rows[-1] else ''}>" + "".join(f"<td>{escape(row[c])}</td>" for c in columns) + "</tr>\n"
        for row in rows
    )
    parts = [
        "<!doctype html>", '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>", f"<h1>{escape(title)}</h1>",
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>',
        *(f"<p>{escape(note)}</p>" for note in notes),
        *(f"<h2>{escape(caption)}</h2>\n{picture(caption, path)}" for caption, path in images.items()),
        *(f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>" for name, text in sections.items()),
        "</body></html>\n",
    ]  # fmt: skip
    atomic.write_text(output, "\n".join(parts))


def picture(caption: str, path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<div class="scroll"><img alt="{escape(caption)}" src="data:image/png;base64,{data}"></div>'
