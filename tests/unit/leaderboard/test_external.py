"""Predictions from elsewhere in the tables: marked everywhere, after what was measured, with their place."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.miniature.in_process import run
from tests.unit.leaderboard.test_records import cells, folder, page, record
from vle_bench.errors import RequestError
from vle_bench.leaderboard.page import SIGNS
from vle_bench.leaderboard.records import add_record
from vle_bench.leaderboard.render import render

DIGEST = "ab12cd34" * 8


def external(source: str, split: str, value: float, **changes: Any) -> dict[str, Any]:
    model = {"name": "Their model (v2)", "predictions_sha256": DIGEST, "parameters": 2_000_000_000}
    model |= changes.pop("model", {})
    none = {"recipe": {}, "seed": None, "code": {}, "training": {}, "expect": None}
    return record(source, split, value) | none | {"kind": "external", "model": model} | changes


def joined(values: dict[str, float], **changes: Any) -> dict[str, Any]:
    metrics = {name: {"value": v, "interval": (v - 0.01, v + 0.01)} for name, v in values.items()}
    more = {"task": "vcr_q2ar", "metrics": metrics, "primary_metric": "q2ar"}
    return external("vcr", "val", 0.5, **more, **changes)


def test_a_row_is_marked_in_every_format_and_after_what_was_measured(tmp_path: Path) -> None:
    about = {"pretraining": "14M(I-T)", "source": "https://example.org/a_b"}
    root = folder(
        tmp_path,
        external("vqav2", "minival", 0.9, n=5000, model=about),
        record("vqav2", "minival", 0.7, n=5000),
        joined({"q2ar": 0.6, "q2a": 0.7, "qa2r": 0.8}),
    )
    shown = {name: page(root, name) for name in ("vqa_v2", "comparison", "vcr")}
    name = "Their model (v2) (ab12cd34) ⊕"
    rows = [r for r in cells(shown["vqa_v2"]) if "minival" not in r and r[3] != "–"]
    assert [row[0].split(" (")[0] for row in rows] == ["vle-base-vqa", "Their model"]
    assert rows[1][0] == name and rows[1][-3:] == [
        "2 B",
        "14M(I-T)",
        "external; scored here; https://example.org/a_b",
    ]
    note = "⊕ predictions from elsewhere, scored here: of another program's model"
    assert all(name in text and note in text for text in shown.values())
    measured = cells(shown["comparison"].partition("## Everything measured")[2])
    assert [(r[0].split(" (")[0], r[1], r[3]) for r in measured if "±" in r[3]] == [
        ("vle-base-vqa", "VQA", "70.00 ± 0.50"),
        ("Their model", "VQA", "90.00 ± 0.50"),
        ("Their model", "VCR Q2A", "70.00 ± 1.00"),
        ("Their model", "VCR QA2R", "80.00 ± 1.00"),
        ("Their model", "VCR Q2AR", "60.00 ± 1.00"),
    ]
    files = {path.name: text.decode() for path, text in render(root).items()}
    assert ",external," in files["vqa_v2.csv"] and ",external," in files["measured.csv"]
    assert r"Their model (v2) (ab12cd34) $\oplus$" in files["vqa_v2.tex"]
    assert '<tr class="external">' in files["index.html"]
    assert 'value="external" checked' in files["index.html"] and SIGNS["external"] == "□"
    assert '"external"' in files["vcr_q2a-parameters.svg"].replace("&quot;", '"').replace(
        "&#34;", '"'
    )


def test_it_is_never_the_measured_score_of_a_published_model(tmp_path: Path) -> None:
    named = external("vqav2", "test-dev", 0.99, n=107_394, model={"name": "vle-base-vqa"})
    row = next(r for r in cells(page(folder(tmp_path, named), "comparison")) if r[0] == "VLE-base")
    assert row[6:9] == ["–", "–", "–"]


def test_without_training_splits_it_is_not_ranked(tmp_path: Path) -> None:
    root = folder(tmp_path, external("vqav2", "minival", 0.9, n=5000, training_splits=[]))
    assert "Their model (v2) (ab12cd34) ⊕¿" in page(root, "vqa_v2")
    row = next(r for r in cells(page(root, "vqa_v2")) if r[0].startswith("Their"))
    assert row[3] == "90.00 ± 0.50"
    lines = render(root, ["csv"])[root / "vqa_v2.csv"].decode().splitlines()
    line = next(line for line in lines if line.startswith("Their"))
    assert ",90," not in line  # not sorted among the ranked


def test_one_file_is_one_row_and_other_files_of_one_name_are_others(tmp_path: Path) -> None:
    root = folder(tmp_path / "leaderboards")
    first, again, other = (tmp_path / f"{n}.json" for n in range(3))
    values = external("vqav2", "minival", 0.9, n=5000)
    first.write_text(json.dumps(values), encoding="utf-8")
    again.write_text(json.dumps(values | {"seconds": 9.0}), encoding="utf-8")
    values["model"]["predictions_sha256"] = "ee" * 32
    other.write_text(json.dumps(values), encoding="utf-8")
    target, marks = add_record(first, root)
    assert target.name == "Their-model-v2.minival.external.ab12cd34.json"
    assert marks[0] == "marked: predictions from elsewhere"
    with pytest.raises(RequestError, match="a duplicate of .*: the same predictions, split and"):
        add_record(again, root)
    assert add_record(again, root, if_new=True)[0] == target
    assert add_record(other, root)[0].name.endswith("eeeeeeee.json")


def test_the_command_says_where_it_stands(tmp_path: Path) -> None:
    root = folder(
        tmp_path / "leaderboards",
        record("vcr", "val", 0.82, task="vcr_q2a"),
        record("vcr", "val", 0.80, task="vcr_q2a", seed=1),
        record("vcr", "val", 0.99, task="vcr_q2a", seed=2)
        | {"contaminated": True, "training_splits": ["val"]}
        | {"recipe": {"name": "seen", "hash": "e" * 16, "experiment": "e" * 16}},
    )
    file = tmp_path / "r.json"
    file.write_text(json.dumps(joined({"q2ar": 0.6, "q2a": 0.799, "qa2r": 0.9})), encoding="utf-8")
    shown, _ = run("table", "--add", file, "--root", root, "--format", "csv", cwd=tmp_path)
    lines = shown.splitlines()
    # published on val: VLE-large 84.3, VLE-base 79.9, ERNIE-ViL-L 78.52, ...; measured: 81, two seeds
    assert lines[1].startswith("vcr_q2a on val of vcr: 79.90, place 3 to 4 of 12, ")
    assert "after vle-base-vqa 81.00, level with VLE-base, before ERNIE-ViL-L 78.52" in lines[1]
    assert lines[2].startswith("vcr_qa2r on val of vcr: 90.00, place 1 of 11, before VLE-large")
    assert lines[3].startswith("vcr_q2ar on val of vcr: 60.00, place 4 of 8, after ERNIE-ViL-B 61")
    assert "marked: predictions from elsewhere" in lines[0]


def test_the_place_of_an_unranked_one_is_only_said(tmp_path: Path) -> None:
    root = folder(tmp_path / "leaderboards")
    file = tmp_path / "r.json"
    values = external("easy-vqa", "test", 0.9, training_splits=[])
    file.write_text(json.dumps(values), encoding="utf-8")
    shown, _ = run("table", "--add", file, "--root", root, "--format", "csv", cwd=tmp_path)
    assert (
        "vqa on test of easy-vqa: 90.00, not ranked, it would be at place 2 of 5, after "
        "easy-VQA-keras 93.78, before another public model 87.60\n"
    ) in shown
