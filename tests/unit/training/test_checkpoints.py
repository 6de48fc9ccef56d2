"""Training states: whole or passed over, never a full disk's ruin; and what a run that goes on is compared with."""

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

from vle_bench import atomic
from vle_bench.errors import RequestError, RunFailed
from vle_bench.recipe.keys import changed_keys
from vle_bench.recipe.load import load_recipe
from vle_bench.training import checkpoints, run_folder
from vle_bench.training.processes import Stop

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3)}


def save(folder, *steps, keep=3, **progress):
    for step in steps:
        checkpoints.write_state(
            folder, WEIGHTS, {"optimizer": {}}, {"step": step, **progress}, keep
        )


def test_the_newest_keep_stay(tmp_path):
    save(tmp_path, 1, 2, 3, 4, keep=2)
    assert checkpoints.names(tmp_path) == ["step-00000003", "step-00000004"]
    save(
        tmp_path, 2, keep=1
    )  # a run that went on from before the others: they are newer, and not counted
    assert checkpoints.names(tmp_path) == ["step-00000002", "step-00000003", "step-00000004"]
    assert checkpoints.newest(tmp_path) == (tmp_path / "step-00000004", [])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda state: (state / "state.pt").unlink(), "state.pt is missing"),
        (lambda state: flip(state / "model.safetensors"), "model.safetensors was altered"),
        (
            lambda state: (state / "progress.json").write_text("{}", encoding="utf-8"),
            "progress.json has 2 bytes instead of",
        ),
        (lambda state: (state / "manifest.json").unlink(), "manifest.json is missing"),
        (
            lambda state: (state / "manifest.json").write_text('{"mod', encoding="utf-8"),
            "manifest.json cannot be read",
        ),
    ],
)
def test_a_damaged_state_is_named_and_the_one_before_is_used(tmp_path, harm, said):
    save(tmp_path, 5, 10)
    harm(tmp_path / "step-00000010")
    (tmp_path / ".step-00000015.77.partial").mkdir()
    found, passed = checkpoints.newest(tmp_path)
    assert found == tmp_path / "step-00000005"
    assert passed[0] == f"{tmp_path}/.step-00000015.77.partial: not written to the end"
    assert passed[1].startswith(f"{tmp_path}/step-00000010: {said}")


@pytest.mark.parametrize("writer", ["save_file", "torch.save", "file_sha256"])
def test_a_full_disk_leaves_the_state_before(tmp_path, monkeypatch, writer):
    save(tmp_path, 5)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"vle_bench.training.checkpoints.{writer}", full)
    with pytest.raises(
        RunFailed,
        match="step-00000010: cannot be written: .*No space left.*step-00000005 before it is complete",
    ):
        save(tmp_path, 10, keep=1)
    monkeypatch.undo()
    assert checkpoints.newest(tmp_path) == (tmp_path / "step-00000005", [])


def limited_save(folder: Path) -> None:
    import resource

    resource.setrlimit(
        resource.RLIMIT_FSIZE, (50_000, 50_000)
    )  # the kernel refuses to write on, as it does on a full disk
    try:
        checkpoints.write_state(
            folder, {"w": torch.zeros(100_000)}, {"o": torch.zeros(100_000)}, {"step": 10}, 1
        )
    except RunFailed as error:
        os._exit(7 if "cannot be written" in str(error) and "step-00000005" in str(error) else 8)
    os._exit(9)


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX's")
def test_a_write_that_the_kernel_refuses(tmp_path):
    save(tmp_path, 5)
    child = multiprocessing.get_context("fork").Process(target=limited_save, args=(tmp_path,))
    child.start()
    child.join()
    assert child.exitcode == 7 and [p.name for p in tmp_path.iterdir()] == ["step-00000005"]


def test_a_state_of_another_model(tmp_path):
    save(tmp_path, 5)
    path = tmp_path / "step-00000005"
    assert torch.equal(
        checkpoints.read_model(path, {"a.weight": torch.Size([2, 3])})["a.weight"],
        WEIGHTS["a.weight"],
    )
    with pytest.raises(
        RequestError, match=r"of another model: a.weight is \[2, 3\], the recipe's \[2, 4\]"
    ):
        checkpoints.read_model(path, {"a.weight": torch.Size([2, 4])})
    with pytest.raises(RequestError, match=r"b.bias is none, the recipe's \[4\]"):
        checkpoints.read_model(path, {"a.weight": torch.Size([2, 3]), "b.bias": torch.Size([4])})


def test_random_numbers_go_on_where_they_were(tmp_path):
    torch.save(checkpoints.random_state(), tmp_path / "r.pt")
    drawn = random.random(), np.random.rand(), torch.rand(()).item()
    checkpoints.set_random_state(torch.load(tmp_path / "r.pt", weights_only=True))
    assert drawn == (random.random(), np.random.rand(), torch.rand(()).item())


def run_of(folder, *overrides):
    recipe = load_recipe("demo/vqa-tiny", list(overrides))
    atomic.write_text(folder / "recipe.yaml", recipe.to_yaml())
    return recipe.model_dump(mode="json")


def take(recipe, folder, resume=True):
    with ExitStack() as stack:
        return run_folder.take(stack, recipe, folder, folder / "results" / "vqa.test.json", resume)


def test_a_changed_recipe_is_refused_unless_it_changes_nothing(tmp_path, capsys):
    folder = tmp_path / "run"
    recipe = run_of(folder)
    assert (
        take(recipe, folder) is None
        and "no checkpoint yet; starting from the beginning" in capsys.readouterr().out
    )
    other = load_recipe(
        "demo/vqa-tiny", ["train.seed=1", "model.config.hidden_size=32"]
    ).model_dump(mode="json")
    with pytest.raises(
        RequestError, match="model.config.hidden_size: 64 -> 32; train.seed: 0 -> 1; give"
    ):
        take(other, folder)
    moved = [
        "data.root=else",
        "train.num_workers=7",
        "train.keep=9",
        "train.log_every=3",
        "train.checkpoint_every=10min",
    ]
    assert take(load_recipe("demo/vqa-tiny", moved).model_dump(mode="json"), folder) is None
    assert (
        "changed without effect on the result: data.root: data/easy-vqa -> else"
        in capsys.readouterr().out
    )
    save(folder / "checkpoints", 5, recipe=other)  # trained by another recipe than recipe.yaml says
    with pytest.raises(RequestError, match="train.seed: 1 -> 0"):
        take(recipe, folder)
    assert take(other, folder) == str(folder / "checkpoints" / "step-00000005")
    shared_out = load_recipe(
        "demo/vqa-tiny",
        ["train.seed=1", "model.config.hidden_size=32", "train.per_device_batch_size=32"],
    )
    assert take(shared_out.model_dump(mode="json"), folder) == str(
        folder / "checkpoints" / "step-00000005"
    )
    said = capsys.readouterr().out
    assert (
        "continues, but not bit-exact: train.per_device_batch_size: 64 -> 32" in said
        and "without effect" not in said
    )
    for key in (
        "train.evaluate_every=3",
        "train.per_device_batch_size=32",
        "train.max_steps=9",
        "model.image_size=32",
    ):
        assert changed_keys(recipe, load_recipe("demo/vqa-tiny", [key]).model_dump(mode="json"))[0]


def test_a_state_from_before_the_way_with_pictures_could_be_chosen_was_trained_on_squashed_ones(
    tmp_path,
):
    folder, state = tmp_path / "run", str(tmp_path / "run" / "checkpoints" / "step-00000005")
    run_of(folder)
    for name, kept, refused in (
        ("vcr/vle-base-q2a", "squash", "crop"),
        ("demo/vqa-tiny", "null", "crop"),
    ):
        former = load_recipe(name, []).model_dump(mode="json")
        del former["model"]["resize"]
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        save(folder / "checkpoints", 5, recipe=former)
        assert (
            take(load_recipe(name, [f"model.resize={kept}"]).model_dump(mode="json"), folder)
            == state
        )
        for other in [refused] + ["null"] * (kept == "squash"):
            with pytest.raises(
                RequestError, match=f"model.resize: {kept} -> {other}".replace("null", "None")
            ):
                take(load_recipe(name, [f"model.resize={other}"]).model_dump(mode="json"), folder)


def test_a_run_without_a_whole_checkpoint_starts_again_and_says_so(tmp_path, capsys):
    folder = tmp_path / "run"
    recipe = run_of(folder)
    save(folder / "checkpoints", 5, recipe=recipe)
    (folder / "checkpoints" / "step-00000005" / "state.pt").write_bytes(b"half")
    assert take(recipe, folder) is None
    said = capsys.readouterr().out
    assert (
        "skipped" in said
        and "none of its checkpoints is complete; starting from the beginning" in said
    )


def test_files_of_a_checkpoint_are_as_readable_as_any_other(tmp_path):
    """safetensors gives its files to their owner alone."""
    with atomic.folder(tmp_path / "made") as partial:
        (partial / "a").touch(mode=0o600)
        (partial / "b").touch()
    modes = {(tmp_path / "made" / name).stat().st_mode for name in "ab"}
    assert len(modes) == 1


ENDS_WITH_A_WORKER = """
import multiprocessing, sys, time
from vle_bench.data.loader import in_loader

def work(ready):
    in_loader(0)
    ready.send(1)
    time.sleep(600)

ours, theirs = multiprocessing.Pipe()
multiprocessing.get_context("fork").Process(target=work, args=(theirs,), daemon=True).start()
ours.recv()
sys.exit(3)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX's")
def test_a_run_that_ends_early_does_not_wait_for_its_workers():
    """A full disk, say: workers let the first SIGTERM pass, and Python sends no other."""
    done = subprocess.run(
        [sys.executable, "-c", ENDS_WITH_A_WORKER],
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 3


def test_a_folder_with_a_run_needs_resume(tmp_path):
    folder = tmp_path / "run"
    recipe = run_of(folder)
    with pytest.raises(
        RequestError,
        match="run: holds an interrupted run; continue it with --resume, or give --output-dir",
    ):
        take(recipe, folder, resume=False)
    (folder / "recipe.yaml").rename(folder / "notes.txt")
    with pytest.raises(RequestError, match="exists and is not an empty folder"):
        take(recipe, folder)
    assert (
        take(recipe, tmp_path / "new", resume=False) is None and not (tmp_path / "new").exists()
    )  # nothing was written there


def test_what_was_logged_after_the_state_goes(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    log.write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / ".last.9.partial").mkdir()
    (tmp_path / ".recipe.yaml.9.partial").touch()
    run_folder.tidy(tmp_path, 4)
    assert log.read_text(encoding="utf-8") == "one\n" and [p.name for p in tmp_path.iterdir()] == [
        "log.jsonl"
    ]
    run_folder.tidy(tmp_path, 400)
    assert (
        log.read_text(encoding="utf-8") == "one\n"
        and "some of its lines are lost" in capsys.readouterr().out
    )


def hold(folder: Path, pids) -> None:
    with atomic.sole_writer(folder):
        if not (
            child := os.fork()
        ):  # as a DataLoader's worker, which outlives a killed parent by seconds
            time.sleep(60)
            os._exit(0)
        pids.send(child)
        time.sleep(60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="locks and forks are POSIX's")
def test_the_second_run_is_refused_and_a_killed_one_holds_nothing(tmp_path):
    ours, theirs = multiprocessing.Pipe()
    holder = multiprocessing.get_context("fork").Process(
        target=hold, args=(tmp_path / "run", theirs)
    )
    holder.start()
    child = ours.recv()
    with (
        pytest.raises(RequestError, match="run: another process is writing there"),
        atomic.sole_writer(tmp_path / "run"),
    ):
        pass
    holder.kill()
    holder.join()
    try:
        with atomic.sole_writer(tmp_path / "run"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_one_signal_waits_and_a_second_does_not(monkeypatch):
    left = []
    monkeypatch.setattr("os._exit", left.append)
    stop = Stop()
    stop(signal.SIGINT, None)
    stop(signal.SIGINT, None)  # at once: a launcher that passes on what the terminal sent
    assert stop.signal == signal.SIGINT and left == []
    stop.arrived -= 2
    stop(signal.SIGTERM, None)
    assert left == [143]
    Stop(saved="all is saved")(signal.SIGINT, None)
    assert left == [143, 130]


def test_progress_is_plain_values(tmp_path):
    save(tmp_path, 7, best=0.5, losses=[1.25])
    assert json.loads(
        (tmp_path / "step-00000007" / "progress.json").read_text(encoding="utf-8")
    ) == {
        "best": 0.5,
        "losses": [1.25],
        "step": 7,
    }
