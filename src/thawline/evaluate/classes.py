"""How good a model is at each class, how sure that is, and which classes it takes for which."""

from __future__ import annotations

from typing import Any

import numpy as np

from thawline.evaluate.answered import Answered, Array
from thawline.evaluate.intervals import bootstrap, collapse
from thawline.evaluate.resample import Sums

MAX_MATRIX = 200
"""With more labels the confusion matrix is left out, and the most confused pairs stand for it."""
_SHOWN = 20
_MEASURES = ("precision", "recall", "f1")


def classes(answered: Answered, *, samples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Return precision, recall, F1 and support of each class with 95 % intervals, and what was taken for what.

    A quotient of nothing is None: the recall of a class that the data has not, the precision of one that is never answered.
    Intervals are of the percentile bootstrap; a resample without the class says nothing of it and repeats the estimate. A
    share of 0 or 1 has no width there, so its interval is Clopper and Pearson's (1934); F1 has one since F1 / (2 - F1) is a
    share too, the hits among all that are or were said to be of the class (Hand, Christen & Kirielle 2021).

    >>> examples = [{"id": str(i), "label": "ab"[i % 2]} for i in range(10)]
    >>> said: list[Any] = [{"id": str(i), "label": "a" if i < 3 else "b"} for i in range(10)]
    >>> found = classes(Answered(examples, said, "single_label_classification", ("a", "b")))
    >>> found["classes"][0]["recall"], found["classes"][0]["support"], found["confusion"]["counts"]
    (0.4, 5, [[2, 3], [1, 4]])
    """
    terms, mass = _terms(answered)
    sums = np.asarray(mass @ terms).reshape(3, len(answered.labels))
    values = dict(zip(_MEASURES, _measures(sums[None]), strict=True))
    ends = _ends(terms, mass if answered.groups is None else len(mass), samples=samples, seed=seed) if samples else {}
    rows = []
    for place, label in enumerate(answered.labels):
        row: dict[str, Any] = {"label": label, "support": int(sums[1, place]), "predicted": int(sums[2, place])}
        for name in _MEASURES:
            value = float(values[name][0, place])
            row[name] = None if np.isnan(value) else value
            if ends:
                row[f"{name}_ci95"] = None if np.isnan(value) else _interval(name, sums[:, place], ends[name][place])
        rows.append(row)
    beside = _two_by_two(answered) if answered.several else _confusion(answered)
    return {"n": len(answered), "unknown": int(answered.unknown.sum()), "classes": rows, **beside}


def share_interval(part: Array | int, whole: Array | int) -> tuple[Array, Array]:
    """Return the ends of Clopper and Pearson's 95 % interval of a share, `part` of `whole`; 0 and 1 where whole is 0.

    >>> low, high = share_interval(9, 10)
    >>> print(f"{low:.3f} {high:.3f}")
    0.555 0.997
    """
    from scipy.stats import beta

    part, rest = np.asarray(part, dtype=float), np.asarray(whole, dtype=float) - part
    low = np.where(part > 0, beta.ppf(0.025, np.maximum(part, 1), rest + 1), 0.0)
    high = np.where(rest > 0, beta.ppf(0.975, part + 1, np.maximum(rest, 1)), 1.0)
    return low, high


def _measures(sums: Array) -> tuple[Array, Array, Array]:
    """Return precision, recall and F1, [S, C] each, of sums [S, 3, C] of hits, of what is there and what was said."""
    hit, there, said = sums[:, 0], sums[:, 1], sums[:, 2]
    return _quotient(hit, said), _quotient(hit, there), _quotient(2 * hit, there + said)


def _quotient(part: Array, whole: Array) -> Array:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole != 0))


def _ends(terms: Any, n: int | Array, *, samples: int, seed: int) -> dict[str, list[tuple[float, float]]]:
    n_labels = terms.shape[1] // 3
    mass = n if isinstance(n, np.ndarray) else np.ones(n)
    estimates = _measures(np.asarray(mass @ terms).reshape(1, 3, n_labels))

    def finish(sums: Array) -> dict[str, Array]:
        found = _measures(sums.reshape(-1, 3, n_labels))
        filled = [np.where(np.isnan(some), one, some) for some, one in zip(found, estimates, strict=True)]
        return {f"{name} {c}": some[:, c] for name, some in zip(_MEASURES, filled, strict=True) for c in range(n_labels)}

    found = bootstrap(Sums(terms, finish), n, samples=samples, seed=seed)
    return {name: [found[f"{name} {c}"] for c in range(n_labels)] for name in _MEASURES}


def _terms(answered: Answered) -> tuple[Any, Array]:
    """Return hits, true and said of each row, sparse [U, 3C], and how often the row is there, [U].

    A row is the examples of which the same was true and said; with groups it is what a group adds up to, and is there once.
    """
    from scipy.sparse import csr_matrix, hstack

    (true, said), inverse = collapse(answered.true, answered.predicted)
    one, other = (_indicators(side, len(answered.labels)) for side in (true, said))
    terms = hstack([one.multiply(other), one, other], "csr")
    if answered.groups is None:
        return terms, np.bincount(inverse)
    place = np.unique(answered.groups, return_inverse=True)[1]
    members = csr_matrix((np.ones(len(place)), (place, inverse)), (place.max() + 1, terms.shape[0]))
    return members @ terms, np.ones(members.shape[0])


def _indicators(side: Array, n_labels: int) -> Any:
    """Return label numbers [U], or bool [U, C], as a sparse matrix; -1 is a row of zeros."""
    from scipy.sparse import csr_matrix

    if side.ndim == 2:
        return csr_matrix(side, dtype=float)
    rows = np.flatnonzero(side >= 0)
    return csr_matrix((np.ones(len(rows)), (rows, side[rows])), (len(side), n_labels))


def _interval(name: str, sums: Array, ends: tuple[float, float]) -> list[float]:
    hit, there, said = sums
    whole = {"precision": said, "recall": there, "f1": there + said - hit}[name]
    if 0 < hit < whole:
        return list(ends)
    low, high = (float(end) for end in share_interval(hit, whole))
    return [2 * low / (1 + low), 2 * high / (1 + high)] if name == "f1" else [low, high]


def _two_by_two(answered: Answered) -> dict[str, Any]:
    true, said = answered.true, answered.predicted
    parts = {"tp": true & said, "fp": ~true & said, "fn": true & ~said, "tn": ~true & ~said}
    counts = {name: part.sum(axis=0).tolist() for name, part in parts.items()}
    return {
        "two_by_two": [
            {"label": label, **{name: counts[name][place] for name in counts}} for place, label in enumerate(answered.labels)
        ]
    }


def _confusion(answered: Answered) -> dict[str, Any]:
    """Return the matrix of counts, rows the true labels and columns the answers, and its most confused pairs."""
    n = len(answered.labels)
    # A last row and column for labels that the model does not know, and for answers that are none of its labels.
    counts = np.zeros((n + 1, n + 1), dtype=np.int64)
    np.add.at(counts, (answered.true, answered.predicted), 1)
    known, support = counts[:n, :n], counts[:n].sum(axis=1)
    rows, columns = np.nonzero(known * ~np.eye(n, dtype=bool))
    number = known[rows, columns]
    low, high = share_interval(number, support[rows])
    pairs: list[dict[str, Any]] = [
        {
            "true": answered.labels[row],
            "predicted": answered.labels[column],
            "count": int(number[k]),
            "share": float(number[k] / support[row]),
            "share_ci95": [float(low[k]), float(high[k])],
        }
        for k, (row, column) in enumerate(zip(rows, columns, strict=True))
    ]
    matrix = {"labels": list(answered.labels), "counts": known.tolist(), "unknown": counts[n, :n].tolist()}
    left_out = {"note": f"The matrix of {n} labels is left out; the most confused pairs stand for it."}
    return {
        "confusion": matrix if n <= MAX_MATRIX else left_out,
        "confused": sorted(pairs, key=lambda pair: -pair["count"])[:_SHOWN],
        # By the low end of the interval: one of one is a share of 1 too, and says little.
        "confused_by_share": sorted(pairs, key=lambda pair: -pair["share_ci95"][0])[:_SHOWN],
        "confused_pairs": len(pairs),
    }
