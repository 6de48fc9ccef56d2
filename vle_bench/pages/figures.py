"""Figures of matplotlib as SVG, whose text stays text and whose colours follow the theme, or PNG.

The same figure gives the same bytes for one version of matplotlib. Another version may place things
differently, so `contents` reduces a chart to its data and its text for comparisons.
"""

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from html import unescape

from markupsafe import Markup
from matplotlib.figure import Figure

from vle_bench.pages.palette import LIGHT, variables

# Fonts as wide as DejaVu Sans, for which matplotlib lays the text out.
FONTS = "'DejaVu Sans', Verdana, Geneva, sans-serif"
SVG = "http://www.w3.org/2000/svg"


def svg(
    figure: Figure, name: str, description: str, data: object = None, hints: Sequence[str] = ()
) -> Markup:
    """Return a figure as an SVG element for pages that is also a file of its own.

    Args:
        name: begins every id, so that charts on one page do not share any.
        description: for screen readers.
        data: values as JSON, for `contents`.
        hints: texts shown when the pointer rests on the artists whose gid is `hint-0`, ...
    """
    file = io.BytesIO()
    figure.savefig(
        file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    root = ElementTree.fromstring(file.getvalue())
    for definition in root.findall(f"{{{SVG}}}defs"):
        # matplotlib's rule for `*` would hold for the whole page
        if definition.find(f"{{{SVG}}}style") is not None:
            root.remove(definition)
    for number_, hint in enumerate(hints):
        for group in root.iterfind(f".//*[@id='hint-{number_}']"):
            title = ElementTree.Element(f"{{{SVG}}}title")
            title.text = hint
            group.insert(0, title)
    use_variables(root)
    name_ids(root, name)
    width, height = figure.get_size_inches() * 72
    root.attrib.clear()
    root.attrib |= {
        "class": "drawing",
        "viewBox": f"0 0 {width:g} {height:g}",
        "width": f"{width:g}",
        "height": f"{height:g}",
        "role": "img",
        "aria-label": description,
        "style": "stroke-linejoin: round",
    }
    if data is not None:
        root.set("data-points", json.dumps(data, ensure_ascii=False))
    ElementTree.register_namespace("", SVG)
    return Markup(ElementTree.tostring(root, encoding="unicode") + "\n")


def use_variables(root: ElementTree.Element) -> None:
    """Replace the light colours by the palette's variables, which the SVG defines itself."""
    names = {color: name for name, color in LIGHT.items()}
    used = set()

    def variable(match: re.Match[str]) -> str:
        name = names.get(match[0])
        if name is None:
            return match[0]
        used.add(name)
        return f"var(--{name})"

    for element in root.iter():
        if style := element.get("style"):
            style = style.replace("'DejaVu Sans'", FONTS)
            element.set("style", re.sub("#[0-9a-f]{6}", variable, style))
    rules = ElementTree.Element(f"{{{SVG}}}style")
    rules.text = variables(".drawing", used)
    root.insert(0, rules)


def name_ids(root: ElementTree.Element, name: str) -> None:
    """Drop the ids that nothing refers to, and number the others after `name`."""
    link = "{http://www.w3.org/1999/xlink}href"
    elements = list(root.iter())
    attributes = [element.get(key, "") for element in elements for key in (link, "clip-path")]
    referred = set(re.findall(r"#([\w-]+)", " ".join(attributes)))
    renamed: dict[str, str] = {}
    for element in elements:
        identity = element.attrib.pop("id", "")
        if identity in referred:
            element.set("id", renamed.setdefault(identity, f"{name}-{len(renamed)}"))
    for element in elements:
        if link in element.attrib:
            element.set("href", f"#{renamed[element.attrib.pop(link)[1:]]}")
        if (clip := element.get("clip-path")) is not None:
            element.set("clip-path", f"url(#{renamed[clip[5:-1]]})")


def contents(file: str) -> str:
    """Return a page or a chart with each SVG reduced to its data and its text."""

    def reduced(match: re.Match[str]) -> str:
        data = re.findall(r' data-points="([^"]*)"', match[0])
        texts = re.findall(r"<(?:text|title)\b[^>]*>([^<]*)<", match[0])
        return unescape(json.dumps([data, sorted(texts)]))

    return re.sub(r"<svg\b.*?</svg>", reduced, file, flags=re.DOTALL)


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG in the light theme, at 130 pixels an inch."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    return file.getvalue()
