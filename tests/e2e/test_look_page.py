"""The page of what a model gets, in a real browser: at the width of a phone and of a desk, light and dark."""

import pytest

from tests.e2e.test_report_page import DESK, PHONE, chromium, measured
from tests.miniature.in_process import run
from tests.miniature.run import HOSTILE, prepare_miniature_vcr, prepare_vqa

__all__ = ["chromium"]  # a fixture

VQA = ("data.source=vqav2", "data.evaluate=val-minival", "data.report=val")
SMALL = ("train.batch_size=8", "train.per_device_batch_size=4")
HEADINGS = ["Is it really seen?", "Examples", "First batches", "Lengths, sizes and answers"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("looks")
    (folder / "vqa").mkdir()
    (folder / "vcr").mkdir()
    vqa, vcr = prepare_vqa(folder / "vqa"), prepare_miniature_vcr(folder / "vcr")
    changes = (*SMALL, *VQA, "data.first_stage=null", "model.resize=crop")
    output = ("--split", "val", "--examples", "100", "--output")
    run("look", vqa, "--recipe", "demo/vqa-tiny", *changes, *output, "vqa.html", cwd=folder)
    changes = (*SMALL, "data.source=vcr", "task=vcr_joint")
    run("look", vcr, "--recipe", "demo/vcr-q2a-tiny", *changes, *output, "vcr.html", cwd=folder)
    run("look", vcr, *output, "data.html", cwd=folder)
    return {name: folder / f"{name}.html" for name in ("vqa", "vcr", "data")}


@pytest.mark.parametrize("name", ["vqa", "vcr", "data"])
@pytest.mark.parametrize(("width", "dark"), [(PHONE, False), (DESK, True)])
def test_the_page_at_two_widths(chromium, pages, tmp_path, name, width, dark):
    found = measured(chromium, pages[name], tmp_path, width, dark)
    assert found["width"] == width and found["dark"] is dark
    assert found["scrolls"] <= width  # tables scroll by themselves
    assert found["headings"] == [
        heading for heading in HEADINGS if name != "data" or heading != "First batches"
    ]
    assert found["loaded"] == [] and found["unnamed"] == 0 and found["hidden"] == 0
    assert len(found["charts"]) == (4 if name == "data" else 5)
    assert all(w > 250 and texts > 4 for w, texts in found["charts"])
    assert found["drawn"] and all(found["drawn"]) and all(found["boxes"])
    if name == "vqa":
        assert HOSTILE.replace("\ue000", "\ufffd").replace("\u202e", "\ufffd") in found["questions"]
