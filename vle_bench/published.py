"""stub"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vle_bench import strict_yaml


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mark(Group):
    sign: str
    text: str


class Source(Group):
    document: str
    table: str | None = None
    url: str | None = None


class Pretraining(Group):
    image_text_pairs: int
    images: int | None = None
    text_gigabytes: int | None = None
    approximate: bool = False


class Model(Group):
    name: str
    parameters: int | None = None
    pretraining: Pretraining | Literal["unknown"] | None = None
    recipes: tuple[str, ...] = ()


class Score(Group):
    model: str
    data: str
    task: str
    split: str
    metric: str
    value: Annotated[Decimal, Field(ge=0, le=100)]
    n: int | None = None
    source: str
    read_as: Literal["paper", "readme", "mirror", "computed", "unstated"]
    marks: tuple[str, ...] = ()


class SplitSize(Group):
    data: str
    split: str
    n: int
    source: str


class Published(Group):
    marks: dict[str, Mark]
    sources: dict[str, Source]
    models: tuple[Model, ...]
    scores: tuple[Score, ...]
    split_sizes: tuple[SplitSize, ...] = ()


def load_published(root: Path) -> Published:
    return Published.model_validate(strict_yaml.read_group(root / "published.yaml"))
