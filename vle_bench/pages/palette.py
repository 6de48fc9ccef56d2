"""The colours of all pages and charts, for the light and the dark theme."""

# Name of the CSS variable -> light, dark. Colour-blind readers can tell blue from orange. The
# light colours differ from each other, so that a chart drawn with them can be given the variables.
PALETTE = {
    "text": ("#1b1b1b", "#e8e8e8"),
    "page": ("#ffffff", "#161616"),
    "line": ("#dddddd", "#3a3a3a"),
    "muted": ("#5f5f5f", "#a8a8a8"),
    "soft": ("#f4f4f4", "#222222"),
    "blue": ("#1f5fa8", "#6aa9ea"),
    "orange": ("#c75b12", "#f0954f"),
    "grey": ("#6b6b6b", "#b5b5b5"),
    "green": ("#2b7a3d", "#7fce92"),
    "violet": ("#8e5ea2", "#c79bdb"),
    "gold": ("#93700a", "#dcb84a"),
    "red": ("#c1121f", "#ff8f8f"),
    "tint": ("#fdf1e8", "#2b2018"),
    "warning": ("#fff1d6", "#3a2a08"),
    "warning-line": ("#b86e00", "#e0a030"),
}

LIGHT = {name: light for name, (light, _) in PALETTE.items()}


def variables(selector: str, names: set[str] | None = None) -> str:
    """Return CSS rules that define the palette's variables on `selector`: all, or only `names`."""
    chosen = [name for name in PALETTE if names is None or name in names]
    light, dark = (
        "".join(f"--{name}:{PALETTE[name][theme]};" for name in chosen) for theme in (0, 1)
    )
    return (
        f"{selector}{{{light}}}\n@media (prefers-color-scheme:dark){{{selector}{{{dark}}}}}\n"
        if chosen
        else ""
    )
