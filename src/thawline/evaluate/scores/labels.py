"""Metrics of labels, one or several an example: those of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest
from typing import Any

import numpy as np

from thawline.evaluate.resample import Array, Scoring, Sums, quotient
from thawline.types import Prediction

TOP = 5
_MACRO = {"f1_macro": True, "precision_macro": True, "recall_macro": True}


def ranked(predictions: Sequence[Prediction]) -> list[list[str]] | None:
    """Return the five best labels of each prediction, its answer first; None where there are no more than five, or no scores.

    >>> one: Prediction = {"label": "c", "scores": {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.05, "e": 0.15, "f": 0.2}}
    >>> ranked([one])
    [['c', 'b', 'f', 'e', 'a']]
    """
    best = []
    for prediction in predictions:  # once: they may come from a file
        if len(prediction.get("scores", ())) <= TOP:
            return None
        best.append(_best(prediction["label"], prediction["scores"]))
    return best


def _best(label: str, scores: dict[str, float]) -> list[str]:
    best = nlargest(TOP, scores, key=scores.__getitem__)  # of equals the first one, as argmax has it
    return [label, *(name for name in best if name != label)][:TOP]


def _single_terms(true: Any, predicted: Any) -> Array:
    """Keep both numbers of a label, int [N, 2]; of `predicted` [N, 5] the first, and whether one of the five is right."""
    true, predicted = np.asarray(true), np.asarray(predicted)
    assert true.shape == predicted.shape[:1], f"shapes {true.shape} and {predicted.shape}"
    if predicted.ndim == 1:
        return np.column_stack([true, predicted])
    assert predicted.shape[1] == TOP, f"{predicted.shape[1]} labels an example, not the {TOP} best"
    return np.column_stack([true, predicted[:, 0], (predicted == true[:, None]).any(axis=1)])


def _several_terms(true: Any, predicted: Any) -> Array:
    true, predicted = np.asarray(true, bool), np.asarray(predicted, bool)
    assert true.shape == predicted.shape, f"shapes {true.shape} and {predicted.shape}"
    return np.hstack([true, predicted])


def _single(terms: Array) -> Sums:
    from scipy.sparse import csr_matrix

    names, codes = np.unique(terms[:, :2], return_inverse=True)
    rows, ones = np.arange(len(terms)), np.ones(len(terms))
    sides = [csr_matrix((ones, (rows, side)), (len(terms), len(names))) for side in codes.reshape(len(terms), 2).T]
    return _of_indicators(sides, terms[:, 2:], several=False)


def _several(terms: Array) -> Sums:
    from scipy.sparse import csr_matrix

    sides = [csr_matrix(side, dtype=float) for side in np.hsplit(terms, 2)]
    return _of_indicators(sides, terms[:, :0], several=True)


def _of_indicators(sides: Sequence[Any], in_top: Array, *, several: bool) -> Sums:
    """Return the metrics of sparse indicators [N, C]; macro averages leave out absent labels unless there are `several`."""
    from scipy.sparse import hstack

    true, predicted = sides
    n, n_labels = true.shape
    hits = true.multiply(predicted)
    exact = hits.sum(1) * 2 == true.sum(1) + predicted.sum(1)
    terms = hstack([hits, true, predicted, np.column_stack([np.ones(n), exact, in_top]).astype(float)], "csr")

    def finish(sums: Array) -> dict[str, Array]:
        hit, there, said = sums[:, : 3 * n_labels].reshape(len(sums), 3, n_labels).swapaxes(0, 1)
        total, *right = sums[:, 3 * n_labels :].T
        averaged = np.full(len(sums), n_labels) if several else np.count_nonzero(there + said, axis=1)
        parts = {"f1": (2 * hit, there + said), "precision": (hit, said), "recall": (hit, there)}
        macro = {f"{name}_macro": quotient(quotient(*part).sum(1), averaged) for name, part in parts.items()}
        accuracy = {name: quotient(one, total) for name, one in zip(("accuracy", f"accuracy_top{TOP}"), right, strict=False)}
        if not several:
            return accuracy | macro
        micro = quotient(2 * hit.sum(1), (there + said).sum(1))
        return {"f1_micro": micro, "f1_macro": macro["f1_macro"], **accuracy, **macro}

    return Sums(terms, finish)


classification = Scoring(
    _single_terms, _single, main="f1_macro", greater={"accuracy": True, f"accuracy_top{TOP}": True, **_MACRO}
)
"""Accuracy and macro averages of one label an example. `true` holds numbers of labels, int [N]; `predicted` too, or for each
example its five best, best first, int [N, 5] (see `ranked`): then accuracy_top5 is there. Macro averages run over the labels
that are present in either, as scikit-learn's do; where a quotient is 0/0 it is 0."""

multilabel = Scoring(
    _several_terms, _several, main="f1_macro", greater={"f1_micro": True, "f1_macro": True, "accuracy": True, **_MACRO}
)
"""Metrics of several labels an example; `true` and `predicted` are bool, or 0 and 1, [N, C]. `accuracy` is the share of
examples whose labels are all right. Macro averages run over all C labels, as scikit-learn's do; 0/0 is 0."""
