"""Records: each schema version loads, and what is wrong with one is named with its file and key."""

import json
from pathlib import Path
from typing import Any

import pytest

from vle_bench.data.splits import other_name, same_dataset
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import SCHEMA_VERSION, ids_digest, load_record, precision_of

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
    fourth = load_record(VERSIONS / "version-4.json")
    assert [precision_of(record) for record in (first, second, third)] == ["", "", ""]
    assert (fourth.precision, precision_of(fourth)) == ("fp32", "fp32, trained in bf16")


def test_the_digests_that_are_shown_are_those_of_the_record(tmp_path: Path) -> None:
    """The same weights with other files beside them share the first of the two."""
    assert load_record(changed(tmp_path, elsewhere)).digests == "abababab"
    for digests, shown in (
        (("12" * 32, "34" * 32), "12121212/34343434"),
        (
            (f"{'12' * 32} + {'56' * 32}", f"{'34' * 32} + {'78' * 32}"),
            "12121212/34343434 + 56565656/78787878",
        ),
    ):
        model = dict(zip(("checkpoint_sha256", "files_sha256"), digests, strict=True))
        path = changed(tmp_path, lambda v, model=model: (elsewhere(v), v["model"].update(model)))
        assert load_record(path).digests == shown
    run = load_record(VERSIONS / "version-5.json")
    assert run.digests == run.recipe["experiment"][:8]


def test_a_run_of_unknown_data_may_have_seen_the_pictures(tmp_path: Path) -> None:
    unknown = {"training_data": {"source": "not known"}}
    record = load_record(changed(tmp_path, lambda values: values.update(unknown)))
    assert record.transferred and record.contaminated is None


def changed(tmp_path: Path, edit: Any) -> Path:
    values = json.loads((VERSIONS / "version-3.json").read_text(encoding="utf-8"))
    edit(values)
    path = tmp_path / "record.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def elsewhere(values: dict[str, Any]) -> None:
    values["model"].update(name="vle-base-for-vqa", checkpoint_sha256="ab" * 32)
    values.update(kind="elsewhere", recipe={}, seed=None, training_splits=[], expect=None)


def test_a_checkpoint_from_elsewhere_has_neither_recipe_nor_seed(tmp_path: Path) -> None:
    record = load_record(changed(tmp_path, elsewhere))
    assert (record.kind, record.title, record.identity) == (
        "elsewhere",
        "vle-base-for-vqa",
        "ab" * 32,
    )
    assert record.of_unknown_training and not record.ranked
    assert record.contaminated is None, "not false, as earlier versions wrote"
    known = load_record(
        changed(tmp_path, lambda v: (elsewhere(v), v.update(training_splits=["train"])))
    )
    assert known.ranked and known.identity == record.identity
    squashed = load_record(
        changed(tmp_path, lambda v: (elsewhere(v), v["model"].update(asked="resize squash")))
    )
    assert (
        squashed.title == "vle-base-for-vqa, resize squash" and squashed.identity != record.identity
    )
    kinds = {path.stem[-1]: load_record(path).kind for path in VERSIONS.glob("*.json")}
    assert kinds.pop("7") == "external" and {*kinds.values()} == {"run"}  # of earlier versions


def external(values: dict[str, Any]) -> None:
    model = {"name": "My model (v2), 4-bit", "predictions_sha256": "cd" * 32}
    values.update(kind="external", recipe={}, seed=None, training_splits=[], expect=None, code={})
    values.update(model=model, training={}, precision=None)


def test_predictions_from_elsewhere_have_no_code_and_the_digest_of_their_file(
    tmp_path: Path,
) -> None:
    record = load_record(changed(tmp_path, external))
    assert (record.title, record.identity) == ("My model (v2), 4-bit", "cd" * 32)
    assert record.digests == "cdcdcdcd" and record.code == {}
    assert not record.ranked and record.contaminated is None
    known = changed(tmp_path, lambda v: (external(v), v.update(training_splits=["train"])))
    assert load_record(known).ranked


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda v: v.update(seed=0), "kind elsewhere: .*neither recipe nor seed"),
        (
            lambda v: v.update(recipe={"name": "a", "hash": "b"}),
            "kind elsewhere: .*neither recipe nor seed",
        ),
        (lambda v: v["model"].update(name="a/b"), r"model\.name: 'a/b' is no name"),
        (
            lambda v: v["model"].update(checkpoint_sha256="abc"),
            r"model\.checkpoint_sha256: 'abc' is no SHA-256",
        ),
        (lambda v: v["model"].pop("checkpoint_sha256"), "model has no 'checkpoint_sha256'"),
        (lambda v: v.update(kind="run"), "recipe has no 'hash'"),
        (
            lambda v: v.update(kind="run", recipe={"name": "a", "hash": "b"}),
            "seed: the record of a run has one",
        ),
        (
            lambda v: v.update(kind="somewhere"),
            "kind: Input should be 'run', 'elsewhere' or 'external'",
        ),
        (
            lambda v: (external(v), v.update(code={"version": "0.1.0"})),
            "kind external: the code that made the predictions is not known",
        ),
        (
            lambda v: (external(v), v["model"].pop("predictions_sha256")),
            "model has no 'predictions_sha256'",
        ),
        (
            lambda v: (external(v), v["model"].update(name="a\nb")),
            r"model\.name: 'a\\nb' is no name",
        ),
        (lambda v: (external(v), v.update(seed=1)), "kind external: .*neither recipe nor seed"),
    ],
)
def test_what_is_wrong_with_one_from_elsewhere_is_named(
    tmp_path: Path, edit: Any, says: str
) -> None:
    path = changed(tmp_path, lambda v: (elsewhere(v), edit(v)))
    with pytest.raises(RequestError, match=rf"record\.json: .*{says}"):
        load_record(path)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda v: v.update(shape="round"), "shape: unknown field"),
        (
            lambda v: v["metrics"]["accuracy"].update(mean=1),
            r"metrics\.accuracy\.mean: unknown field",
        ),
        (
            lambda v: v.update(schema_version=9),
            "schema_version 9 is newer than what this version reads, 8; update vle-bench",
        ),
        (lambda v: v["metrics"]["accuracy"].update(value=float("nan")), "NaN is no JSON number"),
        (lambda v: v["training"].update(seconds=float("inf")), "Infinity is no JSON number"),
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
        (lambda v: v.update(precision="auto"), "precision: .*match pattern"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, edit: Any, says: str) -> None:
    path = changed(tmp_path, edit)
    with pytest.raises(RequestError, match=rf"record\.json: .*{says}"):
        load_record(path)


def test_files_that_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    with pytest.raises(RequestError, match="no such file"):
        load_record(path)
    for content, says in (
        (b'{"n": 1', "broken or cut-off JSON at line 1, column 8"),
        (b"\xff\xfe", "not UTF-8 text"),
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


def test_data_of_one_name_are_told_apart_by_their_hash(tmp_path: Path) -> None:
    """Another version of one's data has its name, and other splits: no score of it is one of the first."""
    first, second = (
        {"source": "own", "name": "mine", "manifest_hash": digit * 64} for digit in "12"
    )
    other = {"source": "own", "name": "theirs", "manifest_hash": "3" * 64}
    unknown = {"source": "own", "name": "mine"}
    vqav2 = [{"source": "vqav2", "manifest_hash": digit * 64} for digit in "12"]
    assert same_dataset(first, first) and not same_dataset(first, second)
    # Earlier versions wrote no hash; a dataset by name has the same splits however it is prepared.
    assert same_dataset(first, unknown) and same_dataset(unknown, second) and same_dataset(*vqav2)
    names = [other_name(data, first) for data in (first, unknown, second, other, vqav2[0])]
    assert names == [None, None, "mine-22222222", "theirs", "vqav2"]
    assert other_name(first, {}) is None and other_name({}, first) is None
    values = {"data": second, "training_data": first, "schema_version": 7}
    record = load_record(changed(tmp_path, lambda old: old.update(values)))
    assert record.transferred and not record.ranked
    assert (record.other_data, record.trained_on) == ("mine-22222222", "mine-11111111")
    record.training_data = unknown
    assert not record.transferred and record.ranked
    assert (record.other_data, record.trained_on) == (None, "mine")
