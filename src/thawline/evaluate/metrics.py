"""How good predictions are: pure functions on arrays, with the metrics of scikit-learn.

Each takes optional `weights`, one number >= 0 per example. An example of weight 2 counts as if it stood there twice, one of
weight 0 as if it were not there: this is what `intervals.bootstrap` builds on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from thawline.table import Table

Array = NDArray[Any]
Weighted = Callable[[Array | None], dict[str, float]]
"""Metrics as a function of the examples' weights [N]; None is 1 for each."""

GREATER: Mapping[str, bool] = MappingProxyType(
    {
        "accuracy": True,
        "f1_macro": True,
        "f1_micro": True,
        "precision_macro": True,
        "recall_macro": True,
        "mse": False,
        "rmse": False,
        "mae": False,
        "r2": True,
        "pearson": True,
        "spearman": True,
    }
)
"""Whether a greater value of the metric is a better one."""

_MAIN = {
    "single_label_classification": "f1_macro",
    "multi_label_classification": "f1_macro",
    "regression": "rmse",
}


class Metrics(Protocol):
    """Metrics of one problem: name to value."""

    def __call__(self, true: Array, predicted: Array, *, weights: Array | None = None) -> dict[str, float]:
        """Return the metrics of `predicted`."""
        ...


METRICS: Table[Metrics] = Table(
    "problem",
    {
        "single_label_classification": "thawline.evaluate.metrics:classification",
        "multi_label_classification": "thawline.evaluate.metrics:multilabel",
        "regression": "thawline.evaluate.metrics:regression",
    },
)


def main_metric(problem: str) -> str:
    """Return the metric that decides which of two models is better, where the user names none.

    >>> main_metric("regression"), GREATER[main_metric("regression")]
    ('rmse', False)
    """
    return _MAIN[problem]


def classification(
    true: Array, predicted: Array, *, n_labels: int | None = None, weights: Array | None = None
) -> dict[str, float]:
    """Return accuracy, f1_macro, precision_macro and recall_macro of one label per example.

    `true` and `predicted` hold label numbers, int [N]. Macro averages run over the labels that are present in either, as
    scikit-learn's do; a label that is never predicted has precision 0. With `n_labels`, each number must lie below it.

    >>> result = classification(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    >>> {name: round(value, 3) for name, value in result.items()}
    {'accuracy': 0.75, 'f1_macro': 0.733, 'precision_macro': 0.833, 'recall_macro': 0.75}
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    _check(true, predicted)
    if weights is not None:
        there = np.flatnonzero(weights)  # a label all of whose examples have weight 0 is not there
        true, predicted, weights = true[there], predicted[there], weights[there]
    largest = max(int(true.max()), int(predicted.max()))
    assert n_labels is None or largest < n_labels, f"label number {largest}, but there are {n_labels} labels"
    with _trusting():
        precision, recall, f1, _ = precision_recall_fscore_support(
            true, predicted, sample_weight=weights, average="macro", zero_division=0
        )
        accuracy = accuracy_score(true, predicted, sample_weight=weights)
    return {
        "accuracy": float(accuracy),
        "f1_macro": float(f1),
        "precision_macro": float(precision),
        "recall_macro": float(recall),
    }


def multilabel(true: Array, predicted: Array, *, weights: Array | None = None) -> dict[str, float]:
    """Return f1_micro, f1_macro, accuracy, precision_macro and recall_macro of several labels per example.

    `true` and `predicted` are bool, or 0 and 1, [N, C]. `accuracy` is the share of examples whose labels are all right. Macro
    averages run over all C labels, as scikit-learn's do; where a quotient is 0/0 it is 0.

    >>> result = multilabel(np.array([[True, False], [True, True]]), np.array([[True, False], [True, False]]))
    >>> {name: round(value, 3) for name, value in result.items()}
    {'f1_micro': 0.8, 'f1_macro': 0.5, 'accuracy': 0.5, 'precision_macro': 0.5, 'recall_macro': 0.5}
    """
    return multilabel_of(np.asarray(true, bool), np.asarray(predicted, bool))(weights)


def multilabel_of(true: Array, predicted: Array) -> Weighted:
    """Return `multilabel(true, predicted, weights=...)` as a function of the weights, which counts only what is not 0."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.metrics import f1_score, precision_recall_fscore_support

    _check(true, predicted)
    # All but the exact matches depends on the data through three weights per label, so scikit-learn is given 3·C rows for N;
    # the row and column beside them have no labels, since it refuses no rows and takes a single column for classes.
    hits = hstack([csr_matrix(part, dtype=float) for part in (true & predicted, ~true & predicted, true & ~predicted)], "csr")
    exact = (true == predicted).all(axis=1).astype(float)
    n_labels = true.shape[1]
    label, no, row = np.eye(n_labels, n_labels + 1), np.zeros((n_labels, n_labels + 1)), np.zeros((1, n_labels + 1))
    rows = [np.vstack(parts).astype(int) for parts in ([label, no, label, row], [label, label, no, row])]

    def compute(weights: Array | None) -> dict[str, float]:
        mass = np.ones(len(true)) if weights is None else weights
        options = {"sample_weight": np.append(mass @ hits, 1.0), "labels": range(n_labels), "zero_division": 0}
        with _trusting():
            precision, recall, f1, _ = precision_recall_fscore_support(*rows, average="macro", **options)
            micro = f1_score(*rows, average="micro", **options)
        return {
            "f1_micro": float(micro),
            "f1_macro": float(f1),
            "accuracy": float(np.average(exact, weights=mass)),
            "precision_macro": float(precision),
            "recall_macro": float(recall),
        }

    return compute


def regression(true: Array, predicted: Array, *, weights: Array | None = None) -> dict[str, float]:
    """Return mse, rmse, mae, r2, pearson and spearman of numbers, float [N].

    Where a correlation or r2 is undefined (a constant side, a single example) it is 0.

    >>> result = regression(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 5.0]))
    >>> {name: round(value, 3) for name, value in result.items()}
    {'mse': 1.333, 'rmse': 1.155, 'mae': 0.667, 'r2': -1.0, 'pearson': 0.961, 'spearman': 1.0}
    """
    return regression_of(np.asarray(true, float), np.asarray(predicted, float))(weights)


def regression_of(true: Array, predicted: Array) -> Weighted:
    """Return `regression(true, predicted, weights=...)` as a function of the weights, which sorts only once."""
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    _check(true, predicted)
    places = [np.unique(values, return_inverse=True)[1] for values in (true, predicted)]

    def compute(weights: Array | None) -> dict[str, float]:
        mass = np.ones(len(true)) if weights is None else weights.astype(float)
        share = mass / mass.sum()
        with _trusting():
            mse = float(mean_squared_error(true, predicted, sample_weight=mass))
            mae = float(mean_absolute_error(true, predicted, sample_weight=mass))
            r2 = float(r2_score(true, predicted, sample_weight=mass)) if _centred(true, share)[1] > 0 else 0.0
        pearson = _correlation(true, predicted, share)
        spearman = _correlation(_ranks(places[0], mass), _ranks(places[1], mass), share)
        return {"mse": mse, "rmse": mse**0.5, "mae": mae, "r2": r2, "pearson": pearson, "spearman": spearman}

    return compute


_OF: Mapping[str, Callable[[Array, Array], Weighted]] = {
    "multi_label_classification": multilabel_of,
    "regression": regression_of,
}


def statistic(problem: str, true: Array, predicted: Array) -> Weighted:
    """Return the metrics of `problem` as a function of the examples' weights alone, as `intervals.bootstrap` takes it."""
    if problem in _OF:
        return _OF[problem](true, predicted)
    metrics = METRICS[problem]
    return lambda weights: metrics(true, predicted, weights=weights)


def _check(true: Array, predicted: Array) -> None:
    assert true.shape == predicted.shape, f"shapes {true.shape} and {predicted.shape}"


def _trusting() -> AbstractContextManager[None]:
    # The arrays are our own; scikit-learn's checks of them would take a third of a bootstrap's time.
    from sklearn import config_context

    return cast(AbstractContextManager[None], config_context(assume_finite=True, skip_parameter_validation=True))


def _correlation(one: Array, other: Array, share: Array) -> float:
    """Return the Pearson correlation of values that weigh `share`, which sums to 1; 0 where one of them is constant."""
    (one, scale), (other, other_scale) = _centred(one, share), _centred(other, share)
    both = scale * other_scale
    return float(np.clip(share @ (one * other) / both, -1, 1)) if both > 0 else 0.0


def _centred(values: Array, share: Array) -> tuple[Array, float]:
    """Return deviations from the mean and their standard deviation: 0 where they are nothing but rounding."""
    mean = float(share @ values)
    deviations = values - mean
    scale = float(np.sqrt(share @ deviations**2))
    return deviations, scale if scale > 1e-12 * abs(mean) else 0.0


def _ranks(places: Array, mass: Array) -> Array:
    """Return mid-ranks up to a constant, where an example of mass 2 takes two places; `places` are dense ranks from 0."""
    total = np.bincount(places, weights=mass)
    return np.asarray((np.cumsum(total) - total / 2)[places])
