"""The records of the leaderboards folder: reading, checking, adding."""

import re
from pathlib import Path

from vle_bench import atomic, strict_yaml
from vle_bench.data.sources import PREPARED, SOURCES
from vle_bench.data.splits import names, overlap, same_dataset
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import (
    Record,
    flattered,
    ids_digest,
    load_record,
    parse_record,
)
from vle_bench.evaluation.request import OTHER, evaluation_folder, predictions_file
from vle_bench.json_files import reading
from vle_bench.leaderboard.published import Published, load_published
from vle_bench.tasks.catalogue import CATALOGUE, tasks_of
from vle_bench.tasks.predictions import read_predictions

# Fields that may differ between two evaluations of one checkpoint with the same result
CIRCUMSTANCES = {"seconds", "command", "device", "processes", "batch_size", "libraries", "code"}

NO_DATA_NAME = r"[^\w.@-]+"  # characters that are in no part of a file's name


def load_records(root: Path, published: Published) -> dict[Path, Record]:
    """Read every record under results/, in the order of file names, and check them.

    Raises:
        RequestError: names the file and what is wrong with it.
    """
    records: dict[Path, Record] = {}
    files = (p for p in root.glob("results/**/*") if p.is_file() and not p.name.startswith("."))
    for path in sorted(files):
        if path.suffix != ".json" or len(path.relative_to(root).parts) != 3:
            raise RequestError(
                f"{path}: no record; results/ holds <task>/NAME.json and nothing else: remove it"
            )
        record = load_record(path)
        if record.task != path.parent.name:
            raise RequestError(
                f"{path}: of task {record.task}; it belongs into results/{record.task}/"
            )
        check_record(path, record, records, published)
        records[path] = record
    return records


def check_record(
    path: Path, record: Record, others: dict[Path, Record], published: Published
) -> None:
    """Refuse a record of a part of its split, one that contradicts others, or a duplicate."""
    source, split = record.data["source"], record.split
    if source not in PREPARED:
        known = ", ".join(PREPARED)
        raise RequestError(f"{path}: data.source {source} is not known; there are {known}")
    row = SOURCES[source]
    tasks = [task for form in row.forms for task in tasks_of(form)]
    if record.task not in tasks:
        known = ", ".join(tasks)
        raise RequestError(
            f"{path}: task {record.task} of {source} is not known; there are {known}"
        )
    if unknown := set(names(split)) - {*row.splits, *row.unlabelled}:
        raise RequestError(f"{path}: {source} has no split {min(unknown)!r}")
    shared = not record.transferred and overlap(split, "+".join(record.training_splits))
    if shared and not record.contaminated:
        trained = ", ".join(record.training_splits)
        raise RequestError(
            f"{path}: contaminated is false, but {split} shares images with what was trained on: "
            f"{trained}"
        )
    parts = {name: m.n for name, m in record.metrics.items() if m.n is not None and m.n > record.n}
    if parts and CATALOGUE[record.task].n_is_questions:
        name = min(parts)
        raise RequestError(
            f"{path}: metrics.{name}: n {parts[name]:,} is more than the record's {record.n:,}"
        )
    sizes = {(str(size.data), size.split): size.n for size in published.split_sizes}
    if (size := sizes.get((source, split))) is not None and record.n != size:
        raise RequestError(
            f"{path}: n: {record.n:,} examples, but {split} of {source} has {size:,}; "
            "a score of a part is no score of it"
        )
    for place, other in others.items():
        if same_run(record, other):
            what = "predictions" if record.kind == "external" else "recipe, seed"
            raise RequestError(
                f"{path}: a duplicate of {place}: the same {what}, split and task; "
                f"records are never replaced: to correct one, remove {place} and add again"
            )
        same_manifest = other.data["manifest_hash"] == record.data["manifest_hash"]
        same_data = same_manifest and other.split == split
        both_known = record.ids_sha256 is not None and other.ids_sha256 is not None
        if same_data and (
            record.n != other.n or (both_known and record.ids_sha256 != other.ids_sha256)
        ):
            count = "others" if record.n == other.n else f"{other.n:,}"
            raise RequestError(
                f"{path}: {record.n:,} examples of {split}, and {place} has {count}: "
                "of the same data and split they must be the same; evaluate again"
            )


def same_run(one: Record, other: Record) -> bool:
    """Tell whether both are of one checkpoint, or of one recipe and seed, on one split and task.

    Scores in two precisions are two runs; a record that does not tell its precision may be of any.
    """
    if (one.task, one.split) != (other.task, other.split) or not same_dataset(one.data, other.data):
        return False
    pairs = zip(precisions(one), precisions(other), strict=True)
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        return False
    # other ways to resize pictures or lengths of texts change the identity
    if {one.kind, other.kind} != {"run"}:
        return one.identity == other.identity
    digests = one.model.get("checkpoint_sha256"), other.model.get("checkpoint_sha256")
    if digests[0] == digests[1] is not None:
        return True
    hashes = [record.recipe["hash"] for record in (one, other)]
    experiments = [
        record.recipe.get("experiment", record.recipe["hash"]) for record in (one, other)
    ]
    same_recipe = hashes[0] == hashes[1] or experiments[0] == experiments[1]
    return one.seed == other.seed and same_recipe


def precisions(record: Record) -> tuple[str | None, str | None]:
    """Return the precision of the evaluation and that of the training."""
    return record.precision, record.training.get("precision")


def add_record(source: Path, root: Path, if_new: bool = False) -> tuple[Path, list[str]]:
    """Copy a record into the folder's results/ without ever replacing one.

    Args:
        source: a record file; a run folder, whose recipe's reported split is meant; or a checkpoint
            from elsewhere, whose only record under `results/NAME` is meant.
        if_new: pass over a record that is there already with the same figures.

    Returns:
        Its path in the folder, and the marks with which the tables will show it.

    Raises:
        RequestError: there is no record, or the tables cannot take it: see `check_record`.
    """
    path = reported(source) if source.is_dir() or not source.exists() else source
    # read once: it may be a pipe
    with reading(path):
        content = path.read_bytes()
    record = parse_record(content, path)
    check_predictions(path, record)
    if record.kind == "run":
        name, end, digest = record.title, f"seed-{record.seed}", record.recipe["hash"]
    else:
        name, end, digest = record.model["name"], record.kind, record.identity
    name = re.sub(r"[ ,:()]+", "-", name.replace(" + ", "+")).strip("-")
    digests = "+".join(part[:8] for part in digest.split(" + "))
    names = [f"{name}.{record.split}{data}.{end}.{digests}.json" for data in data_parts(record)]
    published = load_published(root)
    others = load_records(root, published)
    check_record(path, record, {}, published)
    for place, other in others.items() if if_new else ():
        if record.model_dump(exclude=CIRCUMSTANCES) == other.model_dump(exclude=CIRCUMSTANCES):
            return place, ["exists already, with the same figures"]
    check_record(path, record, others, published)
    places = [root / "results" / record.task / name for name in names]
    target = next((place for place in places if not place.exists()), None)
    if target is None:
        raise RequestError(
            f"{places[-1]}: another record is there, and records are never replaced: to correct "
            "it, remove that file and add again"
        )
    atomic.write_bytes(target, content)
    marks = ["marked contaminated: its split was trained on"] * bool(record.contaminated)
    marks += ["marked: its split picked the checkpoint too"] * flattered(record)
    marks += ["marked: trained elsewhere"] * (record.kind == "elsewhere")
    marks += ["marked: predictions from elsewhere"] * (record.kind == "external")
    command = "record" if record.kind == "external" else "evaluate"
    marks += [
        f"not ranked: what it was trained on is not known (`{command} --trained-on`)"
    ] * record.of_unknown_training
    marks += ["marked: its code had changes that are in no commit"] * (
        record.code.get("clean") is False
    )
    beside = [str(p) for p in sorted(path.parent.glob("*.json")) if path != source and p != path]
    return target, marks + [f"not added: {', '.join(beside)}; each is added by its path"] * bool(
        beside
    )


def data_parts(record: Record) -> list[str]:
    """Return the parts of a stored name that name the data, the longer one for a name in use.

    Empty for the data of the training. A checkpoint has a record for each data that it is scored
    on, and their splits have the same names.
    """
    other = "" if record.other_data is None else f"{OTHER}{record.other_data}"
    named = f"{OTHER}{record.data_name}-{record.data['manifest_hash'][:8]}"
    return [re.sub(NO_DATA_NAME, "-", part, flags=re.A) for part in dict.fromkeys((other, named))]


def check_predictions(path: Path, record: Record) -> None:
    """Refuse a record whose predictions, if they lie beside it, are of other examples."""
    predictions = predictions_file(path, path.parent.parent, record.task, record.split)
    if record.ids_sha256 is None or not predictions.is_file():
        return
    ids = [prediction.id for prediction in read_predictions(predictions)]
    if len(ids) != record.n or ids_digest(ids) != record.ids_sha256:
        raise RequestError(
            f"{path}: n: {record.n:,} examples, and the {len(ids):,} of {predictions} are others; "
            "evaluate again"
        )


def reported(run: Path) -> Path:
    """Return the record of a run's reported split, or the only one of another checkpoint."""
    if not (run / "recipe.yaml").is_file():
        records = evaluation_folder(run)  # of a checkpoint from elsewhere: not in its own folder
        files = sorted(records.glob("results/*.json"))
        if len(files) == 1:
            return files[0]
        if files:
            paths = ", ".join(map(str, files))
            raise RequestError(f"{run}: several records, each is added by its path: {paths}")
        if records != run:
            raise RequestError(
                f"{run}: no record of it in {records / 'results'}; `vle-bench evaluate {run} "
                "--data DIR --split S` writes one (with --output FILE: add FILE)"
            )
        raise RequestError(f"{run}: neither a result record nor a run folder (recipe.yaml)")
    recipe = strict_yaml.read_group(run / "recipe.yaml")
    path = run / "results" / f"{recipe['task']}.{recipe['data']['report']}.json"
    if not path.is_file():
        raise RequestError(f"{path}: no such record; `vle-bench evaluate {run}` writes it")
    return path
