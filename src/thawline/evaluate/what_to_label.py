"""Which of many unlabelled examples to label next: those of which a model is least decided, and not all of one sort."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from heapq import nsmallest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.errors import DataError
from thawline.types import Example, Prediction

TIMES = 5
"""As many candidates as are picked in the end: the least decided, among which `spread_out` chooses."""


def least_decided(pairs: Iterable[tuple[Example, Prediction]], n: int) -> list[dict[str, Any]]:
    """Return the `n` examples of which a model is least decided, those first; memory grows with `n` and distinct texts alone.

    Each is a dict of its "place", the example's id and inputs, the model's "label" and the "next" likeliest, and the "margin"
    of their scores (Scheffer, Decomain, Wrobel 2001, "Active hidden Markov models for information extraction", §3); with
    several labels at once it is that of the least decided one, between given and not. Of equal inputs the first counts. Raises
    DataError where predictions have no scores.

    >>> examples = [{"id": "1", "text": "fine"}, {"id": "2", "text": "well"}]
    >>> said: list[Prediction] = [{"scores": {"good": 0.9, "bad": 0.1}}, {"scores": {"good": 0.4, "bad": 0.6}}]
    >>> [(one["id"], one["label"], round(one["margin"], 3)) for one in least_decided(zip(examples, said, strict=True), 2)]
    [('2', 'bad', 0.2), ('1', 'good', 0.8)]
    """
    return nsmallest(n, _each(pairs), key=lambda one: one["margin"])


def spread_out(features: NDArray[Any], n: int, *, seed: int = 0) -> list[int]:
    """Return `n` positions, in order, of candidates with `features`, [N, D], least decided first: the first of each cluster.

    k-means among the least decided (after Zhdanov 2019, "Diverse mini-batch active learning", §3). Where features are too much
    alike for n clusters, the least decided that are left are taken too. By benchmarks/what_to_label.py this is better than the
    margin alone where there are many classes, as good where there are few, and better than BADGE.

    >>> spread_out(np.array([[0.0], [0.1], [0.2], [5.0]]), 2)
    [0, 3]
    """
    if n >= len(features):
        return list(range(len(features)))
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal features make fewer clusters, which is fine
        found = KMeans(n, n_init=1, random_state=seed).fit_predict(features)
    first = np.unique(found, return_index=True)[1]
    rest = np.setdiff1d(np.arange(len(features)), first)[: n - len(first)]
    return sorted([*first.tolist(), *rest.tolist()])


def _each(pairs: Iterable[tuple[Example, Prediction]]) -> Iterator[dict[str, Any]]:
    seen: set[int] = set()
    for place, (example, prediction) in enumerate(pairs):
        inputs = {key: _shown(example[key]) for key in ("text", "text_pair", "image", "audio") if example.get(key) is not None}
        content = hash(example["content"] if "content" in example else tuple(inputs.values()))
        if content not in seen:
            seen.add(content)
            yield {"place": place, "id": example["id"], **inputs, **_decision(prediction)}


def _shown(value: Any) -> str:
    return str(value.get("path") or "") if isinstance(value, Mapping) else str(value)


def _decision(prediction: Prediction) -> dict[str, Any]:
    scores = prediction.get("scores")
    if not scores:
        raise DataError("What to label next is picked by the scores of labels, and this model's answers have none.")
    if "labels" in prediction:
        least = min(scores, key=lambda label: abs(scores[label] - 0.5))
        return {"label": "|".join(prediction["labels"]), "next": least, "margin": abs(2 * scores[least] - 1)}
    first, second, *_ = [*sorted(scores, key=scores.__getitem__, reverse=True)[:2], ""]
    return {"label": first, "next": second, "margin": scores[first] - scores.get(second, 0.0)}
