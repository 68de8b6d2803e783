"""Many recipes from one: every combination of the values that `vary` lists is a trial, and so is every seed and every fold."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from thawline.errors import RecipeError
from thawline.recipe.read import recipe_from
from thawline.recipe.schema import Recipe

MOST = 999
SEED, FOLD = "train.seed", "data.fold"
"""What `train.seeds` and `data.folds` vary: trials that differ in one of these alone say how far results differ by chance."""
_PARTS = "train.gradient_accumulation_steps"
_SAME_EXAMPLES = ("data.max_length", "data.augment")


class Trial(NamedTuple):
    """One combination: its name ("001"), what varied, and the recipe that has these values and varies nothing."""

    name: str
    varied: dict[str, Any]
    recipe: Recipe


def grid_of(recipe: Recipe) -> dict[str, list[Any]]:
    """Return the keys that vary, each with its values: `vary`, and what `train.seeds` and `data.folds` are short for.

    >>> grid_of(recipe_from({"data": "reviews.csv", "vary": {"lr": [1e-4]}, "train": {"seed": 7, "seeds": 2}}))
    {'train.learning_rate': [0.0001], 'train.seed': [7, 8]}
    """
    grid = dict(recipe.vary)
    if recipe.train.seeds:
        grid[SEED] = list(range(recipe.train.seed, recipe.train.seed + recipe.train.seeds))
    if recipe.data.folds and recipe.data.fold is None:
        grid[FOLD] = [*range(1, recipe.data.folds + 1), 0]
    return grid


def seed_of_data(recipe: Recipe) -> int:
    """Return the seed by which a recipe's splits, folds and samples are made."""
    return recipe.train.seed if recipe.data.seed is None else recipe.data.seed


def trials_of(recipe: Recipe) -> tuple[Trial, ...]:
    """Return a trial for each combination, the last key varying fastest; none where nothing varies.

    Of folds the trial without any held out, whose model is kept, comes after all others. Where seeds vary, the data of all
    trials are those of the recipe's own seed. Raises RecipeError with the faults of all combinations.

    >>> recipe = recipe_from({"data": "reviews.csv", "vary": {"lr": [1e-4, 3e-4], "strategy": ["head", "freeze(4)"]}})
    >>> [(trial.name, combination(trial.varied)) for trial in trials_of(recipe)][:2]
    [('001', 'train.learning_rate=0.0001 strategy=head'), ('002', 'train.learning_rate=0.0001 strategy=freeze(4)')]
    """
    grid = grid_of(recipe)
    count = math.prod(map(len, grid.values())) if grid else 0
    if count > MOST:
        sizes = {"train.seeds": recipe.train.seeds, "data.folds": recipe.data.folds}
        most = max(sizes, key=lambda key: sizes[key] or 0)
        where, what = (most, "makes") if (sizes[most] or 0) * 2 > MOST else ("vary", "the lists make")
        raise RecipeError([f"{where}: {what} {count:,} combinations; expected at most {MOST}; ask for fewer."])
    if at_odds := list(_at_odds(recipe, grid)):
        raise RecipeError(at_odds)
    alone = recipe.model_dump(exclude_unset=True, exclude={"vary": True, "output": True, "train": {"seeds"}})
    if SEED in grid:
        alone["data"]["seed"] = seed_of_data(recipe)
    trials, faults = list[Trial](), list[tuple[str, str]]()
    combinations = (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))
    for number, varied in enumerate(sorted(combinations, key=lambda varied: varied.get(FOLD) == 0), 1):
        try:
            trial = recipe_from(alone, **varied)
            trials.append(Trial(f"{number:03}", varied, trial if [*grid] == [FOLD] else _judgeable(trial)))
        except RecipeError as error:
            faults += [(fault, combination(varied)) for fault in error.faults]
    faults += _twice(trials)
    if faults:
        raise RecipeError(named(faults, count))
    return tuple(trials if count else ())


def trainings(trials: Sequence[Trial]) -> int:
    """Return how many trials are trained: of those without a fold held out that of the best combination alone."""
    return len([trial for trial in trials if trial.varied.get(FOLD) != 0]) + any(FOLD in trial.varied for trial in trials)


def combination(varied: dict[str, Any]) -> str:
    """Return what varies as it would be typed."""
    return " ".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in varied.items())


def named(faults: Iterable[tuple[str, str]], count: int) -> list[str]:
    """Return each fault once, with the first combination that has it; `count` is how many combinations there are.

    >>> named([("train.lr: is odd.", "train.lr=7 seed=1"), ("train.lr: is odd.", "train.lr=7 seed=2")], 4)
    ['train.lr: is odd. (vary: train.lr=7 seed=1, and 1 more)']
    """
    found: dict[str, list[str]] = {}
    for fault, where in faults:
        found.setdefault(fault, []).append(where)
    return [fault if len(where) == count > 1 else f"{fault} (vary: {_first(where)})" for fault, where in found.items()]


def _first(where: list[str]) -> str:
    return where[0] + (f", and {len(where) - 1} more" if len(where) > 1 else "")


def _at_odds(recipe: Recipe, grid: dict[str, list[Any]]) -> Iterator[str]:
    """What cannot stand beside train.seeds or data.folds."""
    if recipe.train.seeds and SEED in recipe.vary:
        yield f"train.seeds: stands beside vary.{SEED}; expected one of the two; leave one out."
    if _PARTS in grid:
        yield f"vary.{_PARTS}: says how a step is cut, which changes nothing that is learned; expected vary.batch_size."
    if FOLD in grid:
        if SEED in grid:
            which = "train.seeds" if recipe.train.seeds else f"vary.{SEED}"
            yield f"{which}: stands beside data.folds; expected one of the two, as each says how far results differ."
        for key in recipe.vary:
            if key.startswith("data.") and key not in _SAME_EXAMPLES:
                yield f"vary.{key}: cannot vary beside data.folds: all share the same folds; start a run for each value."


def _judgeable(recipe: Recipe) -> Recipe:
    if recipe.train.eval_strategy == "no":
        raise RecipeError(["train.eval_strategy: is no, so the best trial cannot be told; expected epoch or steps."])
    return recipe


def _twice(trials: Iterable[Trial]) -> Iterable[tuple[str, str]]:
    first: dict[str, Trial] = {}
    for trial in trials:
        same = first.setdefault(trial.recipe.model_dump_json(), trial)
        if same is not trial:
            yield "vary: two combinations are the same; expected each value once; take one out.", combination(trial.varied)
