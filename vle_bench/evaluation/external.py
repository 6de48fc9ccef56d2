"""Make a record of another program's predictions: a row of the tables without a checkpoint."""

import hashlib
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from vle_bench import __version__, atomic
from vle_bench.data.official.vcr import CHOICES
from vle_bench.data.prepared import PreparedData, check_labelled, open_prepared
from vle_bench.data.sources import RESULTS as ANSWERS
from vle_bench.data.sources import SOURCES
from vle_bench.data.splits import names
from vle_bench.errors import RequestError
from vle_bench.evaluation.environment import library_versions
from vle_bench.evaluation.evaluate import was_seen
from vle_bench.evaluation.record import SCHEMA_VERSION, TITLE, Record, ids_digest
from vle_bench.evaluation.request import NO_NAME, RESULTS, record_file, refuse_existing
from vle_bench.evaluation.score_files import read_leaderboard
from vle_bench.evaluation.submission import Findings, check_results
from vle_bench.json_files import JsonObject, parse, reading
from vle_bench.metrics.vqa import whole
from vle_bench.tasks import load_task
from vle_bench.tasks.catalogue import CATALOGUE, JOINED, tasks_of
from vle_bench.tasks.choice import CHOSEN
from vle_bench.tasks.predictions import Id, Prediction
from vle_bench.tasks.vqa import id_column

LONGEST = 200  # characters of a remark


@dataclass(frozen=True)
class ExternalModel:
    """Facts about the model of the predictions; None or empty: not given.

    Args:
        trained_on: training splits of the data, such as `train+val`.
        parameters: of the whole model.
        pretraining, source: remarks, such as `14M(I-T)` and an address.
    """

    name: str
    trained_on: str | None = None
    parameters: int | None = None
    pretraining: str | None = None
    source: str | None = None

    def check(self, source: str) -> None:
        """Refuse values that a record cannot hold; `source` names the data.

        Raises:
            RequestError: names the option.
        """
        if not re.fullmatch(TITLE, self.name):
            raise RequestError(
                f"--model: {self.name[:LONGEST]!r}: 1 to 80 letters, digits, blanks and .,:()+-_ "
                "are expected, a letter or a digit first"
            )
        for option, text in (("--pretraining", self.pretraining), ("--source", self.source)):
            if text is not None and not (text.isprintable() and 0 < len(text) <= LONGEST):
                raise RequestError(f"{option}: one line of 1 to {LONGEST} characters is expected")
        known = [*SOURCES[source].splits, *SOURCES[source].unlabelled]
        unknown = [name for name in names(self.trained_on or "") if name not in ("", *known)]
        if unknown:
            raise RequestError(
                f"--trained-on: {unknown[0]!r} is no split of {source}; there are "
                f"{', '.join(known)}"
            )

    @property
    def training_splits(self) -> list[str]:
        return names(self.trained_on) if self.trained_on else []

    def as_json(self) -> JsonObject:
        """Return the given facts by the keys of a record's `model`."""
        told = {
            "parameters": self.parameters,
            "pretraining": self.pretraining,
            "source": self.source,
        }
        return {"name": self.name, **{key: value for key, value in told.items() if value}}


def record_external(
    file: Path, data_root: Path, split: str, model: ExternalModel, output: Path | None, *, vcr: bool
) -> tuple[Record, Path, list[str]]:
    """Score the predictions of a file and write their record.

    Args:
        output: the record to write; `results/MODEL/results/<task>.<split>.json` if not given.
        vcr: the file is a leaderboard CSV; else it is a results file of questions.

    Returns:
        The record, its file, and remarks on odd predictions.

    Raises:
        RequestError: the data, the split or the file do not fit, or the record exists.
    """
    started = time.monotonic()
    data = open_prepared(data_root)
    check_form(data, vcr)
    check_labelled(data, split)
    model.check(data.manifest.source)
    name = JOINED if vcr else tasks_of(data.form)[0]
    task = load_task(name).for_data(data)
    folder = RESULTS / re.sub(NO_NAME, "-", model.name, flags=re.ASCII).strip("-._")
    target = output or record_file(folder, name, split, None)
    refuse_existing(target)
    questions = data.questions(split)
    with reading(file):
        content = file.read_bytes()  # once: it may be a pipe
    read = chosen_of if vcr else answers_of
    predictions, notes = read(file, content, questions, data)
    scores = task.score(predictions, questions)
    identity = data.manifest.identity
    metric = {} if data.manifest.metric is None else {"metric": data.manifest.metric}
    record = Record(
        kind="external",
        schema_version=SCHEMA_VERSION,
        task=name,
        task_version=task.version,
        split=split,
        n=scores.n,
        ids_sha256=ids_digest(one.id for one in predictions),
        metrics=scores.metrics,
        primary_metric=task.primary_metric,
        per_answer_type=scores.per_answer_type,
        per_question_type=scores.per_question_type,
        breakdown=scores.breakdown,
        training_splits=model.training_splits,
        contaminated=was_seen(identity, split, {}, model.training_splits),
        model=model.as_json() | {"predictions_sha256": hashlib.sha256(content).hexdigest()},
        data=identity | metric,
        code={},
        libraries={"vle-bench": __version__, **library_versions()},
        device="not known",
        processes=0,
        batch_size=0,
        seconds=round(time.monotonic() - started, 2),
        command=" ".join(["vle-bench", *sys.argv[1:]]),
    )
    atomic.write_json(target, record.model_dump(mode="json"))
    return record, target, notes


def check_form(data: PreparedData, vcr: bool) -> None:
    """Refuse data whose predictions have another kind of file."""
    if vcr is not (data.form == CATALOGUE[JOINED].form):
        kind = "a results file of answers" if vcr else "a leaderboard CSV"
        raise RequestError(
            f"{data.root}: holds prepared {data.manifest.source}, whose predictions are {kind}: "
            "the other command of `vle-bench record` takes it"
        )


def answers_of(
    file: Path, content: bytes, questions: Dataset, data: PreparedData
) -> tuple[list[Prediction], list[str]]:
    """Read a results file in the official form of the data: one answer for each question.

    Returns:
        The predictions in the order of the questions, and remarks on odd ones.
    """
    row = SOURCES[data.manifest.source]
    id_key, answer_key = results = row.results if data.form == row.form else ANSWERS
    records = with_text_ids(parse(content, file), id_key, questions[id_column(questions)][:])
    official = questions[id_column(questions)][:]
    findings = check_results(records, official, results, once=True)
    refuse_rejected(file, findings)
    pairs = records.items() if not id_key else ((one[id_key], one) for one in records)
    of = {i if isinstance(i, str) else whole(i): one for i, one in pairs}
    own = questions["question_id"][:]
    if "choices" not in questions.column_names:
        values = [{"answer": of[i][answer_key]} for i in official]
    else:
        choices = questions["choices"][:]
        given = [of[i] for i in official]
        wrong = [
            i
            for i, one, among in zip(official, given, choices, strict=True)
            if not is_among(one, answer_key, among)
        ]
        findings.reject(wrong, "answers that are none of the question's choices")
        refuse_rejected(file, findings)
        values = [
            choice_values(one, answer_key, among, data.form == row.form)
            for one, among in zip(given, choices, strict=True)
        ]
    predictions = [Prediction(i, one) for i, one in zip(own, values, strict=True)]
    return predictions, findings.warnings


def with_text_ids(content: Any, id_key: str, official: Sequence[Id]) -> Any:
    """Write whole numbers as text where the ids of the data are text, such as 12 beside a7."""
    if not id_key or not isinstance(content, list) or not isinstance(official[0], str):
        return content
    return [
        one | {id_key: str(one[id_key])}
        if isinstance(one, dict) and type(one.get(id_key)) is int
        else one
        for one in content
    ]


def is_among(one: JsonObject, answer_key: str, choices: Sequence[str]) -> bool:
    """Tell whether an answer is one of the choices; `choice`, if given, must name it."""
    index = one.get(CHOSEN)
    if type(index) is int and index in range(len(choices)):
        return bool(choices[index] == one[answer_key])
    return index is None and one[answer_key] in choices


def choice_values(
    one: JsonObject, answer_key: str, choices: Sequence[str], by_text: bool
) -> JsonObject:
    """Return the values of a prediction: the answer itself, or the index among the choices."""
    if by_text:
        return {"answer": one[answer_key]}
    chosen = one.get(CHOSEN, choices.index(one[answer_key]))
    return {"chosen": chosen, "scores": [float(k == chosen) for k in range(len(choices))]}


def chosen_of(
    file: Path, content: bytes, questions: Dataset, data: PreparedData
) -> tuple[list[Prediction], list[str]]:
    """Read a leaderboard CSV: the most probable answer, and rationale after the right answer."""
    with reading(file):
        text = content.decode("utf-8-sig")
    rows, findings = read_leaderboard(file, text), Findings()
    ids = questions["annot_id"][:]
    findings.check_ids(list(rows), ids, "annot_id")
    refuse_rejected(file, findings)
    predictions = []
    for i, right in zip(ids, questions["answer_label"][:], strict=True):
        fours = rows[i].reshape(-1, CHOICES)  # of the answers, then of the rationales after each
        answer, rationale = (int(four.argmax()) for four in (fours[0], fours[1 + right]))
        predictions.append(Prediction(i, {"q2a": answer, "qa2r": rationale}))
    return predictions, []


def refuse_rejected(file: Path, findings: Findings) -> None:
    """Refuse a file with problems, all of them on one line."""
    if findings.problems:
        raise RequestError(f"{file}: {'; '.join(findings.problems)}")
