"""`make gpu-check` as far as a machine without a GPU can try it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.long import gpu_check, gpu_numbers
from tests.long.gpu_setting import Report, Setting

ROOT = Path(__file__).parents[2]
PARTS = [name for name in gpu_check.PARTS if "compiled" not in name]  # which take minutes on a CPU
# The machine has torch, transformers and accelerate with what they need, and nothing else of ours.
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("datasets", "pyarrow", "pydantic", "evaluate", "typer", "yaml"):
            importer = next((f for f in frames() if "importlib" not in f and f != __file__), "")
            if "vle_bench" in importer or "/tests/" in importer:
                raise ModuleNotFoundError(f"{name} is not on the machine", name=name)
def frames():
    frame = sys._getframe(2)
    while frame:
        yield frame.f_code.co_filename
        frame = frame.f_back
sys.meta_path.insert(0, Blocked())
"""


def test_it_starts_without_the_libraries_of_data_and_recipes(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", "import tests.long.gpu_check"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.processes
def test_the_whole_in_small(tmp_path: Path) -> None:
    only = [word for name in PARTS for word in ("--only", name)]
    (tmp_path / "sitecustomize.py").write_text(BLOCKED, encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.long.gpu_check",
            "--device",
            "cpu",
            "--tiny",
            "--json",
            str(tmp_path / "f.json"),
            *only,
        ],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    parts = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["parts"]
    assert {name: part["status"] for name, part in parts.items()} == dict.fromkeys(PARTS, "done")
    checks = {
        name: [row["ok"] for row in part["rows"] if row["ok"] is not None]
        for name, part in parts.items()
    }
    assert {name: len(held) for name, held in checks.items() if held} == {
        "goldens": 24,
        "precision": 2,
        "resume": 1,
        "resume-graphs": 1,
        "graphs": 1,
        "fsdp": 1,
    }
    ways = [row for row in parts["speed"]["rows"] if row["way"] == "eager"]
    assert len(ways) == 12 and all(
        row["samples_per_second"] > 0 and row["ratio_to_published"] > 0 for row in ways
    )
    table = done.stdout.partition("=" * 100)[2].splitlines()
    assert table and max(map(len, table)) <= 100


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu_check"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main() == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "no GPU" in said


@pytest.mark.parametrize("change", ["weights", "gradients"])
def test_a_golden_that_differs_fails(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """A weight off by a thousandth, or gradients off by a hundredth with the outputs as they were."""
    plain = gpu_numbers.models.VLEForVQA.from_pretrained

    def other(*arguments: object, **options: object) -> object:
        model = plain(*arguments, **options)
        weight = model.vqa_classifier[0].weight
        if change == "weights":
            weight.data *= 1.001
        else:
            weight.register_hook(lambda gradient: gradient * 1.01)
        return model

    monkeypatch.setattr(gpu_numbers, "VLE", ("VLEForVQA",))
    monkeypatch.setattr(gpu_numbers.models.VLEForVQA, "from_pretrained", other)
    report = Report("goldens", 0.0)
    gpu_numbers.goldens(Setting(torch.device("cpu"), tiny=True), report)
    assert [row["ok"] for row in report.rows if row["label"].startswith("VLEForVQA, float32")] == [
        False,
        False,
    ]
    assert all(row["ok"] for row in report.rows if row["label"].startswith("meter"))
    assert gpu_check.bad(report)


def test_a_wait_is_named_with_its_line_and_function() -> None:
    """As torch tells of one: by a warning where it happens."""

    def looks_at_a_value() -> None:
        for _ in range(2):
            gpu_numbers.warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        gpu_numbers.warnings.warn("something else", stacklevel=1)

    (named,) = gpu_numbers.waiting_places(looks_at_a_value)
    assert named.startswith("test_gpu_check.py:") and named.endswith(" looks_at_a_value, 2 x")
    assert gpu_numbers.waiting_places(lambda: None) == []


def failing(setting: Setting, report: Report) -> None:
    report.row("before it failed", "1 /s")
    raise RuntimeError("no luck\nat all")


def endless(setting: Setting, report: Report) -> None:
    while True:
        pass


def test_a_part_that_fails_or_takes_too_long_is_its_own_affair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        gpu_check,
        "PARTS",
        {"failing": (failing, 9), "endless": (endless, 0.1), "late": (failing, 9)},
    )
    monkeypatch.setattr(gpu_check, "LEAST", 0.05)
    before = gpu_check.signal.signal(gpu_check.signal.SIGALRM, gpu_check.alarm)
    try:
        now = gpu_check.time.monotonic()
        setting = Setting(torch.device("cpu"), tiny=True)
        failed, cut = (
            gpu_check.run(setting, name, now, now + 60) for name in ("failing", "endless")
        )
        late = gpu_check.run(setting, "late", now, gpu_check.time.monotonic())
    finally:
        gpu_check.signal.signal(gpu_check.signal.SIGALRM, before)
    assert (
        failed.status == "failed: RuntimeError: no luck" and failed.rows and gpu_check.bad(failed)
    )
    assert cut.status.startswith("cut short") and late.status.startswith("left out")
    assert not gpu_check.bad(cut) and not gpu_check.bad(late)
