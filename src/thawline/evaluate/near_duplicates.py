"""Near duplicates across splits: what is measured on an example that all but stands in the training data is too good."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.evaluate.baselines import unspaced

Array = NDArray[Any]

_HASHES, _BAND = 125, 5  # 25 bands of 5: pairs of similarity 0.8 share a band with probability 0.9999, of 0.7 with 0.99
_SLACK = 0.15  # of the similarity as the hashes estimate it, four standard deviations
_PRIME = (1 << 31) - 1
_ROWS = 1 << 14  # pairs, or rows of a product, in memory at a time
_MOST_IN_BUCKET = 200  # of one side; texts that share a template fill a bucket, and their neighbours are found in others
_NOT_SAID = re.compile(r"[\W_]+")


def near_duplicates(one: Sequence[str], other: Sequence[str], *, threshold: float = 0.8, seed: int = 0) -> list[dict[str, Any]]:
    """Return the texts of `other` with the one in `one` that is most like each, as dicts of `one`, `other`, `similarity`.

    `one` and `other` in a dict are positions. The similarity is Jaccard's, of the sets of five characters in a row (two, in
    scripts without spaces), letters and digits only, in lower case and NFKC; pairs below `threshold` are left out. Candidates
    come from MinHash in bands (Broder 1997; Leskovec, Rajaraman, Ullman 2020, "Mining of Massive Datasets", §3.4), and are then
    compared exactly.

    >>> near_duplicates(["What is the capital of Peru?", "Who wrote Emma?"], ["what is the capital of peru"])
    [{'one': 0, 'other': 0, 'similarity': 1.0}]
    """
    size = 2 if unspaced([*one[:500], *other[:500]]) else 5
    sets = _shingles(one, size), _shingles(other, size)
    best: dict[int, tuple[float, int]] = {}
    signatures = tuple(_signatures(side, seed) for side in sets)
    for pairs in _candidates(*signatures):
        near = (signatures[0][pairs[:, 0]] == signatures[1][pairs[:, 1]]).mean(1) >= threshold - _SLACK
        pairs = pairs[near]
        for (left, right), similarity in zip(pairs.tolist(), _jaccard(*sets, pairs).tolist(), strict=True):
            if similarity >= threshold and (similarity, -left) > best.get(right, (0.0, 0)):
                best[right] = (similarity, -left)
    return [
        {"one": -negative, "other": right, "similarity": similarity}
        for right, (similarity, negative) in sorted(best.items(), key=lambda item: (-item[1][0], item[0]))
    ]


def near_features(one: Array, other: Array, *, threshold: float = 0.95) -> list[dict[str, Any]]:
    """Return what `near_duplicates` does for pictures, sounds or anything by its features, [N, D] and [M, D].

    The similarity is the cosine of features about the mean of `one`, without which those of many models all look alike.
    """
    middle = one.mean(0)
    sides = [_unit(np.asarray(side - middle, dtype=np.float32)) for side in (one, other)]
    found: list[dict[str, Any]] = []
    for start in range(0, len(other), step := max(1, _ROWS * 256 // len(one))):
        cosine = sides[1][start : start + step] @ sides[0].T
        nearest = cosine.argmax(1)
        value = cosine[np.arange(len(cosine)), nearest]
        found += [
            {"one": int(nearest[place]), "other": start + place, "similarity": min(1.0, float(value[place]))}
            for place in np.flatnonzero(value >= threshold).tolist()
        ]
    return sorted(found, key=lambda pair: (-pair["similarity"], pair["other"]))


def _shingles(texts: Sequence[str], size: int) -> Any:
    """Return which shingles each text has, sparse [N, 2^20] of ones; a shorter text is one shingle of its own."""
    from sklearn.feature_extraction.text import HashingVectorizer

    def cut(text: str) -> list[str]:
        said = _NOT_SAID.sub("", unicodedata.normalize("NFKC", text).lower()) or text.strip()
        return [said[start : start + size] for start in range(max(1, len(said) - size + 1))]

    return HashingVectorizer(analyzer=cut, n_features=1 << 20, binary=True, norm=None, alternate_sign=False).transform(texts)


def _signatures(sets: Any, seed: int) -> Array:
    """Return the MinHash of each set, uint32 [N, _HASHES]."""
    rng = np.random.default_rng(seed)
    factors, shifts = rng.integers(1, _PRIME, _HASHES), rng.integers(0, _PRIME, _HASHES)
    found = np.empty((sets.shape[0], _HASHES), dtype=np.uint32)
    elements = sets.indices.astype(np.int64) + 1
    for place in range(_HASHES):
        found[:, place] = np.minimum.reduceat((elements * factors[place] + shifts[place]) % _PRIME, sets.indptr[:-1])
    return found


def _candidates(one: Array, other: Array) -> Iterator[Array]:
    """Yield pairs of positions, int [P, 2], that agree in a band; a pair may come more than once."""
    for start in range(0, _HASHES, _BAND):
        bands = np.concatenate([one[:, start : start + _BAND], other[:, start : start + _BAND]])
        code = np.unique(np.ascontiguousarray(bands).view(np.dtype((np.void, 4 * _BAND))).ravel(), return_inverse=True)[1]
        left, right = code[: len(one)], code[len(one) :]
        order = np.argsort(left, kind="stable")
        first, last = (np.searchsorted(left[order], right, side=side) for side in ("left", "right"))
        many = np.minimum(last - first, _MOST_IN_BUCKET)
        within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        pairs = np.stack([order[np.repeat(first, many) + within], np.repeat(np.arange(len(other)), many)], 1)
        yield from (pairs[at : at + _ROWS] for at in range(0, len(pairs), _ROWS))


def _jaccard(one: Any, other: Any, pairs: Array) -> Array:
    left, right = one[pairs[:, 0]], other[pairs[:, 1]]
    both = np.asarray(left.multiply(right).sum(1)).ravel()
    return np.asarray(both / (np.diff(left.indptr) + np.diff(right.indptr) - both))


def _unit(rows: Array) -> Array:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)
