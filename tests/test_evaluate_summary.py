"""The section of metrics.json, and its table."""

import json
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import f1_score

from thawline.errors import DataError
from thawline.evaluate.answered import Answered
from thawline.evaluate.metrics import GREATER, METRICS, main_metric
from thawline.evaluate.summary import Summary, summarize
from thawline.evaluate.tables import metrics_table, sentences
from thawline.types import Prediction

SINGLE, MULTI, NUMBER = "single_label_classification", "multi_label_classification", "regression"
rng = np.random.default_rng(0)
names = np.array(["bad", "fair", "good"])
truth = names[rng.integers(0, 3, 120)]
answers = np.where(rng.random(120) < 0.9, truth, "fair")
rival = np.where(rng.random(120) < 0.6, truth, "fair")


def rows(targets: Any) -> list[dict[str, Any]]:
    return [{"id": f"e{i}", "text": "…", "label": target} for i, target in enumerate(targets)]


def single(labels: Any) -> list[Prediction]:
    return [Prediction(id=f"e{i}", label=str(label)) for i, label in enumerate(labels)]


def summary(**options: Any) -> Summary:
    known = {"problem": SINGLE, "labels": ["good", "bad", "fair"], "samples": 100}
    return summarized(rows(truth.tolist()), single(answers), **{**known, **options})


def summarized(examples: Any, said: Any, *, problem: str, labels: Any = (), **options: Any) -> Summary:
    return summarize(Answered(examples, said, problem, tuple(labels)), **options)


def test_a_section_has_the_form_that_metrics_json_has() -> None:
    found = summary(baselines={"majority": ["fair"] * 120, "tfidf": rival.tolist()})
    section = found.section
    metrics = ["accuracy", "f1_macro", "precision_macro", "recall_macro"]
    assert list(section) == [*metrics, "n", *(f"{name}_ci95" for name in metrics), "baseline"]
    assert section["n"] == 120
    assert section["f1_macro"] == pytest.approx(f1_score(truth, answers, average="macro"))
    majority, tfidf = section["baseline"]["majority"], section["baseline"]["tfidf"]
    assert list(majority) == metrics
    assert set(tfidf) == {*metrics, *(f"{m}_difference" for m in metrics), *(f"{m}_difference_ci95" for m in metrics)}
    assert tfidf["f1_macro"] == pytest.approx(f1_score(truth, rival, average="macro"))
    for name in metrics:
        low, high = section[f"{name}_ci95"]
        assert low < section[name] < high
        low, high = tfidf[f"{name}_difference_ci95"]
        assert tfidf[f"{name}_difference"] == section[name] - tfidf[name]
        assert low < tfidf[f"{name}_difference"] < high
    assert json.loads(json.dumps(section, allow_nan=False)) == section
    assert found.findings == ()


def test_without_baselines_there_is_no_such_key() -> None:
    assert "baseline" not in summary().section


def test_same_seed_same_section() -> None:
    assert summary(seed=1) == summary(seed=1)
    assert summary(seed=1) != summary(seed=2)


def test_labels_meet_by_name_not_by_place() -> None:
    assert summary(labels=["fair", "good", "bad"]).section == summary(labels=["bad", "fair", "good"]).section


def test_a_label_that_the_model_does_not_know_is_wrong_and_told() -> None:
    targets = ["a", "b", "new", "new", "odd"]
    found = summarized(rows(targets), single("abaab"), problem=SINGLE, labels=["a", "b"], samples=20)
    assert found.section["accuracy"] == pytest.approx(2 / 5)
    (finding,) = found.findings
    assert (finding.level, finding.name) == ("warning", "unknown-label")
    assert finding.text == "The data has labels that the model does not know: 'new' (2), 'odd' (1). They count as wrong."


def test_predictions_of_others_or_in_another_order_are_caught() -> None:
    examples = rows(["a", "b"])
    with pytest.raises(AssertionError, match="prediction 0 is of 'e1', not of 'e0'"):
        summarized(examples, single("ab")[::-1], problem=SINGLE)
    with pytest.raises(AssertionError, match="2 examples, 3 predictions"):
        summarized(examples, single("abb"), problem=SINGLE)
    with pytest.raises(AssertionError, match="baseline"):
        summarized(examples, single("ab"), problem=SINGLE, baselines={"tfidf": ["a"]})


def test_nothing_to_compare_with_is_the_users_to_know() -> None:
    with pytest.raises(DataError, match="1 of 2 examples have no label"):
        summarized(rows(["a", None]), single("ab"), problem=SINGLE)
    with pytest.raises(DataError, match="no examples"):
        summarized([], [], problem=SINGLE)


def test_several_labels() -> None:
    targets = [["x"], ["x", "y"], [], ["z"]] * 5
    given = [Prediction(id=f"e{i}", labels=labels) for i, labels in enumerate([["x"], ["y"], [], []] * 5)]
    found = summarized(
        rows(targets), given, problem=MULTI, labels=["x", "y"], baselines={"tfidf": targets, "majority": [[]] * 20}, samples=50
    )
    assert found.section["accuracy"] == 0.5
    assert found.section["f1_macro"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found.section["baseline"]["tfidf"]["accuracy_difference"] == -0.5
    assert found.section["baseline"]["majority"]["f1_micro"] == 0
    assert "'z' (5)" in found.findings[0].text


def test_numbers() -> None:
    targets = rng.normal(size=50)
    given = [Prediction(id=f"e{i}", value=float(value)) for i, value in enumerate(targets + 0.1 * rng.normal(size=50))]
    others = {"majority": [0.0] * 50, "tfidf": (targets + rng.normal(size=50)).tolist()}
    section = summarized(rows(targets.tolist()), given, problem=NUMBER, baselines=others, samples=100).section
    assert section["baseline"]["majority"]["pearson"] == 0
    assert section["baseline"]["tfidf"]["rmse_difference_ci95"][1] < 0
    assert "the model is better" in sentences(section, main="rmse")[0]


def test_a_number_that_is_none_is_caught() -> None:
    with pytest.raises(AssertionError, match="finite"):
        summarized(rows([1.0]), [Prediction(id="e0", value=float("nan"))], problem=NUMBER)


def test_every_problem_has_its_answer() -> None:
    made: dict[str, tuple[str, list[Any]]] = {
        SINGLE: ("label", ["a", "b", "a"]),
        MULTI: ("labels", [["a"], ["b"], ["a", "b"]]),
        NUMBER: ("value", [1.0, 2.0, 4.0]),
        "token_classification": ("tags", [["B-x"], ["O"], ["B-y", "O"]]),
        "speech_recognition": ("text", ["one", "two words", "three"]),
    }
    assert {*made, "text_generation"} == set(METRICS)  # of which the whole prediction is compared
    for problem, (key, targets) in made.items():
        given: list[Any] = [{"id": f"e{i}", key: target} for i, target in enumerate(targets)]
        section = summarized(rows(targets), given, problem=problem, samples=10).section
        assert section[main_metric(problem)] == (1 if GREATER[main_metric(problem)] else 0)


def rendered(section: dict[str, Any], width: int = 140) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(metrics_table(section, main="f1_macro", title="test"))
    return capture.get()


def test_table_shows_the_model_beside_the_baselines() -> None:
    section = summary(baselines={"majority": ["fair"] * 120, "tfidf": rival.tolist()}).section
    text = rendered(section)
    low, high = section["f1_macro_ci95"]
    assert f"{section['f1_macro']:.3f} [{low:.3f}, {high:.3f}]" in text
    assert "n = 120" in text
    for word in ("majority", "tfidf", "precision_macro", "test", f"{section['baseline']['majority']['accuracy']:.3f}"):
        assert word in text
    assert "the model is better." in text
    assert "includes 0" not in text


def test_table_says_where_nothing_is_shown() -> None:
    section = summary(baselines={"tfidf": np.where(rng.random(120) < 0.9, truth, "fair").tolist()}).section
    section["baseline"]["tfidf"] |= {"f1_macro_difference": 0.01, "f1_macro_difference_ci95": [-0.02, 0.04]}
    assert "+0.010 [-0.020, +0.040]" in rendered(section)
    assert "includes 0, so this data does not show which is better" in rendered(section, 300)


def test_table_without_baselines() -> None:
    assert "model -" not in rendered(summary().section)
