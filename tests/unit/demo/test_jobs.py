"""Small models train at the same time, each with one thread; a failure and a signal end all."""

import os
import signal
import threading
import time

import psutil
import pytest

from vle_bench.bench.synthetic import write_synthetic
from vle_bench.demo.jobs import Job, Jobs, at_once
from vle_bench.demo.runs import result_of
from vle_bench.errors import Interrupted, RequestError
from vle_bench.evaluation.record import load_record
from vle_bench.recipe.load import load_recipe


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_synthetic(folder, "easy-vqa", {"train": 24, "val": 4, "test": 4}, seed=0)
    return folder


def job(root, folder, steps=2, *more):
    changes = [f"data.root={root}", "data.first_stage=null", f"train.max_steps={steps}"]
    changes += ["train.batch_size=8", "train.per_device_batch_size=8", "train.log_every=1", *more]
    return Job(load_recipe("demo/vqa-tiny", changes), folder)


def test_jobs_run_at_the_same_time_with_one_thread_each(root, tmp_path, capsys):
    jobs = [job(root, tmp_path / name) for name in ("a", "b", "c")]
    with Jobs(2) as running:
        running.add(jobs)
        assert [path.name for path in running.running] == ["a", "b"]
        assert [one.name for one in running.waiting] == ["c"]
        running.finish(jobs)
    records = [load_record(result_of(one.recipe, one.folder)) for one in jobs]
    assert [record.device for record in records] == ["cpu, 1 thread"] * 3
    # The same recipe gives the same weights, whatever runs beside it.
    weights = {(one.folder / "last" / "model.safetensors").read_bytes() for one in jobs}
    assert len(weights) == 1
    shown = capsys.readouterr()
    assert "train: 6/6" in shown.err and "questions of train" not in shown.out + shown.err
    assert "questions of train" in (tmp_path / "a.txt").read_text(encoding="utf-8")
    with Jobs(1) as running:  # what is finished is not run again
        running.add(jobs[:1])
        running.finish(jobs[:1])
    assert "this recipe was run here before" in (tmp_path / "a.txt").read_text(encoding="utf-8")


def test_a_failure_is_named_and_ends_the_others(root, tmp_path):
    wrong = job(root, tmp_path / "wrong", 2, "data.root=/nowhere")
    with Jobs(2) as running:
        running.add([job(root, tmp_path / "long", 100_000), wrong])
        with pytest.raises(RequestError, match=r"^wrong: /nowhere: no prepared data there"):
            running.finish([wrong])
    assert not any(process.is_alive() for _, process in running.running.values())


def test_a_signal_saves_the_runs_and_leaves_no_process(root, tmp_path):
    long = job(root, tmp_path / "long", 100_000)

    def stop():
        while long.step() < 3:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="the same command continues"), Jobs(1) as running:
        running.add([long])
        threading.Thread(target=stop).start()
        running.finish([long])
    assert signal.getsignal(signal.SIGTERM) is before
    assert not any(process.is_alive() for _, process in running.running.values())
    assert list((tmp_path / "long" / "checkpoints").glob("step-*"))
    assert "stopped by SIGTERM" in long.log.read_text(encoding="utf-8")


def test_as_many_at_once_as_cores_and_memory_allow(monkeypatch):
    memory = type("Memory", (), {"available": 3 << 30})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert at_once() == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    assert at_once() == 2
    memory.available = 1000
    assert at_once() == 1
