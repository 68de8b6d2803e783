"""Label sets: their coverage is what was asked for, on drawn and on real predictions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest

from answers import ONE, drawn, drawn_several, odd_cases, one_label
from thawline.evaluate.answered import Answered, parts
from thawline.evaluate.conformal import conformal, label_sets


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_coverage_is_nominal(level: float, temperature: float) -> None:
    """Whether or not the scores are calibrated."""
    for answered in (drawn(2000, 6, temperature=temperature), drawn_several(2000, 6, temperature=temperature)):
        found = conformal(*parts(answered, (0.5, 0.5)), levels=[level])["levels"][0]
        assert found["splits"]["coverage"] == pytest.approx(level, abs=0.02)
        assert found["test"]["coverage"] == pytest.approx(level, abs=0.04)
        assert found["test"]["coverage_ci95"][0] < found["test"]["coverage"] < found["test"]["coverage_ci95"][1]


def test_numbers_are_those_of_the_sets() -> None:
    calibration, test = parts(drawn(1000, 4), (0.5, 0.5))
    found = conformal(calibration, test, levels=[0.9])["levels"][0]
    sets = label_sets(test.scores, found["threshold"])
    assert found["test"]["coverage"] == pytest.approx(sets[np.arange(500), test.true].mean())
    assert found["test"]["size"] == pytest.approx(sets.sum(axis=1).mean())
    assert sum(count for _, count in found["test"]["sizes"]) == 500
    for c, row in enumerate(found["test"]["classes"]):
        assert row["coverage"] == pytest.approx(sets[test.true == c, c].mean())


def test_threshold_is_that_of_split_conformal_prediction() -> None:
    """The (1 - level) quantile with the correction for n: the ⌈(n + 1) · level⌉-th smallest of 1 - score."""
    answered = drawn(203, 5)
    own = np.sort(1 - answered.scores[np.arange(203), answered.true].astype(float))
    for level in (0.8, 0.9, 0.95):
        found = conformal(answered, levels=[level])["levels"][0]["threshold"]
        assert found == pytest.approx(1 - own[int(np.ceil(204 * level)) - 1], abs=1e-6)


def test_too_few_examples_give_all_labels() -> None:
    found = conformal(one_label([0] * 8, [[0.9, 0.1]] * 8), levels=[0.9])["levels"][0]
    assert found["threshold"] == 0
    assert "8 examples are too few" in found["text"]


def test_labels_nobody_knows_are_never_covered() -> None:
    answered = one_label([0] * 80 + [-1] * 20, [[0.9, 0.1]] * 100)
    found = conformal(answered, answered, levels=[0.7, 0.9])["levels"]
    assert [row["threshold"] for row in found] == [pytest.approx(0.9), 0]
    assert found[1]["test"]["coverage"] == pytest.approx(0.8)


def test_real_predictions(shared: Path) -> None:
    """Questions of six kinds, by TF-IDF and logistic regression: 20 splits, within 2 points of nominal."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = _rows(shared / "data" / "trec6")
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, max_iter=500)).fit(texts[:1500], labels[:1500])
    names = tuple(map(str, model.classes_))
    examples = [{"id": str(i), "label": label} for i, label in enumerate(labels[1500:])]
    said: list[Any] = [
        {"id": str(i), "label": names[int(row.argmax())], "scores": dict(zip(names, row.tolist(), strict=True))}
        for i, row in enumerate(model.predict_proba(texts[1500:]))
    ]
    for row in conformal(Answered(examples, said, ONE, names))["levels"]:
        assert row["splits"]["coverage"] == pytest.approx(row["level"], abs=0.02)
        assert 1 < row["splits"]["size"] < 4


def _rows(folder: Path) -> list[tuple[str, str]]:
    table = pyarrow.csv.read_csv(folder / "train.csv").slice(0, 3500)
    return list(zip(table["text"].to_pylist(), map(str, table["label"].to_pylist()), strict=True))


@pytest.mark.parametrize("name", odd_cases())
def test_odd_cases(name: str) -> None:
    answered = odd_cases()[name]
    found = conformal(answered, answered)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
