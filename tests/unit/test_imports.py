"""Imports go down the tower of docs/develop.md, and no two modules need each other; a new package gets a line here."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A package imports itself and packages with a smaller number.
FLOOR = {
    "__main__": 11,
    "cli": 10,
    "study": 9,
    "demo": 8,
    "bench": 8,
    "analysis": 7,
    "training": 6,
    "leaderboard": 6,
    "evaluation": 5,
    "pages": 5,
    "recipe": 5,
    "tasks": 4,
    "models": 4,
    "data": 3,
    "metrics": 2,
    "atomic": 1,
    "json_files": 1,
    "model_bounds": 1,
    "model_families": 1,
    "strict_yaml": 1,
    "errors": 0,
    "progress": 0,
}
NO_TORCH = [
    "recipe.load",
    "data.sources",
    "data.prepare.questions",
    "data.prepare.vcr",
    "data.prepare.own.summary",
    "tasks.catalogue",
    "leaderboard.records",
    "leaderboard.render",
    "leaderboard.reproduce",
    "evaluation.request",
    "training.launch",
]
FILES = sorted(
    p for p in (ROOT / "vle_bench").rglob("*.py") if p != ROOT / "vle_bench" / "__init__.py"
)


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(node: ast.AST, in_functions: bool) -> Iterator[str]:
    """Dotted names, `a.b` for `from a import b`; those for type checkers too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute here"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif in_functions or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from imports(child, in_functions)


def package_of(name: str) -> str:
    return name.split(".")[1]


def refused(package: str, source: str) -> set[str]:
    """Packages that `package` must not import, neither at the top nor inside functions."""
    ours = {
        package_of(name)
        for name in imports(ast.parse(source), in_functions=True)
        if name.startswith("vle_bench.") and name != "vle_bench.__version__"
    }
    return {name for name in ours - {package} if FLOOR[name] >= FLOOR[package]}


def circle(sources: dict[str, str]) -> list[str]:
    """Modules of which each imports the next and the last the first; empty where there is no such circle."""
    graph = {
        name: {
            imported if imported in sources else imported.rpartition(".")[0]
            for imported in imports(ast.parse(source), in_functions=False)
        }
        & (sources.keys() - {name})
        for name, source in sources.items()
    }
    finished: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name not in finished:
            for imported in sorted(graph[name]):
                if found := walk(imported, [*path, name]):
                    return found
            finished.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_down(file: Path) -> None:
    package = package_of(module_name(file))
    assert refused(package, file.read_text(encoding="utf-8")) == set()


def test_no_modules_import_each_other() -> None:
    assert circle({module_name(file): file.read_text(encoding="utf-8") for file in FILES}) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from vle_bench.data.sources import Source", set()),
        ("from vle_bench.models import pretrained", set()),
        ("import vle_bench.training.train", {"training"}),
        ("from vle_bench import tasks", {"tasks"}),
        ("def f():\n    from vle_bench.recipe import load", {"recipe"}),
        ("if TYPE_CHECKING:\n    from vle_bench.cli import app", {"cli"}),
    ],
)
def test_an_import_of_an_upper_or_equal_floor_is_refused(source: str, expected: set[str]) -> None:
    assert refused("models", source) == expected


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("import vle_bench.a", ["vle_bench.a", "vle_bench.b", "vle_bench.c"]),
        ("from vle_bench import a", ["vle_bench.a", "vle_bench.b", "vle_bench.c"]),
        (
            "if TYPE_CHECKING:\n    from vle_bench.a import x",
            ["vle_bench.a", "vle_bench.b", "vle_bench.c"],
        ),
        ("class C:\n    from vle_bench.b import x", ["vle_bench.b", "vle_bench.c"]),
        ("def f():\n    import vle_bench.a", []),
    ],
)
def test_a_circle_of_modules_is_named(last: str, expected: list[str]) -> None:
    first = {"vle_bench.a": "from vle_bench.b import x", "vle_bench.b": "from vle_bench import c"}
    assert circle({**first, "vle_bench.c": last}) == expected


def test_what_reads_recipes_and_records_or_prepares_data_does_not_wait_for_torch() -> None:
    modules = ", ".join(f"vle_bench.{name}" for name in NO_TORCH)
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
