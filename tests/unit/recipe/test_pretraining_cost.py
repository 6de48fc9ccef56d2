"""The recipes of pre-training state what they cost, as torch counts it."""

import re

import pytest

from tests.long.pretraining_cost import PEAK, SETTINGS, SHARE, cost
from vle_bench.recipe.load import find_recipe, load_recipe


def stated(name):
    """FLOPs with shared towers and with separate passes, and hours, as the comments have them."""
    text = find_recipe(f"pretrain/{name}").read_text(encoding="utf-8").replace("\n# ", " ")
    pattern = r"To expect[^:]*: (\S+) FLOP with shared towers \((\S+) with .*?(\d+) H100-hours"
    shared, separate, hours = re.search(pattern, text, re.DOTALL).groups()
    assert f"at {SHARE * 100:.0f} % of its {PEAK / 1e12:.0f} TFLOP/s" in text
    return float(shared), float(separate), int(hours)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_the_comments_state_the_cost(name):
    shared, separate, hours = cost(name)
    assert stated(name) == (float(f"{shared:.1e}"), float(f"{separate:.1e}"), round(hours))
    assert separate / shared >= 1.3


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_counted_is_the_recipe(name):
    recipe, setting = load_recipe(f"pretrain/{name}"), SETTINGS[name]
    assert (recipe.train.max_steps, recipe.train.batch_size) == (setting.steps, setting.batch)
    assert recipe.model.image_size == setting.pixels
    assert recipe.model.itm_candidates == setting.candidates
    chosen = {key for key, weight in recipe.model.objectives.model_dump().items() if weight}
    assert chosen == set(setting.objectives)
