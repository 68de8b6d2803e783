"""Abstention: what is promised holds in 95 of 100 draws, and nothing is promised on too little."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from answers import drawn, drawn_several, odd_cases, one_label
from thawline.evaluate.abstain import abstention, find_threshold
from thawline.evaluate.answered import Answered, parts

Draw = tuple[np.ndarray, np.ndarray]
Source = Callable[[np.random.Generator, int], Draw]


def sure_of_itself(rng: np.random.Generator, n: int) -> Draw:
    """Scores that are as often right as they say."""
    scores = 1 / (1 + np.exp(-np.abs(2 * rng.normal(size=n) + 4)))
    return scores, rng.random(n) < scores


def wrong_where_sure(rng: np.random.Generator, n: int) -> Draw:
    """The surest answers are the worst, so that the accuracy falls and rises with the threshold."""
    scores = rng.random(n)
    return scores, rng.random(n) < np.where(scores > 0.9, 0.93, np.where(scores > 0.5, 0.97, 0.8))


def tied(rng: np.random.Generator, n: int) -> Draw:
    """Four scores only."""
    scores = rng.integers(1, 5, n) / 4
    return scores, rng.random(n) < 0.8 + 0.19 * scores


@pytest.mark.parametrize("draw", [sure_of_itself, wrong_where_sure, tied], ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("n", [150, 1000])
def test_the_promise_is_kept(draw: Source, n: int) -> None:
    """The true accuracy above the threshold is below the target in 5 % of the draws at most, within Monte-Carlo error."""
    rng = np.random.default_rng(0)
    scores, right = draw(rng, 200_000)
    order = np.argsort(-scores, kind="stable")
    ranked, accuracy = -scores[order], np.cumsum(right[order]) / np.arange(1, len(scores) + 1)
    broken, draws = 0, 400
    for _ in range(draws):
        threshold = find_threshold(*draw(rng, n), target=0.95)
        if threshold is not None:
            broken += accuracy[max(0, np.searchsorted(ranked, -threshold, side="left") - 1)] < 0.95
    assert broken <= draws * 0.05 + 2.3 * (draws * 0.05 * 0.95) ** 0.5


@pytest.mark.parametrize("n", [150, 1000])
def test_the_promise_is_kept_where_every_threshold_breaks_it(n: int) -> None:
    """At every score a hair too often wrong: whatever is answered is a broken promise."""
    rng, draws = np.random.default_rng(0), 400
    found = [find_threshold(rng.random(n), rng.random(n) < 0.9499, target=0.95) for _ in range(draws)]
    assert sum(one is not None for one in found) <= draws * 0.05 + 2.3 * (draws * 0.05 * 0.95) ** 0.5


def test_much_is_answered() -> None:
    """On 2,000 examples the share that is answered comes near what perfect knowledge would allow, 97 % here."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(20):
        scores, right = sure_of_itself(rng, 2000)
        threshold = find_threshold(scores, right, target=0.9)
        shares.append((scores > threshold).mean() if threshold is not None else 0)
    assert np.mean(shares) > 0.95


def test_all_may_be_answered() -> None:
    found = abstention(one_label([0] * 400, [[0.9, 0.1]] * 400))
    assert [row["threshold"] for row in found["targets"]] == [-1.0] * 3
    assert found["targets"][0]["answered"] == 1
    assert "All may be answered" in found["targets"][0]["text"]


def test_no_threshold() -> None:
    found = abstention(one_label([0] * 60, [[0.9, 0.1]] * 60))
    assert [row["threshold"] is None for row in found["targets"]] == [True, False, False]
    assert found["targets"][0]["text"] == (
        "No threshold makes an accuracy of 0.99 sure at 95% with these 60 examples; it takes 299 right of 299 at least."
    )


def test_what_comes_of_it_on_test() -> None:
    calibration, test = parts(drawn(6000, 3, sharp=4.0), (0.5, 0.5))
    found = abstention(calibration, test)
    shares = [row["test"]["answered"] for row in found["targets"]]
    assert shares == sorted(shares)
    for row in found["targets"]:
        chosen = test.confidence > row["threshold"]
        assert row["test"]["accuracy"] == pytest.approx(test.right[chosen].mean())
        assert row["test"]["accuracy"] >= row["target"]
    assert found["curve"][-1] == pytest.approx([1.0, test.right.mean()], abs=1e-4)
    assert len(found["curve"]) <= 110


def test_several_labels_are_answered_as_one() -> None:
    found = abstention(drawn_several(3000, 2, shift=-6.0), targets=[0.9])
    assert found["targets"][0]["answered"] > 0.8


@pytest.mark.parametrize("name", odd_cases())
def test_odd_cases(name: str) -> None:
    answered: Answered = odd_cases()[name]
    found = abstention(answered, answered)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
