"""Metrics of many resamples at once: what the libraries say of each one, quickly."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from libraries import SAYS
from made_up import ANSWERS, N
from thawline.evaluate.intervals import bootstrap
from thawline.evaluate.metrics import METRICS
from thawline.evaluate.resample import Sums, one_by_one, statistic
from thawline.evaluate.scores.labels import classification
from thawline.evaluate.summary import _intervals

Ints = NDArray[np.int64]
rng = np.random.default_rng(0)


def about(found: Any) -> Any:
    return pytest.approx(found, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("problem", list(METRICS))
@settings(max_examples=20, deadline=None)
@given(data=st.data(), drawn=arrays(np.int64, (4, N), elements=st.integers(0, N - 1)))
def test_every_resample_has_the_metrics_of_the_library(problem: str, data: st.DataObject, drawn: Ints) -> None:
    """Drawn twice weighs twice, not drawn is not there; whole numbers and weights say the same."""
    true, predicted = data.draw(ANSWERS[problem])
    drawn[0] = drawn[0, 0]  # one example again and again
    counts = np.array([np.bincount(rows, minlength=N) for rows in drawn]).astype(float)
    found = statistic(problem, true, predicted)(counts)
    for place, rows in enumerate(drawn):
        said = SAYS[problem](true[rows], predicted[rows])
        assert {name: values[place] for name, values in found.items()} == about(said)
        assert METRICS[problem](true, predicted, weights=counts[place]) == about(said)
        assert METRICS[problem](true[rows], predicted[rows]) == about(said)


@pytest.mark.parametrize("problem", list(METRICS))
@settings(max_examples=20, deadline=None)
@given(data=st.data(), order=st.permutations(range(N)), cut=st.integers(0, N))
def test_order_and_chunks_do_not_matter(problem: str, data: st.DataObject, order: list[int], cut: int) -> None:
    true, predicted = data.draw(ANSWERS[problem])
    scoring = METRICS[problem]
    whole = scoring(true, predicted)
    assert scoring(true[order], predicted[order]) == pytest.approx(whole, rel=1e-12, abs=1e-12)
    chunks = [scoring.terms(true[part], predicted[part]) for part in (slice(cut), slice(cut, None))]
    assert scoring.metrics(np.concatenate(chunks)) == whole


def test_a_resample_that_hardly_varies_keeps_its_digits() -> None:
    """Far from the others' mean and close to one another: sums of squares lose their digits there."""
    true = np.array([1e7, 3.0, 3.000001, 3.000003])
    predicted = np.array([-1e7, 3.0, 3.000002, 3.000001])
    rows = np.array([[1, 1, 2, 3], [0, 1, 2, 3]])
    counts = np.array([np.bincount(one, minlength=4) for one in rows]).astype(float)
    found = statistic("regression", true, predicted)(counts)
    for place, drawn in enumerate(rows):
        said = SAYS["regression"](true[drawn], predicted[drawn])
        assert {name: values[place] for name, values in found.items()} == pytest.approx(said, rel=1e-8)


def test_ours_are_sums_and_others_are_asked_one_by_one() -> None:
    true, predicted = rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    assert isinstance(statistic("single_label_classification", true, predicted), Sums)
    plain = one_by_one(lambda counts: classification(true, predicted, weights=counts))
    slow, quick = (bootstrap(s, 50, samples=40) for s in (plain, statistic("single_label_classification", true, predicted)))
    assert all(quick[name] == pytest.approx(slow[name], abs=1e-12) for name in slow)


def answers(true: Ints, n_labels: int) -> Ints:
    return np.where(rng.random(len(true)) < 0.8, true, rng.integers(0, n_labels, len(true)))


@pytest.mark.parametrize(("n", "n_labels"), [(3080, 77), (100_000, 6)])
def test_a_thousand_resamples_of_three_predictors_are_quick(n: int, n_labels: int) -> None:
    """Some 0.2 s on one core, so a second leaves room; scikit-learn once a resample would take ten."""
    true = rng.integers(0, n_labels, n)
    scoring = METRICS["single_label_classification"]
    kept = {name: scoring.terms(true, answers(true, n_labels)) for name in ("model", "tfidf", "other")}
    begin = time.process_time()
    _intervals(scoring, kept, groups=None, samples=1000, seed=0)
    assert time.process_time() - begin < 1
