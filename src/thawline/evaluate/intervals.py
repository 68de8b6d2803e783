"""How sure a metric is, and a difference of two: percentile bootstrap intervals (Efron & Tibshirani 1993, chapter 13)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from thawline.evaluate.resample import Array, Statistic

LEVEL = 0.95
_AT_ONCE = 1 << 19  # counts of examples in memory


@dataclass(frozen=True)
class Difference:
    """What one model has more than another in a metric, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def bootstrap(
    statistic: Statistic,
    n: int | Array,
    *,
    samples: int = 1000,
    seed: int = 0,
    groups: Array | None = None,
) -> dict[str, tuple[float, float]]:
    """Return the 95 % percentile bootstrap interval of each metric of `statistic`.

    `n` is the number of examples, or how many examples each collapsed row stands for (see `collapse`), int [U]; then
    `statistic` takes counts of rows, and the intervals have the same distribution. With `groups`, the name or number of each
    example's group [N], whole groups are drawn, for examples that resemble one another within a group. Metrics of several
    models in one `statistic` are paired: they see the same draws. Source: Efron 1979; Efron & Tibshirani 1993, chapter 13.

    >>> values = np.arange(100.0)
    >>> low, high = bootstrap(lambda counts: {"mean": counts @ values / 100}, 100)["mean"]
    >>> print(f"{low:.1f} < {values.mean():.1f} < {high:.1f}")
    43.8 < 49.5 < 55.0
    """
    drawn = resampled(statistic, n, samples=samples, seed=seed, groups=groups)
    return {name: interval(values) for name, values in drawn.items()}


def resampled(statistic: Statistic, n: int | Array, *, samples: int, seed: int, groups: Array | None) -> dict[str, Array]:
    """Return each metric of `statistic` in each draw, [samples]; the arguments are those of `bootstrap`."""
    assert samples > 0
    drawn = [statistic(counts) for counts in _stacked(_draws(n, samples=samples, seed=seed, groups=groups))]
    return {name: np.concatenate([some[name] for some in drawn]) for name in drawn[0]}


def interval(values: Array) -> tuple[float, float]:
    """Return the ends between which the middle LEVEL of draws, [S], lie."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def paired_difference(
    one: Statistic,
    other: Statistic,
    n: int | Array,
    *,
    samples: int = 1000,
    seed: int = 0,
    groups: Array | None = None,
) -> dict[str, Difference]:
    """Return `one` minus `other` for each metric both have, with intervals from draws that both see.

    The arguments are those of `bootstrap`; with `groups`, `n` must be the number of examples.
    """

    def minus(counts: Array) -> dict[str, Array]:
        left, right = one(counts), other(counts)
        return {name: left[name] - right[name] for name in left if name in right}

    once = n if isinstance(n, np.ndarray) else np.ones(n, dtype=np.int64)
    ends = bootstrap(minus, n, samples=samples, seed=seed, groups=groups)
    return {name: Difference(float(value), *ends[name]) for name, (value,) in minus(once[None]).items()}


def verdict(metric: str, difference: Difference, *, other: str, greater: bool = True) -> str:
    """Say in one sentence what the paired difference of the model from `other` shows.

    >>> verdict("f1_macro", Difference(0.024, -0.002, 0.05), other="tfidf")
    'f1_macro: the model minus tfidf is +0.024, 95 % interval -0.002 to +0.050; it includes 0, so this data does not show
    which is better.'
    >>> verdict("rmse", Difference(-0.3, -0.4, -0.2), other="tfidf", greater=False)
    'rmse: the model minus tfidf is -0.300, 95 % interval -0.400 to -0.200; the model is better.'
    """
    said = f"{metric}: the model minus {other} is {difference.value:+.3f}, 95 % interval"
    said += f" {difference.low:+.3f} to {difference.high:+.3f};"
    if not difference.decided:
        return f"{said} it includes 0, so this data does not show which is better."
    better = "the model" if (difference.low > 0) == greater else other
    return f"{said} {better} is better."


def collapse(*columns: Array) -> tuple[list[Array], Array]:
    """Return the distinct rows of columns that stand side by side, and which of them each example is.

    Columns are [N] or [N, C], all of one N. The distinct rows come back as columns of the same form, [U] or [U, C], the
    inverse as int [N]: `rows[k][inverse]` equals `columns[k]`, and `np.bincount(inverse)` is what `bootstrap` takes as `n`.

    >>> rows, inverse = collapse(np.array([1, 0, 1]), np.array([5, 6, 5]))
    >>> [row.tolist() for row in rows], inverse.tolist()
    ([[0, 1], [6, 5]], [1, 0, 1])
    """
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for part in (part for column in columns for part in _parts(column)):
        values, place = np.unique(part, return_inverse=True)
        code = np.unique(code * len(values) + place, return_inverse=True)[1]
    _, first = np.unique(code, return_index=True)
    return [column[first] for column in columns], code


def _parts(column: Array) -> Array:
    """Return an iterable of flat columns that together tell rows apart; eight columns of bool make one."""
    if column.ndim == 1:
        return column[None]
    return (np.packbits(column, axis=1) if column.dtype == bool else column).T


def _stacked(draws: Iterator[Array]) -> Iterator[Array]:
    """Yield the draws as rows of matrices, [S, N], which keep below a size whatever N is."""
    for first in draws:
        yield np.stack([first, *islice(draws, _AT_ONCE // len(first))]).astype(float)


def _draws(n: int | Array, *, samples: int, seed: int, groups: Array | None) -> Iterator[Array]:
    """Yield how often each example or row is drawn, int [N] or [U]; each sums to N unless groups differ in size."""
    rng = np.random.default_rng(seed)
    if groups is not None:
        names, groups = np.unique(groups, return_inverse=True)
        yield from (_uniform(rng, len(names))[groups] for _ in range(samples))
    elif isinstance(n, np.ndarray):
        yield from (rng.multinomial(n.sum(), n / n.sum()) for _ in range(samples))
    else:
        yield from (_uniform(rng, n) for _ in range(samples))


def _uniform(rng: np.random.Generator, n: int) -> Array:
    return np.bincount(rng.integers(0, n, n), minlength=n)
