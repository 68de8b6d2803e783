"""What metrics are made of: a few numbers of each example, and functions of them that take a thousand resamples at once.

Nearly all metrics see the examples through nothing but sums over them (how often a label was right, edits and words), so a
thousand resamples are one product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class Scoring:
    """The metrics of one kind of problem; their values, weights, intervals and streaming all follow from this.

    `terms(true, predicted)` returns what is kept of each example: a few numbers, [N, K]. Nothing else is needed afterwards, so
    texts and scores can go as they come; the terms of two chunks, one upon the other, are those of both. `statistic(terms)`
    returns the metrics as a function of resamples. `greater` says of each metric there can be whether a greater value is
    better; `main` decides which of two models is better, where the user names none. `details(true, predicted)`, where there is
    one, returns what stands beside the metrics, such as a table of the classes. `error(terms)` says how wrong each example is,
    float [N], where answers are neither labels nor numbers; `measure` is what it is called.

    >>> right = Scoring(
    ...     lambda true, predicted: (true == predicted)[:, None],
    ...     lambda terms: Sums(terms, lambda sums: {"right": sums[:, 0]}),
    ...     main="right",
    ...     greater={"right": True},
    ... )
    >>> right(np.array([1, 2, 3]), np.array([1, 2, 4]))
    {'right': 2.0}
    >>> chunks = [right.terms(np.array([1, 2]), np.array([1, 2])), right.terms(np.array([3]), np.array([4]))]
    >>> right.metrics(np.concatenate(chunks), weights=np.array([1, 5, 1]))
    {'right': 6.0}
    """

    terms: Callable[[Any, Any], Array]
    statistic: Callable[[Array], Statistic]
    main: str
    greater: Mapping[str, bool]
    details: Callable[[Any, Any], Mapping[str, Any]] | None = None
    error: Callable[[Array], Array] | None = None
    measure: str = "error"

    def __call__(self, true: Any, predicted: Any, *, weights: Array | None = None) -> dict[str, float]:
        """Return the metrics of `predicted`; an example of weight 2 counts as if it stood there twice, one of 0 not at all."""
        return self.metrics(self.terms(true, predicted), weights=weights)

    def metrics(self, terms: Array, *, weights: Array | None = None) -> dict[str, float]:
        """Return the metrics of examples of which `terms` were kept, with one weight >= 0 an example."""
        once = np.ones(len(terms)) if weights is None else np.asarray(weights, float)
        return {name: float(value) for name, (value,) in self.statistic(terms)(once[None]).items()}


def one_by_one(compute: Callable[[Array], Mapping[str, float]]) -> Statistic:
    """Return the statistic of metrics that have no form for many resamples: `compute` takes the counts of one, [N]."""

    def each(counts: Array) -> dict[str, Array]:
        found = [compute(one) for one in counts]
        return {name: np.array([metrics[name] for metrics in found]) for name in found[0]}

    return each


def statistic(problem: str, true: Any, predicted: Any) -> Statistic:
    """Return the metrics of `problem` as a function of resamples, as `intervals.bootstrap` takes it."""
    from thawline.evaluate.metrics import METRICS  # its entries are made of what stands above

    scoring = METRICS[problem]
    return scoring.statistic(scoring.terms(true, predicted))


def quotient(part: Array, whole: Array) -> Array:
    """Return part / whole, and 0 where there is nothing to divide by.

    >>> quotient(np.array([1.0, 3.0]), np.array([2.0, 0.0])).tolist()
    [0.5, 0.0]
    """
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole != 0)
