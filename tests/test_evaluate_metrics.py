"""Metrics against values by hand, and what the table promises; `test_evaluate_resample` holds them against the libraries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from made_up import ANSWERS
from thawline.evaluate.metrics import GREATER, METRICS, main_metric
from thawline.evaluate.scores.labels import classification, multilabel, ranked
from thawline.evaluate.scores.numbers import regression
from thawline.types import Prediction

rng = np.random.default_rng(0)


def test_classification_by_hand() -> None:
    result = classification(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0]))
    assert result["accuracy"] == pytest.approx(3 / 5)
    assert result["precision_macro"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert result["recall_macro"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert result["f1_macro"] == pytest.approx((1 / 2 + 4 / 5 + 0) / 3)


def test_macro_runs_over_the_labels_that_are_there() -> None:
    """Labels 1 and 3 occur neither in the data nor in the answers."""
    assert classification(np.array([0, 2, 4]), np.array([0, 2, 4]))["f1_macro"] == 1
    assert classification(np.array([0, 0]), np.array([0, 4]))["f1_macro"] == pytest.approx((2 / 3 + 0) / 2)


def test_multilabel_with_one_label_only() -> None:
    result = multilabel(np.array([[True], [False], [True]]), np.array([[True], [True], [False]]))
    assert result == pytest.approx(
        {"f1_micro": 1 / 2, "f1_macro": 1 / 2, "accuracy": 1 / 3, "precision_macro": 1 / 2, "recall_macro": 1 / 2}
    )


def test_zeros_and_ones_will_do_for_bools() -> None:
    true, predicted = rng.random((2, 20, 3)) < 0.4
    assert multilabel(true.astype(np.float32), predicted.astype(int)) == multilabel(true, predicted)


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


@settings(max_examples=30, deadline=None)
@given(st.integers(6, 12), st.integers(0, 10**6))
def test_top_five_is_scikit_learns(n_labels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, scores = rng.integers(0, n_labels, 40), rng.random((40, n_labels))
    names = [str(label) for label in range(n_labels)]
    predictions = [Prediction(label=names[row.argmax()], scores=dict(zip(names, row, strict=True))) for row in scores]
    best = np.array(ranked(predictions), dtype=int)
    found = classification(true, best)
    assert found["accuracy_top5"] == pytest.approx(sk.top_k_accuracy_score(true, scores, k=5, labels=range(n_labels)))
    assert {name: value for name, value in found.items() if name != "accuracy_top5"} == classification(true, best[:, 0])


def test_there_is_a_top_five_of_more_than_five_labels_with_scores_only() -> None:
    scores = dict.fromkeys("abcdef", 1 / 6)
    assert ranked([Prediction(label="f", scores=scores)]) == [["f", "a", "b", "c", "d"]]
    assert ranked([Prediction(label="f", scores=scores), Prediction(label="a")]) is None
    assert ranked([Prediction(label="a", scores=dict.fromkeys("abcde", 0.2))]) is None
    with pytest.raises(AssertionError, match="3 labels an example"):
        classification(np.array([1, 2]), np.array([[1, 2, 3], [2, 3, 4]]))


@settings(max_examples=10, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("problem", list(METRICS))
def test_table_and_order_are_complete(problem: str, data: st.DataObject) -> None:
    result = METRICS[problem](*data.draw(ANSWERS[problem]))
    scoring = METRICS[problem]
    assert set(result) - set(scoring.greater) == set()
    assert set(scoring.greater) - set(result) <= {"accuracy_top5"}
    assert main_metric(problem) == scoring.main and scoring.main in result
    assert all(GREATER[name] == is_so for name, is_so in scoring.greater.items()), "one name, two directions"
    assert all(type(value) is float for value in result.values())


@pytest.mark.parametrize("problem", [name for name in METRICS if name != "regression"])
def test_no_examples_are_no_fault(problem: str) -> None:
    nothing = np.zeros((0, 2), bool) if problem.startswith("multi") else np.zeros(0, int)
    assert set(METRICS[problem](nothing, nothing).values()) <= {0.0}


def test_a_better_model_is_better_in_every_metric() -> None:
    true = rng.normal(size=200)
    good, bad = (regression(true, true + noise * rng.normal(size=200)) for noise in (0.3, 2))
    assert all((good[name] > bad[name]) == GREATER[name] for name in good)


def test_lengths_must_agree() -> None:
    with pytest.raises(AssertionError, match="shapes"):
        classification(np.zeros(3, int), np.zeros(2, int))
