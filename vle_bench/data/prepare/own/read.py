"""Read data files of every format as numbered rows, a few at a time."""

import csv
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vle_bench.data.prepare.own.spec import HUB, SPLITS, DataFiles, find, hub_name
from vle_bench.errors import RequestError, first_line, plural
from vle_bench.json_files import Row, parse, reading, short, stream

Numbered = Iterator[tuple[int, Row | str]]  # number from 1, and a row or its problem
ROWS_AT_A_TIME = 1000
FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
OTHER_CUTS = ";\t|,"  # between cells, by other programs and in other countries
METADATA = tuple(f"metadata{ending}" for ending in (".jsonl", ".csv", ".parquet"))
FILE_NAME = "file_name"  # the column of pictures in an imagefolder's metadata
# Names that the `datasets` library and its users give to our splits
ALIASES = {"validation": "val", "valid": "val", "dev": "val", "training": "train"}


@dataclass(frozen=True)
class Table:
    """Rows of one file or split.

    Args:
        name: what errors name.
        columns: those of the header, the schema, or the first record.
        rows: reads them from the start; takes the names of the columns that are needed.
        files: what the rows are read from; their sizes and dates are remembered.
        folder: where relative paths of pictures start.
        inside: the data may come from others: no path may leave `folder`.
        cells: every value is text; a list is written as JSON.
        digest: of the rows, where no file is remembered.
    """

    name: str
    columns: list[str]
    rows: Callable[[list[str]], Numbered]
    files: tuple[Path, ...]
    folder: Path
    inside: bool = False
    cells: bool = False
    digest: str = ""


def tables_of(spec: DataFiles, beside: Path | None) -> dict[str, Table]:
    """Return the tables of a spec: one for each split, or a single one with the key "".

    Raises:
        RequestError: a file that is missing or of another form, or splits that contradict.
    """
    if spec.source is None:
        assert spec.splits is not None  # the spec is refused without both
        files = spec.splits.given()
        tables = {name: one_table(find(str(file), beside)) for name, file in files.items()}
        return with_images(spec, tables, beside)
    return split_tables(spec, source_tables(spec.source, beside), beside)


def split_tables(
    spec: DataFiles, own: dict[str, Table], beside: Path | None = None
) -> dict[str, Table]:
    """Return the tables of a source that is open, as `tables_of` does."""
    splits = spec.splits
    named = {} if splits is None or splits.shares else splits.given()
    tables = chosen_splits(str(spec.source), own, {k: str(v) for k, v in named.items()})
    if splits is not None and splits.shares and "" not in tables:
        raise RequestError(
            f"{spec.source}: has splits of its own ({', '.join(own)}); leave the shares of "
            "splits out, or name its splits, such as splits: {train: train}"
        )
    return with_images(spec, tables, beside)


def with_images(spec: DataFiles, tables: dict[str, Table], beside: Path | None) -> dict[str, Table]:
    """Let the paths of pictures start at `images`."""
    if spec.images is None:
        return tables
    folder = find(spec.images, beside)
    if not folder.is_dir():
        raise RequestError(f"{folder}: images: not a folder")
    return {name: replace(table, folder=folder) for name, table in tables.items()}


def chosen_splits(source: str, own: dict[str, Table], named: dict[str, str]) -> dict[str, Table]:
    """Rename the splits of a source to ours."""
    if named:
        if missing := [name for name in named.values() if name not in own]:
            there = ", ".join(filter(None, own)) or "no splits; without `source` they are files"
            raise RequestError(f"{source}: has no split {missing[0]!r}; it has {there}")
        return {name: own[theirs] for name, theirs in named.items()}
    if len(own) == 1:
        return {"": next(iter(own.values()))}
    ours = {ALIASES.get(name, name): table for name, table in own.items()}
    if unknown := [name for name in ours if name not in SPLITS]:
        raise RequestError(
            f"{source}: its split {unknown[0]!r} is none of {', '.join(SPLITS)}; name those that "
            f"are wanted, such as splits: {{train: {next(iter(own))}}}"
        )
    return {name: ours[name] for name in SPLITS if name in ours}


def source_tables(source: str, beside: Path | None) -> dict[str, Table]:
    """Return the tables of a file, a folder or the hub by the source's own names of splits."""
    if source.startswith(HUB):
        return hub_tables(source)
    path = find(source, beside)
    if not path.is_dir():
        return {"": one_table(path)}
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return saved_tables(path)
    if table := image_folder(path):
        return {"": table}
    parts = {folder.name: image_folder(folder) for folder in sorted(path.iterdir())}
    tables = {name: table for name, table in parts.items() if table is not None}
    if not tables:
        raise RequestError(
            f"{path}: neither an imagefolder (metadata.jsonl or .csv or .parquet, in it or in a "
            "folder for each split) nor a folder of save_to_disk"
        )
    return tables


def one_table(path: Path) -> Table:
    """Return the table of a data file by its ending."""
    reader = {".csv": cells, ".tsv": cells, ".json": json_table, ".jsonl": json_table}
    ending = path.suffix.lower()
    if path.is_dir():
        raise RequestError(f"{path}: a folder, not a file; a folder goes into `source`")
    if ending not in FORMATS:
        raise RequestError(f"{path}: its ending is none of {', '.join(FORMATS)}")
    return reader.get(ending, parquet_table)(path)


def image_folder(path: Path) -> Table | None:
    """Return the table of an imagefolder's metadata; None without such a file."""
    files = [path / name for name in METADATA if (path / name).is_file()]
    if len(files) > 1:
        raise RequestError(f"{files[0]} and {files[1]}: both exist; remove one")
    return replace(one_table(files[0]), inside=True) if files else None


def cells(path: Path) -> Table:
    """Read CSV or TSV as text: nothing is guessed, `none`, `007` and `1.0` are what they are."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","

    def lines() -> Iterator[list[str]]:
        number = 0  # of the row; the header has none
        with reading(path), open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            try:
                for line in filter(None, reader):
                    yield line
                    number += 1
            except csv.Error as error:
                raise broken_cells(path, number, error) from error

    def rows(wanted: list[str]) -> Numbered:
        parts = lines()
        header = next(parts)
        width, places = len(header), [(name, header.index(name)) for name in wanted]
        for number, line in enumerate(parts, 1):
            if len(line) != width:
                yield number, f"{plural(len(line), 'cell')}, and the header has {width}"
            else:
                yield number, {name: line[place] for name, place in places}

    header = next(lines(), None)
    if header is None:
        raise RequestError(f"{path}: empty")
    if len(header) == 1 and (other := next((c for c in OTHER_CUTS if c in header[0]), None)):
        raise RequestError(
            f"{path}: its cells are divided by {other!r}, not by {delimiter!r}; save it as .csv "
            "with commas or as .tsv with tabs"
        )
    if double := [name for name in header if header.count(name) > 1]:
        raise RequestError(f"{path}: the column {double[0]!r} occurs twice in the header")
    return Table(str(path), header, rows, (path,), path.parent, cells=True)


def broken_cells(path: Path, number: int, error: csv.Error) -> RequestError:
    """Say in which row the csv module stopped; a quotation mark may have joined it with others.

    Args:
        number: of the row that could not be read, 0 for the header.
    """
    row = f"row {number}" if number else "header"
    if "unexpected end" in str(error):
        return RequestError(f"{path}: {row}: a quotation mark opens there and is never closed")
    return RequestError(
        f"{path}: {row}: broken or cut-off cells: {error}; a quotation mark in a cell is written "
        'twice, "", and one that opens a cell closes it'
    )


def json_table(path: Path) -> Table:
    """Read a list of objects, or an object a line, whatever the ending."""

    def records() -> Iterator[tuple[int, Any]]:
        with reading(path), open(path, encoding="utf-8-sig") as file:
            start = file.read(1 << 16).lstrip()[:1]
        if start == "[":
            yield from enumerate(stream(path, None), 1)
            return
        with reading(path), path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line

    def rows(wanted: list[str]) -> Numbered:
        for number, record in records():
            try:
                value = parse(record, "") if isinstance(record, bytes) else record
            except RequestError as error:
                yield number, str(error).removeprefix(": ")
                continue
            yield number, value if isinstance(value, dict) else f"{short(value)} is not an object"

    first = next((row for _, row in rows([])), None)
    if first is None:
        raise RequestError(f"{path}: empty")
    if isinstance(first, str):
        raise RequestError(f"{path}: row 1: {first}; a list of objects or an object a line is read")
    return Table(str(path), list(first), rows, (path,), path.parent)


@contextmanager
def reading_arrow(name: Path | str) -> Iterator[None]:
    """Turn errors of Arrow's readers, which have several lines, into a RequestError."""
    try:
        yield
    except RequestError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RequestError(f"{name}: cannot be read: {first_line(error)}") from error


def parquet_table(path: Path) -> Table:
    def rows(wanted: list[str]) -> Numbered:
        with reading_arrow(path), pq.ParquetFile(path) as file:
            yield from numbered(file.iter_batches(ROWS_AT_A_TIME, columns=wanted))

    with reading_arrow(path), pq.ParquetFile(path) as file:
        columns = file.schema_arrow.names
    return Table(str(path), columns, rows, (path,), path.parent)


def numbered(batches: Iterable[pa.RecordBatch | pa.Table]) -> Numbered:
    yield from enumerate(chain.from_iterable(map(sound_rows, batches)), 1)


def sound_rows(batch: pa.RecordBatch | pa.Table) -> list[Row]:
    """Return the rows of a batch; one from a damaged file would end the process without a word."""
    batch.validate(full=True)
    rows: list[Row] = batch.to_pylist()
    return rows


def dataset_table(name: str, dataset: Any, inside: Path | None) -> Table:
    """Return the table of a `datasets.Dataset`, whose pictures are not decoded.

    Raises:
        RequestError: it is something else.
    """
    import datasets

    if not isinstance(dataset, datasets.Dataset):
        raise RequestError(
            f"{name}: {type(dataset).__name__}, not a datasets.Dataset or DatasetDict; "
            "Dataset.from_list, from_pandas and from_generator make one, and load_dataset without "
            "streaming=True"
        )

    def rows(wanted: list[str]) -> Numbered:
        with reading_arrow(name):
            chosen = dataset.select_columns(wanted).with_format("arrow")
            for number, row in numbered(chosen.iter(ROWS_AT_A_TIME)):
                yield number, named_classes(row, dataset.features)

    digest = str(dataset._fingerprint)
    columns: list[str] = dataset.column_names
    return Table(name, columns, rows, (), inside or Path(), inside is not None, digest=digest)


def named_classes(row: Row | str, features: Any) -> Row | str:
    """Replace the numbers of classes in a row by their names, where its features have them."""
    import datasets

    if isinstance(row, str):
        return row
    return {
        name: features[name].int2str(value)
        if isinstance(features[name], datasets.ClassLabel) and value is not None
        else value
        for name, value in row.items()
    }


def dataset_tables(name: str, dataset: Any, inside: Path | None = None) -> dict[str, Table]:
    """Return the tables of a Dataset or of a DatasetDict.

    Args:
        inside: the folder that relative paths of pictures start from and may not leave; None: the
            current folder, and any path.
    """
    if not isinstance(dataset, dict):
        return {"": dataset_table(name, dataset, inside)}
    return {
        split: dataset_table(f"{name} ({split})", part, inside) for split, part in dataset.items()
    }


def saved_tables(path: Path) -> dict[str, Table]:
    """Return the tables of a folder that `save_to_disk` wrote."""
    import datasets

    try:
        dataset = datasets.load_from_disk(str(path))
    # The library raises whatever its readers raise.
    except Exception as error:
        raise RequestError(
            f"{path}: cannot be read as a saved dataset: {first_line(error)}"
        ) from error
    files = tuple(sorted(file for file in path.rglob("*") if file.suffix in (".json", ".arrow")))
    tables = dataset_tables(str(path), dataset, path)
    return {split: replace(table, files=files, digest="") for split, table in tables.items()}


def hub_tables(source: str) -> dict[str, Table]:
    """Download a dataset of the hub, or take it from the cache."""
    import datasets

    name, revision = hub_name(source)
    # It tries again and again without a network, and says so each time.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    print(f"fetching {source}", file=sys.stderr)
    try:
        dataset = datasets.load_dataset(name, revision=revision)
    # Without a network, without the repository, with a script: each raises an error of its own.
    except Exception as error:
        raise RequestError(
            f"{source}: cannot be fetched ({first_line(error)}); where there is a network, "
            f"`hf download {name} --repo-type dataset --local-dir DIR` brings its files, and "
            "`source` names one of them, or a folder that save_to_disk wrote"
        ) from error
    return dataset_tables(source, dataset, Path())


def cell_value(text: str) -> object:
    """Return the value of a cell: a list if it is one in JSON, else the text.

    Raises:
        ValueError: it looks like a list of Python.
    """
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")):
        return text
    try:
        return json.loads(stripped)
    except ValueError as error:
        raise ValueError('looks like a list, and is not JSON: ["a", "b"] is') from error
