"""From which score on a label is given, where an example may have several: a threshold for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from thawline.evaluate.answered import Answered, Array
from thawline.types import Prediction

FOLDS = 10
LEAST = 10
"""A label with fewer positive examples gets no threshold of its own."""
HALF = 0.5


def thresholds(answered: Answered, *, folds: int = FOLDS, seed: int = 0) -> dict[str, Any]:
    """Return for each label the threshold on its score that makes its F1 greatest, where the data can tell.

    The best threshold of few positives is partly luck (Lipton, Elkan & Naryanaswamy 2014). So each is found `folds`
    times, on all but one fold, judged on that fold, and what is kept is the median of them. It replaces the one before it (0.5,
    then one that all labels share, then the label's own) only where F1 on the judging folds gains more than one standard error;
    a label with fewer than LEAST positives has none of its own. "f1" is that of the judging folds, "f1_half" that of 0.5. Fit
    on another part than the one that is reported, and after the temperature.

    >>> scores = [0.2 + 0.4 * (i % 4 == 0) * (i % 3 > 0) + 0.002 * (i % 50) for i in range(400)]
    >>> examples = [{"id": str(i), "label": ["x"] if p > 0.35 else []} for i, p in enumerate(scores)]
    >>> said: list[Any] = [{"id": str(i), "labels": [], "scores": {"x": p / 2}} for i, p in enumerate(scores)]
    >>> found = thresholds(Answered(examples, said, "multi_label_classification", ("x",)))
    >>> round(found["labels"][0]["threshold"], 2), found["labels"][0]["f1_half"]
    (0.22, 0.0)
    """
    true, scores = answered.true, answered.scores
    rng = np.random.default_rng(seed)
    half = scores >= HALF
    base, base_said = HALF, half
    shared, said = _folded(true, scores, folds=folds, rng=rng)
    if shared is not None and _better(true, said, base_said):
        base, base_said = shared, said
    rows = []
    for c, label in enumerate(answered.labels):
        threshold, chosen, by = base, base_said[:, c], "half" if base == HALF else "shared"
        if true[:, c].sum() >= LEAST:
            own, own_said = _folded(true[:, [c]], scores[:, [c]], folds=folds, rng=rng)
            if own is not None and _better(true[:, c], own_said[:, 0], chosen):
                threshold, chosen, by = own, own_said[:, 0], "own"
        row: dict[str, Any] = {"label": label, "threshold": threshold, "chosen": by, "positives": int(true[:, c].sum())}
        rows.append({**row, "f1": _f1(true[:, c], chosen), "f1_half": _f1(true[:, c], half[:, c])})
    macro = {f"{name}_macro": float(np.mean([row[name] for row in rows])) for name in ("f1", "f1_half")}
    return {"n": len(answered), "shared": shared, "labels": rows, **macro}


def with_thresholds(answered: Answered, found: Mapping[str, float]) -> Answered:
    """Return the answers that thresholds by label give; labels that are not among them keep 0.5."""
    cuts = np.array([found.get(label, HALF) for label in answered.labels])
    predictions: list[Prediction] = [
        Prediction(**{**old, "labels": [label for label, there in zip(answered.labels, row, strict=True) if there]})
        for old, row in zip(answered.predictions, answered.scores >= cuts, strict=True)
    ]
    return replace(answered, predictions=predictions)


def _folded(true: Array, scores: Array, *, folds: int, rng: np.random.Generator) -> tuple[float | None, Array]:
    """Return the median of the folds' thresholds, None without positives, and what each fold's says of it, bool [N, K]."""
    n = len(true)
    order = np.lexsort((rng.permutation(n), true.sum(axis=1)))  # each fold gets its share of the positives
    fold = np.empty(n, dtype=int)
    fold[order] = np.arange(n) % folds
    said, found = scores >= HALF, []
    for place in range(folds):
        rest = fold != place
        if true[rest].any():
            cut = _best(true[rest].ravel(), scores[rest].ravel())
            said[~rest] = scores[~rest] >= cut
            found.append(cut)
    return (float(np.median(found)) if found else None), said


def _best(true: Array, scores: Array) -> float:
    """Return the threshold of greatest F1, midway between the scores that it parts."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(float)
    f1 = 2 * np.cumsum(true[order]) / (np.arange(1, len(ranked) + 1) + true.sum())
    f1[:-1][ranked[:-1] == ranked[1:]] = 0  # equal scores are not parted
    best = int(np.argmax(f1))
    return float((ranked[best] + (ranked[best + 1] if best + 1 < len(ranked) else 0.0)) / 2)


def _better(true: Array, new: Array, old: Array) -> bool:
    """Whether F1 of `new` exceeds that of `old` by more than a standard error, by a paired bootstrap of the decisions."""
    cells = np.bincount((4 * true + 2 * new + old).ravel().astype(int), minlength=8)
    there, said = np.array([k >> 2 & 1 for k in range(8)]), [np.array([k >> bit & 1 for k in range(8)]) for bit in (1, 0)]

    def gain(counts: Array) -> Array:
        one, other = (2 * counts @ (there * some) / np.maximum(counts @ (there + some), 1) for some in said)
        return np.asarray(one - other)

    drawn = np.random.default_rng(0).multinomial(cells.sum(), cells / cells.sum(), size=500)
    return bool(gain(cells) > gain(drawn).std())


def _f1(true: Array, said: Array) -> float:
    return float(2 * (true & said).sum() / max(1, true.sum() + said.sum()))
