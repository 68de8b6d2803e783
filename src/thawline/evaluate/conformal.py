"""Sets of labels that hold the true one as often as asked: split conformal prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thawline.evaluate.answered import Answered, Array
from thawline.evaluate.classes import share_interval

LEVELS = (0.9, 0.95)


def conformal(
    calibration: Answered,
    test: Answered | None = None,
    *,
    levels: Sequence[float] = LEVELS,
    splits: int = 20,
    seed: int = 0,
) -> dict[str, Any]:
    """Return for each level the score that puts a label into an example's set, and how good such sets are.

    A set is all labels of scores >= "threshold". It holds the true label with probability `level` for data like `calibration`,
    which must have chosen nothing: neither checkpoint nor temperature. Of all rules with that coverage this has the smallest
    sets, where scores are true probabilities (LAC: Sadinle, Lei & Wasserman 2019). The price: coverage is that of the mean
    example, not of each class, so "classes" has those; and where the model is right more often than asked, sets may be empty.
    With several labels "coverage" is the mean share of an example's labels that its set holds (conformal risk control,
    Angelopoulos et al. 2022). "test" is what the threshold does on `test`; "splits" the mean, and the standard deviation, over
    random halves of all examples given, one half finding a threshold and the other judging it.

    >>> examples = [{"id": str(i), "label": "a"} for i in range(99)]
    >>> said: list[Any] = [{"id": str(i), "label": "a", "scores": {"a": i / 99, "b": 1 - i / 99}} for i in range(99)]
    >>> found = conformal(Answered(examples, said, "single_label_classification", ("a", "b")), levels=[0.9])["levels"][0]
    >>> round(found["threshold"] * 99), round(found["splits"]["coverage"], 2)
    (9, 0.89)
    """
    own = _truth(calibration)
    other = None if test is None else _truth(test)
    pooled = own if other is None else own.beside(other)
    rows = []
    for level in levels:
        threshold = own.threshold(level)
        row: dict[str, Any] = {"level": level, "threshold": threshold}
        if threshold <= 0:
            need = f"{len(calibration):,} examples are too few, or too many of them are wrong"
            row["text"] = f"Only sets of all labels are sure to have coverage {level:.4g}: {need}."
        if other is not None and test is not None:
            row["test"] = _outcome(other, threshold, test.labels)
        row["splits"] = _splits(pooled, level, splits=splits, seed=seed)
        rows.append(row)
    method = "risk control" if calibration.several else "LAC"
    found = {"n": len(calibration), "method": method, "levels": rows, "notes": (test or calibration).notes}
    return found if test is None else {**found, "n_test": len(test)}


def label_sets(scores: Array, threshold: float) -> Array:
    """Return which labels are in the set of each example, bool [N, C], by scores [N, C]."""
    return np.asarray(scores >= threshold)


@dataclass(frozen=True)
class _Truth:
    """Scores [N, C], and each true label: whose it is [P], which [P], -1 if unknown, and what part of the example's [P]."""

    scores: Array
    owner: Array
    label: Array
    weight: Array

    @property
    def own(self) -> Array:
        """The score of each true label, [P]; -1, below all, where the model does not know it."""
        return np.where(self.label >= 0, self.scores[self.owner, np.maximum(self.label, 0)], -1.0)

    def threshold(self, level: float) -> float:
        """Return the greatest score t with (Σ missed + 1) / (n + 1) <= 1 - level, missed the share of labels below t.

        With one label each, this is the score of rank ⌊(n + 1)(1 - level)⌋ from below: that of split conformal prediction.
        """
        allowed = (len(self.scores) + 1) * (1 - level) - 1 + 1e-9  # 0.1 · 10 - 1 is not quite 0
        if allowed < 0:
            return 0.0
        own = self.own
        order = np.argsort(own, kind="stable")
        first = int(np.searchsorted(np.cumsum(self.weight[order]), allowed, side="right"))
        return max(0.0, float(own[order[first]])) if first < len(order) else 1.0

    def covered(self, threshold: float) -> Array:
        """Return the share of each example's labels that are in its set, [N]; 1 where it has none."""
        missed = np.bincount(self.owner, self.weight * (self.own < threshold), minlength=len(self.scores))
        return np.asarray(1 - missed)

    def select(self, mask: Array) -> _Truth:
        """Return the examples of a mask, bool [N]."""
        kept = mask[self.owner]
        place = np.cumsum(mask) - 1
        return _Truth(self.scores[mask], place[self.owner[kept]], self.label[kept], self.weight[kept])

    def beside(self, other: _Truth) -> _Truth:
        """Return the examples of both."""
        owner = np.concatenate([self.owner, other.owner + len(self.scores)])
        label, weight = np.concatenate([self.label, other.label]), np.concatenate([self.weight, other.weight])
        return _Truth(np.concatenate([self.scores, other.scores]), owner, label, weight)


def _truth(answered: Answered) -> _Truth:
    if not answered.several:
        return _Truth(answered.scores, np.arange(len(answered)), answered.true, np.ones(len(answered)))
    index = {name: place for place, name in enumerate(answered.labels)}
    pairs = [(row, index.get(name, -1), 1 / len(names)) for row, names in enumerate(answered.targets) for name in names]
    owner, label, weight = zip(*pairs, strict=True) if pairs else ((), (), ())
    return _Truth(answered.scores, np.array(owner, dtype=int), np.array(label, dtype=int), np.array(weight, dtype=float))


def _outcome(truth: _Truth, threshold: float, labels: Sequence[str]) -> dict[str, Any]:
    covered, size = truth.covered(threshold), label_sets(truth.scores, threshold).sum(axis=1)
    sizes, counts = np.unique(size, return_counts=True)
    return {
        "coverage": float(covered.mean()),
        "coverage_ci95": _mean_interval(covered),
        "size": float(size.mean()),
        "sizes": [[int(one), int(count)] for one, count in zip(sizes, counts, strict=True)],
        "classes": _by_class(truth, threshold, size, labels=labels),
    }


def _by_class(truth: _Truth, threshold: float, size: Array, *, labels: Sequence[str]) -> list[dict[str, Any]]:
    known = truth.label >= 0
    label = truth.label[known]
    n = np.bincount(label, minlength=len(labels))
    held = np.bincount(label, truth.own[known] >= threshold, minlength=len(labels))
    sizes = np.bincount(label, size[truth.owner[known]], minlength=len(labels))
    low, high = share_interval(held, n)
    return [
        {
            "label": name,
            "support": int(n[c]),
            "coverage": float(held[c] / n[c]) if n[c] else None,
            "coverage_ci95": [float(low[c]), float(high[c])] if n[c] else None,
            "size": float(sizes[c] / n[c]) if n[c] else None,
        }
        for c, name in enumerate(labels)
    ]


def _splits(truth: _Truth, level: float, *, splits: int, seed: int) -> dict[str, Any] | None:
    n = len(truth.scores)
    if n < 2 or not splits:
        return None
    rng, coverage, size = np.random.default_rng(seed), [], []
    for _ in range(splits):
        half = rng.permutation(n) < n // 2
        threshold, judged = truth.select(half).threshold(level), truth.select(~half)
        coverage.append(judged.covered(threshold).mean())
        size.append(label_sets(judged.scores, threshold).sum(axis=1).mean())
    names = {"coverage": float(np.mean(coverage)), "coverage_sd": float(np.std(coverage, ddof=1) if splits > 1 else 0.0)}
    return {"splits": splits, "n": n, **names, "size": float(np.mean(size))}


def _mean_interval(values: Array) -> list[float]:
    """Return the 95 % interval of a mean: Clopper and Pearson's where values are 0 or 1, else by the normal distribution."""
    if np.isin(values, (0.0, 1.0)).all():
        return [float(end) for end in share_interval(int(values.sum()), len(values))]
    reach = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return [max(0.0, float(values.mean()) - reach), min(1.0, float(values.mean()) + reach)]
