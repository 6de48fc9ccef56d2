"""Print the scores of a record, and figures of published models."""

from pathlib import Path
from typing import TYPE_CHECKING

from vle_bench.errors import RequestError
from vle_bench.tasks.catalogue import CATALOGUE, within

if TYPE_CHECKING:
    from vle_bench.evaluation.record import Record


# Remarks on answers in words
WORDS = {
    "empty": "they are scored as they are",
    "cut": "they reached the limit of tokens and are scored as far as they go",
}


def is_first_process() -> bool:
    """Tell whether this is the main process, the only one that prints."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


def print_rows(rows: list[tuple[str, float, tuple[float, float] | None, int | None]]) -> None:
    """Print one line a score: name, percentage, 95 % interval, number of examples.

    Args:
        rows: (name, fraction, interval of fractions or None, number of examples or None).
    """
    for name, value, interval, n in rows:
        bounds = ""
        if interval is not None:
            bounds = f"   (95 %: {100 * interval[0]:.2f} to {100 * interval[1]:.2f})"
        count = f"   {n:,} question{'s' * (n != 1)}" if n is not None else ""
        print(f"{name:28} {100 * value:6.2f}{bounds}{count}")


def print_record(record: "Record") -> None:
    """Print the scores of a record, overall and by kind of question, and what limits them."""
    from vle_bench.evaluation.pretraining import data_in_words, in_words
    from vle_bench.evaluation.record import precision_of

    where = f"{record.split} of {record.other_data or record.data_name}"
    print(f"\n{record.model['name']} on {where}, {record.n:,} examples")
    print_rows([(name, m.value, m.interval, m.n) for name, m in record.metrics.items()])
    for kind, groups in record.breakdown.items():
        print(f"by {kind}")
        print_rows([(f"  {name}", m.value, m.interval, m.n) for name, m in groups.items()])
    if record.training.get("precision", record.precision) != record.precision:
        print(f"scored in {precision_of(record)}")
    if record.kind == "elsewhere":
        splits = ", ".join(record.training_splits) or "unknown splits (--trained-on): not ranked"
        print(f"trained elsewhere, on {splits}; {settings_of(record)}")
    for kind in WORDS:
        if count := record.model.get(f"{kind}_answers"):
            print(f"{count:,} of {record.n:,} answers are {kind}: {WORDS[kind]}")
    if record.kind == "external":
        splits = ", ".join(record.training_splits) or "unknown splits (--trained-on): not ranked"
        print(f"predictions of another program, {record.digests}; trained on {splits}")
    soft_score = CATALOGUE[record.task].label_metric
    if soft_score and record.processes and soft_score not in record.metrics:
        print(f"{soft_score} is left out: it needs the label map of the data as the model's own")
    if record.mixed:
        print(f"trained on a mix of {data_in_words(record.mixed)}")
    for entry in record.pretraining:
        print(f"starts from {in_words(entry)}")
    if record.transferred:
        print(f"trained on {record.trained_on}: never ranked among models of this data")
    if record.contaminated:
        before = " or with what it starts from" if record.pretraining else ""
        shared = f"{record.split} shares images with the training splits{before}"
        print(f"contaminated: {shared}; this score is never ranked")


def settings_of(record: "Record") -> str:
    """Describe how a checkpoint from elsewhere was asked, and the settings that were requested."""
    model = record.model
    if not {"pictures", "protocol"} & model.keys():
        return "joined by annot_id"
    parts = [str(model["protocol"])] if "protocol" in model else []
    if "prompt" in model:
        parts.append(f"prompt {model['prompt']!r}")
    if "max_text_length" in model:
        parts.append(f"texts of at most {model['max_text_length']} tokens")
    if "pictures" in model:
        given = model["pictures"]
        parts.append(
            f"pictures: {model['resize']} ({given})" if "resize" in model else f"pictures: {given}"
        )
    asked = f" (asked for: {model['asked']})" if "asked" in model else ""
    return f"{', '.join(parts)}{asked}"


def published_lines(model: str, source: str, task: str) -> list[str]:
    """Return one line for each figure of a model in published.yaml, on a task of a dataset.

    Raises:
        RequestError: published.yaml has no such model.
    """
    from vle_bench.leaderboard.published import load_published, not_among

    published = load_published(Path("leaderboards"))
    names = [one.name for one in published.models]
    if model not in names:
        raise RequestError(f"--published: {not_among(model, 'models', names)}")
    tasks = within(task) if task else ()  # published tables have no Q2AR of METER and VLE
    lines = []
    for score in published.scores:
        if (score.model, score.data) != (model, source) or score.task not in tasks:
            continue
        document = published.sources[score.source]
        where = f"{document.document}, {document.table}" if document.table else document.document
        notes = "".join(f"; {published.marks[mark].text.rstrip('.')}" for mark in score.marks)
        figure = f"{score.task} on {score.split}, {score.metric}: {score.value}"
        lines.append(f"published  {model}, {figure}   ({where}{notes})")
    return lines or [f"published  {model}: nothing of {task} on {source}"]
