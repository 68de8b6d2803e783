"""What more labels would bring: the error on a few sizes of training data, a power law through them, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.errors import DataError
from thawline.evaluate.folds import linear
from thawline.evaluate.intervals import LEVEL

Array = NDArray[Any]
Measure = Callable[[int, int], Array]
"""The loss of each of M test examples, [M], by a model that learned from so many examples, drawn with a seed."""

_LEAST = 20  # examples of the smallest size
_MOST_RATE = 2.0  # the steepest power that is tried


def learning_curve(
    measure: Measure, n: int, *, sizes: int = 5, seeds: int = 5, times: float = 2.0, samples: int = 200, seed: int = 0
) -> dict[str, Any]:
    """Fit error(m) = a m^-b + c on `sizes` sizes up to `n`, and say what `times` as many labels would bring; for JSON.

    `measure(size, seed)` gives the losses, such as 0 and 1 for right and wrong, of the same M test examples each time. Sizes
    double up to `n`; each is measured with `seeds` draws of the training examples (the whole has but one). The interval of the
    gain is for the error at hand less that of one training with more labels: of resamples of test examples and of draws, with
    the curve fitted to each, and with the luck of a new draw. "sure" is false, and "words" says why, where the
    interval of the gain includes 0, or where the curve through the smaller sizes foretells another error at `n`
    than was found. Source: Viering & Loog 2022, "The shape of learning curves: a review" (power law with an offset).
    Raises DataError where there are fewer than 80 examples to learn from.
    """
    refuse_few(n)
    steps = steps_to(n, sizes)
    losses = [np.stack([measure(size, seed + k) for k in range(1 if size == n else seeds)]) for size in steps]
    at = np.array(steps, dtype=float)
    errors = np.array([found.mean() for found in losses])
    drawn = _resampled(losses, samples=samples, seed=seed)
    luck = _luck(losses)
    held = drawn[:, -1].copy()
    rng = np.random.default_rng(seed + 1)
    drawn[:, -1] += luck * rng.standard_normal(samples)  # the whole has one draw, which may have been a lucky one
    noise = drawn.std(0) + 1e-4
    fits, best = fit_power_law(at, drawn, noise), fit_power_law(at, errors, noise)
    more = power_law(fits, n * times) + luck * rng.standard_normal(samples)
    value, (low, high) = float(errors[-1] - power_law(best, n * times)), _interval(held - more)
    foretold = _foretold(at, drawn, noise)
    sure = low > 0.001 and foretold is None
    return {
        "n": n,
        "points": [_point(*point) for point in zip(steps, losses, drawn.T, strict=True)],
        "fit": dict(zip(("a", "b", "c"), map(float, best), strict=True)),
        "curve": [
            {"size": int(size), "error": float(power_law(best, size)), "interval": list(_interval(power_law(fits, size)))}
            for size in np.unique(np.round([*np.geomspace(steps[0], 4 * n, 25), n * times])).tolist()
        ],
        "times": times,
        "gain": {"value": value, "low": low, "high": high},
        "sure": sure,
        "words": _words((value, low, high), times, foretold, sure=sure),
    }


def refuse_few(n: int) -> None:
    """Raise DataError where a curve through so many examples would say nothing."""
    if n < 4 * _LEAST:
        raise DataError(f"A learning curve needs {4 * _LEAST} examples to learn from; there are {n:,}.")


def steps_to(n: int, sizes: int = 5) -> list[int]:
    """Return at most so many sizes, each twice the one before, up to `n`.

    >>> steps_to(1000), steps_to(100)
    ([62, 125, 250, 500, 1000], [25, 50, 100])
    """
    return [round(n / 2**k) for k in range(sizes) if n / 2**k >= _LEAST][::-1]


def on_features(train: tuple[Array, Array], test: tuple[Array, Array]) -> Measure:
    """Return the measure of logistic regression on features; the loss of an example is 1 where the answer is wrong.

    `train` and `test` are features and class numbers: [N, D] and int [N]. A smaller training set is the beginning of the larger
    one of the same seed, and has each class in its share.
    """
    (features, labels), (others, true) = train, test
    n = int(max(labels.max(), true.max())) + 1

    def measure(size: int, seed: int) -> Array:
        chosen = shuffled(labels, seed)[:size]
        return np.asarray(linear(features[chosen], labels[chosen], others, n=n).argmax(1) != true, dtype=np.float64)

    return measure


def shuffled(labels: Array, seed: int) -> Array:
    """Return an order of the examples, int [N], each beginning of which has each class in its share.

    >>> labels = np.array([0] * 6 + [1] * 3)
    >>> sorted(labels[shuffled(labels, 7)[:3]].tolist())
    [0, 0, 1]
    """
    rng = np.random.default_rng(seed)
    codes, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    order = np.lexsort([rng.random(len(labels)), codes])
    rank = np.empty(len(labels))
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.argsort((rank + rng.random(len(counts))[codes]) / counts[codes], kind="stable")


def fit_power_law(sizes: Array, errors: Array, noise: Array) -> Array:
    """Return a, b, c of error = a m^-b + c by least squares for errors [..., K] at sizes [K]; a, c >= 0, 0.05 <= b <= 2.

    `noise`, [K], is the standard deviation of each error. For each b of a grid the rest is linear: nothing can get stuck.

    >>> sizes = np.array([100.0, 200, 400, 800])
    >>> fit_power_law(sizes, 2 * sizes**-0.5 + 0.1, np.ones(4)).round(2).tolist()
    [2.0, 0.5, 0.1]
    """
    weights = noise**-2.0 / (noise**-2.0).sum()
    best, least = np.zeros((*errors.shape[:-1], 3)), np.full(errors.shape[:-1], np.inf)
    middle = (errors * weights).sum(-1)
    for b in np.linspace(0.05, _MOST_RATE, 79):
        x = sizes**-b
        about = x - (weights * x).sum()
        a = np.maximum(0, (weights * about * errors).sum(-1) / (weights * about**2).sum())
        c = middle - a * (weights * x).sum()
        through = (weights * x * errors).sum(-1) / (weights * x**2).sum()
        a, c = np.where(c < 0, through, a), np.maximum(c, 0)
        left = (weights * (errors - a[..., None] * x - c[..., None]) ** 2).sum(-1)
        better = left < least
        least = np.where(better, left, least)
        best = np.where(better[..., None], np.stack([a, np.full_like(a, b), c], -1), best)
    return best


def power_law(parameters: Array, size: float) -> Array:
    """Return a size^-b + c for parameters [..., 3]."""
    a, b, c = np.moveaxis(np.asarray(parameters), -1, 0)
    return np.asarray(a * size**-b + c)


def _point(size: int, losses: Array, drawn: Array) -> dict[str, Any]:
    return {
        "size": size,
        "error": float(losses.mean()),
        "draws": losses.mean(1).tolist(),
        "interval": list(_interval(np.maximum(drawn, 0))),  # of a lucky draw less might be left than nothing
    }


def _resampled(losses: Sequence[Array], *, samples: int, seed: int) -> Array:
    """Return the mean loss at each size in each resample, [S, K]: of test examples, the same for all sizes, and of draws."""
    rng = np.random.default_rng(seed)
    n = losses[0].shape[1]
    found = np.empty((samples, len(losses)))
    for sample in range(samples):
        counts = np.bincount(rng.integers(0, n, n), minlength=n) / n
        for place, each in enumerate(losses):
            found[sample, place] = np.mean((each @ counts)[rng.integers(0, len(each), len(each))])
    return found


def _luck(losses: Sequence[Array]) -> float:
    """Return how much the error varies with the draw of training examples, as the standard deviation at the larger sizes."""
    spread = [each.mean(1).var(ddof=1) for each in losses if len(each) > 1]
    return float(np.mean(spread[-2:])) ** 0.5 if spread else 0.0


def _foretold(sizes: Array, drawn: Array, noise: Array) -> tuple[float, float] | None:
    """Return how far off, at least and at most, the smaller sizes foretell the error at the largest, or None."""
    if len(sizes) < 4:
        return None
    fits = fit_power_law(sizes[:-1], drawn[:, :-1], noise[:-1])
    low, high = _interval(power_law(fits, float(sizes[-1])) - drawn[:, -1])
    return None if low <= 0 <= high else (low, high)


def _interval(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _words(gain: tuple[float, float, float], times: float, foretold: tuple[float, float] | None, *, sure: bool) -> str:
    value, low, high = gain
    many = "Twice" if times == 2 else f"{times:g} times"
    how = "lower the error by" if value > 0 else "leave the error as it is: a gain of"
    said = f"{many} as many labels would {how} {value:.3f}, 95 % interval {low:.3f} to {high:.3f}"
    if sure:
        return f"{said}."
    if foretold is not None:
        return f"{said}; but the error here does not follow a power law, so it cannot be told."
    return f"{said}; whether they would help at all cannot be told."
