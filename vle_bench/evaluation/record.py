"""The result record: scores, data, checkpoint and code. Every table is rendered from records."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vle_bench.data.splits import name_in, other_name, same_dataset
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, loads, reading
from vle_bench.tasks.predictions import Id

# 2: breakdown; 3: experiment, expect, ids_sha256; 4: precision; 5: training_data;
# 6: contaminated may be unknown; 7: kind external; 8: pretraining, mixed
SCHEMA_VERSION = 8
NOT_KNOWN = "not known"  # the training data of a checkpoint of an earlier version
ROUNDING = 1e-9  # of a mean that is summed in another order
# Names that become parts of file names
NAME, PARTS = r"[A-Za-z0-9][\w.-]*", r"[\w.-]+( \+ [\w.-]+)*"
NAMES = rf"{NAME}( \+ {NAME})*"
TITLE = r"[A-Za-z0-9][\w .,:()+-]{0,79}"  # of a model known only by its predictions
SHA256 = r"[0-9a-f]{64}"
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
    """The published score that the recipe should reproduce.

    Args:
        value: in percent.
        tolerance: in points.
    """

    metric: str
    split: str
    value: float
    tolerance: Annotated[float, Field(ge=0)]
    source: str


class Record(Group):
    """One evaluation of one checkpoint on one split, or of predictions of any program.

    The `kind` says where the checkpoint was trained: `run`, by a recipe of ours; `elsewhere`, by
    others, so that it has neither recipe nor seed, and `training_splits` is empty if its training
    data is unknown; `external`, predictions that another program made, so that there is no code
    either, and the digest is that of the file.
    """

    kind: Literal["run", "elsewhere", "external"] = "run"
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
    # The primary metric by kind of example: kind -> group -> metric
    breakdown: dict[str, dict[str, Metric]] = {}
    # name, hash, and experiment, which other seeds of the same recipe share
    recipe: dict[str, str] = {}
    expect: Expect | None = None
    training_splits: list[str]
    contaminated: bool | None  # None: the training data are not known
    # name, class, parameters, checkpoint_sha256, files_sha256 (config.json and the processor's
    # files), and how pictures and texts become input: resize, of VLE and METER; protocol, pictures,
    # max_text_length, prompt, answers and answers_sha256 of others. Trained elsewhere: also
    # revision, of the hub, and `asked`, the settings that were not those of its folder. External:
    # name, predictions_sha256, and as far as they are told parameters, pretraining and source.
    model: JsonObject
    data: dict[str, str]  # source, manifest_hash; name of users' own data; metric
    # The same of the data that the model was trained on; empty if they are not known
    training_data: dict[str, str] = {}
    # If several prepared folders were mixed (data.mix), the same and the weight of each
    mixed: list[JsonObject] = []
    # The trainings that the start of this one comes from, the last first: task, recipe, steps,
    # splits, data (source, manifest_hash and name of each prepared folder), objectives
    pretraining: list[JsonObject] = []
    # Resolved; two joined runs of different precision have both. None: not known.
    precision: Annotated[str, Field(pattern=rf"^{_PRECISION}( \+ {_PRECISION})?$")] | None = None
    seed: Whole | None = None
    code: JsonObject  # version, commit, clean
    libraries: dict[str, str]
    device: str
    processes: Whole
    batch_size: Whole
    seconds: Annotated[float, Field(ge=0)]
    # steps, seconds, precision, score on the split that picked the checkpoint
    training: JsonObject = {}
    command: str

    @model_validator(mode="before")
    @classmethod
    def known_version(cls, values: object) -> object:
        version = values.get("schema_version") if isinstance(values, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise ValueError(
                f"schema_version {version} is newer than what this version reads, "
                f"{SCHEMA_VERSION}; update vle-bench"
            )
        return values

    @model_validator(mode="after")
    def holds_together(self) -> "Record":
        if self.primary_metric not in self.metrics:
            metrics = ", ".join(self.metrics)
            raise ValueError(
                f"primary_metric {self.primary_metric!r} is none of the metrics: {metrics}"
            )
        unknown = self.of_unknown_training or self.trained_on == NOT_KNOWN
        if unknown and not self.contaminated:
            self.contaminated = None  # earlier versions said false
        self.check_groups()
        if self.kind != "run":
            self.check_foreign()
        elif self.seed is None:
            raise ValueError("seed: the record of a run has one")
        check_names(self.recipe, NAMES)
        parameters = self.model.get("parameters", 1)
        if isinstance(parameters, bool) or not isinstance(parameters, int) or parameters < 1:
            raise ValueError(f"model.parameters: {parameters!r} is no number of parameters")
        self.check_code()
        for name, metric in self.metrics.items():
            low, high = metric.interval or (metric.value, metric.value)
            if not low - ROUNDING <= metric.value <= high + ROUNDING:
                raise ValueError(
                    f"metrics.{name}: {metric.value} is outside of its interval {[low, high]}"
                )
        return self

    def check_groups(self) -> None:
        """Check that every group has the keys that tables read."""
        of_a_run = self.kind == "run"
        for group, needed in (
            ("recipe", {"name", "hash"} if of_a_run else set()),
            ("data", {"source", "manifest_hash"}),
            ("model", {"name"} if of_a_run else {"name", self.digest_key}),
        ):
            if missing := needed - getattr(self, group).keys():
                raise ValueError(f"{group} has no {min(missing)!r}")

    def check_foreign(self) -> None:
        """Check the name and the digest of a checkpoint, or of predictions, from elsewhere."""
        name, digest = self.model["name"], self.model[self.digest_key]
        if self.recipe or self.seed is not None:
            raise ValueError(
                f"kind {self.kind}: what was trained elsewhere has neither recipe nor seed here"
            )
        if not re.fullmatch(TITLE if self.kind == "external" else NAMES, str(name)):
            raise ValueError(f"model.name: {name!r} is no name")
        if not re.fullmatch(rf"{SHA256}( \+ {SHA256})*", str(digest)):
            raise ValueError(f"model.{self.digest_key}: {digest!r} is no SHA-256")
        if self.kind == "external" and self.code:
            raise ValueError("kind external: the code that made the predictions is not known")

    def check_code(self) -> None:
        """Check that `clean` goes with a commit."""
        commit, clean = self.code.get("commit"), self.code.get("clean")
        if commit is None and clean is not None:
            raise ValueError("code.clean describes a commit, and code.commit is not given")
        if commit is not None and not isinstance(clean, bool):
            raise ValueError(
                "code.clean must be true or false where code.commit is given: was the tree as "
                "committed?"
            )

    @property
    def digest_key(self) -> str:
        """The key in `model` of the digest of what was scored: weights, or predictions."""
        return "predictions_sha256" if self.kind == "external" else "checkpoint_sha256"

    @property
    def title(self) -> str:
        """The name in tables: the recipe's, or the checkpoint's with its changed settings."""
        if self.kind == "run":
            return self.recipe["name"]
        asked = self.model.get("asked")
        return f"{self.model['name']}, {asked}" if asked else str(self.model["name"])

    @property
    def identity(self) -> str:
        """Equal for the seeds of one experiment, and for one checkpoint or file from elsewhere."""
        if self.kind == "run":
            return self.recipe.get("experiment", self.recipe["hash"])
        digest, asked = self.model[self.digest_key], self.model.get("asked")
        if files := self.model.get("files_sha256"):  # earlier versions did not say
            digest = hashlib.sha256(f"{digest} {files}".encode()).hexdigest()
        return hashlib.sha256(f"{digest} {asked}".encode()).hexdigest() if asked else digest

    @property
    def digests(self) -> str:
        """The first digits of the digests that tell it from namesakes, to be read.

        Of a run its recipe's; of a checkpoint from elsewhere `checkpoint_sha256`, and after a
        stroke `files_sha256` if the record has it; of predictions `predictions_sha256`.
        """
        if self.kind == "run":
            return " + ".join(part[:8] for part in self.identity.split(" + "))
        both = [self.model[k] for k in (self.digest_key, "files_sha256") if k in self.model]
        parts = zip(*(digests.split(" + ") for digests in both), strict=True)
        return " + ".join("/".join(digest[:8] for digest in part) for part in parts)

    @property
    def of_unknown_training(self) -> bool:
        """Tell whether the training splits are unknown; the scored split may be one of them."""
        return self.kind != "run" and not self.training_splits

    @property
    def data_name(self) -> str:
        """Return the name of the scored data: the user's name for their own, else the dataset's."""
        return name_in(self.data)

    @property
    def other_data(self) -> str | None:
        """Return `other_name` of the scored data: None for a model of these data."""
        return other_name(self.data, self.training_data)

    @property
    def trained_on(self) -> str:
        """Return the name of the training data; empty if they are not known."""
        return other_name(self.training_data, self.data) or name_in(self.training_data)

    @property
    def transferred(self) -> bool:
        """Tell whether the model was trained on another dataset than it was scored on."""
        return bool(self.training_data) and not same_dataset(self.training_data, self.data)

    @property
    def ranked(self) -> bool:
        """Tell whether a model of these data was scored on images that it had not seen.

        A model that was trained on another dataset is never ranked among those of this one.
        """
        return not self.contaminated and not self.of_unknown_training and not self.transferred


class Progress(Group):
    """The progress of a training, and the score that picked the checkpoint."""

    model_config = ConfigDict(extra="allow")

    step: Whole | None = None
    steps: Whole | None = None
    seconds: Annotated[float, Field(ge=0)] = 0
    split: str | None = None
    score: Fraction | None = None
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    tf32: bool = False


class Inputs(Group):
    """The settings that turn texts into tensors. The tasks have further keys of their own."""

    model_config = ConfigDict(extra="allow")

    max_text_length: Whole
    most_objects: Annotated[int, Field(strict=True)] | None = None
    alignment: bool | None = None


class Training(Group):
    """training.json of a checkpoint folder, as far as a record repeats it."""

    model_config = ConfigDict(extra="allow")

    task: str
    recipe: dict[str, str]
    expect: Expect | None = None
    seed: Whole
    inputs: Inputs
    data_root: str
    data: dict[str, str] = {}  # source, manifest_hash and name; earlier versions did not say
    training_splits: list[str]
    # If several prepared folders were mixed, the same, `weight` and `root` of each; earlier
    # versions did not say the weight
    mixed: list[JsonObject] = []
    pretraining: list[JsonObject] = []  # of its start, see `vle_bench.evaluation.pretraining`
    progress: Progress

    @model_validator(mode="after")
    def names_a_recipe(self) -> "Training":
        if missing := {"name", "hash"} - self.recipe.keys():
            raise ValueError(f"recipe has no {min(missing)!r}")
        check_names(self.recipe, NAME)
        return self


def check_names(recipe: dict[str, str], name: str) -> None:
    """Refuse a recipe's name or digests that cannot become parts of file names."""
    for key, value in recipe.items():
        if not re.fullmatch(name if key == "name" else PARTS, value):
            raise ValueError(f"recipe.{key}: {value!r} is no name")


def flattered(record: Record) -> bool:
    """Return whether the reported split also picked the checkpoint."""
    training = record.training
    return training.get("split") == record.split and training.get("selection") != "last"


def precision_of(record: Record) -> str:
    """Return `bf16`, or `fp32, trained in bf16`; empty if the record does not say."""
    trained = record.training.get("precision", record.precision)
    if record.precision is None:
        return ""
    return record.precision + (f", trained in {trained}" if trained != record.precision else "")


def picked_on(record: Record) -> str:
    """Say in a sentence which split picked the checkpoint among those of its training."""
    split = record.training.get("split")
    if record.training.get("selection") == "last":
        return "The checkpoint is the last of its training: no split picked it."
    if record.kind == "elsewhere":
        return "The checkpoint was trained elsewhere; how it was picked is not known."
    if record.kind == "external":
        return "The predictions were made elsewhere; how their model was picked is not known."
    if split is None:
        return "The record does not say on which split the checkpoint was picked."
    if flattered(record):
        return (
            f"The checkpoint was picked on the very split that is reported ({split}): the score "
            "flatters it."
        )
    return f"The checkpoint was picked on the split {split}; {record.split} had no part in it."


def either(marks: Iterable[bool | None]) -> bool | None:
    """Return whether one of the marks is true; None where none is and one is not known."""
    distinct = set(marks)
    return True if True in distinct else None if None in distinct else False


def load_record(path: Path) -> Record:
    """Read a record of this schema version or an earlier one.

    Raises:
        RequestError: no such file, not JSON, or no valid record; names the file and the key.
    """
    with reading(path):
        content = path.read_bytes()
    return parse_record(content, path)


def parse_record(content: bytes, path: Path) -> Record:
    """Parse the bytes of a record file; `path` is what errors name."""
    with reading(path):
        values = loads(content.decode("utf-8-sig"))
    try:
        return Record.model_validate(values)
    except ValidationError as error:
        raise RequestError(f"{path}: {first_problems(error)}") from error


def first_problems(error: ValidationError) -> str:
    """Return pydantic's first errors as `dotted.key: message; ...`, on one line."""
    problems = []
    for details in error.errors():
        key = ".".join(map(str, details["loc"]))
        message = details["msg"].removeprefix("Value error, ")
        if details["type"] == "extra_forbidden":
            message = "unknown field"
        problems.append(f"{key}: {message}" if key else message)
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return "; ".join(problems[:3]) + more


def ids_digest(ids: Iterable[Id]) -> str:
    """Return the SHA-256 of a split's ids in order, one a line: equal for the same examples."""
    return hashlib.sha256("".join(f"{i}\n" for i in sorted(ids)).encode()).hexdigest()
