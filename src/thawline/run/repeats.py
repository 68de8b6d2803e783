"""Trials that differ by seed or by fold alone: which of them is kept, and what they say together."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from thawline.data.dataset import Dataset
from thawline.evaluate.answered import Answered
from thawline.evaluate.metrics import GREATER
from thawline.evaluate.output import PredictionFile, write_predictions
from thawline.evaluate.repeats import over
from thawline.evaluate.summary import summarize
from thawline.recipe import Recipe
from thawline.recipe.vary import FOLD, SEED
from thawline.run.finish import baselines_learn, baselines_of, keep_analysis
from thawline.run.folder import RunFolder
from thawline.run.kept import grouped, predictions_of
from thawline.run.prepare import Prepared, Say
from thawline.types import Prediction

Entry = dict[str, Any]
"""A trial in trials.json: trial, varied, steps, state ("waiting", "finished", "diverged"), and what came of it."""

HELD = "fold"
"""The split of a trial that is held out."""


def is_last(entry: Entry) -> bool:
    """Whether a trial comes after all folds: no example is held out, and its model is kept."""
    return bool(entry["varied"].get(FOLD) == 0)


def own(entry: Entry) -> dict[str, Any]:
    """Return what varies in a trial beside seed and fold."""
    return {key: value for key, value in entry["varied"].items() if key not in (SEED, FOLD)}


def groups_of(table: dict[str, Any]) -> list[list[Entry]]:
    """Return the trials in lists of those that differ by seed or by fold alone, without those that come last."""
    found: dict[str, list[Entry]] = {}
    for entry in table["trials"]:
        if not is_last(entry):
            found.setdefault(json.dumps(own(entry)), []).append(entry)
    return list(found.values())


def group_of(table: dict[str, Any], entry: Entry) -> list[Entry]:
    """Return the finished trials that differ from one by seed or fold alone, that one among them if it is no last one."""
    return [one for one in next(g for g in groups_of(table) if own(g[0]) == own(entry)) if one["state"] == "finished"]


def best_of(table: dict[str, Any]) -> Entry | None:
    """Return the trial whose model is kept; None where none came to its end.

    The best combination is that with the best mean of the metric over its seeds or folds, of equals the first. Of its seeds it
    is the best one; of folds it is the trial without any held out. Where one fold diverged its combination is out.
    """
    metric: str = table["metric"]
    sign = 1 if GREATER.get(metric, False) else -1

    def merit(entry: Entry) -> float:
        value = sign * entry["validation"].get(metric, math.nan)
        return -math.inf if math.isnan(value) else value

    pairs = [(group, [one for one in group if one["state"] == "finished"]) for group in groups_of(table)]
    whole = [some for group, some in pairs if some and (some == group or FOLD not in some[0]["varied"])]
    if not whole:
        return None
    best = max(whole, key=lambda group: sum(map(merit, group)) / len(group))
    lasts = [entry for entry in table["trials"] if is_last(entry) and own(entry) == own(best[0])]
    return lasts[0] if lasts else max(best, key=merit)


def seeds_section(group: Sequence[Entry]) -> dict[str, Any]:
    """Return what metrics.json and trials.json say of several seeds: mean, standard deviation and values of each metric."""
    found: dict[str, Any] = {"seeds": [entry["varied"][SEED] for entry in group]}
    for split in ("test", "validation"):
        if all(entry.get(split) for entry in group):
            found[split] = over([entry[split] for entry in group])
    return found


class Fold(NamedTuple):
    """A trial that is finished: its folder, and its data, of which it has predicted the fold."""

    home: RunFolder
    dataset: Dataset


def pooled(folds: Sequence[Fold], folder: RunFolder, last: Prepared, *, say: Say) -> dict[str, Any]:
    """Put the predictions of all folds together, in `predictions/folds.jsonl` of the run, and return what they are worth.

    That is the metrics of all of them, as of any other set, and `over_folds` with `n`, mean, standard deviation and values of
    each metric. What stands behind them goes to analysis.json. `last` is what the trial without a fold held out started from.
    """
    pool, recipe, task = folds[0].dataset.pool, last.recipe, last.task
    assert pool is not None, "there are folds"
    path = folder.path / "predictions" / "folds.jsonl"
    write_predictions(_in_order(folds, len(pool)), path)
    given = Answered(pool, PredictionFile(path), task.problem, task.labels, grouped(recipe, pool))
    beside = _baselines(folds, recipe, task.problem, say=say)
    section = summarize(given, baselines=beside, samples=recipe.evaluate.bootstrap_samples, seed=recipe.train.seed).section
    each = [(fold.home.read("metrics.json") or {})[HELD] for fold in folds]
    section["over_folds"] = {"n": [one["n"] for one in each], **over(each)}
    keep_analysis(folder, "folds", given)
    return section


def _in_order(folds: Sequence[Fold], total: int) -> Iterator[Prediction]:
    """Yield the predictions of all folds in the order of the examples; they stay in their files until then."""
    files = [predictions_of(fold.home, HELD) for fold in folds]
    owner, row = np.full(total, -1), np.zeros(total, np.int64)
    for number, (fold, file) in enumerate(zip(folds, files, strict=True)):
        places = _places(fold)
        assert len(places) == len(file), "a fold has been answered in full"
        owner[places], row[places] = number, np.arange(len(places))
    assert (owner >= 0).all() and sum(map(len, files)) == total, "an example is in no fold, or in two"
    for number, place in zip(owner.tolist(), row.tolist(), strict=True):
        yield cast(Prediction, {**files[number][place], "fold": number + 1})


def _places(fold: Fold) -> np.ndarray[Any, Any]:
    """Return the places of a fold's examples among all, int [M]."""
    pool = fold.dataset.pool
    places = pool.places_of(fold.dataset.splits[HELD]) if pool is not None else None
    assert places is not None, "a fold is of the examples that were dealt out"
    return places


def _baselines(folds: Sequence[Fold], recipe: Recipe, problem: str, *, say: Say) -> dict[str, list[Any]] | None:
    """Return what baselines say of all examples, each trained without the fold of the example."""
    if not baselines_learn(recipe, problem, folds[0].dataset.splits[HELD]):
        return None
    found: dict[str, dict[int, Any]] = {}
    for fold in folds:
        said = baselines_of(fold.dataset.splits["train"], fold.dataset.splits[HELD], recipe, say=say)
        for name, answers in said.items():
            found.setdefault(name, {}).update(zip(_places(fold).tolist(), answers, strict=True))
    total = sum(len(fold.dataset.splits[HELD]) for fold in folds)
    return {name: [said[place] for place in range(total)] for name, said in found.items() if len(said) == total}
