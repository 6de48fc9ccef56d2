"""Prepare users' own data: read, check, split and store them."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vle_bench import atomic
from vle_bench.data.label_map import read_label_map
from vle_bench.data.official.vqa import OnBad
from vle_bench.data.prepare.fingerprint import Fingerprint, fingerprint, stamp
from vle_bench.data.prepare.manifest import (
    AS_USUAL,
    FINISHED_SHARDS,
    WORK,
    Choices,
    Options,
    finish,
    remove_others,
)
from vle_bench.data.prepare.own.check import ROWS, Checker, resolve
from vle_bench.data.prepare.own.objects import has_boxes, refuse_untagged
from vle_bench.data.prepare.own.opened import Own, opened
from vle_bench.data.prepare.own.pictures import PictureNames, Pictures
from vle_bench.data.prepare.own.problems import OF_PYTHON, Problems
from vle_bench.data.prepare.own.read import dataset_tables, split_tables
from vle_bench.data.prepare.own.spec import CHOICE_COLUMNS, Spec
from vle_bench.data.prepare.own.splits import (
    Named,
    by_share,
    chosen_by,
    together,
    without_doubles,
    without_leaks,
)
from vle_bench.data.prepare.own.write import (
    counted,
    questions_of,
    reported,
    write_images,
    write_questions,
)
from vle_bench.data.prepare.questions import described_labels, lengths_of, write_labels
from vle_bench.data.prepare.split import Ids
from vle_bench.data.prepare.vocabulary import vocabulary
from vle_bench.data.prepare.vqa_summary import load_tokenizer
from vle_bench.data.prepared import SCHEMA_VERSION, Manifest, PreparedData, open_prepared
from vle_bench.data.tables import map_table, record_batches, write_table
from vle_bench.errors import RequestError, plural
from vle_bench.json_files import JsonObject, read_json
from vle_bench.metrics.vqa import EXACT, NUMBER_OF_ANSWERS, SOFT
from vle_bench.metrics.vqa import OFFICIAL as TEN
from vle_bench.strict_yaml import validated

SOURCE = "own"
MEMORY = "dataset"  # the name of a dataset in memory, for errors
CHECKS = 4  # to be raised when rows are read in another way
ROWS_IN_MEMORY = 5_000
PICTURES = pa.schema([("image_id", pa.int64()), ("path", pa.string()), ("asked_by", pa.string())])


def prepare(given: str, output: Path, choices: Choices, options: Options) -> Manifest:
    return prepare_own(opened(given, choices), output)


def from_dataset(
    dataset: Any,
    output: Path | str | None = None,
    *,
    columns: dict[str, str | None] | None = None,
    on_bad_record: OnBad = "error",
    on_bad_image: OnBad = "error",
    choices: Choices = AS_USUAL,
    **keys: Any,
) -> PreparedData:
    """Prepare a dataset of the `datasets` library and open it.

    Args:
        dataset: a Dataset, which is divided by shares, or a DatasetDict with train, validation or
            val, and test.
        output: folder of the prepared data, which a recipe names as `data.root`; None: a folder in
            the library's cache.
        columns: ours: theirs, see `Columns`.
        on_bad_record, on_bad_image: `skip` leaves out what is wrong and lists it in
            `manifest.left_out`.
        choices: further options of `vle-bench prepare`.
        keys: further keys of `Spec`: name, form, splits, answers, images.

    Raises:
        RequestError: as `vle-bench prepare own`.
    """
    values = {"source": MEMORY, "columns": columns or {}, **keys}
    spec = validated(Spec, values, MEMORY)
    if on_bad_record == "skip":
        choices = replace(choices, on_bad_record=on_bad_record)
    if on_bad_image == "skip":
        choices = replace(choices, on_bad_image=on_bad_image)
    own = Own(spec, split_tables(spec, dataset_tables(MEMORY, dataset)), choices)
    if output is None:
        import datasets

        request = json.dumps([request_of(own, None).options, spec.name])
        digest = hashlib.sha256(request.encode()).hexdigest()[:16]
        output = Path(datasets.config.HF_DATASETS_CACHE) / "vle-bench" / digest
    prepare_own(own, Path(output), Problems(choices.on_bad_record, choices.on_bad_image, OF_PYTHON))
    return open_prepared(Path(output))


def prepare_own(own: Own, output: Path, problems: Problems | None = None) -> Manifest:
    """Write prepared data to `output`, completely or not at all, and return the manifest.

    The next run with the same files reuses what a killed one has finished: the rows that were
    read, and shards of pictures. For data that are already complete, the manifest is a `Standing`.

    Args:
        problems: collects what is wrong; by the options if not given.
    """
    choices = own.choices
    refuse_foreign_options(own)
    if choices.tokenizer is not None:
        load_tokenizer(choices.tokenizer)  # its errors should come before the work
    given = None if choices.label_map is None else read_label_map(choices.label_map)
    problems = problems or Problems(choices.on_bad_record, choices.on_bad_image)
    request = request_of(own, given)
    if (standing := request.finished(output, own.splits)) is not None:
        request.count_again(output, standing, standing.report, partial(lengths_of, output, choices))
        return standing
    with atomic.resumed_folder(output, FINISHED_SHARDS) as folder:
        work = start_or_resume(folder, request)
        rows, pictures = read_rows(own, work, problems)
        rows, split = with_splits(own, rows, PictureNames(pictures, work), problems)
        if has_boxes(rows):
            refuse_untagged(rows, own.names)
        metric = None if own.choice else metric_of(own, rows)
        labels = [] if own.choice else given or counted_labels(own, rows, split)
        images, shards, turned = write_images(folder, work, rows, pictures, choices, problems)
        kept = np.isin(rows["image_id"].to_numpy(), images)
        problems.unanswered += int((~kept).sum())
        rows, split = rows.filter(pa.array(kept)), split[kept]
        check_whole_splits(own, split, problems)
        parts = {
            name: questions_of(rows, split == place, images, labels, metric)
            for place, name in enumerate(own.splits)
        }
        tables = write_questions(folder, parts)
        answers = described_labels(labels, choices, own.spec.answers.min_count) if metric else None
        left_out: JsonObject = {
            "questions_of_images": problems.unanswered,
            "records": problems.records,
            "images": problems.images,
        }
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            source=SOURCE,
            splits={name: counted(q) for name, q in parts.items()},
            files=shards | (write_labels(folder, labels) if metric else {}) | tables,
            images=list(shards),
            turned=turned,
            labels=answers,
            targets="normalised" if metric else None,
            metric=metric,
            name=own.spec.name or output.name,
            form=own.spec.form if own.choice else None,
            report={name: reported(q, choices) for name, q in parts.items()},
            left_out=left_out,
            inputs=request.as_inputs(left_out),
        )
        return finish(folder, manifest)


def refuse_foreign_options(own: Own) -> None:
    """Refuse options that only open questions have."""
    options = {"--label-map": own.choices.label_map, "--tokenizer": own.choices.tokenizer}
    given = [option for option, value in options.items() if value is not None]
    if own.choice and given:
        raise RequestError(f"{own.names[0]}: {given[0]}: form choice takes none; leave it out")


def request_of(own: Own, labels: list[str] | None) -> Fingerprint:
    """Return the fingerprint of a request: data files, the keys of the spec, and options."""
    files = sorted({file for table in own.tables.values() for file in table.files})
    request = fingerprint(SOURCE, [], own.choices, lambda bad: Path(bad["file"]), None, labels)
    unread = {} if own.choice else {"columns": CHOICE_COLUMNS}
    keys = own.spec.model_dump(mode="json", exclude={"name": True, **unread})
    options = {key: json.dumps(value) for key, value in keys.items()}
    tables = [f"{table.name} {table.digest}".strip() for table in own.tables.values()]
    return replace(
        request,
        files={str(file): stamp(file) for file in files},
        options={**request.options, **options, "tables": json.dumps(tables)},
    )


def start_or_resume(folder: Path, request: Fingerprint) -> Path:
    """Return the folder of intermediate files; those of another request are removed."""
    inputs = json.dumps(
        {"schema": SCHEMA_VERSION, "checks": CHECKS}
        | {"files": request.files, "options": request.options}
    )
    work, note = folder / WORK, folder / WORK / "inputs.json"
    if not note.is_file() or note.read_text(encoding="utf-8") != inputs:
        remove_others(folder, set())
        work.mkdir()
        atomic.write_text(note, inputs)
    return work


def read_rows(own: Own, work: Path, problems: Problems) -> tuple[pa.Table, pa.Table]:
    """Read every table once, to ROWS and PICTURES on disk."""
    rows, pictures, note = work / "rows.arrow", work / "pictures.arrow", work / "read.json"
    if note.is_file():
        before = read_json(note)
        problems.records += before["records"]
        problems.images += before["images"]
        problems.unanswered += before["unanswered"]
        return map_table(rows), map_table(pictures)
    seen = Pictures(work / "pictures")
    write_table(rows, ROWS, checked_batches(own, seen, problems))
    named = (
        {"image_id": i, "path": path, "asked_by": seen.asked_by[i]}
        for i, path in seen.paths.items()
    )
    write_table(pictures, PICTURES, record_batches(named, PICTURES, size=ROWS_IN_MEMORY))
    atomic.write_json(
        note,
        {
            "records": problems.records,
            "images": problems.images,
            "unanswered": problems.unanswered,
        },
    )
    return map_table(rows), map_table(pictures)


def checked_batches(own: Own, pictures: Pictures, problems: Problems) -> Iterator[pa.RecordBatch]:
    # Missing columns are named before millions of rows are read.
    columns = [
        resolve(table, own.spec, labelled=name != "test") for name, table in own.tables.items()
    ]
    refuse_half_boxes(own, columns)
    for number, (table, resolved) in enumerate(zip(own.tables.values(), columns, strict=True)):
        checker = Checker(table, number, resolved, pictures, problems)
        yield from record_batches(checker.rows(), ROWS, size=ROWS_IN_MEMORY)


def refuse_half_boxes(own: Own, columns: list[dict[str, str]]) -> None:
    """Refuse boxes in some tables alone: `[0]` would be a tag in these and text in the others."""
    without = [name for name, one in zip(own.names, columns, strict=True) if "boxes" not in one]
    if 0 < len(without) < len(columns):
        raise RequestError(
            f"{without[0]}: has no column of boxes, and another split has one; add it, with [] "
            "where a question has none, or columns: {boxes: null} leaves them out"
        )


def with_splits(
    own: Own, rows: pa.Table, pictures: PictureNames, problems: Problems
) -> tuple[pa.Table, Ids]:
    """Return the rows in the order of their ids, and the place of each one's split.

    Of doubles and of what is in two splits, only the first is kept.
    """
    rows = rows.filter(pa.array(without_doubles(rows, own.names, problems)))
    rows = rows.take(np.argsort(rows["question_id"].to_numpy(), kind="stable"))
    by = None
    if shares := own.shares:
        by = chosen_by(rows, own.spec.splits.by if own.spec.splits else None)
        split = by_share(rows, list(shares.values()), by)
    else:
        split = rows["table"].to_numpy().astype(np.int64)
    named = Named(own.splits, own.names, pictures, together(by))
    keep = without_leaks(rows, split, named, problems)
    rows, split = rows.filter(pa.array(keep)).combine_chunks(), split[keep]
    check_whole_splits(own, split, problems)
    return rows, split


def check_whole_splits(own: Own, split: Ids, problems: Problems) -> None:
    """Refuse a split without any question left."""
    counts = np.bincount(split, minlength=len(own.splits))
    for name, questions in zip(own.splits, counts.tolist(), strict=True):
        if questions:
            continue
        files, left = ", ".join(own.names), int(counts.sum())
        lost = problems.lines()
        if lost and not left:
            raise RequestError(
                f"{lost[0]}; {files}: no question is left: this is the first of "
                f"{problems.counted()}; {problems.ways_out.every}"
            )
        why = f"; {problems.counted()}, the first: {lost[0]}" if lost else ""
        way_out = (
            "; a YAML with larger shares, such as splits: {train: 0.6, val: 0.2, test: 0.2}, or "
            "with a file for each split helps; questions about one picture or of one group stay "
            "together"
        )
        raise RequestError(
            f"{files}: no question is left for the split {name!r} (of "
            f"{plural(left, 'question')}{why}){way_out if own.shares else ''}"
        )


def metric_of(own: Own, rows: pa.Table) -> str:
    """Return the metric of the spec, or the one that the numbers of answers suggest.

    Raises:
        RequestError: the metric does not fit the answers of a question; names its row.
    """
    labelled = rows.filter(pc.is_valid(rows["answers"]))
    numbers = pc.list_value_length(labelled["answers"]).to_numpy()
    metric = own.spec.answers.metric
    if metric is None:
        if (numbers == 1).all():
            return EXACT
        return TEN if (numbers == NUMBER_OF_ANSWERS).all() else SOFT
    if metric == TEN:
        wrong, problem = numbers != NUMBER_OF_ANSWERS, f"takes {NUMBER_OF_ANSWERS} a question"
    elif metric == EXACT:
        wrong, problem = numbers != 1, "takes one a question"
    else:
        return str(metric)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        table, row = labelled["table"][first].as_py(), labelled["row"][first].as_py()
        raise RequestError(
            f"{own.names[table]}: row {row}: {plural(int(numbers[first]), 'answer')}; "
            f"answers.metric: {metric} {problem}; soft takes any number"
        )
    return str(metric)


def counted_labels(own: Own, rows: pa.Table, split: Ids) -> list[str]:
    """Count the majority answers of the training split, or of all without one."""
    if "train" in own.splits:
        rows = rows.filter(pa.array(split == own.splits.index("train")))
    counts: Counter[str] = Counter()
    for answer in pc.value_counts(rows["multiple_choice_answer"].drop_null()).to_pylist():
        counts[answer["values"]] += answer["counts"]
    try:
        return vocabulary(counts, own.spec.answers.min_count)
    except RequestError as error:
        raise RequestError(f"{', '.join(own.names)}: answers.min_count: {error}") from error
