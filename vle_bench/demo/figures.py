"""The demo's pictures: learning curves, and sheets of examples with the model's answers."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image

from vle_bench import atomic
from vle_bench.analysis.read import read_curves
from vle_bench.pages.charts import draw_curves, new_figure, styled
from vle_bench.pages.figures import png
from vle_bench.pages.palette import LIGHT

WRONG, RIGHT = LIGHT["red"], LIGHT["green"]
TAGGED, UNTAGGED = LIGHT["blue"], LIGHT["grey"]
FONT = 9
SHEET_COLUMNS = 4


@dataclass(frozen=True)
class AnsweredQuestion:
    image: Image.Image
    question: str
    prediction: str
    truth: str


@dataclass(frozen=True)
class ChosenAnswer:
    """A question of VCR with its choices.

    Args:
        boxes: (K, 4) in pixels.
        tagged: the boxes that the question tags.
        chosen, truth: indices of choices.
    """

    image: Image.Image
    boxes: Sequence[Sequence[float]]
    tagged: set[int]
    question: str
    choices: list[str]
    chosen: int
    truth: int


def learning_curves(
    runs: Mapping[str, Path],
    output: Path,
    metrics: Mapping[str, str],
    references: Mapping[str, float],
    loss: bool = True,
) -> None:
    """Draw training losses and held-out scores over the optimizer's steps.

    Args:
        runs: name -> run folder with its log.
        metrics: name in the log -> name in the legend.
        references: name -> percent, drawn across.
        loss: whether to draw the losses too.
    """
    logs = {name: read_curves(folder) for name, folder in runs.items()}
    several = len(logs) > 1
    scores = {
        ", ".join(filter(None, (label, name if several else ""))): [
            (step, 100 * value) for step, value in curves["score"][metric]
        ]
        for name, (curves, _) in logs.items()
        for metric, label in metrics.items()
        if metric in curves["score"]
    }
    splits = ", ".join(sorted({split for _, scored in logs.values() for split in scored}))
    with styled(FONT):
        figure = new_figure(792 if loss else 576, 302)
        if loss:
            left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
            losses = {name: curves["loss"]["loss"] for name, (curves, _) in logs.items()}
            draw_curves(left, losses, "step", log=True, heading="training loss")
        else:
            right = figure.subplots()
        draw_curves(right, scores, "step", (0, 101), heading=f"accuracy on {splits}, %")
        for name, percent in references.items():
            draw_reference(right, name, percent)
        atomic.write_bytes(output, png(figure))


def draw_reference(axes: Axes, name: str, percent: float) -> None:
    """Draw a dotted line across, with its name at its right end."""
    axes.axhline(percent, color=LIGHT["muted"], linewidth=0.8, linestyle=":")
    axes.annotate(
        f"{name}, {percent:g}",
        (1.01, percent),
        xycoords=("axes fraction", "data"),
        va="center",
        color=LIGHT["muted"],
        fontsize=8,
    )


def contact_sheet(examples: Sequence[AnsweredQuestion], output: Path) -> None:
    """Draw a grid of pictures with question and answer; a wrong answer is marked in red."""
    rows = -(-len(examples) // SHEET_COLUMNS)
    with styled(FONT):
        figure = new_figure(166 * SHEET_COLUMNS, 223 * rows)
        grid = figure.subplots(rows, SHEET_COLUMNS, squeeze=False)
        for axes, example in zip(grid.flat, examples, strict=False):
            draw_answer(axes, example)
        for axes in figure.axes[len(examples) :]:
            axes.set_axis_off()
        atomic.write_bytes(output, png(figure))


def draw_answer(axes: Axes, example: AnsweredQuestion) -> None:
    correct = example.prediction == example.truth
    verdict = (
        f"✓ {example.prediction}"
        if correct
        else f"✗ wrong: {example.prediction}\ntruth: {example.truth}"
    )
    axes.imshow(example.image, interpolation="nearest")
    axes.set_title(textwrap.fill(example.question, 28), fontsize=FONT)
    weight = "normal" if correct else "bold"
    axes.set_xlabel(verdict, color=RIGHT if correct else WRONG, fontweight=weight)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_edgecolor(LIGHT["line"] if correct else WRONG)
        spine.set_linewidth(0.8 if correct else 4)


def choices_sheet(examples: Sequence[ChosenAnswer], output: Path) -> None:
    """Draw pictures with their boxes, each beside its question, the choices and the truth."""
    rows = -(-len(examples) // 2)
    with styled(FONT):
        figure = new_figure(792, 187 * rows)
        grid = figure.subplots(rows, 4, squeeze=False, width_ratios=(1, 1.15, 1, 1.15))
        for axes in grid.flat:
            axes.set_axis_off()
        for number, example in enumerate(examples):
            row, column = divmod(number, 2)
            draw_boxes(grid[row, 2 * column], example)
            write_choices(grid[row, 2 * column + 1], example)
        atomic.write_bytes(output, png(figure))


def draw_boxes(axes: Axes, example: ChosenAnswer) -> None:
    """Draw a picture with numbered boxes; tagged ones stand out."""
    axes.imshow(example.image, interpolation="nearest")
    for k, (x1, y1, x2, y2) in enumerate(example.boxes):
        color, width = (TAGGED, 1.8) if k in example.tagged else (UNTAGGED, 0.6)
        frame = Rectangle(
            (x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, color=color, linewidth=width
        )
        axes.add_patch(frame)
        axes.annotate(
            str(k + 1),
            (x1, y1),
            color="white",
            fontsize=7,
            va="bottom",
            ha="left",
            annotation_clip=False,
            bbox={"facecolor": color, "pad": 1, "linewidth": 0},
        )


def write_choices(axes: Axes, example: ChosenAnswer) -> None:
    """Write the question and its choices: the chosen one in bold, the right one in green."""
    lines = [(textwrap.fill(example.question, 34), "black", "bold")]
    for i, choice in enumerate(example.choices):
        is_chosen = i == example.chosen
        mark = "✓" if i == example.truth else "✗" if is_chosen else "  "
        color = {"✓": RIGHT, "✗": WRONG}.get(mark, "black")
        text = f"{mark} {choice}{'  ← chosen' if is_chosen else ''}"
        filled = textwrap.fill(text, 36, subsequent_indent="     ")
        lines.append((filled, color, "bold" if is_chosen else "normal"))
    y = 1.0
    for text, color, weight in lines:
        axes.text(
            *(0, y, text),
            transform=axes.transAxes,
            va="top",
            color=color,
            fontweight=weight,
            fontsize=8,
        )
        y -= 0.085 * (1 + text.count("\n")) + 0.05
