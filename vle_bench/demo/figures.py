"""Pictures of a run. Written with a backend that needs no display."""

import io
import json
import textwrap
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator

from vle_bench import atomic

SERIES = {
    "accuracy": ("all questions", "#1f5fa8", "-"),
    "accuracy_not_yes_no": ("not yes/no", "#d9722b", "--"),
}

REFERENCE = "#777777"

WRONG, RIGHT = "#c1121f", "#2b7a3d"

TAGGED = "#1f5fa8"

SHEET_COLUMNS = 4

CURVES = (
    ("#1f5fa8", "-"),
    ("#d9722b", "--"),
    ("#777777", "-."),
    ("#2b7a3d", "-"),
    ("#8e5ea2", "--"),
    ("#b8860b", "-."),
)

PLAIN = FuncFormatter(lambda value, _: f"{value:g}")  # 0.5, where a log axis would write 5×10⁻¹

# DejaVu ships with matplotlib: the same picture on every machine.
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def learning_curve(logs: list[Path], output: Path, lines: dict[str, float]) -> None:
    """Loss and accuracy on the held-out split over the optimiser's steps, one line a run.

    Args:
        logs: `log.jsonl` of each run.
        lines: name → percent, drawn across as references.
    """
    entries = [[json.loads(line) for line in path.read_text().splitlines()] for path in logs]
    splits = {e["split"] for run in entries for e in run if "split" in e}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
        for run in entries:
            losses = [(e["step"], e["loss"]) for e in run if "loss" in e]
            left.plot(
                *zip(*losses, strict=True),
                color=SERIES["accuracy"][1],
                linewidth=0.8,
                alpha=0.8,
                marker="o" if len(losses) < 3 else "",
            )
            for metric, (label, color, style) in SERIES.items():
                points = [(e["step"], 100 * e[metric]) for e in run if metric in e]
                if points:
                    shown = label if run is entries[0] else None
                    right.plot(
                        *zip(*points, strict=True),
                        style,
                        color=color,
                        marker="o",
                        markersize=3,
                        label=shown,
                    )
        left.set(title="training loss", xlabel="step", yscale="log")
        left.yaxis.set(
            major_formatter=PLAIN, minor_locator=LogLocator(subs=(2, 5)), minor_formatter=PLAIN
        )
        right.set(title=f"accuracy on {', '.join(sorted(splits))}, %", xlabel="step", ylim=(0, 101))
        for name, percent in lines.items():
            right.axhline(percent, color=REFERENCE, linewidth=0.8, linestyle=":")
            right.annotate(
                f"{name}, {percent:.2f}",
                (1.01, percent),
                xycoords=("axes fraction", "data"),
                va="center",
                color=REFERENCE,
                fontsize=8,
            )
        right.legend(loc="lower right", frameon=False)
        save(figure, output)


def contact_sheet(examples: list[dict[str, Any]], output: Path) -> None:
    """A grid of pictures, each with its question and answer; a wrong one has a red frame and says so in words.

    Args:
        examples: {image, question, prediction, truth, correct} each.
    """
    rows = -(-len(examples) // SHEET_COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.3 * SHEET_COLUMNS, 3.1 * rows), layout="constrained")
        for axes, example in zip(
            figure.subplots(rows, SHEET_COLUMNS, squeeze=False).flat, examples, strict=False
        ):
            correct = example["correct"]
            axes.imshow(example["image"], interpolation="nearest")
            axes.set_title(textwrap.fill(example["question"], 28), fontsize=9)
            verdict = (
                f"✓ {example['prediction']}"
                if correct
                else f"✗ wrong: {example['prediction']}\ntruth: {example['truth']}"
            )
            axes.set_xlabel(
                verdict,
                color=RIGHT if correct else WRONG,
                fontweight="normal" if correct else "bold",
            )
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(
                    visible=True,
                    color="#bbbbbb" if correct else WRONG,
                    linewidth=0.8 if correct else 4,
                )
        for axes in figure.axes[len(examples) :]:
            axes.set_axis_off()
        save(figure, output)


def ablation_curve(logs: dict[str, Path], output: Path, chance: float) -> None:
    """Accuracy on the held-out split over the optimiser's steps, a line for each run.

    Args:
        logs: what to call a run → its `log.jsonl`.
        chance: percent, drawn across.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        axes = figure.subplots()
        for (name, path), (color, style) in zip(logs.items(), CURVES, strict=False):
            entries = [json.loads(line) for line in path.read_text().splitlines()]
            points = [(e["step"], 100 * e["accuracy"]) for e in entries if "accuracy" in e]
            axes.plot(
                *zip(*points, strict=True), style, color=color, marker="o", markersize=3, label=name
            )
        axes.axhline(chance, color=REFERENCE, linewidth=0.8, linestyle=":")
        axes.annotate(
            "chance",
            (1.01, chance),
            xycoords=("axes fraction", "data"),
            va="center",
            color=REFERENCE,
            fontsize=8,
        )
        axes.set(title="accuracy on val, %", xlabel="step", ylim=(0, 101))
        axes.legend(frameon=False, loc="center right")
        save(figure, output)


def choices_sheet(examples: list[dict[str, Any]], output: Path) -> None:
    """Pictures with the boxes of their objects, and beside each the question, its choices, the chosen one and the truth.

    Args:
        examples: {image, boxes (K, 4) in pixels, names (K,), tagged (indices), question, choices, chosen, truth} each.
    """
    rows = -(-len(examples) // 2)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 2.6 * rows), layout="constrained")
        grid = figure.subplots(rows, 4, squeeze=False, width_ratios=(1, 1.15, 1, 1.15))
        for axes in grid.flat:
            axes.set_axis_off()
        for number, example in enumerate(examples):
            row, column = divmod(number, 2)
            draw_boxes(grid[row, 2 * column], example)
            write_choices(grid[row, 2 * column + 1], example)
        save(figure, output)


def draw_boxes(axes: Any, example: dict[str, Any]) -> None:
    axes.imshow(example["image"], interpolation="nearest")
    for k, (x1, y1, x2, y2) in enumerate(example["boxes"]):
        tagged = k in example["tagged"]
        axes.add_patch(
            Rectangle(
                (x1 - 0.5, y1 - 0.5),
                x2 - x1,
                y2 - y1,
                fill=False,
                color=TAGGED if tagged else "#999999",
                linewidth=1.8 if tagged else 0.6,
            )
        )
        axes.annotate(
            str(k + 1),
            (x1, y1),
            color="white",
            fontsize=7,
            va="bottom",
            ha="left",
            annotation_clip=False,
            bbox={"facecolor": TAGGED if tagged else "#999999", "pad": 1, "linewidth": 0},
        )


def write_choices(axes: Any, example: dict[str, Any]) -> None:
    lines: list[tuple[str, str, str]] = [(textwrap.fill(example["question"], 34), "black", "bold")]
    for i, choice in enumerate(example["choices"]):
        mark = "✓" if i == example["truth"] else "✗" if i == example["chosen"] else "  "
        color = {"✓": RIGHT, "✗": WRONG}.get(mark, "black")
        taken = i == example["chosen"]
        text = textwrap.fill(
            f"{mark} {choice}{'  ← chosen' if taken else ''}", 36, subsequent_indent="     "
        )
        lines.append((text, color, "bold" if taken else "normal"))
    y = 1.0
    for text, color, weight in lines:
        axes.text(
            0,
            y,
            text,
            transform=axes.transAxes,
            va="top",
            color=color,
            fontweight=weight,
            fontsize=8,
        )
        y -= 0.085 * (1 + text.count("\n")) + 0.05


def save(figure: Figure, output: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    atomic.write_bytes(output, buffer.getvalue())
