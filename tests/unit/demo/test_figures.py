"""Pictures and the page: what is wrong is marked, nothing of the user's text becomes markup."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from vle_bench.analysis.html import write_page
from vle_bench.demo.figures import ablation_curve, choices_sheet, contact_sheet, learning_curve
from vle_bench.demo.vqa import COLUMNS, published_rows, results_table


def example(correct, color=(0, 0, 255)):
    return {
        "image": Image.new("RGB", (64, 64), color),
        "question": "what color is the shape in the picture?",
        "correct": correct,
        "prediction": "red",
        "truth": "red" if correct else "blue",
    }


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


def test_the_curve_draws_every_run(tmp_path):
    def log(name, end):
        lines = [{"step": s, "loss": 2.0 / s} for s in (1, 2, 3)]
        lines += [
            {"step": s, "split": "val", "accuracy": end * s / 3, "accuracy_not_yes_no": end * s / 4}
            for s in (1, 2, 3)
        ]
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        return tmp_path / name

    one, two = log("a.jsonl", 0.9), log("b.jsonl", 0.5)
    learning_curve([one], tmp_path / "one.png", {"baseline": 37.33})
    learning_curve([one, two], tmp_path / "two.png", {"baseline": 37.33})
    inks = [
        int(
            (np.asarray(Image.open(tmp_path / f"{n}.png").convert("RGB")) == (31, 95, 168))
            .all(-1)
            .sum()
        )
        for n in ("one", "two")
    ]
    assert 0 < inks[0] < inks[1]


def question(chosen, tagged):
    return {
        "image": Image.new("RGB", (40, 30), (240, 240, 240)),
        "boxes": [[2, 2, 18, 28], [20, 5, 38, 25]],
        "tagged": tagged,
        "question": "What is [1] holding?",
        "choices": ["a cup", "a ball", "a kite", "a book"],
        "chosen": chosen,
        "truth": 1,
    }


def ink(path, color):
    """Pixels of a colour, which `save` does not blend: lines are wider than a pixel."""
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
    for name, end in (("on", 0.9), ("off", 0.3)):
        lines = [{"step": s, "split": "val", "accuracy": end * s / 3} for s in (1, 2, 3)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ablation_curve({"on": tmp_path / "on.jsonl"}, tmp_path / "one.png", 25)
    ablation_curve({n: tmp_path / f"{n}.jsonl" for n in ("on", "off")}, tmp_path / "two.png", 25)
    orange = (217, 114, 43)
    assert ink(tmp_path / "one.png", orange) == 0 < ink(tmp_path / "two.png", orange)


def test_the_page_escapes_and_embeds(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    write_page(
        tmp_path / "index.html",
        "a <b> title",
        [{"": "one", "score": "<script>"}, {"": "this run", "score": "99.00 ± 0.20"}],
        ["", "score"],
        {"A & B": tmp_path / "x.png"},
        {"Recipe": "a: <i>"},
        ["note <u>"],
    )
    page = (tmp_path / "index.html").read_text()
    assert (
        "<script>" not in page
        and "<i>" not in page
        and "<u>" not in page
        and "a &lt;b&gt; title" in page
    )
    assert page.count("data:image/png;base64,") == 1 and "://" not in page
    assert page.count("class=this") == 1 and page.index("class=this") > page.index("&lt;script&gt;")
    with pytest.raises(FileNotFoundError):
        write_page(tmp_path / "no.html", "t", [], [], {"gone": tmp_path / "gone.png"}, {}, [])
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
