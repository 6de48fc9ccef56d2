"""The tables: published rows as published, measured ones beside them, and what the folder refuses to take in."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from vle_bench.errors import RequestError
from vle_bench.evaluation.record import ids_digest, load_record
from vle_bench.leaderboard.experiments import experiments
from vle_bench.leaderboard.points import drawings
from vle_bench.leaderboard.published import load_published
from vle_bench.leaderboard.records import add_record, load_records
from vle_bench.leaderboard.render import render, write_tables
from vle_bench.leaderboard.standing import standing
from vle_bench.recipe.load import load_recipe

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "leaderboards"
TEXTS = ("md", "csv", "tex")
EXPERIMENT = load_recipe("vqa/vle-base").experiment
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
    return [row for row in rows if not set("".join(row)) <= {"-", ":"}]


def record(source: str, split: str, value: float, **changes: Any) -> dict[str, Any]:
    seed = changes.get("seed", 0)
    task = changes.get("task", "vqa")
    return {
        "schema_version": 3,
        "task": task,
        "task_version": 1,
        "split": split,
        "n": 9673 if source == "easy-vqa" else 26534,
        "metrics": {"accuracy": {"value": value, "interval": [value - 0.005, value + 0.005]}},
        "primary_metric": "accuracy",
        "recipe": {"name": "vle-base-vqa", "hash": f"{seed:016x}", "experiment": EXPERIMENT},
        "training_splits": ["train"],
        "contaminated": False,
        "model": {
            "name": "vle-base-vqa",
            "parameters": 345678,
            "checkpoint_sha256": f"{source} {split} {task} {seed}",
        },
        "data": {"source": source, "manifest_hash": "0"},
        "seed": seed,
        "code": {"version": "0.1.0", "commit": "c0ffee0000", "clean": True},
        "libraries": {},
        "device": "cpu, 2 threads",
        "processes": 1,
        "batch_size": 128,
        "seconds": 1.0,
        "training": {"seconds": 130.2},
        "command": "vle-bench train",
    } | changes


def expecting(value: float, split: str = "test-dev") -> dict[str, Any]:
    return {
        "metric": "accuracy",
        "split": split,
        "value": value,
        "tolerance": 0.3,
        "source": "VLE README",
    }


def folder(path: Path, *records: dict[str, Any]) -> Path:
    (path / "results" / "vqa").mkdir(parents=True)
    shutil.copy(SHIPPED / "published.yaml", path)
    for number, each in enumerate(records):
        (path / "results" / each["task"]).mkdir(exist_ok=True)
        (path / "results" / each["task"] / f"{number}.json").write_text(
            json.dumps(each), encoding="utf-8"
        )
    return path


def page(root: Path, name: str) -> str:
    return render(root, ["md"])[root / f"{name}.md"].decode()


def measured(root: Path, name: str, digest: str = EXPERIMENT) -> list[dict[str, str]]:
    """The rows of a page's measured runs, by title of the column; of the comparison those of its second table."""
    text = page(root, name)
    header, *rows = cells(
        text[text.index("## Everything measured") :] if name == "comparison" else text
    )
    return [
        dict(zip(header, row, strict=True))
        for row in rows
        if len(row) == len(header) and f"({digest[:8]})" in row[0]
    ]


def test_first_table_cell_by_cell() -> None:
    text = page(SHIPPED, "comparison")
    shown = [row[:6] for row in cells(text)]
    assert shown[: len(cells(FIRST_TABLE))] == cells(FIRST_TABLE)
    for footnote in FOOTNOTES:
        assert footnote in text


def test_the_tables_say_why_a_row_has_no_measured_figure() -> None:
    text = page(SHIPPED, "comparison")
    rows = {row[0]: row for row in cells(text) if len(row) == 10}
    assert rows["CoCa"][9] == "not public" and rows["BLIP"][9] == "public, live"
    assert rows["OFA"][9] == "public, not in transformers"
    last = {row[0]: row for row in cells(text.partition("## What would measure")[2])}
    assert last["METER-base"][3] == "make score-meter-vqa" and last["CoCa"][3] == "–"
    assert "evaluate" in last["BLIP"][3] or "predict" in last["BLIP"][3]
    assert {*rows} <= {*last} and {"ViLT", "BEiT-3-large"} <= {*last}
    files = {path.name: content.decode() for path, content in render(SHIPPED, TEXTS).items()}
    assert "make score-meter-vqa" in files["weights.csv"] and "weights.tex" in files


def test_remarks_and_the_sources_of_marks_are_below_the_tables() -> None:
    for name in ("comparison", "vqa_v2", "vcr", "retrieval"):
        text = page(SHIPPED, name)
        assert "METER-base: 345M counts weights that nothing reads" in text, name
        assert "[METER meter/modules/clip_model.py](https://" in text, name
    text = page(SHIPPED, "retrieval")
    assert "| METER-base | 94.3 c | 82.22 c | 76.16 c | 57.08 c |" in text
    assert "[METER issue 26](https://github.com/zdou0830/METER/issues/26)" in text
    assert "METER issue 26" not in page(SHIPPED, "vcr")


def test_shipped_tables_are_up_to_date() -> None:
    assert write_tables(SHIPPED, check=True) == []


def test_every_format_has_every_published_figure_of_the_comparison() -> None:
    files = {path.name: content.decode() for path, content in render(SHIPPED, TEXTS).items()}
    for row in cells(FIRST_TABLE)[1:]:
        for cell in row:
            assert cell in files["comparison.csv"]
            plain = cell.replace("–", "--").replace("~", r"\textasciitilde{}").replace("§", r"\S{}")
            assert (
                plain.replace("†", r"\textdagger{}").replace("‡", r"\textdaggerdbl{}")
                in files["comparison.tex"]
            )


def test_measured_stands_beside_the_published_of_its_model(tmp_path: Path) -> None:
    seeds = [
        record("vqav2", "test-dev", v, seed=s, expect=expecting(77.6), n=107394)
        for s, v in enumerate((0.772, 0.770, 0.777))
    ]
    root = folder(tmp_path, *seeds, record("vqav2", "minival", 0.79, seed=7, n=5000))
    row = next(r for r in cells(page(root, "comparison")) if r[0] == "VLE-base")
    assert row[1] == "77.6 ‡" and row[6] == "77.30 ± 0.50; 3 seeds, sd 0.36; −0.30, inside ±0.3"
    assert next(r for r in cells(page(root, "comparison")) if r[0] == "VLE-large")[6] == "–"
    rows = measured(root, "comparison")
    assert [(r["Split"], r["Score"], r["Published"], r["Difference"], r["Code"]) for r in rows] == [
        ("minival", "79.00 ± 0.50", "–", "–", "c0ffee00"),
        ("test-dev", "77.30 ± 0.50", "77.6", "−0.30, inside ±0.3", "c0ffee00"),
    ]


def test_what_is_measured_elsewhere_says_where(tmp_path: Path) -> None:
    root = folder(tmp_path, record("vqav2", "minival", 0.771, n=5000, expect=expecting(77.6)))
    row = next(r for r in cells(page(root, "comparison")) if r[0] == "VLE-base")
    assert row[6] == "77.10 ± 0.50; on minival; seed 0"
    assert measured(root, "vqa_v2")[0]["minival"] == "77.10 ± 0.50"


def test_a_checkpoint_from_elsewhere_is_listed_and_marked(tmp_path: Path) -> None:
    """It has neither recipe nor seed; one whose training is unknown is listed and never ranked."""
    digest = "ab12cd34" * 8
    foreign: dict[str, Any] = {
        "kind": "elsewhere",
        "recipe": {},
        "seed": None,
        "model": {"name": "theirs", "parameters": 345678, "checkpoint_sha256": digest},
    }
    root = folder(
        tmp_path,
        record("vqav2", "minival", 0.771, n=5000) | foreign,
        record("vqav2", "minival", 0.76, n=5000, training_splits=[])
        | foreign
        | {"model": foreign["model"] | {"name": "unknown", "checkpoint_sha256": "ee" * 32}},
        record("vqav2", "minival", 0.75, n=5000),
    )
    rows = {row[0]: row for row in cells(page(root, "vqa_v2"))}
    names = [name for name in rows if name.startswith(("theirs", "unknown", "vle-base-vqa"))]
    assert len(names) == 3 and names[0].startswith("theirs (ab12cd34") and names[0].endswith("◦")
    assert names[1].startswith("vle-base-vqa") and names[2].endswith("◦¿")
    assert "77.10 ± 0.50" in rows[names[0]] and "measured; trained elsewhere" in rows[names[0]]
    svg = render(root, ["figures"])[root / "figures" / "vqa-parameters.svg"].decode()
    assert "theirs" not in svg


def test_outside_the_tolerance_is_told(tmp_path: Path) -> None:
    root = folder(
        tmp_path, record("vcr", "val", 0.70, task="vcr_q2a", expect=expecting(79.9, "val"))
    )
    assert measured(root, "vcr")[0]["Source"] == "measured; seed 0; −9.90, outside ±0.3"


def test_contaminated_and_dirty_are_marked_and_the_first_never_ranked(tmp_path: Path) -> None:
    dirty = {"version": "0.1.0", "commit": "c", "clean": False}
    root = folder(
        tmp_path,
        record("vqav2", "minival", 0.99, contaminated=True, seed=1, n=5000),
        record("vqav2", "minival", 0.70, seed=2, code=dirty, n=5000),
    )
    assert [(r["Recipe"].split()[-1], r["Score"]) for r in measured(root, "comparison")] == [
        ("◊", "70.00 ± 0.50"),
        ("‼", "99.00 ± 0.50"),
    ]
    row = next(r for r in cells(page(root, "comparison")) if r[0] == "VLE-base")
    assert row[6].startswith("70.00")
    assert "‼ contaminated" in page(root, "vqa_v2") and "◊ the code had changes" in page(
        root, "vqa_v2"
    )
    assert "‼" not in page(
        folder(tmp_path / "clean", record("vqav2", "minival", 0.7, n=5000)), "vqa_v2"
    )


def test_the_split_that_picked_the_checkpoint_is_marked(tmp_path: Path) -> None:
    minival = record(
        "vqav2", "minival", 0.78, n=5000, training={"split": "minival", "seconds": 1.0}
    )
    root = folder(tmp_path / "a", minival)
    note = "△ the split that is reported also picked the checkpoint among those of its training; the score flatters it."
    for name in ("comparison", "vqa_v2"):
        assert [
            row["Recipe" if name == "comparison" else "Model"][-1] for row in measured(root, name)
        ] == ["△"]
        assert note in page(root, name)
    row = next(r for r in cells(page(root, "comparison")) if r[0] == "VLE-base")
    assert row[6] == "78.00 ± 0.50 △; on minival; seed 0"
    assert r"$\triangle$" in render(root, ["tex"])[root / "vqa_v2.tex"].decode()
    assert "△" in render(root, ["html"])[root / "index.html"].decode()
    other = record("vqav2", "val", 0.78, n=214354, training={"split": "minival", "seconds": 1.0})
    root = folder(tmp_path / "b", other)
    assert "△" not in page(root, "vqa_v2") + page(root, "comparison")


def test_a_joined_record_of_an_earlier_version_is_marked_as_its_halves_are(tmp_path: Path) -> None:
    picked = {"split": "val", "seconds": 1.0}
    halves = [
        record(
            "vcr",
            "val",
            0.7,
            task=task,
            training=picked,
            recipe={"name": task, "hash": digest, "experiment": digest},
        )
        for task, digest in (("vcr_q2a", "a" * 16), ("vcr_qa2r", "b" * 16))
    ]
    metrics = {name: {"value": 0.7, "interval": [0.69, 0.71]} for name in ("q2ar", "q2a", "qa2r")}
    joined = " + ".join(("a" * 16, "b" * 16))
    both = record(
        "vcr",
        "val",
        0.7,
        task="vcr_q2ar",
        metrics=metrics,
        primary_metric="q2ar",
        training={"seconds": 2.0},
        recipe={"name": "vcr_q2a + vcr_qa2r", "hash": joined, "experiment": joined},
    )
    root = folder(tmp_path, *halves, both)
    assert [row[0] for row in cells(page(root, "vcr")) if row[0].startswith("vcr_q2a + ")] == [
        "vcr_q2a + vcr_qa2r (aaaaaaaa + bbbbbbbb) △"
    ]


def test_one_checkpoint_in_two_precisions_makes_two_rows(tmp_path: Path) -> None:
    bf16 = {"schema_version": 4, "precision": "bf16", "training": {"precision": "bf16"}, "n": 5000}
    fp32 = bf16 | {"precision": "fp32"}
    root = folder(
        tmp_path / "a",
        record("vqav2", "minival", 0.78, **bf16),
        record("vqav2", "minival", 0.79, **fp32),
    )
    assert [
        (row["Recipe"].partition(") ")[2], row["Score"]) for row in measured(root, "comparison")
    ] == [("fp32, trained in bf16", "79.00 ± 0.50"), ("bf16", "78.00 ± 0.50")]
    old = {"n": 5000, "training": {}}  # which may have been scored in any precision
    with pytest.raises(RequestError, match="a duplicate of"):
        page(
            folder(
                tmp_path / "b",
                record("vqav2", "minival", 0.78, **bf16),
                record("vqav2", "minival", 0.78, **old),
            ),
            "vqa_v2",
        )


def test_demo_references(tmp_path: Path) -> None:
    metrics = {
        "accuracy": {"value": 0.95, "interval": [0.945, 0.955]},
        "accuracy_not_yes_no": {"value": 0.85, "interval": [0.83, 0.87], "n": 2537},
    }
    root = folder(
        tmp_path,
        record("easy-vqa", "test", 0.95, metrics=metrics),
        record("easy-vqa", "val", 0.97, n=3635),
    )
    rows = cells(page(root, "demo"))
    assert rows[0][2] == "not yes/no (2,537 questions)"
    assert [row[1:3] for row in rows[1:6]] == [
        ["37.33", "–"],
        ["67.00", "23.30"],
        ["87.60", "–"],
        ["93.78", "–"],
        ["95.00 ± 0.50", "85.00 ± 2.00"],
    ]
    assert (
        rows[5][0] == f"measured: vle-base-vqa ({EXPERIMENT[:8]})"
        and rows[5][4] == "seed 0, 130 s on cpu, 2 threads"
    )


def test_both_vcr_tasks_of_one_record_stand_in_one_row(tmp_path: Path) -> None:
    metrics = {
        name: {"value": value, "interval": (value - 0.01, value + 0.01)}
        for name, value in (("q2ar", 0.6), ("q2a", 0.7), ("qa2r", 0.8))
    }
    digest = load_recipe("vcr/vle-base-joint").experiment
    recipe = {"name": "vle-base-vcr-joint", "hash": "0" * 16, "experiment": digest}
    root = folder(
        tmp_path,
        record(
            "vcr",
            "val",
            0.5,
            task="vcr_joint",
            metrics=metrics,
            primary_metric="q2ar",
            recipe=recipe,
        ),
    )
    (row,) = measured(root, "vcr", digest)
    assert [row[f"val {part}"] for part in ("Q2A", "QA2R", "Q2AR")] == [
        "70.00 ± 1.00",
        "80.00 ± 1.00",
        "60.00 ± 1.00",
    ]
    beside = next(r for r in cells(page(root, "comparison")) if r[0] == "VLE-base")
    assert beside[7:9] == ["80.00 ± 1.00; seed 0", "70.00 ± 1.00; seed 0"]


def test_the_demo_shows_both_vcr_tasks(tmp_path: Path) -> None:
    def joined(name: str, value: float, seed: int) -> dict[str, Any]:
        metrics = {
            m: {"value": v, "interval": (v - 0.01, v + 0.01)}
            for m, v in (("q2ar", value), ("q2a", value + 0.1), ("qa2r", value + 0.05))
        }
        recipe = {"name": f"{name} + b", "hash": f"{name} + b", "experiment": f"{name} + b"}
        return record(
            "shapes-vcr",
            "val",
            0,
            task="vcr_q2ar",
            metrics=metrics,
            primary_metric="q2ar",
            recipe=recipe,
            n=1500,
            seed=seed,
        )

    root = folder(tmp_path, joined("off", 0.1, 1), joined("on", 0.8, 2))
    text = page(root, "demo")
    rows = cells(text[text.index("## shapes-VCR") :])
    assert [row[1:] for row in rows[1:]] == [
        ["90.00 ± 1.00", "85.00 ± 1.00", "80.00 ± 1.00"],
        ["20.00 ± 1.00", "15.00 ± 1.00", "10.00 ± 1.00"],
    ]


def run_folder(path: Path, content: dict[str, Any], ids: list[int] | None = None) -> Path:
    (path / "results").mkdir(parents=True)
    (path / "recipe.yaml").write_text("task: vqa\ndata: {report: minival}\n", encoding="utf-8")
    (path / "results" / "vqa.minival.json").write_text(json.dumps(content), encoding="utf-8")
    if ids is not None:
        (path / "predictions").mkdir()
        (path / "predictions" / "vqa.minival.jsonl").write_text(
            "".join(f'{{"id": {i}, "answer": "no"}}\n' for i in ids), encoding="utf-8"
        )
    return path


def test_a_record_is_taken_in_once_and_never_replaced(tmp_path: Path) -> None:
    root, run = folder(tmp_path / "leaderboards"), tmp_path / "run"
    run_folder(run, record("vqav2", "minival", 0.771))
    target, marks = add_record(run, root)
    assert (
        target == root / "results" / "vqa" / "vle-base-vqa.minival.seed-0.00000000.json"
        and marks == []
    )
    with pytest.raises(
        RequestError, match=r"vqa.minival.json: a duplicate of .*seed-0.00000000.json"
    ):
        add_record(run, root)
    (run / "results" / "vqa.minival.json").write_text(
        json.dumps(record("vqav2", "minival", 0.771, seconds=7.0, command="again")),
        encoding="utf-8",
    )
    assert add_record(run, root, if_new=True) == (target, ["exists already, with the same figures"])
    assert load_record(target).command == "vle-bench train"
    assert "77.10" in page(root, "comparison")
    (run / "results" / "vqa.minival.json").write_text(
        json.dumps(record("vqav2", "minival", 0.99)), encoding="utf-8"
    )
    with pytest.raises(
        RequestError,
        match=r"vqa.minival.json: a duplicate of .*seed-0.00000000.json.*never replaced",
    ):
        add_record(run, root, if_new=True)
    assert load_record(target).metrics["accuracy"].value == 0.771
    with pytest.raises(RequestError, match="neither a result record nor a run folder"):
        add_record(tmp_path, root)
    (run / "results" / "vqa.minival.json").unlink()
    with pytest.raises(
        RequestError,
        match=r"results/vqa.minival.json: no such record; `vle-bench evaluate .*run` writes it",
    ):
        add_record(run, root)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"data": {"source": "easy-vqa", "manifest_hash": "0"}, "split": "test", "n": 97},
            "n: 97 examples, but test of easy-vqa has 9,673",
        ),
        (
            {"data": {"source": "vqav2", "manifest_hash": "0"}, "split": "test-dev", "n": 107393},
            "test-dev of vqav2 has 107,394",
        ),
        (
            {"seed": 5, "model": {"name": "x", "checkpoint_sha256": "vqav2 minival vqa 0"}},
            "a duplicate of .*0.json",
        ),
        (
            {
                "seed": 0,
                "n": 5000,
                "recipe": {"name": "x", "hash": "1", "experiment": EXPERIMENT},
                "model": {"name": "x", "checkpoint_sha256": "new"},
            },
            "a duplicate of .*0.json",
        ),
        (
            {"seed": 5, "n": 5000, "training_splits": ["minival"]},
            "contaminated is false, but minival shares images with .*: minival",
        ),
        ({"seed": 5, "n": 5000, "training_splits": ["val"]}, "contaminated is false"),
        ({"seed": 5, "split": "testx"}, "vqav2 has no split 'testx'"),
        ({"seed": 5, "task": "nlvr3"}, "task nlvr3 of vqav2 is not known; there are vqa"),
        (
            {"seed": 5, "data": {"source": "imagenet", "manifest_hash": "0"}},
            "data.source imagenet is not known",
        ),
        (
            {"seed": 5, "recipe": {"name": "../../evil", "hash": "0"}},
            r"recipe.name: '../../evil' is no name",
        ),
        (
            {"seed": 5, "n": 5000, "metrics": {"accuracy": {"value": 0.5, "n": 9000}}},
            "metrics.accuracy: n 9,000 is more than .* 5,000",
        ),
        ({"seed": -3}, "seed: .*greater than or equal to 0"),
        ({"seed": True}, "seed: .*valid integer"),
        ({"seed": 5, "n": 4999}, "4,999 examples of minival, and .*0.json has 5,000"),
        (
            {"seed": 5, "n": 5000, "ids_sha256": "b"},
            "5,000 examples of minival, and .*0.json has others",
        ),
        ({"seed": 5, "n": 5000, "colour": "red"}, "colour: unknown field"),
        ({"seed": 5, "n": 5000, "schema_version": 99}, "newer than what this version reads"),
        ({"seed": 5, "n": 5000, "seconds": float("nan")}, "NaN is no JSON number"),
    ],
)
def test_what_is_refused_is_named_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    root = folder(
        tmp_path / "leaderboards", record("vqav2", "minival", 0.77, n=5000, ids_sha256="a")
    )
    before = sorted(root.rglob("*"))
    source = tmp_path / "record.json"
    source.write_text(
        json.dumps({**record("vqav2", "minival", 0.78, seed=changes.get("seed", 0)), **changes}),
        encoding="utf-8",
    )
    with pytest.raises(RequestError, match=rf"record.json: .*{says}"):
        add_record(source, root)
    assert sorted(root.rglob("*")) == before
    place = root / "results" / changes.get("task", "vqa")  # put there by hand, past the check
    place.mkdir(exist_ok=True)
    shutil.copy(source, place / "1.json")
    with pytest.raises(RequestError, match=says):
        write_tables(root, ["md"])
    assert not (root / "comparison.md").exists()


def test_what_is_no_record_under_results_is_named(tmp_path: Path) -> None:
    root = folder(tmp_path, record("vqav2", "minival", 0.77, n=5000))
    for place in ("results/vqa/notes.txt", "results/stray.json", "results/vqa/deep/1.json"):
        (root / place).parent.mkdir(exist_ok=True)
        (root / place).write_text("{}", encoding="utf-8")
        with pytest.raises(RequestError, match=rf"{place}: no record; .*remove it"):
            write_tables(root, ["md"], check=True)
        (root / place).unlink()
    (root / "results" / "vcr_q2a").mkdir()
    (root / "results" / "vqa" / "0.json").rename(root / "results" / "vcr_q2a" / "0.json")
    with pytest.raises(RequestError, match="of task vqa; it belongs into results/vqa/"):
        write_tables(root, ["md"])


def test_a_changed_recipe_does_not_stand_for_the_shipped_one(tmp_path: Path) -> None:
    other = {"name": "vle-base-vqa", "hash": "f" * 16, "experiment": "f" * 16}
    changed = record(
        "vqav2", "test-dev", 0.774, n=107394, seed=4, expect=expecting(77.6), recipe=other
    )
    root = folder(tmp_path, changed)
    cell = next(r for r in cells(page(root, "comparison")) if r[0] == "VLE-base")[6]
    assert cell == "77.40 ± 0.50; seed 4; −0.20, inside ±0.3; by a recipe that was changed"
    (root / "results" / "vqa" / "1.json").write_text(
        json.dumps(record("vqav2", "test-dev", 0.772, n=107394)), encoding="utf-8"
    )
    cell = next(r for r in cells(page(root, "comparison")) if r[0] == "VLE-base")[6]
    assert cell == "77.20 ± 0.50; seed 0"


def test_runs_of_one_task_are_shown_unless_they_are_joined(tmp_path: Path) -> None:
    def half(task: str, hash_: str, seed: int) -> dict[str, Any]:
        return record(
            "shapes-vcr",
            "val",
            0.5,
            task=task,
            seed=seed,
            n=1500,
            recipe={"name": f"n-{hash_}", "hash": hash_},
        )

    root = folder(tmp_path)
    joined = half("vcr_q2ar", "a + b", 1) | {
        "recipe": {"name": "n-a + n-b", "hash": "a + b"},
        "primary_metric": "q2ar",
    }
    joined["metrics"] = {name: {"value": 0.5} for name in ("q2ar", "q2a", "qa2r")}
    for number, each in enumerate((half("vcr_q2a", "a", 2), half("vcr_qa2r", "c", 3), joined)):
        (root / "results" / each["task"]).mkdir()
        (root / "results" / each["task"] / f"{number}.json").write_text(
            json.dumps(each), encoding="utf-8"
        )
    text = page(root, "demo")
    rows = cells(text[text.index("## shapes-VCR") :])[1:]
    assert rows == [
        ["measured: n-a + n-b (a + b)", "50.00", "50.00", "50.00"],
        ["measured: n-c (c)", "–", "50.00 ± 0.50", "–"],
    ]


def test_predictions_beside_a_record_are_of_its_examples(tmp_path: Path) -> None:
    root = folder(tmp_path / "leaderboards")
    content = record("vqav2", "minival", 0.77, n=3, ids_sha256=ids_digest([1, 2, 3]))
    for number, ids in enumerate(([1, 2], [1, 2, 4])):
        with pytest.raises(
            RequestError, match=r"n: 3 examples, and the \d of .*minival.jsonl are others"
        ):
            add_record(run_folder(tmp_path / f"run-{number}", content, ids), root)
    assert add_record(run_folder(tmp_path / "run", content, [3, 1, 2]), root)[1] == []


def test_marks_are_told_when_a_record_is_taken_in(tmp_path: Path) -> None:
    content = record(
        "vqav2",
        "minival",
        0.77,
        contaminated=True,
        code={"version": "0", "commit": "c", "clean": False},
    )
    _, marks = add_record(run_folder(tmp_path / "run", content), folder(tmp_path / "leaderboards"))
    assert marks == [
        "marked contaminated: its split was trained on",
        "marked: its code had changes that are in no commit",
    ]


def test_records_on_other_data_stand_beside_the_own(tmp_path: Path) -> None:
    """The same run on the same split of other data, also of another version of its own."""
    root = folder(tmp_path / "leaderboards")
    mine, again, other = (
        {"source": "own", "name": name, "manifest_hash": digit * 64}
        for name, digit in (("mine", "1"), ("mine", "2"), ("anders als", "3"))
    )
    later = other | {"manifest_hash": "4" * 64}
    targets = []
    for number, data in enumerate((mine, again, other, later)):
        values = record("own", "test", 0.5, data=data, training_data=mine, n=9)
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(values), encoding="utf-8")
        targets.append(add_record(file, root)[0].name)
        with pytest.raises(RequestError, match="a duplicate of"):
            add_record(file, root)
    parts = ("", "@mine-22222222", "@anders-als", "@anders-als-44444444")
    assert targets == [f"vle-base-vqa.test{part}.seed-0.00000000.json" for part in parts]
    assert len(load_records(root, load_published(root))) == 4


def test_a_checkpoint_from_elsewhere_has_a_record_of_each_data(tmp_path: Path) -> None:
    root = folder(tmp_path / "leaderboards")
    model = {"name": "theirs", "checkpoint_sha256": "ab" * 32}
    none = {"recipe": {}, "seed": None, "expect": None, "kind": "elsewhere", "model": model}
    targets = []
    for digit in "12":
        data = {"source": "own", "name": "mine", "manifest_hash": digit * 64}
        file = tmp_path / f"{digit}.json"
        values = record("own", "test", 0.5, data=data, n=9) | none
        file.write_text(json.dumps(values), encoding="utf-8")
        targets.append(add_record(file, root)[0].name)
    assert targets == [
        f"theirs.test{data}.elsewhere.abababab.json" for data in ("", "@mine-22222222")
    ]


def test_a_duplicate_names_the_file_to_remove(tmp_path: Path) -> None:
    root, run = folder(tmp_path / "leaderboards"), tmp_path / "run"
    target, _ = add_record(run_folder(run, record("vqav2", "minival", 0.771)), root)
    with pytest.raises(RequestError) as refused:
        add_record(run, root)
    assert str(refused.value).endswith(f"to correct one, remove {target} and add again")
    target.unlink()
    assert add_record(run, root)[0] == target


def test_equal_figures_share_their_places(tmp_path: Path) -> None:
    """33.33 of one is not before 33.33 of another; a third that reads 33.34 is."""
    data = {"source": "own", "name": "mine", "manifest_hash": "1" * 64}
    root = folder(
        tmp_path / "leaderboards",
        *(
            record("own", "test", value, data=data, n=9, seed=seed)
            | {"recipe": {"name": name, "hash": f"{seed}" * 16}}
            for seed, (name, value) in enumerate((("a", 1 / 3), ("b", 0.333349), ("c", 0.33336)))
        ),
    )
    shown = [standing(root / "results" / "vqa" / f"{n}.json", root)[0] for n in range(3)]
    assert shown == [
        "vqa on test of mine: 33.33, place 2 to 3 of 3, after c 33.34, level with b",
        "vqa on test of mine: 33.33, place 2 to 3 of 3, after c 33.34, level with a",
        "vqa on test of mine: 33.34, place 1 of 3, before b 33.33",
    ]


def test_write_and_check(tmp_path: Path) -> None:
    root = folder(tmp_path)
    expected = sorted(path.name for path in render(root, TEXTS))
    assert sorted(path.name for path in write_tables(root, TEXTS, check=True)) == expected
    assert not (root / "demo.md").exists()
    assert len(write_tables(root, TEXTS)) == len(expected) and write_tables(root, TEXTS) == []
    (root / "demo.md").write_text("by hand", encoding="utf-8")
    assert write_tables(root, TEXTS, check=True) == [root / "demo.md"]
    assert write_tables(root, ["csv"], check=True) == []
    with pytest.raises(RequestError, match="no such folder"):
        write_tables(tmp_path / "nowhere")


def test_figures_show_published_and_measured(tmp_path: Path) -> None:
    seeds = [
        record("vqav2", "test-dev", v, seed=s, n=107394)
        for s, v in enumerate((0.772, 0.770, 0.777))
    ]
    root = folder(tmp_path, *seeds, record("vqav2", "minival", 0.99, seed=7, n=5000))
    svg = render(root, ["figures"])[root / "figures" / "vqa-parameters.svg"].decode()
    assert "vle-base-vqa" in svg and "VLE-base" in svg and "stroke: var(--orange)" in svg
    published = load_published(root)
    (drawing,) = [
        d
        for d in drawings(published, experiments(load_records(root, published).values()))
        if d.name == "vqa-parameters"
    ]
    shown = [
        (p.name, p.x, p.y, p.kind)
        for p in drawing.points
        if p.name.startswith(("METER-base", "vle", "VLE-base"))
    ]
    assert shown == [
        ("METER-base", 345e6, 77.7, "published"),
        ("METER-base †‡", 345e6, 76.8, "published"),
        ("VLE-base ‡", 378e6, 77.6, "published"),
        ("vle-base-vqa", 378e6, pytest.approx(77.3), "measured"),
    ]
    assert drawing.points[-1].interval == pytest.approx((76.8, 77.8))
    drawn = sorted(
        p.name
        for d in drawings(published, experiments(load_records(SHIPPED, published).values()))
        for p in d.points
    )
    assert not [name for name in drawn if "tiny" in name]  # the demo's data are other tasks
    names = {path.name for path in render(root, ["figures"])}
    assert names == {
        f"{t}-{a}.svg"
        for t in ("vqa", "vcr_q2a", "vcr_qa2r")
        for a in ("parameters", "pretraining")
    }


def test_an_edited_figure_is_found(tmp_path: Path) -> None:
    root = folder(tmp_path)
    assert (
        len(write_tables(root, ["figures", "html"])) == 7
        and write_tables(root, ["figures", "html"], check=True) == []
    )
    edited = root / "figures" / "vqa-parameters.svg"
    edited.write_text(edited.read_text(encoding="utf-8").replace("CoCa", "Koka"), encoding="utf-8")
    assert write_tables(root, ["figures"], check=True) == [edited]


def test_five_hundred_records_take_less_than_five_seconds(tmp_path: Path) -> None:
    root = folder(
        tmp_path, *(record("vqav2", "minival", 0.5 + i / 2000, seed=i, n=5000) for i in range(500))
    )
    started = time.process_time()
    assert len(load_records(root, load_published(root))) == 500
    files = render(root)
    assert time.process_time() - started < 5
    assert b"500 seeds, sd 7.22" in files[root / "comparison.md"]
