"""How sure the areas under ROC and precision-recall curves are: scores are sorted once, and all resamples read off that."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thawline.evaluate.answered import Answered, Array
from thawline.evaluate.intervals import interval, resampled

DRAWS = 200
MOST = 200_000
"""Examples times classes; of more, the resamples would take longer than a second or two."""
_AREAS = ("roc_area", "average_precision")
Ends = dict[str, list[float] | None]


def area_intervals(answered: Answered, *, micro: bool = False, samples: int = DRAWS, seed: int = 0) -> dict[str, Ends]:
    """Return the 95 % percentile bootstrap intervals, of `samples` draws, of each class's areas by its number, and of "macro".

    The keys of each are "roc_area_ci95" and "average_precision_ci95". Draws in which an area is not defined, since a class has
    no examples there, are left out; None where that is so in all of them. With `micro` there is "micro", of all decisions taken
    together. Whole groups are drawn where the examples have any.

    >>> examples = [{"id": str(i), "label": "ab"[i % 2]} for i in range(100)]
    >>> said: list[Any] = [{"id": str(i), "label": "a", "scores": {"a": i / 99, "b": 1 - i / 99}} for i in range(100)]
    >>> found = area_intervals(Answered(examples, said, "single_label_classification", ("a", "b")))
    >>> print("{:.2f} < 0.50 < {:.2f}".format(*found["0"]["roc_area_ci95"]))
    0.37 < 0.50 < 0.59
    """
    true, scores, rows = answered.hot, answered.scores, np.arange(len(answered))
    each = [_ranked(true[:, c], scores[:, c], rows) for c in range(true.shape[1])]
    together = _ranked(true.ravel(), scores.ravel(), np.repeat(rows, true.shape[1])) if micro else None

    def areas(counts: Array) -> dict[str, Array]:
        drawn = counts.astype(np.float32)
        found = np.stack([_areas(drawn, one) for one in each])
        named = {"macro": _mean(found), **{str(c): one for c, one in enumerate(found)}}
        if together is not None:
            named["micro"] = _areas(drawn, together)
        return {f"{name} {area}": values for name, both in named.items() for area, values in zip(_AREAS, both, strict=True)}

    result: dict[str, Ends] = {}
    for key, values in resampled(areas, len(answered), samples=samples, seed=seed, groups=answered.groups).items():
        name, area = key.split()
        known = values[np.isfinite(values)]
        result.setdefault(name, {})[f"{area}_ci95"] = list(interval(known)) if len(known) else None
    return result


class _Ranked(NamedTuple):
    """Decisions [M] from the highest score on: whose each is, and which are positive [P].

    Of each score that a positive one has [G]: its first and last place, and the positives before and up to its end.
    """

    owner: Array
    positive: Array
    first: Array
    last: Array
    before: Array
    after: Array


def _ranked(true: Array, scores: Array, owner: Array) -> _Ranked:
    order = np.argsort(-scores, kind="stable")
    hit = true[order]
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    first, hits = np.append(0, last[:-1] + 1), np.append(0, np.cumsum(hit))
    some = hits[last + 1] > hits[first]
    first, last = first[some], last[some]
    return _Ranked(owner[order], np.flatnonzero(hit), first, last, hits[first], hits[last + 1])


def _areas(counts: Array, ranked: _Ranked) -> Array:
    """Return both areas of each resample, [2, S], NaN where one is not defined, from counts [S, N]."""
    drawn = counts[:, ranked.owner]
    through = np.cumsum(drawn, axis=1)  # whole numbers below 2^24, so that float32 is exact
    right = np.zeros((len(counts), len(ranked.positive) + 1))
    np.cumsum(drawn[:, ranked.positive], axis=1, out=right[:, 1:])
    before, after = right[:, ranked.before], right[:, ranked.after]
    up_to = through[:, ranked.last].astype(float)
    below = through[:, ranked.first] - drawn[:, ranked.first] - before
    positive = right[:, -1]
    negative = through[:, -1] - positive
    # Half of the negatives of equal score are below a positive.
    wrong = (up_to - after + below) / 2
    with np.errstate(invalid="ignore"):
        roc = ((after - before) * (negative[:, None] - wrong)).sum(axis=1) / (positive * negative)
        precise = ((after - before) * after / np.maximum(up_to, 1)).sum(axis=1) / positive
    return np.stack([roc, precise])


def _mean(areas: Array) -> Array:
    """Return the mean over the classes that have an area, [2, S], from [C, 2, S]."""
    known = np.isfinite(areas)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, areas, 0.0).sum(axis=0) / known.sum(axis=0))
