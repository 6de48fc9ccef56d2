import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vle_bench.errors import RequestError
from vle_bench.leaderboard import add_record, load_published, render_tables, write_tables
from vle_bench.results import load_record

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "leaderboards"
# VLE's own comparison, as it was read.
FIRST_TABLE = """
| Model | VQA | VCR QA2R | VCR Q2A | Params | Pre-training data |
|---|---|---|---|---|---|
| CoCa | 82.3 | – | – | 2.1 B | unknown |
| BeiT-3 | 84.2 | – | – | 1.9 B | 21M(I-T) + 14M(I) + 160G(T) |
| OFA | 82.0 | – | – | 930M | 20M(I-T) + 39M(I) + 140G(T) |
| BLIP | 78.3 | – | – | 385M | ~130M(I-T) |
| METER-base | 77.7 (76.8 †‡) | 79.8 § | 77.6 § | 345M | 9M(I-T) |
| METER-Huge | 80.3 | – | – | 878M | 20M(I-T) |
| VLE-base | 77.6 ‡ | 83.7 § | 79.9 § | 378M | 15M(I-T) |
| VLE-large | 79.3 ‡ | 87.5 § | 84.3 § | 930M | 15M(I-T) |
"""
FOOTNOTES = [
    "† reproduced by VLE's authors.",
    "‡ fine-tuned with lr 7e-6, batch {256, 512}, 10 epochs.",
    "§ lr 1e-5, batch 128, 5 epochs.",
    "I-T: image-text pairs; I: images; T: text.",
    "Parameters: encoders and embeddings, without task heads.",
]


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip().split("|")[1:-1]] for line in lines]
    return [row for row in rows if set("".join(row)) != {"-"}]


def record(source: str, split: str, value: float, **changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 2, "task": "vqa", "task_version": 1, "split": split, "n": 9673,
        "metrics": {"accuracy": {"value": value, "interval": [value - 0.005, value + 0.005]},
                    "accuracy_not_yes_no": {"value": value - 0.1, "interval": [value - 0.12, value - 0.08], "n": 2537}},
        "primary_metric": "accuracy", "recipe": {"name": "vqa-tiny", "hash": "0123456789abcdef"},
        "training_splits": ["train"], "contaminated": False,
        "model": {"name": "vqa-tiny", "parameters": 345678, "checkpoint_sha256": "0"},
        "data": {"source": source, "manifest_hash": "0"}, "seed": 0,
        "code": {"version": "0.1.0", "commit": None, "clean": None}, "libraries": {}, "device": "cpu, 2 threads",
        "processes": 1, "batch_size": 128, "seconds": 1.0, "training": {"seconds": 130.2}, "command": "vle-bench train",
    } | changes  # fmt: skip


def folder(path: Path, *records: dict[str, Any]) -> Path:
    (path / "results" / "vqa").mkdir(parents=True)
    shutil.copy(SHIPPED / "published.yaml", path)
    for number, each in enumerate(records):
        (path / "results" / "vqa" / f"{number}.json").write_text(json.dumps(each))
    return path


def test_first_table_cell_by_cell() -> None:
    text = render_tables(SHIPPED)[SHIPPED / "comparison.md"]
    assert cells(text)[: len(cells(FIRST_TABLE))] == cells(FIRST_TABLE)
    for footnote in FOOTNOTES:
        assert footnote in text


def test_shipped_tables_are_up_to_date() -> None:
    assert write_tables(SHIPPED, check=True) == []


def test_demo_references(tmp_path: Path) -> None:
    root = folder(tmp_path, record("easy-vqa", "test", 0.95))
    rows = cells(render_tables(root)[root / "demo.md"])
    assert rows[0][2] == "not yes/no (2,537 questions)"
    assert [row[1:3] for row in rows[1:]] == [
        ["37.33", "–"], ["67.00", "23.30"], ["87.60", "–"], ["93.78", "–"], ["95.00 ± 0.50", "85.00 ± 2.00"],
    ]  # fmt: skip
    assert rows[-1][0] == "measured: vqa-tiny, recipe 0123456789abcdef, seed 0"
    assert rows[-1][4] == "130 s on cpu, 2 threads"


def test_contaminated_records_are_marked_and_last(tmp_path: Path) -> None:
    root = folder(
        tmp_path,
        record("easy-vqa", "test", 0.99, contaminated=True, seed=1),
        record("easy-vqa", "test", 0.90, seed=2),
        record("easy-vqa", "test", 0.95, seed=3),
        record("easy-vqa", "holdout", 0.97, seed=4),
    )
    text = render_tables(root)[root / "demo.md"]
    seeds = [row[0] for row in cells(text) if row[0].startswith("measured")]
    assert [s.split("seed ")[1] for s in seeds] == ["3", "2", "1 (contaminated, not ranked)"]
    assert "never ranked" in text


def test_measured_rows_stand_beside_the_published(tmp_path: Path) -> None:
    root = folder(tmp_path, record("vqav2", "minival", 0.771))
    rows = cells(render_tables(root)[root / "comparison.md"])
    assert rows[-1][1:4] == ["77.10 ± 0.50 on minival", "–", "–"]


def test_both_vcr_tasks_of_one_record_stand_in_one_row(tmp_path: Path) -> None:
    metrics = {name: {"value": value, "interval": (value - 0.01, value + 0.01)} for name, value in
               (("q2ar", 0.6), ("q2a", 0.7), ("qa2r", 0.8))}  # fmt: skip
    joint = record("vcr", "val", 0.5, task="vcr_joint", metrics=metrics, primary_metric="q2ar")
    root = folder(tmp_path, joint)
    row = cells(render_tables(root)[root / "comparison.md"])[-1]
    assert row[0].endswith("; Q2AR 60.00 ± 1.00")
    assert row[1:4] == ["–", "80.00 ± 1.00 on val", "70.00 ± 1.00 on val"]


def test_the_demo_shows_both_vcr_tasks(tmp_path: Path) -> None:
    def joined(name: str, value: float) -> dict[str, Any]:
        metrics = {m: {"value": v, "interval": (v - 0.01, v + 0.01)} for m, v in
                   (("q2ar", value), ("q2a", value + 0.1), ("qa2r", value + 0.05))}  # fmt: skip
        recipe = {"name": name, "hash": "a + b"}
        return record("shapes-vcr", "val", 0, task="vcr_q2ar", metrics=metrics, primary_metric="q2ar", recipe=recipe)

    root = folder(tmp_path, joined("off", 0.1), joined("on", 0.8))
    text = render_tables(root)[root / "demo.md"]
    rows = cells(text[text.index("# shapes-VCR") :])
    assert [row[1:] for row in rows[1:]] == [["90.00 ± 1.00", "85.00 ± 1.00", "80.00 ± 1.00"],
                                             ["20.00 ± 1.00", "15.00 ± 1.00", "10.00 ± 1.00"]]  # fmt: skip


def test_a_record_is_taken_in_once_and_never_replaced(tmp_path: Path) -> None:
    root, run = folder(tmp_path / "leaderboards"), tmp_path / "run"
    (run / "results").mkdir(parents=True)
    (run / "recipe.yaml").write_text("task: vqa\ndata: {report: minival}\n")
    with pytest.raises(RequestError, match=r"results/vqa.minival.json: no such record; `vle-bench evaluate .*run` writes it"):
        add_record(run, root)
    (run / "results" / "vqa.minival.json").write_text(json.dumps(record("vqav2", "minival", 0.771)))
    target = add_record(run, root)
    assert target == root / "results" / "vqa" / "vqa-tiny.minival.seed-0.json" and add_record(run, root) == target
    assert "77.10" in render_tables(root)[root / "comparison.md"]
    (run / "results" / "vqa.minival.json").write_text(json.dumps(record("vqav2", "minival", 0.99)))
    with pytest.raises(RequestError, match="records are never replaced"):
        add_record(run, root)
    assert load_record(target).metrics["accuracy"].value == 0.771
    with pytest.raises(RequestError, match="neither a result record nor a run folder"):
        add_record(tmp_path, root)


def test_write_and_check(tmp_path: Path) -> None:
    root = folder(tmp_path)
    assert write_tables(root, check=True) == [root / "comparison.md", root / "demo.md"]
    assert not (root / "demo.md").exists()
    assert len(write_tables(root)) == 2 and write_tables(root) == []
    (root / "demo.md").write_text("by hand")
    assert write_tables(root, check=True) == [root / "demo.md"]


def test_mistakes_name_the_file(tmp_path: Path) -> None:
    root = folder(tmp_path)
    text = (root / "published.yaml").read_text()
    (root / "published.yaml").write_text(text.replace("source: vle-readme", "source: nobody"))
    with pytest.raises(RequestError, match="published.yaml.*not defined: nobody"):
        load_published(root)
    (root / "published.yaml").write_text(text.replace('value: "82.3"', 'value: "823"'))
    with pytest.raises(RequestError, match=r"published.yaml: scores\.0\.value"):
        load_published(root)
    with pytest.raises(RequestError, match="no such folder"):
        write_tables(tmp_path / "nowhere")
