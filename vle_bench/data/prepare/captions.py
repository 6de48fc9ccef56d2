"""Prepare captions for pre-training from files of any of the usual forms."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from vle_bench.data.official.vqa import BadRecords
from vle_bench.data.prepare.caption_files import (
    FETCHED_AS,
    caption_json,
    caption_tars,
    is_caption_json,
    pair,
    tars_in,
    text_of,
)
from vle_bench.data.prepare.leave_out import coco_pictures
from vle_bench.data.prepare.manifest import Choices, Options
from vle_bench.data.prepare.own.pictures import within
from vle_bench.data.prepare.own.read import FILE_NAME, METADATA, Table, cell_value, tables_of
from vle_bench.data.prepare.own.spec import DataFiles, Text, find, read_spec
from vle_bench.data.prepare.pairs import PairSource, prepare_pairs
from vle_bench.data.prepared import Manifest
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, short
from vle_bench.strict_yaml import Group

# Names of columns that are understood, the first that is there: ALBEF's and BLIP's, open_clip's,
# the `datasets` library's; and names of columns of addresses, among them CC3M's and SBU's.
IMAGE_COLUMNS = ("image", "filepath", FILE_NAME, "path", "img_path")
CAPTION_COLUMNS = ("caption", "captions", "title", "text")
URL_COLUMNS = ("url", "URL", "image_url", "image_urls")
ADDRESS = re.compile(r"https?://", re.IGNORECASE)
FETCH = (
    "addresses, and no files; `img2dataset --url_list {file} --input_format {form} --url_col {url} "
    f"--caption_col {{caption}} {FETCHED_AS} DIR` fetches the pictures, "
    "and `vle-bench prepare captions DIR` reads what it writes"
)
Rows = Callable[[BadRecords, Path], Iterator[JsonObject]]


class PairColumns(Group):
    image: Text | None = None
    """Column of paths, encoded bytes, or pictures of the `datasets` library; null: a usual name."""
    caption: Text | None = None
    """Column of texts or lists of texts; null: a usual name."""


class Captions(DataFiles):
    """Pairs of pictures and captions."""

    columns: PairColumns = Field(default_factory=PairColumns)
    leave_out: list[Annotated[str, Field(min_length=1)]] | None = None
    """Pictures to leave out, as the option `--leave-out` names them."""

    @model_validator(mode="after")
    def no_shares(self) -> "Captions":
        if self.splits is not None and self.splits.shares:
            raise ValueError(
                "splits: files or splits of the source are expected, not shares; without `splits`, "
                "1,000 pictures are `val`"
            )
        return self


@dataclass(frozen=True)
class CaptionFile:
    """One file of pairs, or several that are read as one.

    Args:
        rows: see `PairSource.rows`.
        digest: of the rows, where no file is remembered.
    """

    files: tuple[Path, ...]
    rows: Rows
    digest: str = ""


def prepare(given: str, output: Path, choices: Choices, options: Options) -> Manifest:
    spec, beside = read_spec(given, Captions)
    if options["--images"] is not None:
        spec = spec.model_copy(update={"images": str(options["--images"])})
    leave_out = options["--leave-out"] or spec.leave_out or []
    files = caption_files(spec, beside)
    digests = {f"rows of {split}": file.digest for split, file in files.items() if file.digest}
    source = PairSource(
        source="captions",
        rows=partial(rows_of_splits, files),
        files={str(path): path for file in files.values() for path in file.files},
        options={"columns": spec.columns.model_dump_json(), "images": spec.images, **digests},
    )
    return prepare_pairs(source, output, choices, coco_pictures(leave_out))


def rows_of_splits(
    files: dict[str, CaptionFile], bad: BadRecords, blob: Path
) -> Iterator[JsonObject]:
    """Yield the pairs of all files, each with the split that its file is of."""
    for split, file in files.items():
        for row in file.rows(bad, blob):
            yield row if not split else row | {"split": split}


def caption_files(spec: Captions, beside: Path | None) -> dict[str, CaptionFile]:
    """Return the files of a spec: one for each split, or a single one with the key "".

    Raises:
        RequestError: a file that is missing, or of none of the forms.
    """
    images = None if spec.images is None else find(spec.images, beside)
    if images is not None and not images.is_dir():
        raise RequestError(f"{images}: images: not a folder")
    named = {"": spec.source} if spec.splits is None else spec.splits.given()
    if spec.source is None or spec.splits is None:
        paths = {split: str(name) for split, name in named.items()}
        special = {split: special_file(name, beside, images) for split, name in paths.items()}
        if any(special.values()):
            if not all(special.values()):
                raise RequestError(
                    f"{', '.join(paths.values())}: of different forms; prepare them one by one, "
                    "and mix them in the recipe (data.mix)"
                )
            return {split: file for split, file in special.items() if file is not None}
    tables = tables_of(spec, beside)
    return {split: caption_table(table, spec.columns) for split, table in tables.items()}


def special_file(name: str, beside: Path | None, images: Path | None) -> CaptionFile | None:
    """Return a file that is no table: tars, COCO's or Karpathy's JSON; None for others."""
    if name.startswith("hub:"):
        return None
    path = find(name, beside)
    if tars := tars_in(path):
        return CaptionFile(tuple(tars), partial(caption_tars, tars))
    if path.is_dir():
        refuse_other_folder(path)
    if path.suffix.lower() == ".json" and is_caption_json(path):
        return CaptionFile((path,), partial(caption_json, path, images or path.parent))
    return None


def refuse_other_folder(path: Path) -> None:
    """Refuse a folder without tars that is of none of the other forms either."""
    places = [path, *(folder for folder in path.iterdir() if folder.is_dir())]

    def has(names: Iterable[str]) -> bool:
        return any((place / name).is_file() for place in places for name in names)

    if has((*METADATA, "dataset_dict.json", "state.json")):
        return
    if has(("region_descriptions.json",)):
        raise RequestError(
            f"{path}: Visual Genome's official files; `vle-bench prepare visual-genome --source "
            f"{path}` reads them"
        )
    raise RequestError(
        f"{path}: holds no captions: neither webdataset's tars (*.tar), nor an imagefolder "
        "(metadata.jsonl or .csv or .parquet), nor what save_to_disk writes"
    )


def caption_table(table: Table, columns: PairColumns) -> CaptionFile:
    """Return the pairs of a table, after a look at its columns.

    Raises:
        RequestError: a column is missing, or holds addresses.
    """
    image = column_of(table, "image", columns.image, IMAGE_COLUMNS)
    caption = column_of(table, "caption", columns.caption, CAPTION_COLUMNS)
    return CaptionFile(table.files, partial(table_rows, table, image, caption), table.digest)


def column_of(table: Table, ours: str, named: str | None, usual: Iterable[str]) -> str:
    """Return the column of a table that holds pictures or captions."""
    wanted = [named] if named else usual
    if found := next((name for name in wanted if name in table.columns), None):
        return found
    if any(ADDRESS.match(name) for name in table.columns):
        # The official files of CC3M and CC12M have no header.
        raise RequestError(
            f"{table.name}: its first row is no header, and holds "
            + fetch(table, "url", "caption")
            + ". Put a header of two names before it first: printf 'caption\\turl\\n' | cat - FILE"
        )
    urls = [name for name in URL_COLUMNS if name in table.columns]
    if ours == "image" and urls:
        captions = [name for name in CAPTION_COLUMNS if name in table.columns]
        held = fetch(table, urls[0], (captions or ["caption"])[0])
        raise RequestError(f"{table.name}: column {urls[0]!r} holds {held}")
    raise RequestError(
        f"{table.name}: has no column {' or '.join(map(repr, wanted))}, but "
        f"{', '.join(table.columns)}; a YAML with columns: {{{ours}: NAME}} names another"
    )


def fetch(table: Table, url: str, caption: str) -> str:
    """Say how to fetch pictures of which a table holds the addresses."""
    form = Path(table.name).suffix.lstrip(".") or "parquet"
    return FETCH.format(file=table.name, form=form, url=url, caption=caption)


def table_rows(
    table: Table, image: str, caption: str, bad: BadRecords, blob: Path
) -> Iterator[JsonObject]:
    """Yield the pairs of a table; one for each caption of a picture."""
    name = Path(table.name)
    for number, row in table.rows([image, caption]):
        place = f"row {number}"
        if isinstance(row, str):
            bad.add(name, place, row)
            continue
        try:
            picture = picture_of(table, row.get(image), blob)
            captions = texts_of(row.get(caption), table.cells)
        except AddressError as error:
            held = fetch(table, image, caption)
            raise RequestError(f"{name}: {place}: {image}: {short(str(error))}: {held}") from error
        except ValueError as error:
            bad.add(name, place, str(error))
            continue
        for text in captions:
            yield pair(text, asked_by=f"{name}: {place}", **picture)


class AddressError(ValueError):
    """A picture is named by its address."""


def picture_of(table: Table, value: Any, blob: Path) -> JsonObject:
    """Return where a picture is: a file, or a part of `blob`, to which its bytes are added.

    Raises:
        ValueError: no picture is named.
    """
    if isinstance(value, dict):
        value = value["path"] if value.get("bytes") is None else value["bytes"]
    if isinstance(value, bytes) and value:
        with open(blob, "ab") as file:
            start = file.tell()
            file.write(value)
        return {
            "key": hashlib.sha256(value).digest(),
            "path": str(blob),
            "part": (start, len(value)),
        }
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{short(value)}: no picture: a path or its bytes are expected")
    if ADDRESS.match(value):
        raise AddressError(value)
    path = table.folder / value
    if table.inside and not within(path, table.folder):
        raise ValueError(f"{value}: leaves the folder of the data")
    return {"key": value.encode(), "path": str(path)}


def texts_of(value: Any, cells: bool) -> list[str]:
    """Return the captions of a value: a text, or a list of texts.

    Raises:
        ValueError: something else, or an empty text.
    """
    if cells and isinstance(value, str):
        value = cell_value(value)
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError("no caption: an empty list")
    return [one_text(text) for text in values]


def one_text(value: Any) -> str:
    """Return a caption with single spaces; `raw` of COCO's sentences is taken too."""
    if isinstance(value, dict):
        value = value.get("raw", value.get("caption"))
    return text_of(value)
