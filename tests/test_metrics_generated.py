"""Loss, perplexity, exact match and ROUGE-L of generated texts, of which some may lack something."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from thawline.evaluate.intervals import bootstrap
from thawline.evaluate.metrics import METRICS
from thawline.evaluate.resample import statistic
from thawline.evaluate.scores.generated import rouge_l, text_generation

ENGLISH = st.lists(st.sampled_from(["the", "The", "cat", "sat.", "on", "a", "mat,", "-", "7"]), max_size=12).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(ENGLISH, ENGLISH)
def test_in_english_it_is_rouge_scores_own(one: str, other: str) -> None:
    assert rouge_l(one, other) == pytest.approx(RougeScorer(["rougeL"]).score(one, other)["rougeL"].fmeasure)


def test_chinese_goes_by_characters() -> None:
    assert rouge_l("今天天气很好。", "今天天气不好") == pytest.approx(2 * 5 / 12)
    assert RougeScorer(["rougeL"]).score("今天天气很好", "今天天气很好")["rougeL"].fmeasure == 0  # knows a to z only


def test_loss_is_a_mean_over_tokens_not_over_examples() -> None:
    found = text_generation([None, None], [{"loss": 2.0, "tokens": 1}, {"loss": 1.0, "tokens": 9}])
    assert found == pytest.approx({"loss": 0.3, "perplexity": math.exp(0.3)})


@pytest.mark.parametrize(
    ("predicted", "names"),
    [
        ({"loss": 1.0, "tokens": 2}, {"loss", "perplexity"}),
        ({"text": "x"}, {"exact_match", "rouge_l"}),
        ({"loss": 1.0, "tokens": 2, "text": "x"}, {"loss", "perplexity", "exact_match", "rouge_l"}),
        ({"loss": 0.0, "tokens": 0}, set()),
    ],
)
def test_there_are_the_metrics_that_something_is_known_of(predicted: Any, names: set[str]) -> None:
    assert set(text_generation(["x"], [predicted])) == names


def test_texts_of_some_examples_are_measured_on_those() -> None:
    """A hundred losses, texts of ten of them: the metrics are there in every resample, and sure to the number of texts."""
    predicted: list[Any] = [{"loss": 1.0, "tokens": 2} for _ in range(100)]
    for one in predicted[:10]:
        one["text"] = " right \n answer"
    true = ["right answer"] * 5 + ["right, answer"] * 85 + [None] * 10
    assert text_generation(true, predicted) == pytest.approx(
        {"loss": 0.5, "perplexity": math.exp(0.5), "exact_match": 0.5, "rouge_l": 1}
    )
    low, high = bootstrap(statistic("text_generation", true, predicted), 100, samples=300)["exact_match"]
    assert low < 0.25 and high > 0.75


def test_a_hopeless_model_has_a_finite_perplexity() -> None:
    assert math.isfinite(text_generation(["x"], [{"loss": 5000.0, "tokens": 1}])["perplexity"])


def test_chunks_with_and_without_texts_stand_one_upon_the_other() -> None:
    scoring = METRICS["text_generation"]
    one: Any = [{"loss": 1.0, "tokens": 2, "text": "x"}]
    other: Any = [{"loss": 2.0, "tokens": 2}]
    terms = np.concatenate([scoring.terms(["x"], one), scoring.terms(["x"], other)])
    assert scoring.metrics(terms) == scoring(["x", "x"], one + other)
