"""Metrics against values by hand, scikit-learn, scipy, and resampling in the literal sense."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sk

from thawline.evaluate.metrics import (
    GREATER,
    METRICS,
    classification,
    main_metric,
    multilabel,
    regression,
)

Ints = NDArray[np.int64]
counts_of = st.integers(1, 3)
rng = np.random.default_rng(0)


def codes(n: int, top: int = 3) -> st.SearchStrategy[Ints]:
    return arrays(np.int64, n, elements=st.integers(0, top))


def test_classification_by_hand() -> None:
    result = classification(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0]))
    assert result["accuracy"] == pytest.approx(3 / 5)
    assert result["precision_macro"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert result["recall_macro"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert result["f1_macro"] == pytest.approx((1 / 2 + 4 / 5 + 0) / 3)


def test_macro_runs_over_the_labels_that_are_there() -> None:
    """Labels 1 and 3 occur neither in the data nor in the answers."""
    assert classification(np.array([0, 2, 4]), np.array([0, 2, 4]), n_labels=5)["f1_macro"] == 1
    assert classification(np.array([0, 0]), np.array([0, 4]))["f1_macro"] == pytest.approx((2 / 3 + 0) / 2)


def test_a_number_that_is_no_label_is_caught() -> None:
    with pytest.raises(AssertionError, match="label number 5, but there are 5"):
        classification(np.array([0, 5]), np.array([0, 1]), n_labels=5)


@settings(max_examples=30, deadline=None)
@given(codes(12), codes(12))
def test_classification_is_sklearns(true: Ints, predicted: Ints) -> None:
    assert classification(true, predicted) == pytest.approx(
        {
            "accuracy": sk.accuracy_score(true, predicted),
            "f1_macro": sk.f1_score(true, predicted, average="macro", zero_division=0),
            "precision_macro": sk.precision_score(true, predicted, average="macro", zero_division=0),
            "recall_macro": sk.recall_score(true, predicted, average="macro", zero_division=0),
        }
    )


@settings(max_examples=30, deadline=None)
@given(arrays(bool, (8, 4)), arrays(bool, (8, 4)))
def test_multilabel_is_sklearns(true: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> None:
    assert multilabel(true, predicted) == pytest.approx(
        {
            "f1_micro": sk.f1_score(true, predicted, average="micro", zero_division=0),
            "f1_macro": sk.f1_score(true, predicted, average="macro", zero_division=0),
            "accuracy": sk.accuracy_score(true, predicted),
            "precision_macro": sk.precision_score(true, predicted, average="macro", zero_division=0),
            "recall_macro": sk.recall_score(true, predicted, average="macro", zero_division=0),
        }
    )


def test_multilabel_with_one_label_only() -> None:
    result = multilabel(np.array([[True], [False], [True]]), np.array([[True], [True], [False]]))
    assert result == pytest.approx(
        {"f1_micro": 1 / 2, "f1_macro": 1 / 2, "accuracy": 1 / 3, "precision_macro": 1 / 2, "recall_macro": 1 / 2}
    )


def test_zeros_and_ones_will_do_for_bools() -> None:
    true, predicted = PROBLEMS["multi_label_classification"]
    assert multilabel(true.astype(np.float32), predicted.astype(int)) == multilabel(true, predicted)


@pytest.mark.parametrize("ties", [False, True])
def test_regression_is_sklearns_and_scipys(ties: bool) -> None:
    true = rng.normal(size=60).round(0 if ties else 9)
    predicted = (true + rng.normal(size=60)).round(0 if ties else 9)
    assert regression(true, predicted) == pytest.approx(
        {
            "mse": sk.mean_squared_error(true, predicted),
            "rmse": sk.root_mean_squared_error(true, predicted),
            "mae": sk.mean_absolute_error(true, predicted),
            "r2": sk.r2_score(true, predicted),
            "pearson": stats.pearsonr(true, predicted).statistic,
            "spearman": stats.spearmanr(true, predicted).statistic,
        }
    )


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9 + 0.1])
def test_a_constant_prediction_correlates_with_nothing(constant: float) -> None:
    result = regression(np.array([0.5, 1.5, 4.0]), np.full(3, constant))
    assert (result["pearson"], result["spearman"]) == (0, 0)


def test_one_example_is_enough_to_answer() -> None:
    assert regression(np.array([1.0]), np.array([3.0])) == {
        "mse": 4,
        "rmse": 2,
        "mae": 2,
        "r2": 0,
        "pearson": 0,
        "spearman": 0,
    }


PROBLEMS = {
    "single_label_classification": (rng.integers(0, 4, 20), rng.integers(0, 4, 20)),
    "multi_label_classification": (rng.random((20, 3)) < 0.4, rng.random((20, 3)) < 0.4),
    "regression": (rng.normal(size=20).round(1), rng.normal(size=20).round(1)),
}


@pytest.mark.parametrize("problem", PROBLEMS)
@settings(max_examples=20, deadline=None)
@given(drawn=codes(20, top=19))
def test_weights_are_repetitions(problem: str, drawn: Ints) -> None:
    """Drawn twice weighs twice, not drawn is not there: exactly a resample."""
    true, predicted = PROBLEMS[problem]
    weights = np.bincount(drawn, minlength=20)
    literally = METRICS[problem](true[drawn], predicted[drawn])
    assert METRICS[problem](true, predicted, weights=weights) == pytest.approx(literally)


@pytest.mark.parametrize("problem", list(METRICS))
def test_table_and_order_are_complete(problem: str) -> None:
    result = METRICS[problem](*PROBLEMS[problem])
    assert set(result) <= set(GREATER)
    assert main_metric(problem) in result
    assert all(type(value) is float for value in result.values())


def test_a_better_model_is_better_in_every_metric() -> None:
    true = rng.normal(size=200)
    good, bad = (regression(true, true + noise * rng.normal(size=200)) for noise in (0.3, 2))
    assert all((good[name] > bad[name]) == GREATER[name] for name in good)


def test_lengths_must_agree() -> None:
    with pytest.raises(AssertionError, match="shapes"):
        classification(np.zeros(3, int), np.zeros(2, int))
