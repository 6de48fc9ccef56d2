"""Published figures as data, each with where and how it was read: `leaderboards/published.yaml`, typed and checked."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vle_bench import strict_yaml
from vle_bench.errors import RequestError, closest

PACKAGE = Path(__file__).parent
ACCURACIES = ("accuracy", "accuracy_yes_no", "accuracy_number", "accuracy_other", "accuracy_not_yes_no")
# What there is of each data: splits, tasks, metrics. VLE's README calls VCR's validation split "dev".
VCR_TASKS = ("vcr_q2a", "vcr_qa2r", "vcr_q2ar")
RETRIEVAL_TASKS = ("text_retrieval", "image_retrieval")
EXISTING: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "vqav2": (("test-dev", "test-std"), ("vqa",), ACCURACIES[:4]),
    "vcr": (("val", "test"), VCR_TASKS, ("accuracy",)),
    "flickr30k": (("test",), RETRIEVAL_TASKS, ("recall_at_1",)),
    "coco": (("test",), RETRIEVAL_TASKS, ("recall_at_1",)),  # Karpathy's 5,000 images
    "easy-vqa": (("test",), ("vqa",), ("accuracy", "accuracy_not_yes_no")),
}


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mark(Group):
    sign: str
    text: str


class Source(Group):
    document: str
    table: str | None = None
    """Table or section of the document, where one was noted."""
    url: str | None = None


class Pretraining(Group):
    image_text_pairs: Annotated[int, Field(gt=0)]
    images: Annotated[int, Field(gt=0)] | None = None
    text_gigabytes: Annotated[int, Field(gt=0)] | None = None
    approximate: bool = False


class Model(Group):
    name: str
    parameters: Annotated[int, Field(gt=0)] | None = None
    """Encoders and embeddings, without task heads; None: not read anywhere."""
    pretraining: Pretraining | Literal["unknown"] | None = None
    """unknown: the source says so; None: not read anywhere."""
    recipes: tuple[str, ...] = ()
    """Names of the shipped recipes that fine-tune it."""


class Score(Group):
    """One published figure, in percent."""

    model: str
    data: Literal["vqav2", "vcr", "flickr30k", "coco", "easy-vqa"]
    task: str
    split: str
    metric: str = "accuracy"
    value: Annotated[Decimal, Field(ge=0, le=100, allow_inf_nan=False)]
    """A string in the file, so that the decimals of the source are kept: "82.0"."""
    n: int | None = None
    source: str
    read_as: Literal["paper", "readme", "mirror", "computed", "unstated"]
    marks: tuple[str, ...] = ()


class SplitSize(Group):
    """How many examples a split has; a record of it has as many."""

    data: Literal["vqav2", "vcr", "easy-vqa", "shapes-vcr"]
    split: str
    n: Annotated[int, Field(gt=0)]
    source: str


class Published(Group):
    marks: dict[str, Mark]
    sources: dict[str, Source]
    models: tuple[Model, ...]
    scores: tuple[Score, ...]
    split_sizes: tuple[SplitSize, ...]

    @model_validator(mode="after")
    def holds_together(self) -> "Published":
        problems = [*self._names(), *self._places(), *self._doubles()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _names(self) -> Iterator[str]:
        """What is referred to is defined."""
        known = {"model": [m.name for m in self.models], "source": list(self.sources), "marks": list(self.marks)}
        for i, score in enumerate(self.scores):
            # easy-VQA's baselines and models are no encoders, so they have no entry among the models
            wanted = [("model", score.model)] if score.data != "easy-vqa" else []
            for key, name in [*wanted, ("source", score.source), *(("marks", mark) for mark in score.marks)]:
                if name not in known[key]:
                    yield f"scores.{i}.{key}: {name!r} is not defined; nearest: {closest(name, known[key])} ({score.model})"
        for i, size in enumerate(self.split_sizes):
            if size.source not in self.sources:
                yield f"split_sizes.{i}.source: {size.source!r} is not defined; nearest: {closest(size.source, known['source'])}"

    def _places(self) -> Iterator[str]:
        """A figure is of a split, a task and a metric that its data has."""
        for i, score in enumerate(self.scores):
            for key, there in zip(("split", "task", "metric"), EXISTING[score.data], strict=True):
                if (value := getattr(score, key)) not in there:
                    yield f"scores.{i}.{key}: {score.data} has no {value!r}; there are {', '.join(there)} ({score.model})"

    def _doubles(self) -> Iterator[str]:
        figures = Counter((s.model, s.data, s.task, s.split, s.metric, s.source, s.marks) for s in self.scores)
        yield from (f"scores: {' '.join(f[:5])} stands twice with the same source and marks" for f, n in figures.items() if n > 1)
        yield from (f"models: {name} stands twice" for name, n in Counter(m.name for m in self.models).items() if n > 1)
        recipes = Counter(recipe for m in self.models for recipe in m.recipes)
        yield from (f"models: the recipe {name} belongs to two models" for name, n in recipes.items() if n > 1)


def load_published(root: Path) -> Published:
    """published.yaml of the folder, or the shipped one where it has none.

    Raises:
        RequestError: no such file, no YAML, or wrong entries: every problem, one a line, with file and key.
    """
    places = [root, PACKAGE / "leaderboards", PACKAGE.parent / "leaderboards"]
    file = next((f for p in places if (f := p / "published.yaml").is_file()), None)
    if file is None:
        raise RequestError(f"{root}: no published.yaml there")
    values = strict_yaml.read_group(file)
    try:
        return Published.model_validate(values)
    except ValidationError as error:
        lines = [line for problem in error.errors() for line in describe(problem, values)]
        raise RequestError("\n".join(f"{file}: {line}" for line in dict.fromkeys(lines))) from error


def describe(problem: Any, values: dict[str, Any]) -> list[str]:
    """One of pydantic's errors → `scores.17.value: what is wrong (model)`; our own checks are such lines already."""
    if problem["type"] == "value_error" and not problem["loc"]:
        return problem["msg"].removeprefix("Value error, ").splitlines()
    where, message = ".".join(map(str, problem["loc"])), problem["msg"]
    if problem["type"] == "extra_forbidden":
        message = "unknown key"
    elif problem["type"] == "missing":
        message = "this key is needed"
    else:
        message = f"{message[:1].lower()}{message[1:]}, not {problem['input']!r}"
    group, index = (*problem["loc"], None, None)[:2]
    entry = values[group][index] if group in ("models", "scores") and isinstance(index, int) else {}
    name = entry.get("model", entry.get("name")) if isinstance(entry, dict) else None
    return [f"{where}: {message}" + (f" ({name})" if name else "")]
