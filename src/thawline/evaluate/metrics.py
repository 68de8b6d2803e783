"""How good predictions are: pure functions on arrays, with the metrics of scikit-learn.

Each takes optional `weights`, one number >= 0 per example. An example of weight 2 counts as if it stood there twice, one of
weight 0 as if it were not there; `resample` has the same metrics of a thousand such weights at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from thawline.table import Table

Array = NDArray[Any]

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
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

    _check(true, predicted)
    # A column that says nothing stands beside the labels, since scikit-learn takes a single column for classes.
    both = [np.pad(np.asarray(side, bool), ((0, 0), (0, 1))).astype(int) for side in (true, predicted)]
    options = {"sample_weight": weights, "labels": range(true.shape[1]), "zero_division": 0}
    with _trusting():
        precision, recall, f1, _ = precision_recall_fscore_support(*both, average="macro", **options)
        micro = f1_score(*both, average="micro", **options)
        accuracy = accuracy_score(*both, sample_weight=weights)
    return {
        "f1_micro": float(micro),
        "f1_macro": float(f1),
        "accuracy": float(accuracy),
        "precision_macro": float(precision),
        "recall_macro": float(recall),
    }


def regression(true: Array, predicted: Array, *, weights: Array | None = None) -> dict[str, float]:
    """Return mse, rmse, mae, r2, pearson and spearman of numbers, float [N].

    Where a correlation or r2 is undefined (a constant side, a single example) it is 0.

    >>> result = regression(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 5.0]))
    >>> {name: round(value, 3) for name, value in result.items()}
    {'mse': 1.333, 'rmse': 1.155, 'mae': 0.667, 'r2': -1.0, 'pearson': 0.961, 'spearman': 1.0}
    """
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    _check(true, predicted)
    true, predicted = np.asarray(true, float), np.asarray(predicted, float)
    mass = np.ones(len(true)) if weights is None else weights.astype(float)
    share = mass / mass.sum()
    with _trusting():
        mse = float(mean_squared_error(true, predicted, sample_weight=mass))
        mae = float(mean_absolute_error(true, predicted, sample_weight=mass))
        r2 = float(r2_score(true, predicted, sample_weight=mass)) if _centred(true, share)[1] > 0 else 0.0
    pearson = _correlation(true, predicted, share)
    spearman = _correlation(_ranks(true, mass), _ranks(predicted, mass), share)
    return {"mse": mse, "rmse": mse**0.5, "mae": mae, "r2": r2, "pearson": pearson, "spearman": spearman}


def _check(true: Array, predicted: Array) -> None:
    assert true.shape == predicted.shape, f"shapes {true.shape} and {predicted.shape}"


def _trusting() -> AbstractContextManager[None]:
    # The arrays are our own; scikit-learn's checks of them take longer than the work.
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


def _ranks(values: Array, mass: Array) -> Array:
    """Return mid-ranks up to a constant, where an example of mass 2 takes two places."""
    places = np.unique(values, return_inverse=True)[1]
    total = np.bincount(places, weights=mass)
    return np.asarray((np.cumsum(total) - total / 2)[places])
