"""The published figures: published.yaml, typed and checked."""

import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from vle_bench.data.sources import SOURCES
from vle_bench.errors import RequestError, closest
from vle_bench.strict_yaml import Group, read_group

PACKAGE = Path(__file__).parents[1]
# A mapping as YAML gives it
Values = dict[str, Any]
# pydantic's names for the branches of `Model.pretraining`
UNION = ["Pretraining", "literal['unknown']"]
FIGURE = re.compile(r"\d+(\.\d+)?")

# The names that published.yaml may give; a type checker cannot read them from the rows.
if TYPE_CHECKING:
    PublishedSource = str
    PublishedTask = str
    PublishedMetric = str
    SizedSource = str
else:
    _ROWS = SOURCES.values()
    _TASKS = dict.fromkeys(task for row in _ROWS for task in row.metrics)
    _METRICS = dict.fromkeys(m for row in _ROWS for some in row.metrics.values() for m in some)
    PublishedSource = Literal[tuple(name for name, row in SOURCES.items() if row.metrics)]
    PublishedTask = Literal[tuple(_TASKS)]
    PublishedMetric = Literal[tuple(_METRICS)]
    SizedSource = Literal[tuple(name for name, row in SOURCES.items() if row.sized)]


def as_printed(value: object) -> Decimal:
    """Parse a figure in percent and keep the decimals of its source: "82.0" stays 82.0."""
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str):
        raise ValueError(
            f'write it in quotes, "{value}", so that every decimal of the source is kept'
        )
    if not FIGURE.fullmatch(value):
        raise ValueError(
            f'{value!r} is no figure in percent; write it as the source prints it, such as "77.68"'
        )
    if Decimal(value) > 100:
        raise ValueError(f"{value} is not between 0 and 100; figures are in percent")
    return Decimal(value)


Percent = Annotated[Decimal, Field(ge=0, le=100), BeforeValidator(as_printed)]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Keys = Annotated[tuple[Text, ...], Field(strict=False)]


class Mark(Group):
    """A footnote, and the sources of its text if they are not those of the marked figures."""

    sign: Text
    text: Text
    sources: Keys = ()


class Source(Group):
    """The source of a figure; `table` may be a section."""

    document: Text
    table: Text | None = None
    url: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None


class Pretraining(Group):
    """Pre-training data: pairs, images without text, gigabytes of text without images."""

    image_text_pairs: Count
    images: Count | None = None
    text_gigabytes: Count | None = None
    approximate: bool = False


class Remark(Group):
    """A remark on a model's size or data, and its source."""

    text: Text
    source: Text


class Weights(Group):
    """The status of a published row's weights, and the command that scores them here.

    Args:
        status: `not public`; `public`, but not in transformers; `live`. text: a substitute, or
            their place.
        measure: the command that scores them here; for live ones only.
    """

    status: Literal["not public", "public", "live"]
    text: Text
    source: Text
    measure: Text | None = None

    @model_validator(mode="after")
    def only_live_ones_are_measured(self) -> "Weights":
        if (self.measure is not None) != (self.status == "live"):
            raise ValueError(
                "measure: the command that scores weights which are live is needed, and for no "
                "others"
            )
        return self


class Model(Group):
    """A published model.

    Args:
        parameters: of encoders and embeddings, without task heads.
        pretraining: `unknown` if the source says so, None if no source was read.
        recipes: names of the shipped recipes that fine-tune it.
        remarks: shown below the tables that have a row of it.
        weights: None if nobody has looked.
    """

    name: Text
    parameters: Count | None = None
    pretraining: Pretraining | Literal["unknown"] | None = None
    recipes: Keys = ()
    remarks: Annotated[tuple[Remark, ...], Field(strict=False)] = ()
    weights: Weights | None = None


class Score(Group):
    """One published figure, in percent; `n` if it is not of the whole split."""

    model: Text
    data: PublishedSource
    task: PublishedTask
    split: Text
    metric: PublishedMetric = "accuracy"
    value: Percent
    n: Count | None = None
    source: Text
    read_as: Literal["paper", "readme", "mirror", "computed", "unstated"]
    marks: Keys = ()

    @model_validator(mode="after")
    def belongs_to_data(self) -> "Score":
        """Refuse a split, task or metric that the data do not have."""
        problems = []
        splits = SOURCES[self.data].published
        if self.split not in splits:
            problems.append(
                f"split: {self.split!r} is no split of {self.data}; there are {', '.join(splits)}"
            )
        tasks = SOURCES[self.data].metrics
        if self.task not in tasks:
            known = ", ".join(tasks)
            problems.append(f"task: {self.task} is not measured on {self.data}; there are {known}")
        elif self.metric not in tasks[self.task]:
            known = ", ".join(tasks[self.task])
            problems.append(
                f"metric: {self.metric} is no metric of {self.task} on {self.data}; "
                f"there are {known}"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def identity(self) -> tuple[object, ...]:
        """The values that no two figures may share."""
        return (
            self.model,
            self.data,
            self.task,
            self.split,
            self.metric,
            self.source,
            frozenset(self.marks),
        )


class SplitSize(Group):
    """The official number of a split's questions."""

    data: SizedSource
    split: Text
    n: Count
    source: Text

    @model_validator(mode="after")
    def belongs_to_data(self) -> "SplitSize":
        splits = SOURCES[self.data].sized
        if self.split not in splits:
            raise ValueError(
                f"split: {self.split!r} is no split of {self.data}; there are {', '.join(splits)}"
            )
        return self


class Published(Group):
    """The whole of published.yaml."""

    marks: dict[str, Mark]
    sources: dict[str, Source]
    models: Annotated[tuple[Model, ...], Field(strict=False)]
    scores: Annotated[tuple[Score, ...], Field(strict=False)]
    split_sizes: Annotated[tuple[SplitSize, ...], Field(strict=False)]

    @model_validator(mode="after")
    def holds_together(self) -> "Published":
        problems = [*undefined(self), *repeated(self)]
        if problems:
            raise ValueError("\n".join(problems))
        return self


def undefined(published: Published) -> Iterator[str]:
    """Yield names that are used and not defined."""
    names = [model.name for model in published.models]
    for place, score in enumerate(published.scores):
        if score.model not in names:
            yield f"scores.{place}.model: " + not_among(score.model, "models", names)
        for mark in score.marks:
            if mark not in published.marks:
                yield f"scores.{place}.marks: " + not_among(mark, "marks", list(published.marks))
    places = [(f"scores.{place}", score.source) for place, score in enumerate(published.scores)]
    places += [
        (f"marks.{key}.sources", source)
        for key, mark in published.marks.items()
        for source in mark.sources
    ]
    for place, model in enumerate(published.models):
        places += [
            (f"models.{place}.remarks.{n}", one.source) for n, one in enumerate(model.remarks)
        ]
        places += [(f"models.{place}.weights", one.source) for one in [model.weights] if one]
    places += [
        (f"split_sizes.{place}", size.source) for place, size in enumerate(published.split_sizes)
    ]
    for key, source in places:
        if source not in published.sources:
            key = key if key.endswith("sources") else f"{key}.source"
            yield f"{key}: " + not_among(source, "sources", list(published.sources))


def not_among(name: str, group: str, names: list[str]) -> str:
    instead = f", or use {closest(name, names)!r}" if names else ""
    return f"{name!r} is not among the {group}; define it there{instead}"


def repeated(published: Published) -> Iterator[str]:
    """Yield entries that are the same as others."""
    signs: dict[str, str] = {}
    for key, mark in published.marks.items():
        if (first := signs.setdefault(mark.sign, key)) != key:
            yield f"marks.{key}.sign: {mark.sign} is the sign of {first}; take another"
    for name, count in Counter(model.name for model in published.models).items():
        if count > 1:
            yield f"models: {name} occurs {count} times; join the entries"
    owners: dict[str, str] = {}
    for place, model in enumerate(published.models):
        for recipe in model.recipes:
            if recipe in owners:
                owner = owners[recipe]
                yield (
                    f"models.{place}.recipes: {recipe} is a recipe of {owner}; "
                    "a recipe fine-tunes one model"
                )
            owners.setdefault(recipe, model.name)
    seen: dict[tuple[object, ...], int] = {}
    for place, score in enumerate(published.scores):
        if (earlier := seen.setdefault(score.identity, place)) != place:
            same = "the same model, task, split, metric, source and marks"
            yield f"scores.{place}: {same} as scores.{earlier}; remove one, or mark it"
    sizes = Counter((size.data, size.split) for size in published.split_sizes)
    for (data, split), count in sizes.items():
        if count > 1:
            yield f"split_sizes: {split} of {data} occurs {count} times; keep one"


def load_published(root: Path) -> Published:
    """Read published.yaml of the folder, or the shipped one.

    Raises:
        RequestError: every problem on a line of its own: file, key, whose figure, what is wrong and
            the way out. References between entries are checked once each entry is valid.
    """
    places = [root, PACKAGE / "leaderboards", PACKAGE.parent / "leaderboards"]
    file = next((f for p in places if (f := p / "published.yaml").is_file()), None)
    if file is None:
        raise RequestError(f"{root}: no published.yaml there")
    values = read_group(file)
    try:
        return Published.model_validate(values)
    except ValidationError as error:
        lines = [f"{file}: {line}" for one in error.errors() for line in error_lines(one, values)]
        raise RequestError("\n".join(dict.fromkeys(lines))) from error


def error_lines(error: ErrorDetails, values: Values) -> list[str]:
    """Return one of pydantic's errors as lines such as `scores.17.value (BLIP): what is wrong`."""
    parts = [str(part) for part in error["loc"]]
    # pydantic names the branch of a union too
    location = [part for part in parts if part not in UNION]
    given = error["input"]
    if parts[-1:] == UNION[1:]:
        # for a group, the error of the other branch names the problem
        if isinstance(given, dict):
            return []
        expected = "'unknown', or a group with image_text_pairs, or null"
        return [labelled(location, f"{expected}; not {given!r}", values)]
    # the problem of the other branch says it already
    if parts[-1:] == UNION[:1]:
        return []
    if error["type"] == "extra_forbidden":
        nearest = closest(location[-1], list(group_at(parts).model_fields))
        return [labelled(location, f"unknown key; nearest valid key: {nearest}", values)]
    if error["type"] == "missing":
        return [labelled(location, "this key is needed", values)]
    message = error["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    # our own checks of a group begin their messages with the key
    if error["type"] == "value_error" and isinstance(given, dict):
        own = (text.partition(": ") for text in message.splitlines())
        return [labelled([*location, *key.split(".")], rest, values) for key, _, rest in own]
    if error["type"] == "value_error":
        return [labelled(location, message, values)]
    instead = "" if isinstance(given, dict | list) else f", not {given!r}"
    return [labelled(location, f"{message[:1].lower()}{message[1:]}{instead}", values)]


def group_at(location: list[str]) -> type[Group]:
    """Return the class of the group that a key was given in."""
    for part, group in ((UNION[0], Pretraining), ("weights", Weights), ("remarks", Remark)):
        if part in location[:-1]:
            return group
    groups: dict[str, type[Group]] = {
        "marks": Mark,
        "sources": Source,
        "models": Model,
        "scores": Score,
        "split_sizes": SplitSize,
    }
    return groups[location[0]] if len(location) > 1 else Published


def labelled(location: list[str], message: str, values: Values) -> str:
    """Return location and message, with a name in place of an index that is hard to count."""
    entries = values.get(location[0])
    entry = entries[int(location[1])] if len(location) > 1 and isinstance(entries, list) else None
    keys = [key for key in ("model", "name", "data") if isinstance(entry, dict) and entry.get(key)]
    name = f" ({entry[keys[0]]})" if entry and keys else ""
    return f"{'.'.join(location)}{name}: {message}"
