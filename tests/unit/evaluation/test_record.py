"""Records: each schema version loads, and what is wrong with one is named with its file and key."""

import json
from pathlib import Path
from typing import Any

import pytest

from vle_bench.errors import RequestError
from vle_bench.evaluation.provenance import ids_digest
from vle_bench.evaluation.record import SCHEMA_VERSION, load_record

VERSIONS = Path(__file__).parents[2] / "golden" / "records"


def test_there_is_a_record_of_each_version() -> None:
    found = {load_record(path).schema_version for path in VERSIONS.glob("*.json")}
    assert found == set(range(1, SCHEMA_VERSION + 1))


def test_what_earlier_versions_lack_is_empty() -> None:
    first, second, third = (
        load_record(VERSIONS / f"version-{number}.json") for number in (1, 2, 3)
    )
    assert first.breakdown == {} and second.breakdown["objects tagged"]["3"].n == 107
    assert first.expect is None and second.ids_sha256 is None
    assert (
        third.expect is not None
        and third.expect.value == 98.5
        and third.recipe["experiment"] == "0123456789abcdef"
    )
    assert first.metrics["accuracy"].value == 0.9814948826630828


def changed(tmp_path: Path, edit: Any) -> Path:
    values = json.loads((VERSIONS / "version-3.json").read_text())
    edit(values)
    path = tmp_path / "record.json"
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda v: v.update(shape="round"), "shape: unknown field"),
        (
            lambda v: v["metrics"]["accuracy"].update(mean=1),
            r"metrics\.accuracy\.mean: unknown field",
        ),
        (
            lambda v: v.update(schema_version=4),
            "schema_version 4 is newer than what this version reads, 3; update vle-bench",
        ),
        (lambda v: v["metrics"]["accuracy"].update(value=float("nan")), "NaN is no figure"),
        (lambda v: v["training"].update(seconds=float("inf")), "Infinity is no figure"),
        (
            lambda v: v["metrics"]["accuracy"].update(value=98.5),
            r"metrics\.accuracy\.value: .*less than or equal to 1",
        ),
        (
            lambda v: v["metrics"]["accuracy"].update(value=0.5),
            r"metrics\.accuracy: 0\.5 is outside of its interval",
        ),
        (
            lambda v: v.update(primary_metric="f1"),
            "primary_metric 'f1' is none of the metrics: accuracy",
        ),
        (lambda v: v.update(n=0), "n: .*greater than or equal to 1"),
        (lambda v: v["recipe"].pop("hash"), "recipe has no 'hash'"),
        (lambda v: v["data"].pop("source"), "data has no 'source'"),
        (lambda v: v["code"].update(clean=None), r"code\.clean must be true or false"),
        (lambda v: v.pop("split"), "split: Field required"),
        (lambda v: v["expect"].update(tolerance=-1), r"expect\.tolerance"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, edit: Any, says: str) -> None:
    path = changed(tmp_path, edit)
    with pytest.raises(RequestError, match=rf"record\.json: .*{says}"):
        load_record(path)


def test_files_that_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    with pytest.raises(RequestError, match="no such result record"):
        load_record(path)
    for content, says in (
        (b'{"n": 1', "not JSON, it ends or breaks at line 1"),
        (b"\xff\xfe", "no result record"),
        (b"[]", "valid"),
    ):
        path.write_bytes(content)
        with pytest.raises(RequestError, match=says):
            load_record(path)


def test_the_digest_is_of_the_set_of_ids() -> None:
    assert ids_digest([3, 1, 2]) == ids_digest([1, 2, 3]) != ids_digest([1, 2])
    assert ids_digest(["val-1", "val-10"]) != ids_digest(["val-11", "val-0"])
    # printf '1\n2\n' | sha256sum
    assert ids_digest([1, 2]) == "a6e2b7a040683432de03a18fd8a1939a2fdf82585b364bfc874bdd4095c4cae1"
