"""Who may import whom; a part that is not in the table must be added to it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEAVES = {
    "errors", "atomic", "progress", "strict_yaml", "vqa_answers", "vqa_files", "vcr_files", "vcr_text", "auto_classes", "boxes",
    "pictures", "splits", "json_stream", "label_map", "signals", "config_keys", "rounding", "digest", "tokenization",
}  # fmt: skip
ANYTHING = None
COMMAND = {
    "train",
    "evaluate",
    "checkpoint",
    "tasks",
    "data",
    "metrics",
    "models",
    "results",
    "recipe",
    "figures",
    "page",
    "leaderboard",
    "published",
}
MAY_IMPORT: dict[str, set[str] | None] = {
    "cli": ANYTHING,
    **dict.fromkeys(("cli_checkpoints", "cli_data", "cli_files", "cli_runs"), ANYTHING),
    "__main__": {"cli"},
    "demo": COMMAND,  # one command each; only cli imports them
    "demo_vcr": COMMAND | {"demo"},
    "report": COMMAND | {"charts", "report_evaluation", "report_examples", "report_vqa", "report_vcr"},
    "compare": {"metrics", "report_evaluation", "report_vcr", "results", "tasks"},
    "reproduce": {"experiments", "recipe", "results"},
    "server_result": {"evaluate", "model_card", "published_checkpoint", "results"},
    "model_card": {"checkpoint", "recipe", "results"},
    "report_evaluation": {"evaluate", "recipe", "results", "tasks", "report_vqa", "report_vcr"},
    **dict.fromkeys(("report_vqa", "report_vcr"), {"page", "metrics", "tasks", "report_examples"}),
    "report_examples": {"page"},
    "charts": {"metrics", "page"},
    "bench": COMMAND | {"batches", "announce", "bench_setup", "flops", "naive", "shares"},
    "bench_setup": COMMAND | {"engine"},
    "flops": {"models"},
    "naive": {"models"},
    "train": {
        "evaluate",
        "optim",
        "checkpoint",
        "tasks",
        "models",
        "results",
        "recipe",
        "batches",
        "engine",
        "average",
        "announce",
        "inputs",
        "run_folder",
        "resume",
        "training_state",
        "launch",
        "model_card",
    },
    "batches": {"data", "train"},  # the type of a run, here as in the next
    "resume": {"train", "evaluate", "batches", "engine", "run_folder", "training_state", "results"},
    "announce": {"train", "evaluate", "optim", "engine"},
    "engine": {"recipe", "launch", "precision"},
    "precision": set(),
    "run_folder": {"checkpoint", "training_state", "results", "recipe"},
    "training_state": {"results", "average", "recipe"},
    "evaluate": {
        "tasks",
        "models",
        "checkpoint",
        "published_checkpoint",
        "results",
        "recipe",
        "model_card",
        "outputs",
        "precision",
    },
    "outputs": {"results"},
    "published_checkpoint": {"checkpoint", "models", "results", "tasks"},
    "checkpoint": {"models"},
    "tasks": {"data", "metrics"},
    "inputs": {"recipe"},
    "leaderboard": {
        "results",
        "outputs",
        "experiments",
        "recipe",
        "published",
        "table",
        "board_tables",
        "board_points",
        "board_page",
        "board_figures",
    },
    "experiments": {"results"},
    "board_page": {"table"},
    "board_figures": {"scatter"},
    "board_tables": {"results", "experiments", "published", "table"},
    "board_points": {"results", "experiments", "published", "board_tables", "scatter"},
    **dict.fromkeys(
        (
            "recipe",
            "results",
            "metrics",
            "models",
            "data",
            "optim",
            "figures",
            "page",
            "average",
            "launch",
            "shares",
            "bench_table",
            "table",
            "published",
            "scatter",
            *LEAVES,
        ),
        set(),
    ),
}


def part_of(file: Path) -> str:
    return file.relative_to(ROOT / "vle_bench").parts[0].removesuffix(".py")


def imported_parts(source: str) -> set[str]:
    """Parts of the package that a module imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("vle_bench.")}
    return found


def refused(part: str, source: str) -> set[str]:
    assert part in MAY_IMPORT, f"{part}: say in MAY_IMPORT what it may import"
    allowed = MAY_IMPORT[part]
    if allowed is ANYTHING:
        return set()
    return {name for name in imported_parts(source) if name in MAY_IMPORT} - allowed - LEAVES - {part}


FILES = sorted(p for p in (ROOT / "vle_bench").rglob("*.py") if p.name != "__init__.py" or p.parent.name != "vle_bench")


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_import_rules(file: Path) -> None:
    assert refused(part_of(file), file.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("part", "source", "found"),
    [
        ("models", "from vle_bench.tasks.vqa import VQA", {"tasks"}),
        ("metrics", "def f():\n    import vle_bench.data.images", {"data"}),
        ("data", "from vle_bench import atomic, train", {"train"}),
        ("recipe", "from vle_bench.errors import RequestError\nfrom vle_bench import __version__", set()),
        ("tasks", "from vle_bench.tasks.base import Task\nfrom vle_bench.metrics import vqa", set()),
        ("errors", "from vle_bench.recipe import Recipe", {"recipe"}),
    ],
)
def test_the_rules_refuse(part: str, source: str, found: set[str]) -> None:
    assert refused(part, source) == found


def test_metrics_have_no_torch() -> None:
    for file in (ROOT / "vle_bench" / "metrics").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "import torch" not in text and "from torch" not in text, file


@pytest.mark.parametrize(
    "module", ["cli", "cli_data", "cli_files", "cli_runs", "reproduce", "recipe", "results", "leaderboard", "launch"]
)
def test_light_modules_import_no_torch(module: str) -> None:
    heavy = "('torch', 'transformers', 'datasets')"
    code = f"import sys, vle_bench.{module}; print([m for m in {heavy} if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"
