"""The experiment as one validated value, read from YAML, `key=value` and Python alike.

    schema   the sections and keys, with defaults and words      forms   call forms: strategy, regularize, data.split
    names    aliases, bare keys, "did you mean"                  faults  pydantic's errors in plain words
    text     YAML as recipes use it, both ways                   read    layers -> Recipe
    lists    the values of keys that vary                        vary    Recipe -> one for each combination

A Recipe is turned into plain arguments by `thawline.run`; no layer below sees one.
"""

from thawline.recipe.faults import expected
from thawline.recipe.names import ALIASES
from thawline.recipe.read import load_recipe, python_arguments, recipe_from
from thawline.recipe.schema import Data, Evaluate, Model, Output, Predict, Recipe, Store, Task, Train
from thawline.recipe.text import key_table, save_recipe, to_yaml
from thawline.recipe.vary import Trial, combination, grid_of, seed_of_data, trials_of

__all__ = [
    "ALIASES",
    "Data",
    "Evaluate",
    "Model",
    "Output",
    "Predict",
    "Recipe",
    "Store",
    "Task",
    "Train",
    "Trial",
    "combination",
    "expected",
    "grid_of",
    "key_table",
    "load_recipe",
    "python_arguments",
    "recipe_from",
    "save_recipe",
    "seed_of_data",
    "to_yaml",
    "trials_of",
]
