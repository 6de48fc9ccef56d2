"""Recipes: one strict YAML file a run."""

from vle_bench.recipe.load import load_recipe

__all__ = ["load_recipe"]
