"""The model card: front matter that hubs understand, the summary's words, and nothing of the data."""

import warnings
from dataclasses import replace

import pytest

from report_facts import HOSTILE, made
from thawline.report import RunFacts, card

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from huggingface_hub import ModelCard


def parsed(facts: RunFacts) -> ModelCard:
    return ModelCard(card(facts))


def test_hubs_read_it() -> None:
    facts = made(100, deep=False)
    data = parsed(facts).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-classification")
    assert data.base_model is None  # what a package ships has no name on a hub
    results = {result.metric_name: result.metric_value for result in data.eval_results}
    assert results["macro F1"] == facts.metrics["test"]["f1_macro"]
    assert {result.dataset_split for result in data.eval_results} == {"test"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("bert-base-uncased", "bert-base-uncased"), ("org/model", "org/model"), ("/home/me/model", None), ("./m", None)],
)
def test_the_base_is_named_where_it_is_on_a_hub(name: str, expected: str | None) -> None:
    facts = made(50, deep=False)
    data = parsed(replace(facts, recipe={**facts.recipe, "model": {"name": name}})).data
    assert data.base_model == expected


def test_it_says_what_the_report_says() -> None:
    facts = made(100, deep=False)
    text = card(facts)
    value = facts.metrics["test"]["f1_macro"]
    assert f"macro F1 is {value:.3f} (95 % interval" in text
    assert 'pipeline("text-classification"' in text
    assert "Only 100 examples were measured" in text


def test_it_does_not_quote_the_data() -> None:
    facts = made(50, deep=True)
    told = {**facts.data, "findings": [["warning", "shared_text", "1 text of test stands in train too, such as 'my secret'"]]}
    assert "my secret" not in card(replace(facts, data=told))


def test_labels_cannot_be_markup() -> None:
    facts = made(50, labels=HOSTILE, deep=False)
    text = card(replace(facts, recipe={**facts.recipe, "strategy": HOSTILE[0], "data": {"path": HOSTILE[4]}}))
    assert "<script" not in text and "<img" not in text and "<b " not in text
    body = text.split("---\n", 2)[2]
    assert [line for line in body.splitlines() if line.startswith("# ")] == [body.strip().splitlines()[0]]
    ModelCard(text)


def test_an_empty_run_has_a_card() -> None:
    assert "Nothing was measured" in card(RunFacts("empty"))
    ModelCard(card(RunFacts("empty")))
