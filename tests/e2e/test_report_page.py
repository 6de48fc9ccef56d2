"""The error report in a real browser: its parts, at the width of a phone and of a desk, light and dark, without a network."""

import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.miniature.run import HOSTILE, prepare_miniature_vcr, prepare_vqa, vcr_run, vqa_run

ROOT = Path(__file__).parents[2]
NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "chrome-headless-shell",
)
PHONE, DESK = 390, 1280
HEADINGS = [
    "Scores",
    "Scores by what questions are like",
    "Calibration",
    "Confusion",
    "The most confident mistakes",
    "Learning curves",
    "Recipe",
    "Provenance",
]
# What the page looks like from inside; the page's own policy lets no script run, so a copy without it is measured.
MEASURE = """<script>addEventListener('load', () => {
  document.querySelectorAll('details').forEach(one => one.open = true);
  const seen = document.documentElement, all = selector => [...document.querySelectorAll(selector)];
  const box = one => one.getBoundingClientRect();
  parent.postMessage(JSON.stringify({
    width: innerWidth, scrolls: Math.max(seen.scrollWidth, document.body.scrollWidth),
    dark: matchMedia('(prefers-color-scheme: dark)').matches,
    page: getComputedStyle(document.body).backgroundColor, text: getComputedStyle(document.body).color,
    headings: all('h2').map(one => one.textContent), questions: all('.card h3').map(one => one.textContent),
    pictures: all('img').map(one => one.naturalWidth), drawn: all('.boxes image').map(one => box(one).width > 100),
    boxes: all('.boxes').map(one => [...one.querySelectorAll('rect')].every(
      r => box(r).left < box(one).right && box(r).right > box(one).left)),
    charts: all('.chart > svg').map(one => [Math.round(box(one).width), one.querySelectorAll('text').length]),
    unnamed: all('img:not([alt]), svg:not([aria-label]):not([aria-hidden]), table:not(:has(caption)), th:not([scope])').length,
    hidden: all('.scroll').filter(one => one.scrollWidth > one.clientWidth && one.tabIndex < 0).length,
    loaded: performance.getEntriesByType('resource').map(one => one.name).filter(name => !name.startsWith('data:')),
  }), '*'); });</script>"""
# Headless windows have a least width of 500 pixels, a frame has none.
FRAME = """<!doctype html><style>:root {{ color-scheme: light dark }}
iframe {{ border: 0; width: {width}px; height: 800px }}</style>
<pre></pre>
<script>addEventListener("message", sent => document.querySelector("pre").textContent = sent.data)</script>
<iframe src="measured.html"></iframe>"""


@pytest.fixture(scope="module")
def chromium():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and os.environ.get("VLE_BENCH_CHROMIUM") == "required":
        pytest.fail(f"VLE_BENCH_CHROMIUM=required, and none of {', '.join(NAMES)} is there")
    return found or pytest.skip("no Chromium here")


def browse(chromium, address, profile, *options, dark=False):
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={profile}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        *options,
        address.as_uri(),
    ]
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=180, check=True
    ).stdout


def measured(chromium, page, folder, width, dark):
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    content = page.read_text(encoding="utf-8")
    assert len(policy.findall(content)) == 1
    (folder / "measured.html").write_text(policy.sub("", content) + MEASURE, encoding="utf-8")
    (folder / "frame.html").write_text(FRAME.format(width=width), encoding="utf-8")
    options = ("--window-size=1400,900", "--virtual-time-budget=20000", "--dump-dom")
    dumped = browse(chromium, folder / "frame.html", folder / "profile", *options, dark=dark)
    return json.loads(html.unescape(re.search(r"<pre>(.*?)</pre>", dumped, re.S)[1]))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Through the command line, both kinds of task."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("vqa-data", "vcr-data"):
        (folder / name).mkdir()
    vqa_run(folder / "vqa", prepare_vqa(folder / "vqa-data"), contaminated=True)
    vcr_run(folder / "vcr", prepare_miniature_vcr(folder / "vcr-data"), "vcr_joint")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    for name, task in (("vqa", "vqa"), ("vcr", "vcr_joint")):
        command = [
            sys.executable,
            "-m",
            "vle_bench",
            "report",
            name,
            "--split",
            "val",
            "--output",
            f"{name}.html",
        ]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=300
        )
        assert done.returncode == 0 and done.stdout == f"written: {name}.html\n", (
            done.stdout + done.stderr
        )
        assert not (folder / name / f"report.{task}.val.html").exists()
    refused = subprocess.run(
        [*command[:4], "nowhere"],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("vle-bench: nowhere: no such folder; ")
    return {name: folder / f"{name}.html" for name in ("vqa", "vcr")}


@pytest.mark.parametrize("name", ["vqa", "vcr"])
@pytest.mark.parametrize(("width", "dark"), [(PHONE, False), (DESK, True)])
def test_the_page_at_two_widths(chromium, pages, tmp_path, name, width, dark):
    found = measured(chromium, pages[name], tmp_path, width, dark)
    assert found["width"] == width and found["dark"] is dark
    assert found["scrolls"] <= width  # tables and code scroll by themselves
    assert (found["page"], found["text"]) == (
        ("rgb(22, 22, 22)", "rgb(232, 232, 232)")
        if dark
        else ("rgb(255, 255, 255)", "rgb(27, 27, 27)")
    )
    assert found["headings"] == HEADINGS and found["loaded"] == []
    assert found["unnamed"] == 0 and found["hidden"] == 0
    assert len(found["charts"]) == (6 if name == "vcr" else 4) and all(
        w > 250 and texts > 8 for w, texts in found["charts"]
    )
    if name == "vqa":
        assert (
            len(found["pictures"]) == len(found["questions"]) > 10 and min(found["pictures"]) >= 1
        )
        assert HOSTILE.replace("\ue000", "\ufffd").replace("\u202e", "\ufffd") in found["questions"]
    else:
        assert len(found["drawn"]) == len(found["boxes"]) == len(found["questions"]) > 10
        assert all(found["drawn"]) and all(found["boxes"])


def test_the_page_as_it_is_shows_colours_and_pictures(chromium, pages, tmp_path):
    """With its policy, which must not keep out its own style and pictures."""
    for dark, background in ((False, (255, 255, 255)), (True, (22, 22, 22))):
        shot = tmp_path / f"{dark}.png"
        options = (f"--window-size={DESK},4500", f"--screenshot={shot}")
        browse(chromium, pages["vqa"], tmp_path / "profile", *options, dark=dark)
        image = Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")
        colours = {colour: count for count, colour in image.getcolors(1 << 24)}
        assert image.getpixel((2, 2)) == background
        assert (
            colours.get((31, 95, 168) if not dark else (106, 169, 234), 0) > 500
        )  # bars of the diagram
        assert any(
            abs(r - 241) < 4 and abs(g - 90) < 6 and abs(b - 30) < 6 for r, g, b in colours
        )  # the picture of id 1009


def test_the_page_runs_no_script_of_the_data(chromium, pages, tmp_path):
    dumped = browse(chromium, pages["vqa"], tmp_path / "profile", "--dump-dom")
    assert (
        "<script" not in dumped and "onerror=alert(2)&gt;" in dumped and 'class="alert"' in dumped
    )
