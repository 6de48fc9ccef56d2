"""Facts about datasets and tasks have one place: few modules know the name of one."""

import ast
from pathlib import Path

import pytest

from vle_bench.data.sources import SOURCES
from vle_bench.tasks.catalogue import CATALOGUE, TRAINED

PACKAGE = Path(__file__).parents[2] / "vle_bench"
ROWS = {"data/sources.py", "tasks/catalogue.py"}
MOST = 2  # modules beside the rows and the module of the dataset or task itself
# Modules in which "vqa" and "vcr" are neither a task nor a dataset
NAMES_OF_COMMANDS = {
    "cli/score.py": "`score vqa` and `check-submission vcr` read kinds of official file",
    "cli/record.py": "`record vqa` and `record vcr` read kinds of predictions file",
    "metrics/vqa.py": "the official accuracy is one of the accuracies",
    "cli/train.py": "`demo --only vcr` names a half of the demo",
    "demo/vqa.py": "the folder of the demo's half",
    "demo/vcr.py": "the folder of the demo's half",
}
# "vqa" and "vcr" are forms of data too, where they are compared with or passed as one.
TAKE_A_FORM = {"prepared_of", "tasks_of"}


def own_modules(name: str) -> set[str]:
    places = [SOURCES[name].prepare] if name in SOURCES else []
    places += [CATALOGUE[name].implementation] if name in CATALOGUE else []
    modules = [place.partition(":")[0] for place in places if place]
    return {f"{module.removeprefix('vle_bench.').replace('.', '/')}.py" for module in modules}


def forms(tree: ast.AST) -> set[int]:
    """Constants that stand for a form of data, by the id of their node."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(isinstance(side, ast.Attribute) and side.attr == "form" for side in sides):
                found |= {id(side) for side in sides}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in TAKE_A_FORM:
                found |= {id(argument) for argument in node.args}
    return found


def strings(source: str) -> set[str]:
    """The strings of a module without its docstrings and without forms of data."""
    tree = ast.parse(source)
    passed = forms(tree) | {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed
    }


def names_it(values: set[str], name: str) -> bool:
    """Whether a string is the name, or the start of a file's name such as vcr_q2ar.val.json."""
    return any(value == name or value.startswith(f"{name}.") for value in values)


@pytest.fixture(scope="module")
def modules() -> dict[str, set[str]]:
    files = sorted(PACKAGE.rglob("*.py"))
    return {
        file.relative_to(PACKAGE).as_posix(): strings(file.read_text(encoding="utf-8"))
        for file in files
    }


@pytest.mark.parametrize("name", sorted({*SOURCES, *CATALOGUE}))
def test_few_modules_name_a_dataset_or_task(modules: dict[str, set[str]], name: str) -> None:
    skipped = (
        ROWS | own_modules(name) | (NAMES_OF_COMMANDS.keys() if name in ("vqa", "vcr") else set())
    )
    named = [m for m, values in modules.items() if m not in skipped and names_it(values, name)]
    assert len(named) <= MOST, f"{name} is named in {', '.join(named)}"


def test_the_exceptions_are_needed(modules: dict[str, set[str]]) -> None:
    for module in NAMES_OF_COMMANDS:
        assert names_it(modules[module], "vqa") or names_it(modules[module], "vcr")


@pytest.mark.parametrize(
    ("source", "counted"),
    [
        ('if source == "vcr": pass', True),
        ('path = f"vcr.{split}.json"', True),
        ('NAMES = {"vcr": 1}', True),
        ('if row.form == "vcr": pass', False),
        ('prepared_of("vcr")', False),
        ('"""vcr"""', False),
        ('print("vcr is a dataset")', False),
    ],
)
def test_what_counts_as_a_name(source: str, counted: bool) -> None:
    assert names_it(strings(source), "vcr") is counted


@pytest.mark.parametrize("task", TRAINED)
def test_a_row_is_the_task_that_it_points_to(task: str) -> None:
    from vle_bench.tasks import load_task

    facts, loaded = CATALOGUE[task], load_task(task)
    assert loaded.name == task
    if facts.parts:
        assert getattr(loaded, "parts") == facts.parts  # noqa: B009  # Task has no parts


def test_the_joined_task_is_made_of_tasks_of_one_part_each() -> None:
    from vle_bench.tasks.catalogue import JOINED, within

    joined = CATALOGUE[JOINED]
    assert [CATALOGUE[half].parts for half in joined.halves] == [(part,) for part in joined.parts]
    assert set(within(JOINED)) == {*joined.halves, JOINED, "vcr_joint"}
    assert within("vcr_q2a") == ("vcr_q2a",) and within("vqa") == ("vqa",)
