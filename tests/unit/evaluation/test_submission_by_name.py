"""check-submission for the datasets by name: what predict writes passes, and what is wrong is named."""

import json

import pytest

from tests.miniature import in_process
from tests.miniature.by_name import WRITERS
from vle_bench.data.prepare.by_name import LAYOUTS, official_questions
from vle_bench.data.sources import CHECKED, SOURCES

SPLITS = {
    "vizwiz": "test",
    "textvqa": "test",
    "advqa": "test-dev",
    "gqa": "submission",
    "aokvqa": "test",
    "aokvqa-choices": "test",
}


def records_of(name, questions, answer="cab"):
    id_key, answer_key = SOURCES[name].results
    ids, _ = official_questions(name, questions)
    if not id_key:
        return {i: {answer_key: answer} for i in ids}
    return [{id_key: i, answer_key: answer} for i in ids]


def check(name, folder, content, code):
    """The command on a results file; returns stdout and stderr."""
    questions = folder / LAYOUTS[name].splits[SPLITS[name]].questions
    (folder / "results.json").write_text(
        content if isinstance(content, str) else json.dumps(content), encoding="utf-8"
    )
    return in_process.run(
        "check-submission", name, "results.json", "--questions", questions, cwd=folder, code=code
    )


@pytest.fixture
def asked(request, tmp_path):
    name = request.param
    WRITERS[name](tmp_path)
    questions = tmp_path / LAYOUTS[name].splits[SPLITS[name]].questions
    return name, tmp_path, records_of(name, questions)


every = pytest.mark.parametrize("asked", CHECKED, indirect=True)


def test_the_datasets_with_unlabelled_questions():
    assert {*CHECKED} == {*SPLITS}


@every
def test_a_whole_file_is_fine(asked):
    name, folder, records = asked
    shown, errors = check(name, folder, records, 0)
    assert f"results.json: fine: {len(records)} records, every id of" in shown and not errors


@every
def test_a_missing_and_an_unknown_id(asked):
    name, folder, records = asked
    id_key, answer_key = SOURCES[name].results
    if id_key:
        missing = records[0][id_key]
        unknown = 4 if isinstance(missing, int) else "unknown id"
        records[0] = {id_key: unknown, answer_key: "x"}
    else:
        missing, unknown = next(iter(records)), "unknown id"
        records[unknown] = records.pop(missing)
    _, errors = check(name, folder, records, 1)
    assert f"1 question id missing: {missing}" in errors
    assert f"1 question id unknown: {unknown}" in errors


@every
def test_answers_that_are_none(asked):
    name, folder, records = asked
    id_key, answer_key = SOURCES[name].results
    rows = records if id_key else list(records.values())
    rows[0][answer_key] = 7
    del rows[1][answer_key]
    _, errors = check(name, folder, records, 1)
    assert "1 answers that are not strings" in errors
    assert f"1 records without {'an answer' if answer_key == 'answer' else answer_key}" in errors


@every
def test_another_form(asked):
    name, folder, records = asked
    other = {"answers": records} if isinstance(records, list) else [*records.values()]
    _, errors = check(name, folder, other, 1)
    kind, form = (
        ("an object", "a list of") if isinstance(records, list) else ("a list", "an object of")
    )
    assert f"the file is {kind}, not {form}" in errors and SOURCES[name].results[1] in errors


@pytest.mark.parametrize("asked", ["gqa", "vizwiz"], indirect=True)
def test_ids_that_are_no_strings(asked):
    name, folder, records = asked
    id_key = SOURCES[name].results[0]
    _, errors = check(name, folder, [{**records[0], id_key: 3}, *records[1:]], 1)
    assert f"1 records whose {id_key} is not a string: record 0" in errors


@pytest.mark.parametrize("asked", ["gqa", "textvqa"], indirect=True)
def test_a_repeated_id_is_a_warning(asked):
    name, folder, records = asked
    _, errors = check(name, folder, [*records, records[0]], 0)
    assert "warning: 1 " in errors and "more than once" in errors


@every
def test_files_that_are_none(asked):
    name, folder, records = asked
    _, errors = check(name, folder, "[{", 2)
    assert "results.json: broken or cut-off JSON" in errors
    (folder / LAYOUTS[name].splits[SPLITS[name]].questions).write_text("7", encoding="utf-8")
    _, errors = check(name, folder, records, 2)
    assert "Traceback" not in errors and len(errors.splitlines()) == 1


@pytest.mark.parametrize("asked", ["aokvqa-choices"], indirect=True)
def test_an_answer_that_is_no_choice(asked):
    name, folder, records = asked
    i = next(iter(records))
    records[i] = {"multiple_choice": "a cab"}
    _, errors = check(name, folder, records, 1)
    assert f"1 answers that are none of the question's choices: {i}" in errors
