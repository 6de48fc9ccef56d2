"""Make a record of the VQA challenge server's scores: only it has the answers of test-dev."""

import hashlib
import time
from decimal import Decimal
from pathlib import Path

from accelerate import Accelerator

from vle_bench import atomic
from vle_bench.data.prepared import check_whole
from vle_bench.data.sources import SOURCES
from vle_bench.errors import RequestError
from vle_bench.evaluation.evaluate import Loaded, load, record_of, refuse_another
from vle_bench.evaluation.record import Record
from vle_bench.evaluation.request import Request
from vle_bench.json_files import loads, reading
from vle_bench.metrics.numbers import Figure
from vle_bench.tasks.predictions import Scores

OVERALL, ANSWER_TYPES = "overall", ("yes/no", "number", "other")


def record_server_result(
    request: Request, file: Path, output: Path, *, accelerator: Accelerator
) -> Record:
    """Write the record of a checkpoint on a split from the server's result file.

    No model is run.

    Args:
        request: the checkpoint whose answers were submitted, and the precision of the predictions.
        file: `[{"test-dev": {"yes/no": 87.44, "number": 50.2, "other": 62.38, "overall": 71.32}}]`,
            in percent.

    Raises:
        RequestError: the file is no such result, or of another phase; no server scores the
            checkpoint's task on this data.
    """
    started = time.monotonic()
    check_split(request.split)
    with reading(file):
        content = file.read_bytes()  # once: it may be a pipe
    figures = read_result(file, request.split, content)
    loaded = load(request, accelerator, labelled=False)
    if loaded.training is None:
        refuse_another(output, loaded)
    ids = scored_ids(loaded)
    overall: Figure = {"value": figures[OVERALL], "interval": None, "n": len(ids)}
    scores = Scores(
        n=len(ids),
        metrics={loaded.task.primary_metric: overall},
        per_answer_type={name: figures[name] for name in ANSWER_TYPES if name in figures},
    )
    record = record_of(loaded, scores, ids, accelerator=accelerator, started=started)
    digest = {"server_result_sha256": hashlib.sha256(content).hexdigest()}
    server = {"device": "the challenge's server", "processes": 0, "batch_size": 0}
    record = record.model_copy(update={"data": record.data | digest, **server})
    if accelerator.is_main_process:
        atomic.write_json(output, record.model_dump(mode="json"))
    return record


def check_split(split: str) -> None:
    """Refuse a split that no server scores."""
    known = dict.fromkeys(split for row in SOURCES.values() for split in row.server_sizes)
    if split not in known:
        raise RequestError(
            f"--server-result: records are made of {', '.join(known)}, not of {split}"
        )


def scored_ids(loaded: Loaded) -> list[int]:
    """Return the ids of the questions that the server has scored: all of the split.

    Raises:
        RequestError: no server scores the data, or questions are missing.
    """
    source, split = loaded.data.manifest.source, loaded.request.split
    size = SOURCES[source].server_sizes.get(split)
    if size is None:
        raise RequestError(
            f"{loaded.request.checkpoint}: of task {loaded.task.name} on {source}, whose {split} "
            "no server scores"
        )
    check_whole(loaded.data, split)
    ids: list[int] = loaded.data.questions(split)["question_id"]
    if len(ids) != size:
        raise RequestError(
            f"{loaded.request.data_root}: has {len(ids):,} questions of {split}, the server "
            f"{size:,}; prepare all of them"
        )
    return ids


def read_result(file: Path, split: str, given: bytes) -> dict[str, float]:
    """Parse the bytes of a result file: fractions by type of answer and `overall` of one phase."""
    with reading(file):
        text = given.decode("utf-8-sig")
        content = loads(text, parse_float=Decimal, parse_int=Decimal)
    entries = content if isinstance(content, list) else [content]
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise RequestError(
            f'{file}: no result of the server; [{{"{split}": {{"{OVERALL}": 71.32, ...}}}}] is '
            "expected"
        )
    phases = [(name, figures) for entry in entries for name, figures in entry.items()]
    results = [figures for name, figures in phases if name == split]
    if len(results) != 1:
        known = ", ".join(str(name) for name, _ in phases) or "none"
        number = "more than one" if results else "has no"
        raise RequestError(f"{file}: {number} result of phase {split!r}; it has {known}")
    return {
        name: fraction(file, f"{split}: {name}", value)
        for name, value in checked(file, split, results[0]).items()
    }


def checked(file: Path, split: str, figures: object) -> dict[str, object]:
    """Check the figures of a phase: no unknown ones, and `overall` between those of its parts."""
    if not isinstance(figures, dict) or OVERALL not in figures:
        raise RequestError(f"{file}: {split}: has no {OVERALL!r}")
    if unknown := sorted(figures.keys() - {OVERALL, *ANSWER_TYPES}):
        known = ", ".join((OVERALL, *ANSWER_TYPES))
        raise RequestError(f"{file}: {split}: unknown: {', '.join(unknown)}; {known} are known")
    parts = [
        fraction(file, f"{split}: {name}", figures[name])
        for name in ANSWER_TYPES
        if name in figures
    ]
    if len(parts) == len(ANSWER_TYPES) and not min(parts) <= fraction(
        file, f"{split}: {OVERALL}", figures[OVERALL]
    ) <= max(parts):
        raise RequestError(
            f"{file}: {split}: {OVERALL} {figures[OVERALL]} is not between the types of answer, of "
            "which it is a mean"
        )
    return figures


def fraction(file: Path, name: str, value: object) -> float:
    """Convert percent to a fraction in decimal arithmetic: 71.32 becomes 0.7132."""
    if not isinstance(value, Decimal) or not 0 <= value <= 100:
        raise RequestError(f"{file}: {name}: {value} is no percentage of 0 to 100")
    return float(value / 100)
