"""The rows of the study, and what each of their trainings is."""

from pathlib import Path

import pytest

from vle_bench.recipe.load import load_recipe
from vle_bench.study.rows import ALIGNED, PASSES, PRETRAINING, ROWS, TRANSFERS, Row, trainings

START = Path("starts/x")


def recipes(row, seed=0, overrides=()):
    jobs = trainings(row, seed, START, Path("runs"), list(overrides))
    return {name: job.recipe for name, job in jobs.items()}, jobs


def test_both_families_have_every_set_of_objectives():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names) == 14
    sets = ["scratch", "mlm", "itm", "mlm-itm", "mlm-itm-pbc", "mlm-itm-mpc", "mlm-itm-pbc-mpc"]
    assert names == [f"{family}-{one}" for family in ("vle", "meter") for one in sets]


@pytest.mark.parametrize(
    ("objectives", "passes_a_step"),
    [(("mlm",), 1), (("itm", "pbc"), 1), (("mlm", "itm", "mpc"), 2), (("mpc",), 1)],
)
def test_every_pretraining_takes_the_same_passes_of_the_vision_encoder(objectives, passes_a_step):
    assert Row("vle", objectives).steps * passes_a_step == PASSES
    assert Row("vle", ()).steps == 0


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_model_is_pretrained_from_the_start_and_finetuned_from_there(row):
    by_name, jobs = recipes(row, seed=2)
    assert list(by_name) == [PRETRAINING] * bool(row.objectives) + list(TRANSFERS)
    start = jobs[PRETRAINING].folder if row.objectives else START
    for name, recipe in by_name.items():
        assert recipe.train.seed == 2 and recipe.model.config is None
        if name == PRETRAINING:
            weights = dict(recipe.model.objectives or ())
            assert {key for key, weight in weights.items() if weight} == set(row.objectives)
            assert recipe.model.checkpoint == str(START)
            assert recipe.train.max_steps == row.steps == jobs[name].steps
        else:
            assert recipe.model.checkpoint == str(start)
            off = row.family == "meter" and name in ALIGNED
            assert recipe.model.alignment == ("off" if off else "on")


def test_rows_differ_in_nothing_but_what_they_say():
    """The fine-tunings of all rows are one recipe but for name, start and METER's alignment."""
    for name in TRANSFERS:
        values = []
        for row in ROWS:
            dump = recipes(row)[0][name].model_dump(mode="json")
            dump.pop("name")
            dump["model"].pop("checkpoint")
            dump["model"].pop("alignment")
            values.append(dump)
        assert all(one == values[0] for one in values)


def test_the_families_differ_in_the_text_encoder_alone():
    vle, meter = (load_recipe(f"study/{name}").model_dump(mode="json") for name in ("vle", "meter"))
    texts = [one["model"]["config"].pop("text_config") for one in (vle, meter)]
    assert [text["model_type"] for text in texts] == ["deberta-v2", "roberta"]
    same = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    assert all(texts[0][key] == texts[1][key] for key in (*same, "initializer_range"))
    for one in (vle, meter):
        one.pop("name")
        one["model"].pop("objectives")
    assert vle == meter


def test_the_vcr_recipes_differ_in_the_task_and_in_how_often_they_are_evaluated():
    q2a, qa2r = (load_recipe(f"study/{name}").model_dump(mode="json") for name in ALIGNED)
    for one in (q2a, qa2r):
        one.pop("name"), one.pop("task"), one["train"].pop("evaluate_every")
        one["train"].pop("max_steps")
    assert q2a == qa2r


def test_a_changed_recipe_has_other_folders_also_of_what_is_trained_from_it():
    row = ROWS[1]
    _, before = recipes(row)
    _, after = recipes(row, overrides=["train.learning_rate=2e-3"])
    assert not {job.folder for job in before.values()} & {job.folder for job in after.values()}
    folders = [job.folder for job in before.values()]
    assert len(set(folders)) == len(folders)
