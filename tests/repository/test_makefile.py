"""`make` with a PATH of fake Pythons: which one makes .venv, and what is refused."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="needs make")


@pytest.fixture
def make(tmp_path):
    """Runs `make -n` where only the given Pythons are found: name → version, None for a shim that fails."""

    def run(*arguments, **pythons):
        folder = tmp_path / "bin"
        folder.mkdir()
        for tool in ("sh", "sed", "grep", "awk", "rm", "basename"):
            (folder / tool).symlink_to(shutil.which(tool))
        for name, version in pythons.items():
            script = folder / name.replace("_", ".")
            script.write_text(
                f"#!/bin/sh\n{f'echo {version}' if version else 'exit 127'}\n", encoding="utf-8"
            )
            script.chmod(0o755)
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("MAKE", "PYTHON", "VENV"))
        }
        command = [MAKE, "-n", *arguments, f"VENV={tmp_path / 'venv'}"]
        environment["PATH"] = str(folder)
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8"
        )

    return run


def made_with(done):
    assert done.returncode == 0, done.stderr
    return next(line.split()[0] for line in done.stdout.splitlines() if " -m venv " in line)


def test_the_newest_supported_python_is_taken(make):
    done = make(
        "install",
        python3="3.11",
        python3_10="3.10",
        python3_11="3.11",
        python3_12="3.12",
        python3_13=None,
        python3_14="3.14",
    )
    assert made_with(done) == "python3.12"
    assert 'echo "python3.12 is Python 3.12, installing into' in done.stdout


def test_python3_alone_will_do(make):
    assert made_with(make("install", python3="3.12")) == "python3"


def test_a_python_may_be_named(make):
    assert (
        made_with(make("install", "PYTHON3=python3.10", python3="3.12", python3_10="3.10"))
        == "python3.10"
    )


@pytest.mark.parametrize("version", ["3.9", "3.14"])
def test_make_says_where_python3_is_passed_over(make, version):
    done = make("install", python3=version, python3_11="3.11")
    assert made_with(done) == "python3.11"
    assert (
        f'"python3 is Python {version}, not 3.10 to 3.13: python3.11 is Python 3.11, installing'
        in done.stdout
    )


@pytest.mark.parametrize("version", ["3.9", "3.14", "2.7"])
def test_a_python_too_old_or_too_new_is_refused_in_one_line(make, version):
    done = make("install", python3=version)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert (
        f"python3 is Python {version}; vle-bench needs 3.10 to 3.13: install one, or name it with PYTHON3="
        in line
    )


def test_a_python_that_does_not_run_is_refused_in_one_line(make):
    done = make("install", "PYTHON3=python3.13", python3="3.12", python3_13=None)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "python3.13 does not run; vle-bench needs Python 3.10 to 3.13" in line


def test_help_needs_no_python(make):
    assert make("help").returncode == 0


def test_the_oldest_and_the_newest_python_are_tested_with_pinned_and_with_newest_versions(make):
    done = make(
        "test-pythons", python3="3.11", python3_10="3.10", python3_12="3.12", python3_11="3.11"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    installs = [line for line in lines if line.endswith("-e '.[demo,dev]'")]
    assert [line.split("/bin/")[0] for line in installs] == [
        ".venvs/python3.10-pinned",
        ".venvs/python3.10-newest",
        ".venvs/python3.12-pinned",
        ".venvs/python3.12-newest",
    ]
    assert ["-c constraints.txt" in line for line in installs] == [True, False] * 2
    assert ["--upgrade --upgrade-strategy eager" in line for line in installs] == [False, True] * 2
    assert sum("-m pytest" in line for line in lines) == 4
    assert lines[-1] == "the tests passed on: python3.10 python3.12"


def test_no_python_at_all_is_said(make):
    done = make("test-pythons", python3="3.9")
    assert (
        done.returncode == 2
        and 'no Python of 3.10 3.11 3.12 3.13 is found: PYTHONS="' in done.stdout + done.stderr
    )


@pytest.mark.parametrize(
    ("recipe", "writes"),
    [
        ("vqa/vle-base", True),
        ("vqa/meter-base-vle", True),
        ("gqa/vle-base", False),
        ("vcr/vle-base-q2a", False),
    ],
)
def test_the_servers_file_is_that_of_vqa_v2(make, recipe, writes):
    """Other recipes extend those of VQA v2, whose `source` is not theirs."""
    done = make("finetune", f"RECIPE={recipe}", python3_12="3.12")
    assert done.returncode == 0, done.stderr
    assert ("vqa_test.json" in done.stdout) is writes
