"""Which of many unlabelled examples to label next: those the model is unsure of, and not all of one sort."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def what_to_label(scores: Array, features: Array, n: int = 100, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return `n` positions in the order in which to label them, each with the margin between its two likeliest classes.

    `scores` are probabilities [N, C], `features` what the head reads [N, D]. BADGE: each example stands for the gradient that
    its likeliest label would give the head, features ⊗ (scores − that label), long where the model is unsure. k-means++ takes
    some that are far from one another, the longest first. Ash et al. 2020, "Deep batch active learning by diverse, uncertain
    gradient lower bounds", §3. Equal arguments give equal answers; the N·D·C products are never formed.

    >>> scores = np.array([[0.99, 0.01], [0.5, 0.5], [0.6, 0.4]])
    >>> [one["place"] for one in what_to_label(scores, np.array([[1.0, 0], [1.0, 0], [0, 1.0]]), 2)]
    [1, 2]
    """
    scores, features = np.asarray(scores, dtype=np.float32), np.asarray(features, dtype=np.float32)
    residual = scores - (np.arange(scores.shape[1]) == scores.argmax(1)[:, None])
    length = (residual**2).sum(1) * (features**2).sum(1)
    ordered = np.sort(scores, axis=1)
    margin = ordered[:, -1] - (ordered[:, -2] if scores.shape[1] > 1 else 0)
    rng = np.random.default_rng(seed)
    chosen = [int(length.argmax())] if n and len(length) else []
    far = np.full(len(length), np.inf, dtype=np.float64)
    while len(chosen) < min(n, len(length)):
        last = chosen[-1]
        product = (residual @ residual[last]) * (features @ features[last])
        far = np.minimum(far, np.maximum(length + length[last] - 2.0 * product, 0))
        far[chosen] = 0
        chosen.append(_drawn(far, margin, rng, taken=set(chosen)))
    return [{"place": place, "margin": float(margin[place])} for place in chosen]


def _drawn(far: Array, margin: Array, rng: np.random.Generator, *, taken: set[int]) -> int:
    """Return one, with a probability that grows with the squared distance; where all are alike, the least sure that is left."""
    sums = np.cumsum(far)
    if sums[-1] > 0:
        place = int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
        return min(place, len(far) - 1)
    return next(int(place) for place in np.argsort(margin, kind="stable") if int(place) not in taken)
