"""Classes one by one against scikit-learn, their intervals, and their curves."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from answers import drawn, drawn_several, odd_cases, one_label, softmax
from thawline.evaluate.answered import Answered
from thawline.evaluate.classes import classes, share_interval
from thawline.evaluate.curves import MAX_POINTS, curves, thin


@pytest.mark.parametrize("answered", [drawn(500, 5), drawn_several(500, 5)], ids=["one", "several"])
def test_values_are_those_of_scikit_learn(answered: Answered) -> None:
    found = classes(answered, samples=200)
    theirs = precision_recall_fscore_support(answered.true, answered.predicted, labels=range(5), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
        assert [row[name] for row in found["classes"]] == pytest.approx(values.tolist())
    for row in found["classes"]:
        for name in ("precision", "recall", "f1"):
            low, high = row[f"{name}_ci95"]
            assert low < row[name] < high
    if answered.several:
        matrices = multilabel_confusion_matrix(answered.true, answered.predicted)
        assert [[[row["tn"], row["fp"]], [row["fn"], row["tp"]]] for row in found["two_by_two"]] == matrices.tolist()
    else:
        matrix = confusion_matrix(answered.true, answered.predicted)
        assert found["confusion"]["counts"] == matrix.tolist()
        np.fill_diagonal(matrix, 0)
        assert found["confused"][0]["count"] == matrix.max()
        assert found["confused_pairs"] == np.count_nonzero(matrix)


def test_intervals_hold_the_truth() -> None:
    """Recall of a class that is right 8 times of 10, over 100 test sets: 95 % intervals, within Monte-Carlo error."""
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(100):
        true = rng.integers(0, 2, 120)
        said = np.where(rng.random(120) < 0.8, true, 1 - true)
        low, high = classes(one_label(true, np.eye(2)[said]), samples=200, seed=seed)["classes"][0]["recall_ci95"]
        held += low <= 0.8 <= high
    assert held >= 87


def test_shares_of_all_or_nothing_have_width() -> None:
    row = classes(one_label([0] * 10 + [1] * 10, [[0.9, 0.1]] * 10 + [[0.1, 0.9]] * 10))["classes"][0]
    low, high = share_interval(10, 10)
    assert (row["recall"], row["recall_ci95"]) == (1.0, [low, high])
    assert row["f1_ci95"] == pytest.approx([2 * low / (1 + low), 1.0])


def test_groups_are_drawn_whole() -> None:
    """Ten copies of each example say no more than one: the interval is that of the groups, not a third of it."""
    few = drawn(100, 2)
    copies = few.select(np.repeat(np.arange(100), 10))
    widths = [
        np.subtract(*one["classes"][0]["recall_ci95"][::-1])
        for one in (classes(few), classes(replace(copies, groups=np.repeat(np.arange(100), 10))), classes(copies))
    ]
    assert widths[1] == pytest.approx(widths[0], rel=0.2)
    assert widths[2] < 0.5 * widths[1]


def test_absent_and_unknown_classes() -> None:
    found = classes(one_label([0, 0, -1, -1], [[0.9, 0.1, 0.0]] * 4), samples=50)
    first, second, _ = found["classes"]
    assert (first["precision"], first["recall"], found["unknown"]) == (0.5, 1.0, 2)
    assert (second["precision"], second["recall"], second["f1"], second["recall_ci95"], second["support"]) == (None,) * 4 + (0,)
    assert found["confusion"]["unknown"] == [2, 0, 0]


def test_pairs_by_share_want_evidence() -> None:
    """One of one is confused wholly, 12 of 20 is said with more right."""
    true = np.array([0] + [1] * 20 + [2] * 30)
    said = np.array([2] + [2] * 12 + [1] * 8 + [2] * 30)
    found = classes(one_label(true, np.eye(3)[said]), samples=0)
    assert [(pair["true"], pair["count"], pair["share"]) for pair in found["confused_by_share"]] == [
        ("c1", 12, 0.6),
        ("c0", 1, 1.0),
    ]


@pytest.mark.parametrize("classes_", [2, 3, 25])
def test_areas_are_those_of_scikit_learn(classes_: int) -> None:
    answered = drawn(3000, classes_, sharp=1.0)
    found = curves(answered)
    entries: list[tuple[dict[str, Any], Any, Any]] = [
        (row, answered.hot[:, c], answered.scores[:, c]) for c, row in enumerate(found["classes"])
    ]
    if classes_ > 20:
        entries.append((found["micro"], answered.hot.ravel(), answered.scores.ravel()))
    for entry, true, scores in entries:
        assert entry["roc_area"] == pytest.approx(roc_auc_score(true, scores), abs=1e-9)
        assert entry["average_precision"] == pytest.approx(average_precision_score(true, scores), abs=1e-9)
    assert ("micro" in found) == (classes_ > 20)
    assert found["macro"]["roc_area"] == pytest.approx(np.mean([row["roc_area"] for row in found["classes"]]))
    for entry in [*found["classes"], found["macro"]]:
        for curve, area in (("roc", "roc_area"), ("precision_recall", "average_precision")):
            points = np.array(entry[curve])
            assert len(points) <= 1.1 * MAX_POINTS
            assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(entry[area], abs=1e-3)


def test_thin_keeps_corners() -> None:
    x, y = np.linspace(0, 1, 1001), np.where(np.linspace(0, 1, 1001) < 0.3, 0.0, 1.0)
    few = thin(x, y)
    assert len(few[0]) < 6
    assert thin(x[:1], y[:1])[0].tolist() == [0.0]


def test_many_classes_stay_small() -> None:
    answered = one_label(np.arange(400) % 150, softmax(np.random.default_rng(0).normal(size=(400, 150))))
    found = curves(answered)
    assert "100" in found["note"]
    assert sum(row["roc"] is not None for row in found["classes"]) == 100


@pytest.mark.parametrize("name", odd_cases())
def test_odd_cases(name: str) -> None:
    answered = odd_cases()[name]
    for found in (classes(answered, samples=20), curves(answered)):
        assert json.loads(json.dumps(found, allow_nan=False)) == found
