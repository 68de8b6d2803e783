"""The scikit-learn way: clone, search, pipe, pickle, and scikit-learn's own checks where they make sense for texts."""

import copy
import doctest
import gc
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks as checks
from sklearn.utils import get_tags

import thawline as tl
from families import folder_of
from thawline.errors import DataError, RecipeError

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "scikit-learn.md"
X = [f"{words}, number {n}" for n in range(12) for words in ("The film is warm and funny", "A dull noisy mess")]
Y = ["good", "bad"] * 12
ESTIMATORS = [tl.TextClassifier, tl.TextRegressor]
each = pytest.mark.parametrize("kind", ESTIMATORS)


def small(kind: Callable[..., Any] = tl.TextClassifier, **arguments: Any) -> Any:
    """An estimator over a tiny random model; two steps, no measuring of what is faster."""
    given = {"max_steps": 2, "learning_rate": 1e-2, "recipe": {"train.bf16": False}, **arguments}
    return kind(model=folder_of("bert"), **given)


@pytest.fixture(scope="module")
def fitted() -> Any:
    return small().fit(X, Y)


@each
@pytest.mark.parametrize(
    "check",
    [
        checks.check_do_not_raise_errors_in_init_or_set_params,
        checks.check_estimator_cloneable,
        checks.check_estimator_repr,
        checks.check_estimator_tags_renamed,
        checks.check_estimators_unfitted,
        checks.check_get_params_invariance,
        checks.check_mixin_order,
        checks.check_no_attributes_set_in_init,
        checks.check_parameters_default_constructible,
        checks.check_set_params,
        checks.check_valid_tag_types,
    ],
)
def test_scikit_learns_own_checks(kind: type[Any], check: Callable[[str, Any], None]) -> None:
    check(kind.__name__, kind())


@each
def test_init_only_stores(kind: type[Any]) -> None:
    strategy, recipe = tl.gradual(tl.layerwise(tl.full(), decay=0.9)), {"train": {"epochs": "nonsense"}}
    estimator = kind(strategy=strategy, recipe=recipe, epochs=-1)
    assert estimator.strategy is strategy and estimator.recipe is recipe
    assert vars(estimator) == estimator.get_params()


def test_tags() -> None:
    tags = get_tags(tl.TextClassifier())
    assert tags.input_tags.string and not tags.input_tags.two_d_array
    assert tags.classifier_tags.multi_label and tags.target_tags.required
    assert is_classifier(tl.TextClassifier()) and is_regressor(tl.TextRegressor())


@each
def test_not_fitted(kind: type[Any]) -> None:
    with pytest.raises(NotFittedError, match=kind.__name__):
        kind().predict(["a film"])


def test_fit_returns_self_and_keeps_parameters() -> None:
    estimator = small(strategy=tl.freeze(2), class_weights={"bad": 2.0, "good": 1})
    before = estimator.get_params()
    assert estimator.fit(X, Y) is estimator
    assert all(estimator.get_params()[name] is value for name, value in before.items())
    assert {name for name in vars(estimator) if name not in before and not name.startswith("_")} == {
        "classes_",
        "metrics_",
        "notes_",
        "run_",
    }
    recipe = estimator.run_.recipe
    assert (recipe.strategy, recipe.train.class_weights) == ("freeze(2)", {"bad": 2.0, "good": 1.0})


def test_answers(fitted: Any) -> None:
    answers, proba = fitted.predict(X[:5]), fitted.predict_proba(X[:5])
    assert fitted.classes_.tolist() == ["bad", "good"]
    assert answers.shape == (5,) and proba.shape == (5, 2)
    assert answers.tolist() == fitted.classes_[proba.argmax(1)].tolist()
    assert fitted.score(X, Y) == np.mean(fitted.predict(X) == np.array(Y))
    assert log_loss(Y, fitted.predict_proba(X)) > 0  # warns where rows do not add up to 1 in float64
    own = fitted.run_.predict(X[:5])
    assert [row["label"] for row in own] == answers.tolist()
    np.testing.assert_allclose([row["scores"]["good"] for row in own], proba[:, 1], rtol=1e-6)


def test_order_and_batching_do_not_matter(fitted: Any) -> None:
    proba = fitted.predict_proba(X)
    np.testing.assert_allclose(fitted.predict_proba(X[::-1])[::-1], proba, rtol=1e-5)
    np.testing.assert_allclose(np.concatenate([fitted.predict_proba([text]) for text in X[:3]]), proba[:3], rtol=1e-5)


def test_quiet_and_told(fitted: Any, capfd: pytest.CaptureFixture[str]) -> None:
    small().fit(X, Y).predict(X)
    assert capfd.readouterr() == ("", "")
    assert any("validation: 2 of 24" in note for note in fitted.notes_)
    small(verbose=True).fit(X, Y)
    assert "validation: 2 of 24" in capfd.readouterr().err


def test_nothing_is_measured_that_nobody_asked_for(fitted: Any) -> None:
    assert fitted.metrics_.keys() == {"validation", "train"}
    assert 0 <= fitted.metrics_["validation"]["accuracy"] <= 1
    assert not [name for name in fitted.metrics_["validation"] if "baseline" in name or "ci95" in name]


def test_nothing_held_out() -> None:
    estimator = small(validation_size=0).fit(X, Y)
    assert estimator.metrics_.keys() == {"train"} and any("train: 24 examples" in note for note in estimator.notes_)


@pytest.mark.parametrize(
    "classes",
    [
        np.array([3, -1]),
        np.array([1.0, -1.0]),
        np.array([True, False]),
        np.array(["01", "1.0"]),
        np.array([" a", "a"]),
        np.array(["", "none"], dtype=object),
    ],
    ids=repr,
)
def test_labels_come_back_as_they_were(classes: Any) -> None:
    y = classes[np.arange(24) % 2]
    estimator = small(max_steps=1).fit(X, y)
    assert estimator.classes_.dtype == classes.dtype and estimator.classes_.tolist() == sorted(classes.tolist())
    answers = estimator.predict(X)
    assert answers.dtype == classes.dtype and set(answers.tolist()) <= set(classes.tolist())


@pytest.mark.parametrize(
    "kind", [list, tuple, np.array, pd.Series, lambda x: pd.DataFrame({"t": x}), lambda x: np.array(x)[:, None]]
)
def test_containers_of_texts(fitted: Any, kind: Callable[[list[str]], Any]) -> None:
    np.testing.assert_array_equal(fitted.predict_proba(kind(X[:4])), fitted.predict_proba(X[:4]))


@pytest.mark.parametrize("kind", [list, lambda pairs: pd.DataFrame(pairs, columns=["premise", "hypothesis"])])
def test_pairs(kind: Callable[[list[tuple[str, str]]], Any]) -> None:
    pairs = [(text, "It is good.") for text in X]
    estimator = small(max_steps=1).fit(kind(pairs), Y)
    assert estimator.run_.recipe.data.text == ["text", "text_pair"]
    other = estimator.predict_proba([(text, "My card was charged twice.") for text in X])
    assert not np.allclose(estimator.predict_proba(kind(pairs)), other, rtol=1e-9)
    with pytest.raises(ValueError, match="X has 1 texts in a row, but TextClassifier was fitted with 2"):
        estimator.predict(X)


@pytest.mark.parametrize("kind", [csr_array, lambda y: pd.DataFrame(y, columns=["warm", "dull", "text"])])
def test_several_labels(kind: Callable[[Any], Any]) -> None:
    y = np.array([[1, 0, 0], [0, 1, 0]] * 12)
    y[::6] = 0  # examples without any label are fine, and so is a label without examples
    estimator = small().fit(X, kind(y))
    assert estimator.classes_.tolist() == [0, 1, 2]
    proba, answers = estimator.predict_proba(X), estimator.predict(X)
    assert proba.shape == answers.shape == (24, 3) and set(np.unique(answers)) <= {0, 1}
    np.testing.assert_array_equal(answers, proba >= 0.5)
    assert estimator.score(X, y) == (answers == y).all(1).mean()


def test_numbers() -> None:
    y = np.array([12.5, 7.5] * 12)
    estimator = small(tl.TextRegressor).fit(X, y)
    assert estimator.predict(X).shape == (24,) and estimator.predict(X).dtype == float
    assert estimator.predict(X).mean() == pytest.approx(10, abs=5)  # in the unit of y
    assert estimator.score(X, y) <= 1 and "mse" in str(estimator.metrics_["validation"].keys())


def test_sample_weight() -> None:
    wrong = [*Y[:12], *Y[13:], "good"]
    weights = np.array([1.0] * 12 + [0.0] * 12)
    alike, other = [small().fit(X, wrong, sample_weight=w).predict_proba(X) for w in (np.full(24, 2.0), weights)]
    np.testing.assert_allclose(small().fit(X, wrong).predict_proba(X), alike, rtol=1e-4)
    assert np.abs(other - alike).max() > 1e-3


def test_fitting_again_starts_fresh() -> None:
    estimator = small().fit(X, [0, 1, 2] * 8)
    first = estimator.run_.folder
    again = estimator.fit(X, Y)
    assert again.classes_.tolist() == ["bad", "good"] and again.run_.folder != first
    np.testing.assert_array_equal(again.predict_proba(X), small().fit(X, Y).predict_proba(X))


def test_seed() -> None:
    one, other = [small(seed=seed).fit(X, Y).predict_proba(X) for seed in (1, 2)]
    assert not np.allclose(one, other)


@pytest.mark.parametrize("strategy", ["gradual(full, until=0.5)", tl.gradual(tl.full())], ids=["text", "object"])
def test_clone(fitted: Any, strategy: Any) -> None:
    estimator = clone(small(strategy=strategy))
    assert estimator.fit(X, Y).run_.recipe.strategy == "gradual(full, until=0.5)"
    assert not hasattr(clone(estimator), "run_")
    assert clone(fitted).get_params() == fitted.get_params()


def test_pipeline() -> None:
    def plain(texts: list[str]) -> list[str]:
        return [text.lower() for text in texts]

    pipe = Pipeline([("lower", FunctionTransformer(plain)), ("model", small())])
    pipe.fit(X, Y, model__sample_weight=np.ones(24))
    assert pipe.classes_.tolist() == ["bad", "good"] and pipe.predict_proba(X).shape == (24, 2)
    np.testing.assert_array_equal(pipe.predict(X), pipe[-1].predict(plain(X)))


@pytest.mark.parametrize("kind", [list, pd.Series])
def test_cross_val_score(kind: Callable[[list[str]], Any]) -> None:
    scores = cross_val_score(small(max_steps=1), kind(X), kind(Y), cv=2, error_score="raise")
    assert scores.shape == (2,) and ((scores >= 0) & (scores <= 1)).all()


def test_grid_search() -> None:
    grid = [{"model__strategy": ["head", tl.freeze(0.5)]}, {"model__learning_rate": [1e-3]}]
    search = GridSearchCV(Pipeline([("model", small(max_steps=1))]), grid, cv=2, error_score="raise").fit(X, Y)
    best, chosen = search.best_estimator_["model"], search.best_params_
    assert all(best.get_params()[name.removeprefix("model__")] == value for name, value in chosen.items())
    assert best.run_.recipe.strategy == getattr(best.strategy, "spec", best.strategy)
    assert search.predict(X).shape == (24,) and search.classes_.tolist() == ["bad", "good"]


def test_calibration() -> None:
    calibrated = CalibratedClassifierCV(small(max_steps=1), cv=2).fit(X, Y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(1), 1)


@each
@pytest.mark.parametrize("strategy", ["freeze(2)", tl.gradual(tl.full())], ids=["text", "object"])
def test_pickle_of_the_unfitted(kind: type[Any], strategy: Any) -> None:
    estimator = kind(strategy=strategy, learning_rate=1e-4)
    back = pickled(estimator)
    assert back.get_params() == {**estimator.get_params(), "strategy": getattr(strategy, "spec", strategy)}
    assert estimator.strategy is strategy


def pickled(estimator: Any) -> Any:
    return pickle.loads(pickle.dumps(estimator))  # noqa: S301


@pytest.mark.parametrize("carry", [pickled, copy.deepcopy])
def test_the_fitted_carries_its_model(carry: Callable[[Any], Any]) -> None:
    estimator = small().fit(X, Y)
    expected, old = estimator.predict_proba(X), estimator.run_.folder
    back = carry(estimator)
    del estimator
    gc.collect()
    assert not old.exists()
    np.testing.assert_array_equal(back.predict_proba(X), expected)
    assert back.classes_.tolist() == ["bad", "good"] and back.metrics_["train"] == back.run_.metrics["train"]


def test_a_run_without_a_folder_is_temporary() -> None:
    estimator = small().fit(X, Y)
    run, folder = estimator.run_, estimator.run_.folder
    assert not (folder / "checkpoints").exists()
    del estimator
    gc.collect()
    assert run.predict(X[:1])  # as long as the run itself is held
    del run
    gc.collect()
    assert not folder.parent.exists()


def test_a_fit_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="one class only"):
        small().fit(X, ["good"] * 24)
    assert list(tmp_path.iterdir()) == []


def test_folder_keeps_each_run(tmp_path: Path) -> None:
    estimator = small(folder=tmp_path / "runs")
    folders = [estimator.fit(X, Y).run_.folder for _ in range(2)]
    expected = estimator.predict_proba(X)
    del estimator
    gc.collect()
    assert [folder.name for folder in folders] == ["TextClassifier-1", "TextClassifier-2"]
    scores = [row["scores"] for row in tl.load_run(folders[1]).predict(X)]
    np.testing.assert_allclose([[row["bad"], row["good"]] for row in scores], expected, rtol=1e-6)


def test_recipe_wins() -> None:
    estimator = small(recipe={"train": {"bf16": False, "epochs": 2, "optimizer": "sgd"}, "data.max_train_samples": 8})
    recipe = estimator.set_params(batch_size=4, regularize="l2(1e-4)").fit(X, Y).run_.recipe
    assert (recipe.train.max_steps, recipe.train.num_train_epochs, recipe.train.optim) == (None, 2, "sgd")
    assert (recipe.data.max_train_samples, recipe.regularize) == (8, ["l2(0.0001)"])
    assert estimator.metrics_["train"]["steps"] == 4


@pytest.mark.parametrize(
    ("texts", "y", "error", "words"),
    [
        ([1.5, 2.5], [0, 1], TypeError, "X holds 1.5, a float, in row 0; expected a list of texts"),
        (["a", None], [0, 1], TypeError, "X holds None, a NoneType, in row 1"),
        ([("a", "b"), ("a", 3)], [0, 1], TypeError, "X holds 3, a int, in row 1"),
        ([("a", "b"), ("a",)], [0, 1], TypeError, "X holds"),
        (csr_array(np.eye(2)), [0, 1], ValueError, "X is one csr_array; expected a list of texts"),
        ("a film", ["good"], ValueError, "X is one str; expected a list of texts"),
        ([], [], ValueError, "X is empty; expected"),
        ([("a", "b", "c")] * 2, [0, 1], ValueError, r"X is of shape \(2, 3\); expected"),
        (X, Y[:3], ValueError, "inconsistent numbers of samples"),
        (X, None, ValueError, "y"),
        (X, np.linspace(0, 1, 24), ValueError, "continuous"),
        (X, [["good"], ["bad", "dull"]] * 12, ValueError, "multi-label"),
        (X, ["good"] * 24, ValueError, "one class only, 'good'"),
        (X, [*Y[1:], None], ValueError, "y holds"),
        (X, ["rare", *Y[1:]], ValueError, "One example only in train for the class 'rare'"),
    ],
)
def test_wrong_data(texts: Any, y: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        small().fit(texts, y)


def test_wrong_parameters_are_value_errors_with_their_cause() -> None:
    with pytest.raises(ValueError, match=r"train\.learning_rate: -1 was given; expected a number above 0") as caught:
        small(learning_rate=-1, batch_size=0).fit(X, Y)
    assert isinstance(caught.value.__cause__, RecipeError) and "batch_size" in str(caught.value)
    with pytest.raises(ValueError, match="did you mean 'gradual'"):
        small(strategy="gradula(full)").fit(X, Y)
    with pytest.raises(ValueError, match=r"there is no such key, did you mean 'train\.warmup'"):
        small(recipe={"train.warmpu": 1}).fit(X, Y)
    with pytest.raises(ValueError, match="class_weights names 'goood'") as caught:
        small(class_weights={"goood": 2.0}).fit(X, Y)
    assert isinstance(caught.value.__cause__, DataError)


@pytest.mark.parametrize(
    ("weights", "words"), [([1.0] * 23, "inconsistent"), ([-1.0] + [1.0] * 23, "weight -1"), (["a"] * 24, "a")]
)
def test_wrong_sample_weight(weights: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        small().fit(X, Y, sample_weight=weights)


@each
def test_a_column_of_targets_is_flattened_and_told(kind: type[Any]) -> None:
    with pytest.warns(DataConversionWarning):
        assert small(kind, max_steps=1).fit(X, np.array([[0.0], [1.0]] * 12)).predict(X).shape == (24,)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (["a"] * 24, "could not convert"),
        ([np.nan] * 24, "NaN"),
        ([[0.0, 1.0]] * 24, "1d array"),
        ([1.0] * 24, "nothing to learn"),
    ],
)
def test_wrong_numbers(y: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        small(tl.TextRegressor).fit(X, y)


def test_learns_with_the_packaged_model(minilm: Path) -> None:
    good = ["a lovely film", "I enjoyed every minute", "wonderful acting", "a delight from start to end", "simply brilliant"]
    bad = ["a terrible film", "I hated every minute", "awful acting", "a bore from start to end", "simply dreadful"]
    places = [
        "in town",
        "on Monday",
        "with friends",
        "at home",
        "last year",
        "again",
        "in the rain",
        "abroad",
        "today",
        "twice",
    ]
    texts = [f"{text} {place}" for place in places for pair in zip(good, bad, strict=True) for text in pair]
    labels = ["good", "bad"] * 50
    head = tl.TextClassifier(model=minilm, strategy="head", recipe={"train.bf16": False}).fit(texts[:80], labels[:80])
    assert head.score(texts[80:], labels[80:]) > 0.8


@pytest.mark.usefixtures("minilm")
def test_the_guide_runs() -> None:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testfile(str(GUIDE), module_relative=False, encoding="utf-8", optionflags=options).failed == 0
