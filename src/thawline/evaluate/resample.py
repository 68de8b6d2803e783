"""The metrics of many resamples at once: those of `metrics`, which calls scikit-learn, equal to rounding on every resample.

Nearly all of them see the examples through nothing but sums over them (how often a label was right, squared errors), so a
thousand resamples are one product of matrices. A test holds them against scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.evaluate.metrics import METRICS, classification, multilabel, regression

Array = NDArray[Any]
Statistic = Callable[[Array], Mapping[str, Array]]
"""Metrics, each of shape [S], as a function of how often each of N examples was drawn in each of S resamples, [S, N]."""


@dataclass(frozen=True)
class Sums:
    """A statistic that sees the examples only through sums over them.

    `terms`, [N, K], dense or sparse, is what each example adds to the sums; `finish` turns sums [S, K] into metrics [S].

    >>> mean = Sums(np.array([[1.0, 5.0], [1.0, 7.0]]), lambda sums: {"mean": sums[:, 1] / sums[:, 0]})
    >>> mean(np.array([[1, 1], [0, 2]]))["mean"].tolist()
    [6.0, 7.0]
    """

    terms: Any
    finish: Callable[[Array], dict[str, Array]]

    def __call__(self, counts: Array) -> dict[str, Array]:
        """Return the metrics of each resample."""
        return self.finish(counts @ self.terms)


def one_by_one(compute: Callable[[Array], Mapping[str, float]]) -> Statistic:
    """Return the statistic of metrics that have no form for many resamples: `compute` takes the counts of one, [N]."""

    def each(counts: Array) -> dict[str, Array]:
        found = [compute(one) for one in counts]
        return {name: np.array([metrics[name] for metrics in found]) for name in found[0]}

    return each


def statistic(problem: str, true: Array, predicted: Array) -> Statistic:
    """Return the metrics of `problem` as a function of resamples, as `intervals.bootstrap` takes it."""
    metrics = METRICS[problem]
    if metrics in _AT_ONCE:
        return _AT_ONCE[metrics](true, predicted)
    return one_by_one(lambda counts: metrics(true, predicted, weights=counts))


def _classification(true: Array, predicted: Array) -> Sums:
    from scipy.sparse import csr_matrix

    names, codes = np.unique(np.concatenate([true, predicted]), return_inverse=True)
    rows, ones = np.arange(len(true)), np.ones(len(true))
    sides = [csr_matrix((ones, (rows, side)), (len(true), len(names))) for side in np.split(codes, 2)]
    return _labels(*sides, several=False)


def _multilabel(true: Array, predicted: Array) -> Sums:
    from scipy.sparse import csr_matrix

    return _labels(csr_matrix(true, dtype=float), csr_matrix(predicted, dtype=float), several=True)


def _labels(true: Any, predicted: Any, *, several: bool) -> Sums:
    """Return the metrics of sparse indicators [N, C]; macro averages leave out absent labels unless there are `several`."""
    from scipy.sparse import hstack

    n, n_labels = true.shape
    hits = true.multiply(predicted)
    exact = hits.sum(1) * 2 == true.sum(1) + predicted.sum(1)
    terms = hstack([hits, true, predicted, np.column_stack([exact, np.ones(n)])], "csr")

    def finish(sums: Array) -> dict[str, Array]:
        hit, there, said = sums[:, :-2].reshape(len(sums), 3, n_labels).swapaxes(0, 1)
        averaged = np.full(len(sums), n_labels) if several else np.count_nonzero(there + said, axis=1)
        parts = {"f1": (2 * hit, there + said), "precision": (hit, said), "recall": (hit, there)}
        metrics = {f"{name}_macro": _quotient(*part).sum(1) / averaged for name, part in parts.items()}
        micro = {"f1_micro": _quotient(2 * hit.sum(1), (there + said).sum(1))} if several else {}
        return {"accuracy": sums[:, -2] / sums[:, -1], **metrics, **micro}

    return Sums(terms, finish)


def _regression(true: Array, predicted: Array) -> Statistic:
    true, predicted = np.asarray(true, float), np.asarray(predicted, float)
    y, p, error = true - true.mean(), predicted - predicted.mean(), predicted - true
    moments = Sums(np.column_stack([np.ones_like(y), error**2, abs(error), y, p, y * y, p * p, y * p]), _of_moments)
    rank_true, rank_predicted = _ranking(true), _ranking(predicted)

    def compute(counts: Array) -> dict[str, Array]:
        metrics = moments(counts)
        one, other = rank_true(counts), rank_predicted(counts)
        both, ones, others = (np.einsum("sn,sn,sn->s", counts, *pair) for pair in ((one, other), (one, one), (other, other)))
        metrics["spearman"] = np.clip(_quotient(both, np.sqrt(ones * others)), -1, 1)
        for place in np.flatnonzero(metrics.pop("unsure")):
            for name, value in regression(true, predicted, weights=counts[place]).items():
                metrics[name][place] = value
        return metrics

    return compute


def _of_moments(sums: Array) -> dict[str, Array]:
    """Return the metrics of numbers, and as "unsure" where digits were lost: a resample that hardly varies about its mean."""
    mse, mae, y, p, yy, pp, yp = (sums[:, 1:] / sums[:, :1]).T
    spread, other = yy - y * y, pp - p * p
    unsure = (spread <= 0.01 * yy) | (other <= 0.01 * pp)
    both = np.sqrt(np.where(unsure, 1.0, spread * other))
    r2 = 1 - mse / np.where(unsure, 1.0, spread)
    pearson = np.clip((yp - y * p) / both, -1, 1)
    return {"mse": mse, "rmse": np.sqrt(mse), "mae": mae, "r2": r2, "pearson": pearson, "unsure": unsure}


def _ranking(values: Array) -> Callable[[Array], Array]:
    """Return what gives the mid-rank of each example in each resample, about their middle: [S, N] of [S, N]."""
    place = np.unique(values, return_inverse=True)[1]

    def ranks(counts: Array) -> Array:
        total = np.stack([np.bincount(place, weights=one) for one in counts])
        middle = np.cumsum(total, axis=1) - (total + counts.sum(1, keepdims=True)) / 2
        return np.take(middle, place, axis=1)

    return ranks


def _quotient(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole != 0)


_AT_ONCE: Mapping[Any, Callable[[Array, Array], Statistic]] = {
    classification: _classification,
    multilabel: _multilabel,
    regression: _regression,
}
