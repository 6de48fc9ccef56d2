"""Modules and functions stay short enough to be read in one go."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE, FUNCTION = 400, 60  # lines at most
FILES = sorted((ROOT / "vle_bench").rglob("*.py"))


def too_long(source: str) -> list[str]:
    """Return what is longer than it may be, with its number of lines."""
    count = len(source.splitlines())
    functions = [
        f"{node.name}: {node.end_lineno - node.lineno + 1}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= FUNCTION
    ]
    return [f"the module: {count}"] * (count > MODULE) + functions


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_is_too_long(file: Path) -> None:
    assert too_long(file.read_text(encoding="utf-8")) == []


def test_the_check_refuses() -> None:
    function = "def f():\n" + "    x = 1\n" * (FUNCTION - 1)
    assert too_long(function) == []
    assert too_long(function + "    x = 1\n") == [f"f: {FUNCTION + 1}"]
    assert too_long("x = 1\n" * (MODULE + 1)) == [f"the module: {MODULE + 1}"]
