"""Labelled examples beside made predictions, for tests of the analyses."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from thawline.evaluate.answered import Answered

Array = np.ndarray[Any, Any]
ONE, SEVERAL = "single_label_classification", "multi_label_classification"


def one_label(true: Sequence[Any] | Array, scores: Sequence[Any] | Array, labels: Sequence[str] | None = None) -> Answered:
    """The answers of scores [N, C]; `true` are label numbers, -1 for a label that the model does not know."""
    rows = np.asarray(scores, dtype=np.float32)
    names = tuple(labels or (f"c{place}" for place in range(rows.shape[1])))
    examples = [{"id": str(i), "label": names[k] if k >= 0 else "strange"} for i, k in enumerate(true)]
    predictions: list[Any] = [
        {
            "id": str(i),
            "label": names[int(row.argmax())],
            "score": float(row.max()),
            "scores": dict(zip(names, row.tolist(), strict=True)),
        }
        for i, row in enumerate(rows)
    ]
    return Answered(examples, predictions, ONE, names)


def several_labels(true: Array, scores: Array) -> Answered:
    """The answers of scores [N, C] and indicators [N, C]."""
    names = tuple(f"c{place}" for place in range(scores.shape[1]))
    examples = [{"id": str(i), "label": [names[c] for c in np.flatnonzero(row)]} for i, row in enumerate(true)]
    predictions: list[Any] = [
        {
            "id": str(i),
            "labels": [n for n, p in zip(names, row, strict=True) if p >= 0.5],
            "scores": dict(zip(names, row, strict=True)),
        }
        for i, row in enumerate(np.asarray(scores, dtype=np.float32).tolist())
    ]
    return Answered(examples, predictions, SEVERAL, names)


def drawn(n: int, classes: int, *, temperature: float = 1.0, sharp: float = 2.0, seed: int = 0) -> Answered:
    """Answers whose scores are true probabilities at `temperature`: a model too sure of itself where that is above 1."""
    rng = np.random.default_rng(seed)
    logits = sharp * rng.normal(size=(n, classes))
    true = (softmax(logits / temperature).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return one_label(true, softmax(logits))


def drawn_several(n: int, classes: int, *, temperature: float = 1.0, shift: float = 0.0, seed: int = 0) -> Answered:
    """The like for several labels, logits about `shift`."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, classes)) + shift
    return several_labels(rng.random((n, classes)) < 1 / (1 + np.exp(-logits / temperature)), 1 / (1 + np.exp(-logits)))


def softmax(logits: Array) -> Array:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def odd_cases() -> dict[str, Answered]:
    """What an analysis meets in the wild and must not stumble over."""
    rng = np.random.default_rng(0)
    ties = np.tile([0.5, 0.3, 0.2], (40, 1))
    sure = np.tile([1.0, 0.0, 0.0], (40, 1))
    sigmoid = rng.random((60, 1))
    return {
        "one example": one_label([1], [[0.2, 0.8]]),
        "one wrong example": one_label([0], [[0.2, 0.8]]),
        "all right": one_label([0] * 40, sure),
        "all wrong": one_label([1] * 40, sure),
        "ties": one_label(rng.integers(0, 3, 40), ties),
        "unknown labels": one_label(rng.integers(-1, 2, 60), softmax(rng.normal(size=(60, 3)))),
        "only unknown labels": one_label([-1] * 5, softmax(rng.normal(size=(5, 3)))),
        "absent classes": one_label(rng.integers(0, 3, 60), softmax(rng.normal(size=(60, 77)))),
        "two classes": drawn(60, 2),
        "many classes": drawn(200, 210),
        "one sigmoid": several_labels(rng.random((60, 1)) < sigmoid, sigmoid),
        "several": drawn_several(60, 4),
        "several, none true": several_labels(np.zeros((30, 3), bool), rng.random((30, 3))),
        "several, all true": several_labels(np.ones((30, 3), bool), np.ones((30, 3))),
        "several, one example": several_labels(np.array([[True, False]]), np.array([[0.5, 0.5]])),
    }
