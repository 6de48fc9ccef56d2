"""The result record: what was measured, on what, by which code. Every table is rendered from these."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vle_bench.errors import RequestError

SCHEMA_VERSION = 3  # 2: breakdown; 3: experiment, expect, ids_sha256

ROUNDING = 1e-9  # a mean summed in another order

# Names that become parts of file names
NAME, PARTS = r"[A-Za-z0-9][\w.-]*", r"[\w.-]+( \+ [\w.-]+)*"

Fraction = Annotated[float, Field(ge=0, le=1)]

Whole = Annotated[int, Field(strict=True, ge=0)]


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Metric(Group):
    value: Fraction
    interval: tuple[Fraction, Fraction] | None = None  # 95 %, bootstrap over images
    n: Whole | None = None


class Expect(Group):
    """The published score that the recipe should reproduce; `value` and `tolerance` in percent and points."""

    metric: str
    split: str
    value: float
    tolerance: Annotated[float, Field(ge=0)]
    source: str


class Record(Group):
    """One evaluation of one checkpoint on one split."""

    schema_version: Annotated[int, Field(strict=True, ge=1)]
    task: Annotated[str, Field(pattern=rf"^{NAME}$")]
    task_version: Whole
    split: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+-]*$")]
    n: Annotated[int, Field(strict=True, ge=1)]
    ids_sha256: str | None = None  # of the examples' ids, see `ids_digest`
    metrics: dict[str, Metric]
    primary_metric: str
    per_answer_type: dict[str, Fraction] = {}
    per_question_type: dict[str, Fraction] = {}
    breakdown: dict[
        str, dict[str, Metric]
    ] = {}  # the primary metric by what examples are like: kind → group → figure
    recipe: dict[str, str]  # name, hash, and experiment: equal for other seeds of the same
    expect: Expect | None = None
    training_splits: list[str]
    contaminated: bool
    model: dict[str, Any]  # name, parameters, checkpoint_sha256
    data: dict[str, str]  # source, manifest_hash
    seed: Whole
    code: dict[str, Any]  # version, commit, clean
    libraries: dict[str, str]
    device: str
    processes: Whole
    batch_size: Whole
    seconds: Annotated[float, Field(ge=0)]
    training: dict[str, Any] = {}  # steps, seconds, score on the split that picked the checkpoint
    command: str

    @model_validator(mode="before")
    @classmethod
    def known_version(cls, values: Any) -> Any:
        version = values.get("schema_version") if isinstance(values, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise ValueError(
                f"schema_version {version} is newer than what this version reads, {SCHEMA_VERSION}; update vle-bench"
            )
        return values

    @model_validator(mode="after")
    def holds_together(self) -> "Record":
        if self.primary_metric not in self.metrics:
            raise ValueError(
                f"primary_metric {self.primary_metric!r} is none of the metrics: {', '.join(self.metrics)}"
            )
        for group, needed in (
            ("recipe", {"name", "hash"}),
            ("data", {"source", "manifest_hash"}),
            ("model", {"name"}),
        ):
            if missing := needed - getattr(self, group).keys():
                raise ValueError(f"{group} has no {min(missing)!r}")
        for key, value in self.recipe.items():
            if not re.fullmatch(rf"{NAME}( \+ {NAME})*" if key == "name" else PARTS, value):
                raise ValueError(f"recipe.{key}: {value!r} is no name")
        parameters = self.model.get("parameters", 1)
        if isinstance(parameters, bool) or not isinstance(parameters, int) or parameters < 1:
            raise ValueError(f"model.parameters: {parameters!r} is no number of parameters")
        if self.code.get("commit") is None and self.code.get("clean") is not None:
            raise ValueError("code.clean says what of a commit, and code.commit is not given")
        if self.code.get("commit") is not None and not isinstance(self.code.get("clean"), bool):
            raise ValueError(
                "code.clean must be true or false where code.commit is given: was the tree as committed?"
            )
        for name, metric in self.metrics.items():
            if (
                metric.interval
                and not metric.interval[0] - ROUNDING
                <= metric.value
                <= metric.interval[1] + ROUNDING
            ):
                raise ValueError(
                    f"metrics.{name}: {metric.value} is outside of its interval {list(metric.interval)}"
                )
        return self


def picked_on(record: Record) -> str:
    """Which split chose the checkpoint among those of its training, in a sentence."""
    split = record.training.get("split")
    if split is None:
        return "The record does not say on which split the checkpoint was picked."
    if split == record.split:
        return f"The checkpoint was picked on the very split that is reported ({split}): the score flatters it."
    return f"The checkpoint was picked on the split {split}; {record.split} had no part in it."


def load_record(path: Path) -> Record:
    """Read a record of this schema version or an earlier one.

    Raises:
        RequestError: no such file, not JSON, or no valid record; names the file and the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return Record.model_validate(
            json.loads(text, parse_constant=refuse_constant, object_pairs_hook=once)
        )
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such result record") from error
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}: not JSON, it ends or breaks at line {error.lineno}") from error
    except ValidationError as error:
        problems = [describe(problem) for problem in error.errors()]
        raise RequestError(
            f"{path}: "
            + "; ".join(problems[:3])
            + (f"; and {len(problems) - 3} more" * (len(problems) > 3))
        ) from error
    except (OSError, ValueError) as error:  # no permission, not UTF-8, NaN
        raise RequestError(f"{path}: no result record: {error}") from error


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which every key stands once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        double = next(key for key, _ in pairs if sum(other == key for other, _ in pairs) > 1)
        raise ValueError(f"the key {double!r} stands twice")
    return found


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no figure")


def describe(problem: Any) -> str:
    """One of pydantic's errors → `dotted.key: what is wrong`."""
    where = ".".join(map(str, problem["loc"]))
    message = (
        "unknown field"
        if problem["type"] == "extra_forbidden"
        else problem["msg"].removeprefix("Value error, ")
    )
    return f"{where}: {message}" if where else message
