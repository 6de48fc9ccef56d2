"""Pictures and the page: what is wrong is marked, nothing of the user's text becomes markup."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from vle_bench.demo.figures import (
    AnsweredQuestion,
    ChosenAnswer,
    choices_sheet,
    contact_sheet,
    learning_curves,
)
from vle_bench.demo.runs import write_demo_page
from vle_bench.demo.vqa import COLUMNS, published_rows, results_table


def example(correct, color=(0, 0, 255)):
    image = Image.new("RGB", (64, 64), color)
    question = "what color is the shape in the picture?"
    return AnsweredQuestion(image, question, "red", "red" if correct else "blue")


def reds(path):
    """Pixels of the frame's red, (193, 18, 31), within rounding."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int((np.abs(pixels - (193, 18, 31)).max(-1) < 12).sum())


def test_wrong_answers_have_a_red_frame_and_right_ones_none(tmp_path):
    contact_sheet([example(True)] * 16, tmp_path / "right.png")
    contact_sheet([example(True)] * 15 + [example(False)], tmp_path / "one.png")
    contact_sheet([example(False)] * 16, tmp_path / "wrong.png")
    right, one, wrong = (reds(tmp_path / f"{name}.png") for name in ("right", "one", "wrong"))
    assert right == 0 and one > 1000 and wrong > 10 * one
    assert min(Image.open(tmp_path / "one.png").size) > 800


def test_a_sheet_that_is_not_full(tmp_path):
    contact_sheet([example(True)] * 3, tmp_path / "three.png")
    assert Image.open(tmp_path / "three.png").size[0] > 800


def log(folder, end):
    """A run folder with nothing but a log."""
    lines = [{"step": s, "loss": 2.0 / s} for s in (1, 2, 3)]
    lines += [
        {"step": s, "split": "val", "accuracy": end * s / 3, "accuracy_not_yes_no": end * s / 4}
        for s in (1, 2, 3)
    ]
    folder.mkdir()
    content = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "log.jsonl").write_text(content, encoding="utf-8")
    return folder


def test_the_curve_draws_every_run(tmp_path):
    one, two = log(tmp_path / "a", 0.9), log(tmp_path / "b", 0.5)
    metrics = {"accuracy": "all questions", "accuracy_not_yes_no": "not yes/no"}
    for name, runs in (("one", {"a": one}), ("two", {"a": one, "b": two})):
        learning_curves(runs, tmp_path / f"{name}.png", metrics, {"baseline": 37.33})
    blue, orange, green = (31, 95, 168), (199, 91, 18), (43, 122, 61)
    assert ink(tmp_path / "one.png", blue) > 0 < ink(tmp_path / "one.png", orange)
    assert ink(tmp_path / "one.png", green) == 0 < ink(tmp_path / "two.png", green)
    assert ink(tmp_path / "one.png", orange) < ink(tmp_path / "two.png", orange)


def question(chosen, tagged):
    return ChosenAnswer(
        Image.new("RGB", (40, 30), (240, 240, 240)),
        [[2, 2, 18, 28], [20, 5, 38, 25]],
        tagged,
        "What is [1] holding?",
        ["a cup", "a ball", "a kite", "a book"],
        chosen,
        1,
    )


def ink(path, color):
    """Pixels of a colour; lines are wider than a pixel, so that not all are blended."""
    return int(
        (np.abs(np.asarray(Image.open(path).convert("RGB")).astype(int) - color) < 12).all(-1).sum()
    )


def test_the_sheet_of_choices_shows_what_is_tagged_chosen_and_true(tmp_path):
    red, blue = (193, 18, 31), (31, 95, 168)
    for name, chosen, tagged in (
        ("right", 1, {0}),
        ("wrong", 2, {0}),
        ("untagged", 1, set()),
        ("both", 1, {0, 1}),
    ):
        choices_sheet([question(chosen, tagged)] * 3, tmp_path / f"{name}.png")
    assert ink(tmp_path / "right.png", red) == 0 < ink(tmp_path / "wrong.png", red)
    assert (
        ink(tmp_path / "untagged.png", blue)
        == 0
        < ink(tmp_path / "right.png", blue)
        < ink(tmp_path / "both.png", blue)
    )


def test_the_ablation_draws_every_run(tmp_path):
    runs = {name: log(tmp_path / name, end) for name, end in (("on", 0.9), ("off", 0.3))}
    accuracy, chance = {"accuracy": ""}, {"chance": 25.0}
    learning_curves({"on": runs["on"]}, tmp_path / "one.png", accuracy, chance, loss=False)
    learning_curves(runs, tmp_path / "two.png", accuracy, chance, loss=False)
    orange = (199, 91, 18)
    assert ink(tmp_path / "one.png", orange) == 0 < ink(tmp_path / "two.png", orange)


def test_the_page_escapes_and_embeds(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    recipe = SimpleNamespace(to_yaml=lambda: "a: <i>")
    record = SimpleNamespace(model_dump=lambda mode: {"a": "<em>"})
    rows = [{"": "one", "score": "<script>"}, {"": "this run", "score": "99.00 ± 0.20"}]
    images = {"A & B": tmp_path / "x.png"}

    def write(name, images):
        page = tmp_path / name
        write_demo_page(
            page, "a <b> title", rows, ["", "score"], images, recipe, record, ["note <u>"]
        )

    write("index.html", images)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert (
        "<script>" not in page
        and "<i>" not in page
        and "<u>" not in page
        and "a &lt;b&gt; title" in page
    )
    assert page.count("data:image/png;base64,") == 1 and "://" not in page
    marked = page.index('class="this"')
    assert page.count('class="this"') == 1 and marked > page.index("&lt;script&gt;")
    assert "<em>" not in page and "A &amp; B" in page
    with pytest.raises(FileNotFoundError):
        write("no.html", {"gone": tmp_path / "gone.png"})
    assert not (tmp_path / "no.html").exists()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_of_several_seeds_keeps_its_numbers_on_a_narrow_terminal(width):
    console = Console(width=width, file=io.StringIO(), record=True)
    own = dict(
        zip(
            COLUMNS,
            ("this run, mean of 3 seeds", "98.15 (97.91–98.42)", "97.81 (96.50–98.99)"),
            strict=True,
        )
    )
    console.print(results_table([*published_rows(), own], 9673))
    shown = console.export_text()
    assert "98.15 (97.91–98.42)" in shown and "97.81 (96.50–98.99)" in shown and "23.30" in shown
