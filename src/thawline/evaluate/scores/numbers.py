"""Metrics of numbers: mse, rmse, mae and r2 of scikit-learn, pearson and spearman of scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from thawline.evaluate.resample import Array, Scoring, Statistic, Sums, quotient


def _terms(true: Any, predicted: Any) -> Array:
    true, predicted = np.asarray(true, float), np.asarray(predicted, float)
    assert true.shape == predicted.shape, f"shapes {true.shape} and {predicted.shape}"
    return np.column_stack([true, predicted])


def _statistic(terms: Array) -> Statistic:
    true, predicted = terms.T
    y, p, error = true - true.mean(), predicted - predicted.mean(), predicted - true
    moments = Sums(np.column_stack([np.ones_like(y), error**2, abs(error), y, p, y * y, p * p, y * p]), _of_moments)
    rank_true, rank_predicted = _ranking(true), _ranking(predicted)

    def compute(counts: Array) -> dict[str, Array]:
        metrics = moments(counts)
        for place in np.flatnonzero(metrics.pop("unsure")):
            for name, value in _of_one(true, predicted, counts[place]).items():
                metrics[name][place] = value
        one, other = rank_true(counts), rank_predicted(counts)
        both, ones, others = (np.einsum("sn,sn,sn->s", counts, *pair) for pair in ((one, other), (one, one), (other, other)))
        return metrics | {"spearman": np.clip(quotient(both, np.sqrt(ones * others)), -1, 1)}

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


def _of_one(true: Array, predicted: Array, counts: Array) -> dict[str, float]:
    """Return r2 and pearson of one resample, deviations first and squares after; 0 where they are undefined."""
    share = counts / counts.sum()
    (y, spread), (p, other) = _centred(true, share), _centred(predicted, share)
    mse = share @ (predicted - true) ** 2
    return {
        "r2": 1 - mse / spread**2 if spread else 0.0,
        "pearson": float(np.clip(share @ (y * p) / (spread * other), -1, 1)) if spread * other else 0.0,
    }


def _centred(values: Array, share: Array) -> tuple[Array, float]:
    """Return deviations from the mean and their standard deviation: 0 where they are nothing but rounding."""
    mean = float(share @ values)
    deviations = values - mean
    scale = float(np.sqrt(share @ deviations**2))
    return deviations, scale if scale > 1e-12 * abs(mean) else 0.0


def _ranking(values: Array) -> Callable[[Array], Array]:
    """Return what gives the mid-rank of each example in each resample, about their middle: [S, N] of [S, N]."""
    place = np.unique(values, return_inverse=True)[1]

    def ranks(counts: Array) -> Array:
        total = np.stack([np.bincount(place, weights=one) for one in counts])
        middle = np.cumsum(total, axis=1) - (total + counts.sum(1, keepdims=True)) / 2
        return np.take(middle, place, axis=1)

    return ranks


regression = Scoring(
    _terms,
    _statistic,
    main="rmse",
    greater={"mse": False, "rmse": False, "mae": False, "r2": True, "pearson": True, "spearman": True},
)
"""Metrics of numbers, `true` and `predicted` float [N]. Where a correlation or r2 is undefined (a constant side, a single
example) it is 0."""
