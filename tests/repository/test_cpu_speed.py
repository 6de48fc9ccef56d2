"""The script that measures CPUs runs, and its figures are what they are called."""

import json
import math

import pytest
import torch

from tests.long import cpu_speed
from vle_bench.bench import bench


@pytest.fixture(autouse=True)
def same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_table_has_every_way_and_its_ratios(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "PRODUCT_ON_CPU", 512)
    options = ["--tiny", "--rounds", "1", "--threads", "1", "--json", str(tmp_path / "t.json")]
    rows = cpu_speed.main([*options, "--only", "VQA, 384 pixels, 8"])
    assert json.loads((tmp_path / "t.json").read_text(encoding="utf-8")) == rows
    assert [row["work"].rpartition(", ")[2] for row in rows] == ["evaluation", "training"]
    for row in rows:
        for way in cpu_speed.WAYS:
            one = row[way]
            assert one["seconds"] > 0 and one["cpu_seconds"] > 0
            assert one["ratio"] == row["published"]["seconds"] / one["seconds"]
            assert math.isnan(one["peak_gib"]) or 0.1 < one["peak_gib"] < 8
        assert 0 < row["fp32"]["share_of_peak"] < 1 and row["published"]["ratio"] == 1
    printed = capsys.readouterr().out
    assert "GFLOP/s" in printed and "training" in printed and "disturbed" in printed


def test_the_ways_differ_as_they_say(monkeypatch):
    row = cpu_speed.Bench(cpu_speed.WORKS[3], tiny=True)
    assert len(row.inputs["pixel_values"]) == 2 and len(row.inputs["input_ids"]) == 8
    seen = []
    layer = row.model.vle.text_projection_layer
    layer.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].shape, output)))
    steps = []
    plain = row.optimizer.step

    def step():
        steps.append({group["fused"] for group in row.optimizer.param_groups})
        plain()

    monkeypatch.setattr(row.optimizer, "step", step)
    for way in cpu_speed.WAYS:
        row.call(True, way)
    (published, _), (ours, exact), (_, rounded) = seen
    assert published[1] == cpu_speed.MAX_TEXT["vqa"] > ours[1]
    assert exact.dtype == torch.float32 and rounded.dtype == torch.bfloat16
    assert steps == [{False}, {True}, {True}]
