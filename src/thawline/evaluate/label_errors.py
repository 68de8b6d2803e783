"""Suspected label errors: confident learning on what a model says of examples that it did not learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.data.examples import Examples
from thawline.errors import DataError, UserError
from thawline.types import Example

Array = NDArray[Any]


def label_errors(
    examples: Sequence[Example], scores: Array, labels: Sequence[str], *, most: int | None = None
) -> dict[str, Any]:
    """Return the examples whose labels look wrong, most doubtful first, as a dict for JSON.

    `scores`, [N, C], are probabilities of the classes `labels` by models that did not learn from the example (`folds`). How
    many are wrong is counted by confident learning, without a threshold to choose: those to which another class is at least
    as probable as it is, on average, to the examples that are said to be of it. So many are suspected, those whose given label
    is least probable; that probability is their "quality". By cleanlab: Northcutt, Jiang, Chuang 2021, "Confident learning",
    §3. `most` bounds how many are listed; all are counted. Raises DataError for labels that are not one class an example,
    UserError where cleanlab is not installed.
    """
    given = _given(examples, labels)
    known = np.flatnonzero(given >= 0)
    scores = np.asarray(scores, dtype=np.float64)
    quality = scores[np.arange(len(given)), given]
    order = known[suspected(given[known], scores[known])]
    suggested = np.where(np.arange(scores.shape[1]) == given[:, None], -1, scores).argmax(1)
    pairs = Counter((int(given[place]), int(suggested[place])) for place in order)
    return {
        "n": len(known),
        "suspected": len(order),
        "unknown": len(given) - len(known),
        "pairs": [{"label": labels[a], "suggested": labels[b], "n": n} for (a, b), n in pairs.most_common()],
        "examples": [
            _shown(examples[place])
            | {"suggested": labels[suggested[place]], "quality": float(quality[place]), "score": float(scores[place].max())}
            for place in order[:most].tolist()
        ],
        "words": _words(len(order), len(known)),
    }


def suspected(given: Array, scores: Array) -> Array:
    """Return which of the labels, int [N], look wrong beside `scores` [N, C], the least probable first.

    Classes that no example is given are left out of the reckoning.
    """
    try:
        from cleanlab.filter import find_label_issues  # type: ignore[import-untyped]
    except ImportError:
        raise UserError("Label errors are found by cleanlab, which is not installed; type: pip install cleanlab") from None
    classes, codes = np.unique(given, return_inverse=True)
    if len(classes) < 2:
        return np.zeros(0, dtype=np.int64)
    inside = scores[:, classes] + 1e-12
    inside /= inside.sum(1, keepdims=True)
    # As many as confident learning counts, the least probable ones: of cleanlab's ways the best on three corpora, of which
    # benchmarks/label_errors.py flips labels.
    found = find_label_issues(
        codes, inside, filter_by="low_self_confidence", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    return np.asarray(found, dtype=np.int64)


def _given(examples: Sequence[Example], labels: Sequence[str]) -> Array:
    place: Mapping[str, int] = {label: place for place, label in enumerate(labels)}
    given = examples.column("label").to_pylist() if isinstance(examples, Examples) else [one.get("label") for one in examples]
    other = next((label for label in given if not isinstance(label, str)), None)
    if other is not None or None in given:
        raise DataError(f"Label errors are looked for where each example has one class; a label here is {other!r}.")
    return np.array([place.get(str(label), -1) for label in given], dtype=np.int64)


def _shown(example: Example) -> dict[str, Any]:
    keys = ("id", "split", "text", "text_pair", "image", "audio", "label")
    return {key: example[key] for key in keys if isinstance(example.get(key), str)}


def _words(found: int, n: int) -> str:
    if not found:
        return f"No label of {n:,} looks wrong."
    which = f"{found:,} of {n:,} labels ({found / n:.1%}) look wrong"
    return f"{which}; look at the first ones, since many of them are right and only hard."
