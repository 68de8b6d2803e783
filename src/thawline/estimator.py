"""Fine-tuning the scikit-learn way: estimators that are cloned, searched, piped and pickled as scikit-learn's own are."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted

from thawline.errors import UserError
from thawline.recipe import Recipe, python_arguments, recipe_from
from thawline.run.api import Run, finetune
from thawline.run.folder import next_folder
from thawline.train.observe import say as say_aloud
from thawline.types import Prediction

if TYPE_CHECKING:
    from thawline.strategies.base import Strategy

_SINGLE, _SEVERAL, _NUMBER = "single_label_classification", "multi_label_classification", "regression"
_Table = dict[str, list[Any]]


@dataclass(kw_only=True, eq=False, repr=False)
class _TextEstimator(BaseEstimator):  # type: ignore[misc]
    """What both share. As dataclasses they store their arguments and do nothing else, which is what scikit-learn asks."""

    model: str | Path | None = None
    strategy: str | Strategy = "full"
    regularize: str | Sequence[str] = ()
    epochs: float = 3
    max_steps: int | None = None
    batch_size: int = 32
    learning_rate: float | str = "auto"
    max_length: int | None = None
    validation_size: float = 0.1
    seed: int = 42
    folder: str | Path | None = None
    verbose: bool = False
    recipe: Mapping[str, Any] | None = None

    def _fine_tune(self, table: _Table, problem: str, **arguments: Any) -> None:
        """Train on the columns of `table`: text, perhaps text_pair and weight, and labels; sets run_, metrics_ and notes_."""
        notes: list[str] = []
        inputs = [name for name in ("text", "text_pair") if name in table]
        labels = [name for name in table if name not in {*inputs, "weight"}]
        columns = {"text": inputs, "label": labels, "weight": "weight" if "weight" in table else None, "id": "none"}
        with _value_errors(), ExitStack() as undo:
            keys = self._recipe(arguments).model_dump(exclude_unset=True)
            keys |= {f"data.{key}": value for key, value in {**keys.pop("data"), **columns}.items() if key != "path"}
            keys |= {"task.problem": problem, "output": self._place(undo)}
            run = finetune({"train": table}, say=lambda text: self._told(text, notes), progress=self.verbose, **keys)
            if self.folder is None:
                shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
            weakref.finalize(run, undo.pop_all().close)
        self.run_, self.metrics_, self.notes_ = run, run.metrics, notes

    def _recipe(self, arguments: Mapping[str, Any]) -> Recipe:
        """Return the recipe of the parameters, under what `recipe` says."""
        length = {"epochs": self.epochs} if self.max_steps is None else {"max_steps": self.max_steps}
        own = python_arguments(
            model=self.model,
            strategy=self.strategy,
            regularize=self.regularize,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            max_length=self.max_length,
            validation_size=self.validation_size,
            seed=self.seed,
            **{"evaluate.baselines": False, "evaluate.bootstrap_samples": 0, "data.path": "given"},
            **length,
            **arguments,
        )
        return recipe_from(own, **dict(self.recipe or {}))

    def _place(self, undo: ExitStack) -> Path:
        """Return where this run goes; a temporary folder is removed when `undo` is closed."""
        if self.folder is not None:
            return next_folder(type(self).__name__, Path(self.folder).expanduser())
        home = tempfile.mkdtemp(prefix="thawline-")
        undo.callback(shutil.rmtree, home, ignore_errors=True)
        return Path(home) / "run"

    def _told(self, text: str, notes: list[str]) -> None:
        notes.append(text)
        if self.verbose:
            say_aloud(text)

    def _predictions(self, X: Any) -> list[Prediction]:  # noqa: N803 - scikit-learn's word
        check_is_fitted(self, "run_")
        texts, fitted = _texts(X), 2 if isinstance(self.run_.recipe.data.text, list) else 1
        if len(texts) != fitted:
            raise ValueError(f"X has {len(texts)} texts in a row, but {type(self).__name__} was fitted with {fitted}.")
        with _value_errors():
            return list(self.run_.stream(self.run_.examples(texts, say=lambda text: self._told(text, []))))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, True, False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__(), "strategy": getattr(self.strategy, "spec", self.strategy)}
        return state if "run_" not in state else {**state, "run_": _packed(self.run_.folder)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        super().__setstate__(state if "run_" not in state else {**state, "run_": _unpacked(state["run_"])})


@dataclass(kw_only=True, eq=False, repr=False)
class TextClassifier(ClassifierMixin, _TextEstimator):  # type: ignore[misc]
    """Fine-tunes a pretrained model to classify texts or pairs of texts, as a scikit-learn estimator.

    `model` is a hub name, a folder or `package:NAME`, by default the packaged MiniLM; `strategy` a call form such as
    "freeze(0.5)", or what `tl.gradual(tl.full())` returns; `regularize` call forms such as ["l2(1e-4)"]. `epochs`, `max_steps`
    (instead of epochs), `batch_size` (examples a step), `learning_rate`, `max_length` (tokens), `class_weights` (none, auto, or
    {class: weight}) and `seed` are those of a recipe. `recipe` takes any other of its keys, as in {"train.warmup": 0.2}, and
    wins. `validation_size` is the share of the examples that is held out to choose the best epoch by, 0 for none. Each fit
    makes a run's folder within `folder`; without one the run is temporary and lives as long as what was fitted. `verbose` shows
    progress and notes.

    After `fit` there are `classes_`, `run_` (a `Run`), `metrics_` (of the held-out examples) and `notes_` (what was told).
    What cannot be used raises ValueError, or TypeError where X holds something else than texts.

        clf = TextClassifier(strategy="freeze(4)", epochs=2).fit(["what a film", ...], ["good", ...])
        clf.predict(["a bore"])
    """

    class_weights: str | Mapping[Any, float] = "none"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train a fresh model.

        `X` holds n texts, or pairs of texts in two columns; `y` n classes, or 0 and 1 for several labels at once, shape [n, C];
        `sample_weight` n numbers of at least 0.
        """
        table = _texts(X)
        check_consistent_length(table["text"], y, sample_weight)
        classes, names, labels = _labels(y)
        weights = self.class_weights
        if isinstance(weights, Mapping):
            known = dict(zip(classes.tolist(), names, strict=True))
            weights = {known.get(key, key): weight for key, weight in weights.items()}
        problem = _SINGLE if "label" in labels else _SEVERAL
        # With several labels `predict` says yes from 0.5 on, so that no other thresholds are fitted to be measured by.
        held: dict[str, Any] = {} if problem == _SINGLE else {"data.calibration_size": 0.0}
        self._fine_tune({**table, **labels, **_weight(sample_weight)}, problem, class_weights=weights, **held)
        self.classes_, self._names = classes, names
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the probability of each class, in the order of `classes_`, shape [n, C]."""
        scores = np.array([[row["scores"][name] for name in self._names] for row in self._predictions(X)])
        return scores if self._several else scores / scores.sum(1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the most probable class, shape [n]; with several labels, 0 or 1 for each, shape [n, C]."""
        scores = self.predict_proba(X)
        answers: np.ndarray = (scores >= 0.5).astype(int) if self._several else self.classes_[scores.argmax(1)]
        return answers

    @property
    def _several(self) -> bool:
        return bool(self.run_.recipe.task.problem == _SEVERAL)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@dataclass(kw_only=True, eq=False, repr=False)
class TextRegressor(RegressorMixin, _TextEstimator):  # type: ignore[misc]
    """Fine-tunes a pretrained model to predict a number for a text or a pair of texts, as a scikit-learn estimator.

    The arguments, and what is there after `fit`, are those of `TextClassifier` without classes.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train a fresh model; `X` holds n texts, or pairs of texts in two columns, `y` n numbers."""
        table = _texts(X)
        check_consistent_length(table["text"], y, sample_weight)
        numbers = column_or_1d(check_array(y, ensure_2d=False, dtype="float64", input_name="y"), warn=True)
        self._fine_tune({**table, "label": numbers.tolist(), **_weight(sample_weight)}, _NUMBER)
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return a number for each text, shape [n]."""
        return np.array([prediction["value"] for prediction in self._predictions(X)])


def _texts(X: Any) -> _Table:  # noqa: N803
    """Return X as columns: text, and text_pair where it has two."""
    wanted = "expected a list of texts, or pairs of texts in two columns"
    cells = np.asarray(X, dtype=object)
    if cells.ndim == 1:
        cells = cells[:, None]
    if cells.ndim != 2 or cells.shape[1] not in (1, 2):
        what = f"of shape {cells.shape}" if cells.ndim else f"one {type(X).__name__}"
        raise ValueError(f"X is {what}; {wanted}.")
    if not len(cells):
        raise ValueError(f"X is empty; {wanted}.")
    for row, cell in ((row, cell) for row, line in enumerate(cells) for cell in line if not isinstance(cell, str)):
        raise TypeError(f"X holds {cell!r:.60}, a {type(cell).__name__}, in row {row}; {wanted}.")
    return dict(zip(("text", "text_pair"), cells.T.tolist(), strict=False))


def _weight(sample_weight: Any) -> _Table:
    return {} if sample_weight is None else {"weight": column_or_1d(sample_weight).astype(float).tolist()}


def _labels(y: Any) -> tuple[np.ndarray, list[str], _Table]:
    """Return the classes of y, a name for each, and y as columns: label, or one of 0 and 1 for each of several."""
    try:
        if type_of_target(y, input_name="y") == "multilabel-indicator":
            hot = np.asarray(y.toarray() if issparse(y) else y).astype(int)
            names = [str(i) for i in range(hot.shape[1])]
            return np.arange(hot.shape[1]), names, dict(zip(names, hot.T.tolist(), strict=True))
        check_classification_targets(y)
        classes, codes = np.unique(column_or_1d(y, warn=True), return_inverse=True)
    except TypeError as error:  # they cannot be sorted
        raise ValueError("y holds labels of several kinds, or misses some; expected all texts or all numbers.") from error
    names = _names(classes.tolist())
    return classes, names, {"label": [names[code] for code in codes]}


def _names(classes: Sequence[Any]) -> list[str]:
    """Return a name for each class that reading data leaves as it is: its own text where that is so, else its number.

    >>> _names([0, 1]), _names(["good", "so so"]), _names([-1.0, 1.0]), _names(["1", "1.0"])
    (['0', '1'], ['good', 'so so'], ['-1', '1'], ['0', '1'])
    """
    whole = [int(name) if isinstance(name, float) and name.is_integer() else name for name in classes]
    names = [str(name) for name in whole]
    plain = all(name and name == name.strip() and not _is_fraction(name) for name in names)
    return names if plain else [str(i) for i in range(len(names))]


def _is_fraction(name: str) -> bool:
    """Whether a text looks like a number that is not written as a whole one: 1.0 and 1e3 are read as 1 and 1000."""
    try:
        float(name)
    except ValueError:
        return False
    return not name.lstrip("+-").isdigit()


def _packed(folder: Path) -> dict[str, bytes]:
    """Return the files of a run, without checkpoints, by their path within it."""
    files = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.as_posix(): (folder / path).read_bytes() for path in files if path.parts[0] != "checkpoints"}


def _unpacked(files: Mapping[str, bytes]) -> Run:
    """Return the run with these files, in a temporary folder that lives as long as the run."""
    home = Path(tempfile.mkdtemp(prefix="thawline-"))
    for name, content in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    run = Run(home)
    weakref.finalize(run, shutil.rmtree, home, ignore_errors=True)
    return run


@contextmanager
def _value_errors() -> Iterator[None]:
    """Raise what the user got wrong as ValueError, which scikit-learn's users and tools expect."""
    try:
        yield
    except UserError as error:
        raise ValueError(str(error)) from error
