"""The bootstrap: its distribution, its coverage, and its pairs."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from thawline.evaluate.intervals import Difference, bootstrap, collapse, paired_difference, verdict
from thawline.evaluate.resample import Statistic, one_by_one, statistic
from thawline.evaluate.scores.labels import classification


def mean_of(values: NDArray[np.float64]) -> Statistic:
    return lambda counts: {"mean": counts @ values / counts.sum(1)}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(30, 100))
def test_interval_holds_the_point_and_the_seed_fixes_it(seed: int, n: int) -> None:
    values = np.random.default_rng(seed).normal(size=n)
    low, high = bootstrap(mean_of(values), n, samples=200, seed=seed)["mean"]
    assert low < values.mean() < high
    assert bootstrap(mean_of(values), n, samples=200, seed=seed)["mean"] == (low, high)
    assert bootstrap(mean_of(values), n, samples=200, seed=seed + 1)["mean"] != (low, high)


def test_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap(mean_of(values), 400, samples=2000)["mean"]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)


def test_coverage_is_near_95_percent() -> None:
    """Of 200 data sets' intervals for an accuracy of 0.7, 90 to 99 % must hold it (exact binomial bounds of 95 % ± noise)."""
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        right = np.bincount(rng.random(150) < 0.7, minlength=2)
        low, high = bootstrap(lambda counts: {"accuracy": counts[:, 1] / counts.sum(1)}, right, samples=200, seed=seed)[
            "accuracy"
        ]
        held += low <= 0.7 <= high
    assert 180 <= held <= 198


def test_what_never_varies_has_no_width() -> None:
    assert bootstrap(mean_of(np.ones(20)), 20, samples=50)["mean"] == (1, 1)


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.int64, 30, elements=st.integers(-2, 2)),
    arrays(bool, (30, 9)),
    arrays(float, 30, elements=st.sampled_from([0.5, 7])),
)
def test_collapse_keeps_every_row_and_repeats_none(
    one: NDArray[np.int64], several: NDArray[np.bool_], number: NDArray[np.float64]
) -> None:
    rows, inverse = collapse(one, several, number)
    for row, column in zip(rows, (one, several, number), strict=True):
        assert (row[inverse] == column).all()
    together = np.column_stack(rows)
    assert len(np.unique(together, axis=0)) == len(together)
    assert np.bincount(inverse).sum() == 30


def test_collapsed_draws_have_the_distribution_of_examples() -> None:
    """Counts of a row: binomial both ways; told by mean, variance and a two-sample test."""
    values = np.array([0] * 5 + [1] * 15 + [2] * 20)
    rows, inverse = collapse(values)
    seen: dict[str, list[NDArray[np.int64]]] = {"examples": [], "rows": []}

    def watch(name: str, inverse: NDArray[np.int64] | None = None) -> Statistic:
        def take(counts: NDArray[np.int64]) -> Mapping[str, float]:
            seen[name].append(counts if inverse is None else np.bincount(inverse, weights=counts).astype(int))
            return {"sum": float(counts.sum())}

        return one_by_one(take)

    assert bootstrap(watch("examples", inverse), 40, samples=3000)["sum"] == (40, 40)
    assert bootstrap(watch("rows"), np.bincount(inverse), samples=3000, seed=1)["sum"] == (40, 40)
    for row, size in enumerate((5, 15, 20)):
        one, other = (np.array(seen[name])[:, row] for name in ("examples", "rows"))
        assert one.mean() == pytest.approx(size, rel=0.05)
        assert one.var() == pytest.approx(size * (1 - size / 40), rel=0.12)
        assert stats.ks_2samp(one, other).pvalue > 0.001
    assert rows[0].tolist() == [0, 1, 2]


def test_collapsed_and_plain_intervals_agree() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 300)
    predicted = np.where(rng.random(300) < 0.8, true, rng.integers(0, 3, 300))
    rows, inverse = collapse(true, predicted)
    plain = bootstrap(statistic("single_label_classification", true, predicted), 300, samples=250)
    quick = bootstrap(statistic("single_label_classification", *rows), np.bincount(inverse), samples=250, seed=5)
    for name, ends in plain.items():
        assert quick[name] == pytest.approx(ends, abs=0.015)


def test_groups_are_drawn_whole_and_widen_the_interval() -> None:
    groups = np.repeat([10, 20, 30, 40, 50, 60, 70, 80], 25)
    values = np.random.default_rng(0).normal(size=8)[(groups // 10) - 1]

    def whole(counts: NDArray[np.int64]) -> Mapping[str, float]:
        assert all(len(set(counts[groups == group])) == 1 for group in set(groups.tolist()))
        return {"mean": float(np.average(values, weights=counts))}

    low, high = bootstrap(one_by_one(whole), 200, samples=200, groups=groups)["mean"]
    alone_low, alone_high = bootstrap(mean_of(values), 200, samples=200)["mean"]
    assert high - low > 3 * (alone_high - alone_low)


def test_a_pair_is_sharper_than_its_two_halves() -> None:
    """Two models that err on the same examples: the difference is sure though neither value is."""
    noise = np.random.default_rng(0).normal(size=100)
    one, other = mean_of(noise + 0.1), mean_of(noise)
    found = paired_difference(one, other, 100, samples=300)["mean"]
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    low, high = bootstrap(one, 100, samples=300)["mean"]
    assert high - low > 0.3
    assert paired_difference(one, one, 100, samples=50)["mean"] == Difference(0, 0, 0)


def test_a_pair_over_collapsed_rows_counts_them() -> None:
    true, one, other = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])
    (true, one, other), inverse = collapse(true, one, other)
    models = [one_by_one(lambda c, p=p: {"accuracy": classification(true, p, weights=c)["accuracy"]}) for p in (one, other)]
    assert paired_difference(models[0], models[1], np.bincount(inverse), samples=50)["accuracy"].value == -0.25


@pytest.mark.parametrize(
    ("difference", "greater", "said"),
    [
        (Difference(0.02, -0.01, 0.05), True, "includes 0, so this data does not show which is better"),
        (Difference(0.02, 0.0, 0.05), True, "includes 0"),
        (Difference(0.02, 0.01, 0.05), True, "the model is better"),
        (Difference(-0.02, -0.05, -0.01), True, "tfidf is better"),
        (Difference(-0.02, -0.05, -0.01), False, "the model is better"),
    ],
)
def test_verdict(difference: Difference, greater: bool, said: str) -> None:
    sentence = verdict("x", difference, other="tfidf", greater=greater)
    assert said in sentence
    assert sentence.count(".\n") == 0 and sentence.endswith(".")
