"""The result record: what was measured, on what, by which code. Every table is rendered from these."""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vle_bench import json_files
from vle_bench.errors import RequestError

SCHEMA_VERSION = 4  # 2: breakdown; 3: experiment, expect, ids_sha256; 4: precision


ROUNDING = 1e-9  # a mean summed in another order

# Names that become parts of file names
NAME, PARTS = r"[A-Za-z0-9][\w.-]*", r"[\w.-]+( \+ [\w.-]+)*"

_PRECISION = "(fp32|bf16|fp16)"

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
    """One evaluation of one checkpoint on one split.

    The `kind` says where the checkpoint was trained: `run`, by a recipe of ours; `elsewhere`, by others, so that it has neither
    recipe nor seed, and `training_splits` is empty where nobody has said what it was trained on.
    """

    kind: Literal["run", "elsewhere"] = "run"
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
    recipe: dict[str, str] = {}  # name, hash, and experiment: equal for other seeds of the same
    expect: Expect | None = None
    training_splits: list[str]
    contaminated: bool
    # name, parameters, checkpoint_sha256, files_sha256 (config.json and the processor's files), resize (how a picture became the model's square); trained elsewhere: also
    # max_text_length, pictures, and `asked`, what was not as its folder says
    model: dict[str, Any]
    data: dict[str, str]  # source, manifest_hash
    # Resolved; two joined runs of different precision have both. None: not known.
    precision: Annotated[str, Field(pattern=rf"^{_PRECISION}( \+ {_PRECISION})?$")] | None = None
    seed: Whole | None = None
    code: dict[str, Any]  # version, commit, clean
    libraries: dict[str, str]
    device: str
    processes: Whole
    batch_size: Whole
    seconds: Annotated[float, Field(ge=0)]
    training: dict[
        str, Any
    ] = {}  # steps, seconds, precision, score on the split that picked the checkpoint
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
        of_a_run = self.kind == "run"
        for group, needed in (
            ("recipe", {"name", "hash"} if of_a_run else set()),
            ("data", {"source", "manifest_hash"}),
            ("model", {"name"} if of_a_run else {"name", "checkpoint_sha256"}),
        ):
            if missing := needed - getattr(self, group).keys():
                raise ValueError(f"{group} has no {min(missing)!r}")
        if of_a_run and self.seed is None:
            raise ValueError("seed: the record of a run has one")
        if not of_a_run and (self.recipe or self.seed is not None):
            raise ValueError(
                "kind elsewhere: a checkpoint that was trained elsewhere has neither recipe nor seed here"
            )
        if not of_a_run and not re.fullmatch(rf"{NAME}( \+ {NAME})*", str(self.model["name"])):
            raise ValueError(f"model.name: {self.model['name']!r} is no name")
        if not of_a_run and not re.fullmatch(
            r"[0-9a-f]{64}( \+ [0-9a-f]{64})*", str(self.model["checkpoint_sha256"])
        ):
            raise ValueError(
                f"model.checkpoint_sha256: {self.model['checkpoint_sha256']!r} is no SHA-256"
            )
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

    @property
    def title(self) -> str:
        """What tables call it: the recipe, or the checkpoint that was trained elsewhere, with what was not as its folder says."""
        asked = self.model.get("asked")
        return (
            self.recipe["name"]
            if self.kind == "run"
            else self.model["name"] + (f", {asked}" if asked else "")
        )

    @property
    def identity(self) -> str:
        """Equal for the seeds of one experiment, and for the splits that one checkpoint from elsewhere was scored on."""
        if self.kind == "run":
            return self.recipe.get("experiment", self.recipe["hash"])
        digest, asked = self.model["checkpoint_sha256"], self.model.get("asked")
        if files := self.model.get("files_sha256"):  # earlier versions did not say
            digest = hashlib.sha256(f"{digest} {files}".encode()).hexdigest()
        return hashlib.sha256(f"{digest} {asked}".encode()).hexdigest() if asked else digest

    @property
    def of_unknown_training(self) -> bool:
        """Nobody has said which splits it was trained on; they may be the one that is scored."""
        return self.kind == "elsewhere" and not self.training_splits

    @property
    def ranked(self) -> bool:
        """Whether the score says anything of images that the model has not seen."""
        return not self.contaminated and not self.of_unknown_training


class Progress(Group):
    """How far a training was, and the score that picked the checkpoint."""

    model_config = ConfigDict(extra="allow")

    step: Whole | None = None
    steps: Whole | None = None
    seconds: Annotated[float, Field(ge=0)] = 0
    split: str | None = None
    score: Fraction | None = None


class Inputs(Group):
    """How texts become tensors; the tasks have further keys of their own."""

    model_config = ConfigDict(extra="allow")

    max_text_length: Whole
    most_objects: Annotated[int, Field(strict=True)] | None = None
    alignment: bool | None = None


class Training(Group):
    """What a checkpoint folder says of its training, as far as a record repeats it."""

    model_config = ConfigDict(extra="allow")

    task: str
    recipe: dict[str, str]
    expect: Expect | None = None
    seed: Whole
    inputs: Inputs
    training_splits: list[str]
    progress: Progress

    @model_validator(mode="after")
    def names_a_recipe(self) -> "Training":
        if missing := {"name", "hash"} - self.recipe.keys():
            raise ValueError(f"recipe has no {min(missing)!r}")
        for key, value in self.recipe.items():
            if not re.fullmatch(NAME if key == "name" else PARTS, value):
                raise ValueError(f"recipe.{key}: {value!r} is no name")
        return self


def flattered(record: Record) -> bool:
    """Whether the split that is reported also picked the checkpoint among those of its training."""
    training = record.training
    return training.get("split") == record.split and training.get("selection") != "last"


def precision_of(record: Record) -> str:
    """`bf16`, or `fp32, trained in bf16`; empty where the record does not say."""
    trained = record.training.get("precision", record.precision)
    if record.precision is None:
        return ""
    return record.precision + (f", trained in {trained}" if trained != record.precision else "")


def picked_on(record: Record) -> str:
    """Which split chose the checkpoint among those of its training, in a sentence."""
    split = record.training.get("split")
    if record.training.get("selection") == "last":
        return "The checkpoint is the last of its training: no split picked it."
    if record.kind == "elsewhere":
        return "The checkpoint was trained elsewhere; how it was picked is not known."
    if split is None:
        return "The record does not say on which split the checkpoint was picked."
    if flattered(record):
        return f"The checkpoint was picked on the very split that is reported ({split}): the score flatters it."
    return f"The checkpoint was picked on the split {split}; {record.split} had no part in it."


def load_record(path: Path) -> Record:
    """Read a record of this schema version or an earlier one.

    Raises:
        RequestError: no such file, not JSON, or no valid record; names the file and the key.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such result record") from error
    except OSError as error:  # no permission, a folder
        raise RequestError(f"{path}: no result record: {error}") from error
    return parse_record(content, path)


def parse_record(content: bytes, path: Path) -> Record:
    """As `load_record`, of the bytes of a file that was read before."""
    try:
        text = content.decode("utf-8-sig")
        return Record.model_validate(json_files.loads(text, parse_constant=refuse_constant))
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}: not JSON, it ends or breaks at line {error.lineno}") from error
    except ValidationError as error:
        problems = [describe(problem) for problem in error.errors()]
        raise RequestError(
            f"{path}: "
            + "; ".join(problems[:3])
            + (f"; and {len(problems) - 3} more" * (len(problems) > 3))
        ) from error
    except ValueError as error:  # not UTF-8, NaN
        raise RequestError(f"{path}: no result record: {error}") from error


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
