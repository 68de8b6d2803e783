"""Metrics of many resamples at once: what scikit-learn says of each one, quickly."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from thawline.evaluate.intervals import bootstrap
from thawline.evaluate.metrics import METRICS, classification
from thawline.evaluate.resample import Sums, one_by_one, statistic
from thawline.evaluate.summary import _intervals

N = 15
Array = NDArray[np.float64]
NUMBERS = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0, 4.0]),
    st.floats(-3, 3).map(lambda x: round(x, 2)),
    st.sampled_from([1e6, 1e6 + 1, 1e-3]),
)
SIDES = {
    "single_label_classification": lambda: arrays(np.int64, N, elements=st.integers(0, 4)),
    "multi_label_classification": lambda: st.integers(1, 4).flatmap(lambda c: arrays(bool, (2, N, c))),
    "regression": lambda: arrays(float, N, elements=NUMBERS),
}
rng = np.random.default_rng(0)


def pairs(problem: str) -> st.SearchStrategy[tuple[Array, Array]]:
    side = SIDES[problem]()
    return side.map(tuple) if problem.startswith("multi") else st.tuples(side, side)


@pytest.mark.parametrize("problem", SIDES)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), drawn=arrays(np.int64, (4, N), elements=st.integers(0, N - 1)))
def test_every_resample_has_the_metrics_of_scikit_learn(problem: str, data: st.DataObject, drawn: NDArray[np.int64]) -> None:
    true, predicted = data.draw(pairs(problem))
    drawn[0] = drawn[0, 0]  # one example again and again
    counts = np.array([np.bincount(rows, minlength=N) for rows in drawn]).astype(float)
    found = statistic(problem, true, predicted)(counts)
    for place, rows in enumerate(drawn):
        literally = METRICS[problem](true[rows], predicted[rows])
        assert {name: values[place] for name, values in found.items()} == pytest.approx(literally, rel=1e-12, abs=1e-12)
        assert METRICS[problem](true, predicted, weights=counts[place]) == pytest.approx(literally, rel=1e-12, abs=1e-12)


def test_a_resample_that_hardly_varies_is_told_by_scikit_learn() -> None:
    """Far from the others' mean and close to one another: sums of squares lose their digits there."""
    true = np.array([1e7, 3.0, 3.000001, 3.000003])
    predicted = np.array([-1e7, 3.0, 3.000002, 3.000001])
    counts = np.array([[0.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    found = statistic("regression", true, predicted)(counts)
    for place in range(2):
        alone = METRICS["regression"](true, predicted, weights=counts[place])
        assert {name: values[place] for name, values in found.items()} == pytest.approx(alone, rel=1e-9)


def test_ours_are_sums_and_others_are_asked_one_by_one() -> None:
    true, predicted = rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    assert isinstance(statistic("single_label_classification", true, predicted), Sums)
    plain = one_by_one(lambda counts: classification(true, predicted, weights=counts))
    slow, quick = (bootstrap(s, 50, samples=40) for s in (plain, statistic("single_label_classification", true, predicted)))
    assert all(quick[name] == pytest.approx(slow[name], abs=1e-12) for name in slow)


def answers(true: NDArray[np.int64], n_labels: int) -> NDArray[np.int64]:
    return np.where(rng.random(len(true)) < 0.8, true, rng.integers(0, n_labels, len(true)))


@pytest.mark.parametrize(("n", "n_labels"), [(3080, 77), (100_000, 6)])
def test_a_thousand_resamples_of_three_predictors_are_quick(n: int, n_labels: int) -> None:
    """Some 0.2 s on one core, so a second leaves room; scikit-learn once a resample would take ten."""
    true = rng.integers(0, n_labels, n)
    sides = [true, answers(true, n_labels)]
    others = {name: answers(true, n_labels) for name in ("tfidf", "other")}
    begin = time.process_time()
    _intervals("single_label_classification", sides, others, samples=1000, seed=0)
    assert time.process_time() - begin < 1
