import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from vle_bench.recipe.load import load_recipe

ROOT = Path(__file__).parents[2]
BUILT_FROM = (
    "vle_bench",
    "recipes",
    "leaderboards",
    "setup.cfg",
    "pyproject.toml",
    "LICENSE",
    "README.md",
)


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_every_package_is_listed() -> None:
    listed = set(setup_cfg()["options"]["packages"].split())
    present = {".".join(p.relative_to(ROOT).parts[:-1]) for p in (ROOT / "vle_bench").rglob("*.py")}
    assert listed - {"vle_bench.recipes", "vle_bench.leaderboards"} >= present


def test_every_requirement_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    config = setup_cfg()
    wanted = [
        *config["options"]["install_requires"].split("\n"),
        *config["options.extras_require"]["demo"].split("\n"),
        *config["options.extras_require"]["dev"].split("\n"),
    ]
    names = {line.split(">=")[0].strip().lower() for line in wanted if line.strip()}
    assert names - pinned == set()
    assert "torchvision" not in pinned and "torch==2.13.0" in lines


def test_makefile_targets() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in (
        "help",
        "demo",
        "test",
        "test-processes",
        "test-slow",
        "lint",
        "tables",
        "bench",
        "finetune",
        "vqa-base",
        "vcr-base",
        "meter-vcr-qa2r",
    ):
        assert f"\n{target}:" in text


LAUNCHING = re.findall(
    r"^((?:vqa|vcr|meter)[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
)


def planned(*arguments: str, folder: Path = ROOT, code: int = 0) -> str:
    """The commands that make would run; its error where it is to fail."""
    command = ["make", "-n", "-f", str(ROOT / "Makefile"), *arguments, "VENV=", "PYTHON=python"]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.mark.parametrize("target", LAUNCHING)
def test_a_target_launches_recipes_that_exist_and_names_their_run_folders(target: str) -> None:
    commands = planned(target)
    recipes = [
        load_recipe(str(ROOT / path)) for path in re.findall(r" train (\S+\.yaml)", commands)
    ]
    folders = {f"runs/{recipe.name}" for recipe in recipes}
    assert recipes and set(re.findall(r"runs/[\w-]+", commands)) == folders
    for recipe in recipes:  # each record goes into the tables, under the name that the run gives it
        assert f"table --if-new --add runs/{recipe.name}\n" in commands
        server = (
            f"predict runs/{recipe.name} --split test --output runs/{recipe.name}/vqa_test.json"
        )
        assert (server in commands) == (recipe.data.source == "vqav2")
        if recipe.task.startswith("vcr"):
            assert recipe.data.report == "val"  # of which `vcr_q2ar.val.json` is


@pytest.mark.parametrize("target", LAUNCHING)
def test_a_short_name_runs_what_finetune_runs(target: str) -> None:
    commands = planned(target)
    for path in re.findall(r" train (\S+\.yaml)", commands):
        short = path.removeprefix("recipes/").removesuffix(".yaml")
        for name in (short, path, f"{short}.yaml"):
            assert planned("finetune", f"RECIPE={name}") in commands


def test_finetune_takes_a_recipe_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "extends: vqa/meter-base.yaml\nname: mine  # ours\n", encoding="utf-8"
    )
    commands = planned("finetune", "RECIPE=mine.yaml", folder=tmp_path)
    assert "-m vle_bench.recipe.preflight mine.yaml" in commands and " train mine.yaml" in commands
    assert "--output runs/mine/vqa_test.json" in commands  # of the recipe that it extends
    assert commands.endswith("table --if-new --add runs/mine\n")
    other = planned("finetune", "RECIPE=mine.yaml", "RUN=there", folder=tmp_path)
    assert "--output there/vqa_test.json" in other and other.endswith("--add there\n")


def test_finetune_leaves_the_server_out_where_there_is_none() -> None:
    commands = planned("finetune", "RECIPE=demo/vqa-tiny")
    assert "predict" not in commands and commands.endswith("--add runs/vqa-tiny\n")


def test_no_rule_is_given_twice() -> None:
    command = ["make", "-n", "-f", str(ROOT / "Makefile"), "help", "VENV="]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stderr == ""


def test_finetune_without_a_recipe_says_so() -> None:
    assert "RECIPE is missing: make finetune RECIPE=vqa/vle-base" in planned("finetune", code=2)


def test_a_recipe_that_extends_itself_does_not_hang_make(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").write_text("extends: loop.yaml\n", encoding="utf-8")
    assert " train loop.yaml" in planned("finetune", "RECIPE=loop.yaml", folder=tmp_path)
    (tmp_path / "gone.yaml").write_text("extends: nowhere.yaml\n", encoding="utf-8")
    assert " train gone.yaml" in planned("finetune", "RECIPE=gone.yaml", folder=tmp_path)
    assert " train recipes/nothing.yaml" in planned("finetune", "RECIPE=nothing", folder=tmp_path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, so that nothing is left in the checkout and nothing stale in the wheel."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, "-w", str(output), "."], cwd=source, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(output.glob("*.whl")))


def test_wheel_holds_code_recipes_and_leaderboards(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    code = {p.relative_to(ROOT).as_posix() for p in (ROOT / "vle_bench").rglob("*.py")}
    recipes = {
        f"vle_bench/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "recipes").rglob("*.yaml")
    }
    tables = {
        f"vle_bench/leaderboards/{name}" for name in ("published.yaml", "comparison.md", "demo.md")
    }
    pages = {
        p.relative_to(ROOT).as_posix()
        for ending in ("html", "css", "js")
        for p in (ROOT / "vle_bench").rglob(f"*.{ending}")
    }
    assert {"vle_bench/pages/style.css", "vle_bench/analysis/report.html"} <= pages
    assert code | recipes | tables | pages <= names
    assert not [name for name in names if name.startswith(("recipes/", "leaderboards/", "tests/"))]


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    text = wheel.read(metadata).decode()
    assert "Requires-Python: >=3.10" in text and "License: Apache-2.0" in text
    (scripts,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "vle-bench = vle_bench.cli:main" in wheel.read(scripts).decode()


def test_recipes_load_from_the_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    code = "from vle_bench import recipe; print(recipe.__file__, recipe.load_recipe('recipes/vqa/vle-large.yaml').name)"
    output = subprocess.check_output(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        encoding="utf-8",
    )
    assert output.startswith(str(tmp_path)) and "vle-large-vqa" in output
