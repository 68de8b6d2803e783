"""Suspected label errors: planted ones are found, by answers that know nothing of them; near duplicates across splits."""

import builtins
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from thawline.data.examples import Examples
from thawline.errors import DataError, UserError
from thawline.evaluate.folds import out_of_fold, out_of_fold_predictions, stratified
from thawline.evaluate.label_errors import label_errors, suspected
from thawline.evaluate.near_duplicates import near_duplicates, near_features
from thawline.types import Example, Prediction, Predictor

NAMES = ("a", "b", "c")


def blobs(n: int, seed: int = 0, spread: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Points about three corners, and which."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return np.eye(3)[labels] + spread * rng.standard_normal((n, 3)), labels


def flipped(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    which = np.random.default_rng(9).random(len(labels)) < share
    return np.where(which, (labels + 1) % 3, labels), which


def test_planted_errors_are_found() -> None:
    features, labels = blobs(900, spread=0.25)
    given, wrong = flipped(labels, 0.05)
    examples = [{"id": str(i), "text": f"text {i}", "label": NAMES[label]} for i, label in enumerate(given)]
    found = label_errors(examples, out_of_fold(features, given), NAMES)
    assert json.loads(json.dumps(found)) == found
    places = [int(one["id"]) for one in found["examples"]]
    assert wrong[places].sum() > 0.6 * wrong.sum()
    assert wrong[places].mean() > 0.9
    first = found["examples"][0]
    assert (first["text"], first["suggested"]) == (f"text {first['id']}", NAMES[labels[int(first["id"])]])
    assert [one["quality"] for one in found["examples"]] == sorted(one["quality"] for one in found["examples"])
    assert sum(pair["n"] for pair in found["pairs"]) == found["suspected"] == len(places)
    assert len(label_errors(examples, out_of_fold(features, given), NAMES, most=3)["examples"]) == 3
    assert found["words"].endswith("many of them are right and only hard.")


def test_nothing_wrong_nothing_found() -> None:
    features, labels = blobs(300, spread=0.05)
    rows = Examples(pa.table({"id": [str(i) for i in range(300)], "label": [NAMES[label] for label in labels]}))
    found = label_errors(rows, out_of_fold(features, labels), NAMES)
    assert (found["suspected"], found["words"]) == (0, "No label of 300 looks wrong.")


def test_labels_that_nobody_knows_or_has() -> None:
    features, labels = blobs(300, spread=0.05)
    scores = np.pad(out_of_fold(features, labels), ((0, 0), (0, 1)))  # of a class without examples
    examples = [{"id": str(i), "label": "z" if i == 0 else NAMES[label]} for i, label in enumerate(labels)]
    found = label_errors(examples, scores, [*NAMES, "never"])
    assert (found["n"], found["unknown"], found["suspected"]) == (299, 1, 0)
    assert suspected(np.zeros(5, dtype=int), np.ones((5, 1))).tolist() == []


@pytest.mark.parametrize("label", [["a"], 1.5, None])
def test_other_labels_are_refused(label: Any) -> None:
    with pytest.raises(DataError, match="one class; a label here is"):
        label_errors([{"id": "1", "label": "a"}, {"id": "2", "label": label}], np.ones((2, 1)), ["a"])


def test_cleanlab_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("cleanlab"):
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install cleanlab"):
        suspected(np.array([0, 1]), np.eye(2))


def test_folds_spread_rare_classes() -> None:
    labels = ["common"] * 90 + ["rare"] * 3 + ["single"]
    fold = stratified(labels, 5)
    assert np.ptp(np.bincount(fold)) <= 1
    assert len(set(fold[90:93].tolist())) == 3
    np.testing.assert_array_equal(fold, stratified(labels, 5))
    with pytest.raises(DataError, match="cannot be cut into 5 folds"):
        stratified(["a", "b"], 5)


def test_out_of_fold_does_not_see_its_label() -> None:
    features = np.random.default_rng(0).standard_normal((300, 20))
    labels = np.random.default_rng(1).integers(0, 2, 300)
    scores = out_of_fold(features, labels)
    assert np.mean(scores.argmax(1) == labels) < 0.6
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)
    rare = np.append(labels, 2)
    assert out_of_fold(np.vstack([features, features[:1]]), rare)[-1, 2] == 0  # no other fold has it


def test_out_of_fold_by_fitting() -> None:
    examples = [{"id": f"e{i}", "label": NAMES[i % 3]} for i in range(31)]
    trained: list[set[str]] = []

    def fit(ids: Sequence[str]) -> Predictor:
        trained.append(set(ids))

        def predict(given: Sequence[Example]) -> list[Prediction]:
            assert not {one["id"] for one in given} & set(ids)
            return [{"id": one["id"], "label": "a"} for one in given]

        return predict

    found = out_of_fold_predictions(examples, fit, 4)
    assert [one["id"] for one in found] == [one["id"] for one in examples]
    assert len(trained) == 4
    assert set.union(*trained) == {one["id"] for one in examples}


TRAIN = [
    "What is the capital of Peru ?",
    "Who wrote the famous book about the great white whale that swims ?",
    "How far is the moon ?",
    "!",
]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("what is the CAPITAL of Peru?", 0),
        ("Who wrote the famous book about a great white whale that swims ?", 1),
        ("How far is the sun ?", None),
        ("Something else that nobody asked", None),
        ("?", None),
        ("", None),
        ("!", 3),
    ],
)
def test_near_duplicates(text: str, place: int | None) -> None:
    found = near_duplicates(TRAIN, ["Unlike all the others, this", text], threshold=0.7)
    assert [(pair["one"], pair["other"]) for pair in found] == ([] if place is None else [(place, 1)])


def test_near_duplicates_find_what_all_pairs_find() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(400)]
    one = [" ".join(rng.choice(words, 20)) for _ in range(200)]
    other = [" ".join(w if rng.random() > 0.03 else "zzz" for w in text.split()) for text in one]

    def shingles(text: str) -> set[str]:
        said = text.replace(" ", "")
        return {said[i : i + 5] for i in range(len(said) - 4)}

    exact = [len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b)) for a, b in zip(one, other, strict=True)]
    found = {pair["other"]: pair for pair in near_duplicates(one, other)}
    assert set(found) == {place for place, similarity in enumerate(exact) if similarity >= 0.8}
    assert all(pair["one"] == place and pair["similarity"] == pytest.approx(exact[place]) for place, pair in found.items())


def test_chinese_near_duplicates() -> None:
    text = "酒店的房间很大,服务也不错,早餐很好吃,下次还会来住这里"
    assert near_duplicates([text], [text.replace("很大", "不大"), "完全不同的一句话"], threshold=0.7)[0]["other"] == 0


def test_near_features() -> None:
    one = np.random.default_rng(0).standard_normal((500, 16)) + 5
    other = np.concatenate([one[[7, 3]] + 0.01, np.random.default_rng(1).standard_normal((50, 16)) + 5])
    assert {(pair["one"], pair["other"]) for pair in near_features(one, other)} == {(7, 0), (3, 1)}
    assert near_features(one, other, threshold=0.999999) == []
