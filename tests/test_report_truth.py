"""What a report says of how its numbers came about is so: the metric that judges, what was drawn, what is promised of whom."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from answers import drawn, drawn_several
from report_facts import made
from test_report import Page, changed
from thawline.evaluate.abstain import abstention
from thawline.evaluate.answered import Answered
from thawline.evaluate.calibrate import calibration, rescale
from thawline.evaluate.conformal import conformal
from thawline.evaluate.slices import slices
from thawline.evaluate.summary import summarize
from thawline.report import RunFacts, card, render
from thawline.report.words import main_of

AUTO = {"task": {"name": "token-classification", "problem": "auto"}}


@pytest.mark.parametrize(
    ("problem", "metrics", "expected"),
    [
        ("token_classification", {"precision": 0.9, "recall": 0.5, "f1": 0.6}, "f1"),
        ("speech_recognition", {"cer": 0.1, "wer": 0.2}, "wer"),
    ],
)
def test_the_metric_that_judges_is_the_problems(problem: str, metrics: dict[str, float], expected: str) -> None:
    facts = RunFacts("x", AUTO, {"test": {**metrics, "n": 500}}, data={"columns": {"problem": problem}})
    assert main_of(facts) == expected
    asked = replace(facts, recipe={**AUTO, "train": {"metric_for_best_model": f"eval_{next(iter(metrics))}"}})
    assert main_of(asked) == next(iter(metrics))


def test_groups_that_were_drawn_are_told() -> None:
    facts = changed(test={"groups": 40})
    facts = replace(facts, recipe={**facts.recipe, "data": {**facts.recipe["data"], "split": "group(patient)"}})
    for text in (render(facts), card(facts)):
        assert "bootstrap over whole groups of examples (data.split=group(patient))" in text
    for text in (render(made(60)), card(made(60))):
        assert "bootstrap over examples" in text


def grouped(several: bool = False) -> Answered:
    """Answers that can be told apart by length, so that slices are searched."""
    answered = drawn_several(120, 3) if several else drawn(120, 3)
    examples: Any = [{**one, "text": "word " * (1 + k % 9)} for k, one in enumerate(answered.examples)]
    return replace(answered, examples=examples, groups=np.arange(120) // 4)


@pytest.mark.parametrize("several", [False, True])
def test_what_takes_examples_to_be_independent_says_so(several: bool) -> None:
    answered = grouped(several)
    for given, expected in ((answered, 1), (replace(answered, groups=None), 0), (replace(answered, groups=np.arange(120)), 0)):
        held = replace(given, groups=None)
        for found in (slices(given), abstention(held, given), conformal(held, given), calibration(given, samples=5)):
            assert sum("independent of one another" in note for note in found["notes"]) == expected
    assert (summarize(answered, samples=5).section["groups"], "groups" in summarize(held, samples=5).section) == (30, False)


@pytest.mark.parametrize("several", [False, True])
def test_a_temperature_that_is_folded_in_is_taken_out_for_before(several: bool) -> None:
    answered = drawn_several(300, 2) if several else drawn(300, 3)
    temperature = np.array([1.7, 0.6] if several else [1.7])
    scores = rescale(answered.scores, temperature, several=several)
    labels = answered.labels
    said: Any = [
        {**one, "scores": dict(zip(labels, row, strict=True))}
        for one, row in zip(answered.predictions, scores.tolist(), strict=True)
    ]
    plain = calibration(answered, temperature, samples=0)
    folded = calibration(replace(answered, predictions=said), temperature, folded=True, samples=0)
    for side in ("before", "after"):
        assert folded[side]["nll"] == pytest.approx(plain[side]["nll"], rel=1e-4)
        assert folded[side]["ece"] == pytest.approx(plain[side]["ece"], abs=1e-3)
    assert folded["temperature"] == plain["temperature"]


def test_the_temperature_is_shown_with_both_sides() -> None:
    facts = made(200)
    html = render(facts)
    shown = {key: float(value) for key, value, _ in Page(html).numbers}
    (fitted,) = facts.analysis["test"]["calibration"]["fitted"]["temperature"]
    assert shown["analysis.test.calibration.temperature"] == fitted
    assert shown["analysis.test.calibration.fitted.n"] == 200
    assert "before the temperature" in html and "with it, as saved" in html
    alone = {**facts.analysis["test"]["calibration"], "temperature": None}
    alone.pop("after")
    html = render(replace(facts, analysis={"test": {"calibration": alone}}))
    assert "as saved" in html and "the temperature" not in html


def test_seconds_that_were_foreseen_stand_beside_those_that_came() -> None:
    shown = {key: float(value) for key, value, _ in Page(render(changed(train={"predicted_seconds": 75.5}))).numbers}
    assert (shown["metrics.train.predicted_seconds"], shown["metrics.train.seconds"]) == (75.5, 81.2)
