"""Imports go down the tower of docs/develop.md; a package that is not in it must be added."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# From the bottom to the top: a package imports those below it, and itself.
TOWER: list[tuple[str, ...]] = [
    ("errors", "progress", "digests"),
    ("atomic", "json_files"),
    ("metrics",),
    ("data", "pages"),
    ("tasks", "models"),
    ("recipe", "evaluation"),
    ("training", "analysis", "leaderboard"),
    ("demo", "bench"),
    ("cli",),
    ("__main__",),
]
FLOOR = {package: floor for floor, packages in enumerate(TOWER) for package in packages}


def package_of(file: Path) -> str:
    return file.relative_to(ROOT / "vle_bench").parts[0].removesuffix(".py")


def imported(source: str) -> set[str]:
    """Packages of ours that a module imports, inside functions and for type checkers too."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    ours = {name.split(".")[1] for name in names if name.startswith("vle_bench.")}
    return ours - {"__version__"}


def refused(package: str, source: str) -> set[str]:
    return {name for name in imported(source) - {package} if FLOOR[name] >= FLOOR[package]}


FILES = sorted(
    p for p in (ROOT / "vle_bench").rglob("*.py") if p != ROOT / "vle_bench" / "__init__.py"
)


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_down(file: Path) -> None:
    assert refused(package_of(file), file.read_text(encoding="utf-8")) == set()
