"""What verbs have in common: the recipe that was typed, the folder of a run, and what is shown of a finished one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.cli import show
from thawline.cli.show import say

if TYPE_CHECKING:
    from thawline.recipe import Recipe
    from thawline.run.folder import RunFolder

RECIPES = (".yaml", ".yml")


def recipe_of(data: str, settings: list[str] | None, output: Path | None = None) -> Recipe:
    """Return the recipe of a file of data, or in a .yaml, with the settings that were typed; raises RecipeError."""
    from thawline.recipe import load_recipe, recipe_from

    overrides = [*(settings or ()), *([f"output.dir={output}"] if output is not None else ())]
    if Path(data).suffix.lower() in RECIPES:
        return load_recipe(data, overrides)
    return recipe_from({"data": {"path": data}}, overrides)


def train(recipe: Recipe, *, next_steps: bool = True) -> Path:
    """Carry out a recipe, show what came of it, and return the run's folder."""
    from thawline.run.carry_out import carry_out

    return show_run(carry_out(recipe, say), next_steps=next_steps)


def show_run(folder: RunFolder, *, next_steps: bool = True) -> Path:
    """Show what came of a run, and return its folder."""
    if os.environ.get("RANK", "0") != "0":  # of several processes that train as one, the first speaks
        return folder.path
    found = finished(folder)
    show_trials(folder)
    show.metrics(found, show.measured(found), problem=folder.columns().problem, folder=folder.path)
    show.plan_beside(found.get("train", {}))
    if next_steps:
        show.what_next(folder.path)
    return folder.path


def show_trials(folder: RunFolder) -> None:
    """Show what came of each trial, where there are trials."""
    found = folder.read("trials.json")
    if found is not None:
        show.result("", show.trials_table(found))
        for table in show.repeats_tables(found):
            show.result("", table)


def folder_of(run: Path) -> RunFolder:
    """Return the folder of a run; raises RunError where it is none."""
    from thawline.run.folder import RunFolder

    folder = RunFolder(run)
    folder.recipe()  # raises where this is no run's folder
    return folder


def finished(folder: RunFolder) -> dict[str, Any]:
    """Return metrics.json of a run; raises RunError where the run is not finished."""
    from thawline.errors import RunError

    found = folder.read("metrics.json")
    if found is None:
        raise RunError(f"{folder.path} is not finished, so it has no metrics yet. Type: thawline resume {folder.path}")
    return found
