"""What a model says of examples that it did not learn from: predictions out of fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.errors import DataError
from thawline.types import Example, Prediction, Predictor

Array = NDArray[Any]

# Of 0.0003 to 1, on standardised features of MiniLM: within 0.015 of the least error on sst2, trec6 and banking77,
# with all rows and with a sixteenth of them.
_C = 0.01


def stratified(labels: Sequence[Any] | Array, folds: int = 5, *, seed: int = 0) -> Array:
    """Return the fold of each example, int [N]: the classes are spread evenly, also those rarer than there are folds.

    Raises DataError where there are fewer examples than folds.

    >>> stratified(["a", "a", "b", "b", "b", "b"], 2).tolist().count(0)
    3
    """
    if not 2 <= folds <= len(labels):
        raise DataError(
            f"{len(labels):,} examples cannot be cut into {folds} folds; expected 2 folds or more, and no more than examples."
        )
    codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    order = np.lexsort([np.random.default_rng(seed).random(len(codes)), codes])
    fold = np.empty(len(codes), dtype=np.int64)
    fold[order] = np.arange(len(codes)) % folds
    return fold


def out_of_fold(
    features: Array, labels: Array, folds: int = 5, *, seed: int = 0, told: Callable[[int], object] = lambda done: None
) -> Array:
    """Return what logistic regression on features says of each example when it learns from the other folds, float32 [N, C].

    `features` are numbers [N, D], `labels` are class numbers, int [N]; C is the largest of them plus one. A class that none
    of the other folds has gets probability 0. `told` is called with the number of folds that are done.

    >>> features = np.array([[0.0], [0.1], [0.2], [1.0], [1.1], [1.2]])
    >>> out_of_fold(features, np.array([0, 0, 0, 1, 1, 1]), 3).argmax(1).tolist()
    [0, 0, 0, 1, 1, 1]
    """
    fold = stratified(labels, folds, seed=seed)
    scores = np.zeros((len(labels), int(labels.max()) + 1), dtype=np.float32)
    for held in range(folds):
        scores[fold == held] = linear(features[fold != held], labels[fold != held], features[fold == held], n=scores.shape[1])
        told(held + 1)
    return scores


def linear(features: Array, labels: Array, others: Array, *, n: int) -> Array:
    """Return the probabilities, float32 [M, n], that logistic regression on standardised features gives to `others` [M, D]."""
    from sklearn.linear_model import LogisticRegression

    scores = np.zeros((len(others), n), dtype=np.float32)
    classes = np.unique(labels)
    if len(classes) == 1:
        scores[:, classes] = 1
        return scores
    middle, spread = features.mean(0), features.std(0)
    spread = np.where(spread > 0, spread, 1)
    # To a tolerance that is met: what more steps would change is far below the noise of labels.
    model = LogisticRegression(C=_C, tol=1e-3, max_iter=1000).fit((features - middle) / spread, labels)
    scores[:, classes] = model.predict_proba((others - middle) / spread)
    return scores


def out_of_fold_predictions(
    examples: Sequence[Example], fit: Callable[[Sequence[str]], Predictor], folds: int = 5, *, seed: int = 0
) -> list[Prediction]:
    """Return one prediction an example, in order, each by a model that `fit` trained on the ids of the other folds."""
    ids = [str(example["id"]) for example in examples]
    fold = stratified([str(example["label"]) for example in examples], folds, seed=seed)
    found: dict[int, Prediction] = {}
    for held in range(folds):
        places = np.flatnonzero(fold == held).tolist()
        predictor = fit([ids[place] for place in np.flatnonzero(fold != held)])
        found |= zip(places, predictor([examples[place] for place in places]), strict=True)
    return [found[place] for place in range(len(ids))]
