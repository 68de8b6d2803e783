"""Intervals of areas under curves: each resample against scikit-learn, and what has none."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from answers import drawn, drawn_several, odd_cases, one_label
from thawline.evaluate import curves as module
from thawline.evaluate.areas import _areas, _mean, _ranked, area_intervals
from thawline.evaluate.curves import curves


@pytest.mark.parametrize("digits", [1, 6])  # with one, most scores are equal to others
def test_areas_of_resamples_are_those_of_scikit_learn(digits: int) -> None:
    answered, rng = drawn(300, 4, sharp=1.0), np.random.default_rng(0)
    true, scores = answered.hot[:, 0], np.round(answered.scores[:, 0], digits)
    counts = rng.multinomial(300, np.full(300, 1 / 300), size=20)
    roc, average = _areas(counts.astype(np.float32), _ranked(true, scores, np.arange(300)))
    for place, weights in enumerate(counts):
        assert roc[place] == pytest.approx(roc_auc_score(true, scores, sample_weight=weights), abs=1e-6)
        assert average[place] == pytest.approx(average_precision_score(true, scores, sample_weight=weights), abs=1e-6)


def test_decisions_of_one_example_are_drawn_together() -> None:
    answered, rng = drawn(200, 3, sharp=1.0), np.random.default_rng(0)
    counts = rng.multinomial(200, np.full(200, 1 / 200), size=5)
    one = _ranked(answered.hot.ravel(), answered.scores.ravel(), np.repeat(np.arange(200), 3))
    for values, weights in zip(_areas(counts.astype(np.float32), one).T, counts, strict=True):
        again = np.repeat(weights, 3)
        assert values[0] == pytest.approx(roc_auc_score(answered.hot.ravel(), answered.scores.ravel(), sample_weight=again))


def test_areas_without_examples_are_not_numbers() -> None:
    scores = np.array([0.1, 0.4])
    none, every = (_areas(np.ones((1, 2), np.float32), _ranked(np.full(2, so), scores, np.arange(2))) for so in (False, True))
    assert np.isnan(none).all() and np.isnan(every[0, 0]) and every[1, 0] == 1
    assert _mean(np.stack([none, every])).tolist()[1] == [1.0]


def test_intervals_stand_beside_the_areas() -> None:
    answered = drawn(400, 3, sharp=1.0)
    found = curves(answered)
    assert found["draws"] == 200 and "note" not in found
    for entry in [*found["classes"], found["macro"]]:
        for area in ("roc_area", "average_precision"):
            low, high = entry[f"{area}_ci95"]
            assert low < entry[area] < high < low + 0.3
    assert "roc_area_ci95" in curves(drawn(200, 25))["micro"]
    assert curves(answered, samples=20)["draws"] == 20


def test_whole_groups_are_drawn() -> None:
    """The same answers five times over are no surer than once."""
    once = drawn(200, 2, sharp=1.0)
    five = once.select(np.tile(np.arange(200), 5))
    widths = [
        np.ptp(area_intervals(one)["0"]["roc_area_ci95"] or [])
        for one in (once, five, replace(five, groups=np.tile(np.arange(200), 5)))
    ]
    assert widths[1] < 0.6 * widths[0]
    assert widths[2] == pytest.approx(widths[0], rel=0.2)


def test_intervals_hold_the_truth() -> None:
    truth = curves(drawn(100_000, 2, sharp=1.0, seed=99), samples=1)["classes"][0]["roc_area"]
    found = [area_intervals(drawn(200, 2, sharp=1.0, seed=seed))["0"]["roc_area_ci95"] or [1, 0] for seed in range(60)]
    assert sum(low <= truth <= high for low, high in found) >= 52


def test_a_class_that_is_rare_or_absent() -> None:
    answered = one_label([0] * 30 + [1], np.random.default_rng(0).dirichlet([1, 1, 1], 31))
    found = curves(answered)["classes"]
    assert found[1]["roc_area_ci95"] is not None and found[2]["roc_area"] is None
    assert found[2]["roc_area_ci95"] is None and found[2]["average_precision_ci95"] is None


def test_very_many_scores_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 100)
    found = curves(drawn_several(60, 2))
    assert found["draws"] is None and "120 scores" in found["note"]
    assert "roc_area_ci95" not in found["macro"]


@pytest.mark.parametrize("name", odd_cases())
def test_odd_cases(name: str) -> None:
    answered = odd_cases()[name]
    found = area_intervals(answered, samples=10)
    assert len(found) == 1 + len(answered.labels)
    assert all(pair is None or 0 <= pair[0] <= pair[1] <= 1 + 1e-9 for one in found.values() for pair in one.values())
