"""Many recipes from one: every combination of the values that `vary` lists is a trial."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from thawline.errors import RecipeError
from thawline.recipe.read import recipe_from
from thawline.recipe.schema import Recipe

MOST = 999


class Trial(NamedTuple):
    """One combination: its name ("001"), what varied, and the recipe that has these values and varies nothing."""

    name: str
    varied: dict[str, Any]
    recipe: Recipe


def trials_of(recipe: Recipe) -> tuple[Trial, ...]:
    """Return a trial for each combination, the last key varying fastest; none where nothing varies.

    Raises RecipeError with the faults of all combinations.

    >>> recipe = recipe_from({"data": "reviews.csv", "vary": {"lr": [1e-4, 3e-4], "strategy": ["head", "freeze(4)"]}})
    >>> [(trial.name, combination(trial.varied)) for trial in trials_of(recipe)][:2]
    [('001', 'train.learning_rate=0.0001 strategy=head'), ('002', 'train.learning_rate=0.0001 strategy=freeze(4)')]
    """
    count = math.prod(map(len, recipe.vary.values())) if recipe.vary else 0
    if count > MOST:
        raise RecipeError([f"vary: the lists make {count:,} combinations; expected at most {MOST}; take values out of them."])
    alone = recipe.model_dump(exclude_unset=True, exclude={"vary", "output"})
    trials, faults = list[Trial](), list[tuple[str, str]]()
    for number, values in enumerate(itertools.product(*recipe.vary.values()), 1):
        varied: dict[str, Any] = dict(zip(recipe.vary, values, strict=True))
        try:
            trials.append(Trial(f"{number:03}", varied, _judgeable(recipe_from(alone, **varied))))
        except RecipeError as error:
            faults += [(fault, combination(varied)) for fault in error.faults]
    faults += _twice(trials)
    if faults:
        raise RecipeError(named(faults, count))
    return tuple(trials if count else ())


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
