"""Where the model is worse than elsewhere: groups of examples found by search, corrected for the number of looks."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.evaluate.answered import CLASSES, Answered
from thawline.evaluate.example_errors import RATE, Errors, errors
from thawline.evaluate.slice_candidates import Slice, candidates
from thawline.evaluate.slice_search import held, search
from thawline.evaluate.slice_words import words

Array = NDArray[Any]

LEVEL = 0.01
_LEAST = 10  # examples in a slice, and outside
_Z = 2.3263478740408408  # of one side at 1 %
_Z95 = 1.959963984540054
_NOT_BY_LABEL = (
    "True labels are no slices: nobody knows them when the model is used, and which label is hard stands with the classes. "
    "What a slice is beyond them, `held_label` says."
)
_NOT_ENOUGH = "No slices were looked for: "


def slices(answered: Answered, *, limit: int = 20, samples: int = 5, seed: int = 0) -> dict[str, Any]:
    """Return the slices in which the model errs more than elsewhere, the surest first, at most `limit`.

    Looked at are: quantiles of length, values and quantiles of each further column, pairs of these, and words (of unspaced
    scripts, pairs of characters) in at least 1 % of the texts. Where errors have nothing to do with any of them, the chance
    that one is reported is at most 1 % (see `search`); that holds for examples independent of one another, not for copies. An
    error is a wrong answer (several labels: any wrong label); of other problems it is that of `example_errors`, by rank.

    A slice that is no worse than the slices above it make it (Mantel–Haenszel, 1 %) is not listed by itself: the one it has
    most in common with names it in `also`. The interval of the difference is that of one slice by itself (Newcombe 1998,
    method 10; Welch for numbers): the worst of many looks somewhat worse than it is.
    """
    found = errors(answered)
    out: dict[str, Any] = {"n": len(answered), "measure": found.measure, "error": float(found.size.mean()), "level": LEVEL}
    out |= {"candidates": {}, "permutations": 0, "slices": [], "notes": []}
    if reason := _nothing(found, len(answered)):
        return out | {"notes": [_NOT_ENOUGH + reason]}
    looked, notes = candidates(answered, least=_LEAST, words=words(answered))
    out |= {"candidates": dict(Counter(one.kind for one in looked)), "notes": notes}
    if not looked:
        return out | {"notes": [*notes, f"{_NOT_ENOUGH}no group has {_LEAST} examples inside and outside."]}
    tested = found.tested
    searched = search(_matrix(looked, len(answered)), tested, level=LEVEL, seed=seed)
    worse = {id(looked[i]): float(searched.p[i]) for i in searched.order if searched.p[i] <= LEVEL}
    shown = _distinct([looked[i] for i in searched.order if id(looked[i]) in worse], tested)
    rows = [
        {**_row(answered, one, found, samples=samples), "p": worse[id(one)], "also": also[:samples]}
        for one, also in shown[:limit]
    ]
    notes += [*_told(answered, shown, len(worse) - len(shown), limit=limit), *answered.notes]
    return out | {"permutations": searched.permutations, "slices": rows, "notes": notes}


def _nothing(errors: Errors, total: int) -> str:
    if total < 2 * _LEAST:
        return f"{total} examples are too few; {2 * _LEAST} would be the least."
    if not np.isfinite(errors.size).all():
        return "some answers are no finite numbers."
    if np.ptp(errors.size) > 0:
        return ""
    return {0.0: "no answer is wrong.", 1.0: "every answer is wrong."}.get(float(errors.size[0]), "all errors are equal.")


def _matrix(looked: list[Slice], total: int) -> Any:
    from scipy.sparse import csr_matrix

    starts = np.cumsum([0, *(len(one.rows) for one in looked)])
    rows = np.concatenate([one.rows for one in looked])
    return csr_matrix((np.ones(len(rows), dtype=np.float32), rows, starts), shape=(len(looked), total))


def _distinct(worse: list[Slice], tested: Array) -> list[tuple[Slice, list[str]]]:
    """Return the slices that those before them do not explain, each with the names of those that it explains.

    Pairs that lie wholly within it are its parts, and not named.
    """
    shown: list[tuple[Slice, list[str]]] = []
    masks: list[Array] = []
    strata = np.zeros(len(tested), dtype=np.int64)
    for one in worse:
        mask = _mask(one, len(strata))
        if not shown or held(mask, tested, strata) > _Z:
            shown.append((one, []))
            masks.append(mask)
            strata = np.unique(2 * strata + mask, return_inverse=True)[1]
        else:
            nearest = max(range(len(shown)), key=lambda i: (mask & masks[i]).sum() / (mask | masks[i]).sum())
            if one.kind != "pair" or (mask & ~masks[nearest]).any():
                shown[nearest][1].append(one.name)
    return shown


def _mask(one: Slice, total: int) -> Array:
    mask = np.zeros(total, dtype=bool)
    mask[one.rows] = True
    return mask


def _told(answered: Answered, shown: list[tuple[Slice, list[str]]], explained: int, *, limit: int) -> list[str]:
    notes = [_NOT_BY_LABEL] if shown and answered.problem in CLASSES else []
    if explained:
        notes.append(f"{explained} more slices are parts of these, or hold much the same examples (`also` names some).")
    if len(shown) > limit:
        notes.append(f"{len(shown)} slices were found; the surest {limit} are listed.")
    return notes


def _row(answered: Answered, one: Slice, errors: Errors, *, samples: int) -> dict[str, Any]:
    """Return what is said of one slice, but for what the search found."""
    mask = _mask(one, len(answered))
    inside, outside = errors.size[mask], errors.size[~mask]
    mean, elsewhere = float(inside.mean()), float(outside.mean())
    low, high = _newcombe(inside, outside) if errors.shares else _welch(inside, outside)
    worst = sorted((-errors.size[i], answered.ids[i]) for i in one.rows if errors.size[i] > 0)[:samples]
    row = {"name": one.name, "kind": one.kind, "by": list(one.by), "n": len(inside), "error": mean, "elsewhere": elsewhere}
    row |= {
        "difference": mean - elsewhere,
        "low": low,
        "high": high,
        "sentence": _sentence(one, mean, elsewhere, measure=errors.measure),
    }
    row["ids"] = [own for _, own in worst]
    if answered.problem in CLASSES:
        label = np.unique(answered.true, axis=0, return_inverse=True)[1].ravel()
        row["held_label"] = bool(held(mask, errors.tested, label) > _Z)
        row["labels"] = _labels(answered, one.rows)
    return row


def _labels(answered: Answered, rows: Array) -> list[dict[str, Any]]:
    """Return the true labels of the slice that have most errors in it, at most 5, with examples and errors of each."""
    names = [", ".join(map(str, t)) if isinstance(t := answered.targets[i], list | tuple) else str(t) for i in rows]
    wrong = Counter(name for name, i in zip(names, rows, strict=True) if not answered.right[i])
    there = Counter(names)
    first = sorted(wrong, key=lambda name: (-wrong[name], name))[:5]
    return [{"label": name, "n": there[name], "wrong": wrong[name]} for name in first]


def _sentence(one: Slice, mean: float, elsewhere: float, *, measure: str) -> str:
    if measure != RATE:
        return f"{one.name} (n={len(one.rows):,}): {measure} {mean:.3g}, elsewhere {elsewhere:.3g}"
    right = [100 * (1 - mean), 100 * (1 - elsewhere)]
    digits = 0 if abs(right[1] - right[0]) >= 1.5 else 1
    return f"{one.name} (n={len(one.rows):,}): {right[0]:.{digits}f} % right, elsewhere {right[1]:.{digits}f} %"


def _newcombe(inside: Array, outside: Array) -> tuple[float, float]:
    """Return the 95 % interval of a difference of shares from Wilson's intervals of each (Newcombe 1998, method 10)."""
    (p, low, high), (q, below, above) = _wilson(inside), _wilson(outside)
    return p - q - math.hypot(p - low, above - q), p - q + math.hypot(high - p, q - below)


def _wilson(values: Array) -> tuple[float, float, float]:
    n, p = len(values), float(values.mean())
    middle, half = p + _Z95**2 / (2 * n), _Z95 * math.sqrt(p * (1 - p) / n + _Z95**2 / (4 * n * n))
    return p, (middle - half) / (1 + _Z95**2 / n), (middle + half) / (1 + _Z95**2 / n)


def _welch(inside: Array, outside: Array) -> tuple[float, float]:
    """Return the 95 % interval of a difference of means with unequal variances (Welch 1947)."""
    from scipy.stats import t

    parts = [float(values.var(ddof=1)) / len(values) for values in (inside, outside)]
    difference = float(inside.mean() - outside.mean())
    if sum(parts) <= 0:
        return difference, difference
    freedom = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (inside, outside), strict=True))
    half = float(t.ppf(0.975, freedom)) * math.sqrt(sum(parts))
    return difference - half, difference + half
