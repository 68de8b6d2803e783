"""Which of many groups of examples are worse than the rest, with the chance of one false find kept small over all of them.

The looks are corrected by permutation: step-down min-P of Westfall & Young (1993, algorithm 2.8) for right and wrong, with
exact hypergeometric probabilities, and max-T for numbers, with rank sums. Permuting the errors over the examples keeps how the
groups overlap, so groups that hold much the same examples cost little, which Bonferroni and Holm would count in full.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Evidence = Callable[[Array], Array]
"""How much the sums over the groups [M, B] speak for a group being worse, [M, B]: more is worse, of all groups alike."""

PERMUTATIONS = 999
_AT_ONCE = 16  # more at once leave the processor's cache, and take three times as long
_MOST_WORK = 5 * 10**9  # additions; some 5 s; beyond it there are _FEWER permutations, as valid, a little less sure to find
_FEWER = 299


@dataclass(frozen=True)
class Found:
    """What the search says of each group: adjusted p, float [M], the `order` of evidence, int [M], and permutations made.

    Where the search stopped early, as it does when nothing can be found any more, a `p` is a rough one, above the level.
    """

    p: Array
    order: Array
    permutations: int


def search(members: Any, values: Array, *, level: float = 0.01, seed: int = 0) -> Found:
    """Test for each group whether its values are larger than elsewhere; the p-values hold for all groups together.

    `members`, sparse bool [M, N], says which examples a group has; `values`, [N], is 0 or 1 (wrong), or centred ranks of
    errors. Where no group differs, the chance that any has p <= `level` is at most `level`, whatever their number and overlap;
    it holds for examples that are independent of one another. Source: Westfall & Young 1993, sections 2.6 and 2.8; the p-values
    count the data itself among the permutations (Phipson & Smyth 2010), so they are exact for any number of these.

    >>> import scipy.sparse as sp
    >>> wrong = np.repeat([1.0, 0.0], [10, 90])
    >>> found = search(sp.csr_matrix([np.arange(100) < 12, np.arange(100) % 2 == 0]), wrong)
    >>> found.p.round(3).tolist()
    [0.001, 1.0]
    """
    members = members.astype(np.float32).tocsr()
    observed = members @ values.astype(np.float32)[:, None]
    binary = bool(np.isin(values, (0, 1)).all())
    sizes = np.diff(members.indptr)
    evidence = _hypergeometric(sizes, values, observed[:, 0]) if binary else _rank_sum(sizes, values)
    found = evidence(observed)
    order = np.argsort(-found[:, 0], kind="stable")
    planned = PERMUTATIONS if members.nnz * PERMUTATIONS <= _MOST_WORK else _FEWER
    rng, done, beaten = np.random.default_rng(seed), 0, np.zeros(len(order), dtype=np.int64)
    while done < planned and 1 + beaten[0] <= level * (planned + 1):
        drawn = evidence(members @ _permuted(values, min(_AT_ONCE, planned - done), rng, binary=binary))
        # The best of a group and of all below it: what a group must beat once those above it are found.
        best = np.maximum.accumulate(drawn[order[::-1]])[::-1]
        beaten += (best >= found[order]).sum(axis=1)
        done += drawn.shape[1]
    p = np.empty(len(order))
    p[order] = np.maximum.accumulate((1 + beaten) / (1 + done))
    return Found(p, order, done)


def _permuted(values: Array, count: int, rng: np.random.Generator, *, binary: bool) -> Array:
    """Return `count` permutations of the values as columns, float32 [N, count]."""
    drawn = np.zeros((len(values), count), dtype=np.float32)
    ones = round(float(values.sum()))
    for column in range(count):
        if binary:
            drawn[rng.choice(len(values), ones, replace=False, shuffle=False), column] = 1
        else:
            drawn[:, column] = rng.permutation(values)
    return drawn


def _hypergeometric(sizes: Array, values: Array, observed: Array) -> Evidence:
    """Return -log P(X >= x) for each group's x wrong ones, Fisher's exact test one-sided, read from a table for each size.

    A table reaches from the mean to where P is nothing, and at least to what was observed; below the mean all is 0.
    """
    from scipy.special import gammaln

    total, wrong = len(values), round(float(values.sum()))
    share = wrong / total
    different, place = np.unique(sizes, return_inverse=True)
    low = np.floor(different * share).astype(np.int64)
    reach = low + (12 * np.sqrt(different * share * (1 - share) * (1 - different / total))).astype(np.int64) + 40
    np.maximum.at(reach, place, np.rint(observed).astype(np.int64))
    high = np.minimum(np.minimum(different, wrong), reach)
    starts = np.cumsum([0, *(high - low + 1)])
    logs = gammaln(np.arange(total + 1) + 1.0)

    def choose(n: Any, k: Any) -> Array:
        return np.asarray(logs[n] - logs[k] - logs[n - k])

    table = np.zeros(starts[-1], dtype=np.float32)
    for size, first, last, start in zip(different, low, high, starts, strict=False):
        x = np.arange(max(first + 1, size + wrong - total), last + 1)
        mass = choose(wrong, x) + choose(total - wrong, size - x) - choose(total, size)
        tail = -np.logaddexp.accumulate(mass[::-1])[::-1]
        table[start + x - first] = np.maximum(tail, 0)

    def evidence(sums: Array) -> Array:
        x = np.clip(np.rint(sums).astype(np.int64), low[place, None], high[place, None])
        return np.asarray(table[x + (starts[:-1] - low)[place, None]])

    return evidence


def _rank_sum(sizes: Array, values: Array) -> Evidence:
    """Return the standardised sum of each group's values under permutation: with ranks, the test of Wilcoxon."""
    sizes, total = sizes.astype(float), len(values)  # the product of two counts does not fit int32
    deviation = np.sqrt(sizes * (total - sizes) / max(1, total - 1) * values.var())
    expected, scale = sizes * values.mean(), np.where(deviation > 0, deviation, np.inf)
    return lambda sums: np.asarray((sums - expected[:, None]) / scale[:, None])


def held(members: Array, values: Array, strata: Array) -> float:
    """Return how many standard deviations the members' values lie above what the `strata` alone would give them.

    `members`, bool [N]; `values`, [N]; `strata`, int [N], what is held constant. For right and wrong it is the statistic of
    Mantel & Haenszel (1959) without continuity correction, for ranks that of van Elteren (1960) without weights.

    >>> members, strata = np.array([1, 1, 0, 0, 0, 0, 0, 0], bool), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> held(members, np.array([1, 1, 1, 1, 0, 0, 0, 0]), strata)  # the stratum explains it all
    0.0
    """
    strata = np.unique(strata, return_inverse=True)[1]
    n = np.bincount(strata).astype(float)
    inside = np.bincount(strata, weights=members)
    mean = np.bincount(strata, weights=values) / n
    variance = np.bincount(strata, weights=(values - mean[strata]) ** 2) / n
    spread = np.sqrt((inside * (n - inside) / np.maximum(n - 1, 1) * variance).sum())
    above = float(values[members].sum() - (inside * mean).sum())
    return above / float(spread) if spread > 1e-9 else 0.0
