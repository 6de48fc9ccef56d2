"""Several seeds are one experiment; expected figures are worked out by hand."""

from decimal import Decimal
from typing import Any

import pytest

from vle_bench.evaluation.record import Record
from vle_bench.leaderboard.experiments import Experiment, experiments

EXPECT = {
    "metric": "accuracy",
    "split": "val",
    "value": 77.6,
    "tolerance": 0.3,
    "source": "a README",
}


def record(value: float, seed: int = 0, **changes: Any) -> Record:
    return Record.model_validate(
        {
            "schema_version": 3,
            "task": "vqa",
            "task_version": 1,
            "split": "val",
            "n": 1000,
            "metrics": {"accuracy": {"value": value, "interval": [value - 0.01, value + 0.02]}},
            "primary_metric": "accuracy",
            "recipe": {"name": "small", "hash": f"{seed:016x}", "experiment": "e" * 16},
            "expect": EXPECT,
            "training_splits": ["train"],
            "contaminated": False,
            "model": {"name": "small", "checkpoint_sha256": f"{seed}"},
            "data": {"source": "vqav2", "manifest_hash": "0"},
            "seed": seed,
            "code": {"version": "0.1.0", "commit": None, "clean": None},
            "libraries": {},
            "device": "cpu",
            "processes": 1,
            "batch_size": 128,
            "seconds": 1.0,
            "command": "vle-bench train",
        }
        | changes
    )


def test_three_seeds_are_one_row() -> None:
    (group,) = experiments([record(0.772, 2), record(0.770, 0), record(0.777, 1)])
    found = Experiment(group, "accuracy")
    assert [r.seed for r in group] == [0, 1, 2]
    assert found.mean == pytest.approx(0.773) and found.deviation == pytest.approx(0.0036055512755)
    assert found.interval == pytest.approx((0.763, 0.793))
    assert found.difference == Decimal("-0.3") and found.inside is True
    assert found.show_score() == "77.30 ± 1.50"
    assert found.show_seeds() == "3 seeds, sd 0.36"
    assert found.show_difference() == "−0.30, inside ±0.3"


def test_the_tolerance_itself_is_inside_and_a_hair_more_is_not() -> None:
    # in binary, 77.3 - 77.6 is less than -0.3 by a hair
    assert Experiment((record(0.773),), "accuracy").inside is True
    outside = Experiment((record(0.772999),), "accuracy")
    assert outside.inside is False and outside.show_difference() == "−0.30, outside ±0.3"


def test_one_run_has_no_deviation() -> None:
    found = Experiment((record(0.77, 4),), "accuracy")
    assert found.deviation is None and found.show_seeds() == "seed 4"


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": {"name": "small", "hash": "0", "experiment": "f" * 16}},
        {"split": "minival"},
        {"task_version": 2},
        {"data": {"source": "vqav2", "manifest_hash": "1"}},
        {"contaminated": True},
        {"model": {"name": "small", "resize": "crop"}},
        {"schema_version": 2, "recipe": {"name": "small", "hash": "1" * 16}},
        {"schema_version": 4, "precision": "bf16"},
    ],
)
def test_what_is_another_experiment(changes: dict[str, Any]) -> None:
    assert len(experiments([record(0.77), record(0.78, 1, **changes)])) == 2


def test_runs_of_different_precision_are_never_averaged() -> None:
    def run(value: float, seed: int, precision: str, trained: str) -> Record:
        return record(
            value, seed, schema_version=4, precision=precision, training={"precision": trained}
        )

    bf16 = [run(0.77, 0, "bf16", "bf16"), run(0.78, 1, "bf16", "bf16")]
    fp32 = [run(0.80, 2, "fp32", "fp32")]
    scored_otherwise = [run(0.90, 0, "fp32", "bf16")]
    groups = experiments([*bf16, *fp32, *scored_otherwise])
    assert [[r.metrics["accuracy"].value for r in group] for group in groups] == [
        [0.90],
        [0.80],
        [0.77, 0.78],
    ]


def test_contaminated_comes_last() -> None:
    found = experiments(
        [record(0.97, 1, contaminated=True), record(0.5, 2), record(0.6, 3, split="minival")]
    )
    assert [group[0].seed for group in found] == [3, 2, 1]


@pytest.mark.parametrize(
    "changes", [{"split": "minival"}, {"expect": None}, {"expect": {**EXPECT, "metric": "other"}}]
)
def test_what_was_published_for_something_else_is_not_compared(changes: dict[str, Any]) -> None:
    found = Experiment((record(0.77, **changes),), "accuracy")
    assert found.difference is None and found.inside is None and found.show_difference() == ""


def test_dirty_code_is_told() -> None:
    dirty = record(0.77, code={"version": "0.1.0", "commit": "c", "clean": False})
    assert (
        Experiment((record(0.77), dirty), "accuracy").dirty
        and not Experiment((record(0.77),), "accuracy").dirty
    )
