"""Calibration: errors against numbers worked out, their intervals by simulation, and temperatures that were planted."""

import json

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.metrics import brier_score_loss, log_loss

from answers import drawn, drawn_several, odd_cases, one_label, several_labels, softmax
from thawline.evaluate.answered import parts
from thawline.evaluate.calibrate import calibration, fit_temperature, fold_temperature, rescale, rescaled
from thawline.evaluate.reliability import calibration_error, reliability


def test_errors_worked_out_by_hand() -> None:
    """Two bins: 0.6 said and 1 of 2 true, 0.9 said and 1 of 2 true."""
    scores, so = np.array([[0.6], [0.6], [0.9], [0.9]]), np.array([[True], [False], [True], [False]])
    for equal_mass in (False, True):
        assert calibration_error(scores, so, equal_mass=equal_mass, bins=10).value == pytest.approx((0.1 + 0.4) / 2)
        rows = reliability(scores, so, equal_mass=equal_mass, bins=10)
        assert [(row["n"], row["accuracy"], round(row["confidence"], 6)) for row in rows] == [(2, 0.5, 0.6), (2, 0.5, 0.9)]


def test_equal_mass_bins_have_equal_mass() -> None:
    scores = np.random.default_rng(0).beta(8, 1, 1500)[:, None]
    assert {row["n"] for row in reliability(scores, scores > 0.9, equal_mass=True)} == {100}


@pytest.mark.parametrize(("n", "temperature"), [(200, 1.0), (200, 2.0), (2000, 1.5)])
def test_interval_of_the_error_holds_the_truth(n: int, temperature: float) -> None:
    rng = np.random.default_rng(0)

    def draw(size: int) -> tuple[np.ndarray, np.ndarray]:
        logits = np.abs(1.5 * rng.normal(size=(size, 1)) + 2)
        return 1 / (1 + np.exp(-logits)), rng.random((size, 1)) < 1 / (1 + np.exp(-logits / temperature))

    truth = calibration_error(*draw(200_000)).value
    found = [calibration_error(*draw(n)) for _ in range(25)]
    assert sum(one.low - 2e-3 <= truth <= one.high for one in found) >= 21  # of 25; of 150, 89 % or more were seen to
    bias, plain = (abs(np.mean([one[k] for one in found]) - truth) for k in (1, 0))
    assert bias < max(0.6 * plain, 0.015)


def test_scores_are_those_of_scikit_learn() -> None:
    answered = drawn(400, 3)
    found = calibration(answered, samples=100)["before"]
    assert found["nll"] == pytest.approx(log_loss(answered.true, answered.scores), rel=1e-5)
    squares = sum(brier_score_loss(answered.hot[:, c], answered.scores[:, c].astype(float)) for c in range(3))
    assert found["brier"] == pytest.approx(squares, rel=1e-5)
    several = drawn_several(400, 3)
    each = [log_loss(several.true[:, c], several.scores[:, c].astype(float)) for c in range(3)]
    found = calibration(several, samples=100)["before"]
    assert found["nll"] == pytest.approx(np.mean(each), rel=1e-4)
    assert found["nll_ci95"][0] < found["nll"] < found["nll_ci95"][1]


@pytest.mark.parametrize("planted", [0.6, 1.0, 2.5])
def test_planted_temperature_is_found(planted: float) -> None:
    answered = drawn(3000, 5, temperature=planted)
    fit, rest = parts(answered, (0.5, 0.5))
    found = fit_temperature(fit)
    assert found == pytest.approx([planted], rel=0.1)
    result = calibration(rest, found, samples=200)
    assert result["after"]["ece_ci95"][0] < 0.01
    if planted != 1:
        assert result["change"]["nll_ci95"][1] < 0
        assert result["after"]["ece"] < 0.5 * result["before"]["ece"]
    several = drawn_several(3000, 2, temperature=planted)
    assert fit_temperature(several) == pytest.approx([planted] * 2, rel=0.15)
    assert calibration(several, fit_temperature(several), samples=0)["labels"][0]["after"]["ece"] < 0.05


def test_temperature_is_the_likeliest() -> None:
    answered = drawn(3000, 4, temperature=1.7)
    logits = np.log(answered.scores.astype(float))

    def nll(log_t: np.ndarray) -> float:
        return log_loss(answered.true, softmax(logits / np.exp(log_t[0])))

    assert fit_temperature(answered)[0] == pytest.approx(np.exp(minimize(nll, [0.0], method="Nelder-Mead").x[0]), rel=2e-3)


def test_few_examples_all_right_do_not_run_away() -> None:
    assert 0.2 < fit_temperature(one_label([0] * 5, [[0.9, 0.1]] * 5))[0] < 1


def test_folded_head_gives_the_rescaled_scores() -> None:
    torch.manual_seed(0)
    features = torch.randn(50, 8)
    for several, temperature in ((False, np.array([1.7])), (True, np.array([0.5, 2.0, 3.0]))):
        layer = torch.nn.Linear(8, 3)
        link = torch.sigmoid if several else (lambda z: torch.softmax(z, dim=-1))
        expected = rescale(link(layer(features)).detach().numpy(), temperature, several=several)
        fold_temperature(layer, temperature)
        assert link(layer(features)).detach().numpy() == pytest.approx(expected, abs=1e-5)
        assert layer.weight.requires_grad


def test_rescaled_keeps_the_answers() -> None:
    for answered in (drawn(50, 3), drawn_several(50, 3)):
        found = rescaled(answered, np.array([2.0] * (3 if answered.several else 1)))
        assert (found.predicted == answered.predicted).all()
        assert (found.right == answered.right).all()
        assert (found.confidence <= answered.confidence + 1e-6).all()
        if not answered.several:
            assert [p["score"] for p in found.predictions] == [max(p["scores"].values()) for p in found.predictions]


def test_saturated_scores_stay_finite() -> None:
    one = rescale(np.array([[1.0, 0.0]], dtype=np.float32), np.array([2.0]))
    several = rescale(np.array([[1.0, 0.0]], dtype=np.float32), np.array([2.0, 2.0]), several=True)
    assert np.isfinite(one).all()
    assert np.isfinite(several).all()
    assert several[0, 0] < 1


@pytest.mark.parametrize("name", odd_cases())
def test_odd_cases(name: str) -> None:
    answered = odd_cases()[name]
    found = calibration(answered, fit_temperature(answered), samples=20)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_several_scores_of_an_example_may_go_together() -> None:
    """The same decision five times over is no more evidence than once."""
    rng = np.random.default_rng(0)
    scores = rng.random((300, 1))
    once = several_labels(rng.random((300, 1)) < scores, scores)
    five = several_labels(np.repeat(once.true, 5, axis=1), np.repeat(scores, 5, axis=1))
    ends = [calibration(one, samples=0)["before"]["ece_ci95"] for one in (once, five)]
    assert ends[1] == pytest.approx(ends[0], abs=0.015)
