"""The YAML that describes users' own data, strict as a recipe; a data file alone needs none."""

import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from vle_bench import strict_yaml
from vle_bench.data.sources import OWN_FORMS
from vle_bench.errors import RequestError
from vle_bench.metrics.vqa import ACCURACIES
from vle_bench.strict_yaml import Group, validated

SPLITS = ("train", "val", "test")
FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}
HUB = "hub:"
YAML = (".yaml", ".yml")
ROUNDING = 1e-9  # of a sum of fractions
CHOICE_COLUMNS = {"boxes", "choices"}  # that only form choice knows

S = TypeVar("S", bound="DataFiles")
Text = Annotated[str, Field(min_length=1, max_length=1000)]
Part = Annotated[float, Field(gt=0, lt=1, strict=False)] | Text | None


class Columns(Group):
    """Our column: theirs; null for one that is not wanted."""

    image: Text = "image"
    """A path, encoded bytes, or a picture of the `datasets` library."""
    question: Text = "question"
    answers: Text | None = "answers"
    """A string, a list of strings, or a list of {answer, confidence}; `answer` is taken too."""
    choices: Text = "choices"
    """Form choice: a list of 2 to 26 texts, of which `answers` is one: its text, or its index from
    0."""
    boxes: Text | None = "boxes"
    """Form choice: the objects that texts tag as [0], [1], ..., a list of {name, box: [x1, y1, x2,
    y2]} in pixels; null leaves such a column out."""
    id: Text | None = "id"
    """Unique id; without it the id is made of picture and question."""
    group: Text | None = "group"
    """Questions of one group stay in one split: a patient, a film, a customer."""
    question_type: Text | None = "question_type"
    """Groups for the breakdown of scores; without it the first word of the question."""
    answer_type: Text | None = "answer_type"
    """Groups for the breakdown of scores; without it yes/no, number or other."""


class Splits(Group):
    train: Part = None
    """A share of all questions, a file, or the name of a split of the source."""
    val: Part = None
    test: Part = None
    by: Literal["id", "group", "image"] | None = None
    """The column that is hashed for a share; null: the group if there is one, else the picture."""

    @model_validator(mode="after")
    def one_kind(self) -> "Splits":
        parts = self.given()
        shares = [part for part in parts.values() if isinstance(part, float)]
        if not parts:
            raise ValueError("names no split; train, val and test are the splits")
        if shares and len(shares) < len(parts):
            raise ValueError("shares and files cannot be mixed")
        if shares and abs(sum(shares) - 1) > ROUNDING:
            raise ValueError(f"the shares add up to {sum(shares):g}, not to 1")
        if not shares and self.by is not None:
            raise ValueError("splits.by: goes with shares; these splits are given")
        return self

    def given(self) -> dict[str, float | str]:
        """Return the splits that are wanted, in order."""
        parts = {name: getattr(self, name) for name in SPLITS}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def shares(self) -> bool:
        return any(isinstance(part, float) for part in self.given().values())


class Answers(Group):
    min_count: int = Field(1, ge=1, le=10**9)
    """Classes are the majority answers of at least this number of training questions."""
    vocabulary: Text | None = None
    """A file with the classes, see `prepare --label-map`; null to count them."""
    metric: Literal[tuple(ACCURACIES)] | None = None  # type: ignore[valid-type]
    """`exact`: equal after the official normalisation; `vqa`: official, ten answers a question;
    `soft`: min(1, n / 3). null for exact with one answer a question, vqa with ten, else soft."""


class DataFiles(Group):
    """Data that a user brings.

    `source` is a file (.csv, .tsv, .json, .jsonl, .parquet), a folder (imagefolder or
    `save_to_disk`), or hub:owner/name[@revision].
    """

    source: Text | None = None
    images: Text | None = None
    """Folder that relative paths of pictures start from; null for that of the data file."""
    splits: Splits | None = None
    """Splits; null for those of the source, or else shares of a single file."""

    @model_validator(mode="after")
    def one_source(self) -> "DataFiles":
        files = self.splits is not None and not self.splits.shares
        if self.source is None and not files:
            raise ValueError("source: this key is needed, or a file for each of splits")
        if self.source and self.source.startswith(HUB):
            hub_name(self.source)
        return self


class Spec(DataFiles):
    """Users' own questions; without splits a single file is divided by 0.8, 0.1 and 0.1."""

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][\w.-]*$")
    """Name in records and tables; null for the name of the output folder."""
    form: Literal[OWN_FORMS] = OWN_FORMS[0]  # type: ignore[valid-type]
    columns: Columns = Field(default_factory=Columns)
    answers: Answers = Field(default_factory=Answers)

    @model_validator(mode="after")
    def keys_fit_form(self) -> "Spec":
        if self.form == "choice":
            if given := sorted(self.answers.model_fields_set):
                raise ValueError(f"answers.{given[0]}: form choice has no vocabulary; leave it out")
            if self.columns.answers is None:
                raise ValueError("columns.answers: form choice needs the right choice")
        elif self.columns.model_fields_set & CHOICE_COLUMNS:
            name = min(self.columns.model_fields_set & CHOICE_COLUMNS)
            raise ValueError(f"columns.{name}: goes with form: choice")
        return self


def hub_name(source: str) -> tuple[str, str | None]:
    """Return repository and revision of `hub:owner/name@revision`."""
    match = re.fullmatch(r"hub:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", source, re.ASCII)
    if match is None:
        raise ValueError(f"source: {source!r} is not of the form hub:owner/name[@revision]")
    return match[1], match[2]


def read_spec(given: str, kind: type[S]) -> tuple[S, Path | None]:
    """Read a YAML, or make the spec of a data file, a folder or a dataset of the hub.

    Args:
        kind: `Spec`, or another description of data files.

    Returns:
        The spec, and the folder of the YAML, from which its paths may start.

    Raises:
        RequestError: a line for every problem: file, dotted key, message, nearest valid key.
    """
    path = Path(given)
    if path.suffix.lower() not in YAML:
        return validated(kind, {"source": given}, given), None
    if not path.is_file():
        raise RequestError(f"{path}: no such file")
    return validated(kind, strict_yaml.read_group(path), given), path.parent


def find(text: str, beside: Path | None) -> Path:
    """Return the file or folder that a spec names, from the current folder or from the YAML's."""
    here = Path(text)
    if beside is None or here.is_absolute():
        places = [here]
    else:
        places = [here, beside / here]
    existing = {path.resolve(): path for path in places if path.exists()}
    if len(existing) > 1:
        raise RequestError(
            f"{places[0]} and {places[1]}: both exist; give an absolute path, or remove one"
        )
    if not existing:
        also = f", nor {places[1]}" if places[-1] != places[0] else ""
        raise RequestError(f"{places[0]}: no such file or folder{also}")
    return next(iter(existing.values()))
