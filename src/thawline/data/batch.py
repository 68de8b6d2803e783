"""Which examples share a step, and which of those share a pass through the model."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

Indices = np.ndarray[Any, np.dtype[np.int64]]

OVERHEAD = 200.0
"""What a pass through the model costs beside its tokens, in tokens."""
ALONE = 80.0
"""The same where one thread runs it alone."""
_GRID = 2
_ROUNDS = 3
_HALVINGS = 20


def micro_batches(lengths: np.ndarray[Any, Any], *, max_examples: int, fixed: float = OVERHEAD) -> list[Indices]:
    """Cut the examples of one optimiser step into micro-batches of like length, so that least is spent on padding.

    Sorted by length, the best partition is one into runs; a dynamic program finds the runs that minimise
    Σ (fixed + rows · longest). `lengths` is [N] in tokens; each micro-batch has at most `max_examples` rows; `fixed` is the
    overhead of one, in tokens. Returns the positions of each, longest first. Deterministic: ties keep the order given.

    >>> [batch.tolist() for batch in micro_batches(np.array([9, 100, 10, 98]), max_examples=8, fixed=20)]
    [[1, 3], [2, 0]]
    >>> [batch.tolist() for batch in micro_batches(np.array([9, 100, 10, 98]), max_examples=8, fixed=1000)]
    [[1, 3, 2, 0]]
    """
    order = _longest_first(lengths)
    longest = np.asarray(lengths, dtype=np.float64)[order]
    total = len(order)
    best = np.zeros(total + 1)
    cut = np.zeros(total + 1, dtype=np.int64)
    for end in range(1, total + 1):
        starts = np.arange(max(0, end - max_examples), end)
        costs = best[starts] + fixed + (end - starts) * longest[starts]
        cut[end] = starts[np.argmin(costs)]
        best[end] = costs.min()
    runs: list[Indices] = []
    end = total
    while end:
        runs.append(order[cut[end] : end])
        end = int(cut[end])
    return runs[::-1]


def shared_batches(lengths: np.ndarray[Any, Any], workers: int, *, max_examples: int, fixed: float = ALONE) -> list[Indices]:
    """Cut the examples of one step for `workers` that compute side by side, so that the last is done soonest.

    Of the ways to cut them, sorted by length, into k runs a worker of about equal cost, rows · longest + `fixed`, the one with
    the least k · cost. Arguments and result are those of `micro_batches`, which is what one worker gets.

    >>> [batch.tolist() for batch in shared_batches(np.array([9, 100, 10, 98]), 2, max_examples=8, fixed=20)]
    [[1, 3], [2, 0]]
    """
    if workers == 1:
        return micro_batches(lengths, max_examples=max_examples, fixed=max(fixed, OVERHEAD))
    order = _longest_first(lengths)
    longest = np.asarray(lengths, dtype=np.float64)[order]
    found = list[tuple[float, list[int]]]()
    for rounds in range(1, _ROUNDS + 1):
        ends, cost = _equal_runs(longest, rounds * workers, max_examples)
        found.append((-(-len(ends) // workers) * (cost + fixed), ends))
    _, ends = min(found, key=lambda way: way[0])
    return [order[start:end] for start, end in pairwise([0, *ends])]


def even_batches(lengths: np.ndarray[Any, Any], workers: int, *, max_examples: int) -> list[Indices]:
    """Cut the examples of one step for `workers` that compute no padding: sorted by length, into runs of about equal sums.

    Arguments and result are those of `micro_batches`.

    >>> [batch.tolist() for batch in even_batches(np.array([9, 100, 10, 80, 11]), 2, max_examples=8)]
    [[1], [3, 4, 2, 0]]
    """
    order = _longest_first(lengths)
    ends = np.cumsum(np.asarray(lengths, dtype=np.float64)[order])
    for count in range(workers, len(order) + workers, workers):
        cuts = np.searchsorted(ends, ends[-1] * np.arange(1, count) / count - lengths[order].mean() / 2) + 1
        parts = [part for part in np.split(order, np.unique(cuts)) if len(part)]
        if max(map(len, parts)) <= max_examples:
            return parts
    return [order[i : i + 1] for i in range(len(order))]


def _equal_runs(longest: np.ndarray[Any, Any], count: int, rows: int) -> tuple[list[int], float]:
    """Cut a descending array into about `count` runs of at most so many rows, the dearest as cheap as can be; ends and cost."""
    low, high = float(longest[0]), float(longest[0] * len(longest))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if len(_runs(longest, middle, rows)) <= count else (middle, high)
    ends = _runs(longest, high, rows)
    return ends, max(float(longest[start] * (end - start)) for start, end in pairwise([0, *ends]))


def _runs(longest: np.ndarray[Any, Any], cost: float, rows: int) -> list[int]:
    ends, start = list[int](), 0
    while start < len(longest):
        count = min(rows, max(1, int(cost // max(1.0, longest[start]))))
        start = min(start + count // _GRID * _GRID if count >= _GRID else start + count, len(longest))
        ends.append(start)
    return ends


def on_grid(lengths: np.ndarray[Any, Any], most: int, grid: int = _GRID) -> np.ndarray[Any, Any]:
    """Round lengths up to multiples of `grid`, at most `most`: kernels are made for each shape of a batch, and kept.

    Up to twice a coarse grid half of it is enough.

    >>> on_grid(np.array([1, 2, 7]), 7).tolist(), on_grid(np.array([3, 9, 17]), 40, grid=8).tolist()
    ([2, 2, 7], [4, 12, 24])
    """
    steps = np.where(lengths <= 2 * grid, max(_GRID, grid // 2), grid)
    rounded: np.ndarray[Any, Any] = np.minimum(-(-lengths // steps) * steps, most)
    return rounded


def by_length(lengths: np.ndarray[Any, Any], *, max_examples: int, max_tokens: int) -> list[Indices]:
    """Cut all examples into batches for evaluation: longest first, so that a lack of memory shows at once.

    A batch has at most `max_examples` rows and `max_tokens` tokens, padding included; a longer example stands alone.

    >>> [batch.tolist() for batch in by_length(np.array([3, 50, 4, 60]), max_examples=8, max_tokens=100)]
    [[3], [1, 2], [0]]
    """
    order = _longest_first(lengths)
    batches = []
    start = 0
    while start < len(order):
        rows = min(max_examples, max(1, int(max_tokens // max(1, int(lengths[order[start]])))))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def epoch_order(
    n: int, *, seed: int, epoch: int, lengths: np.ndarray[Any, Any] | None = None, batch_size: int | None = None
) -> Indices:
    """Return the order, int64 [n], in which the examples are seen in this epoch: a function of its arguments alone.

    Counter-based random numbers (Philox; Salmon et al. 2011) are keyed by (seed, epoch), so any epoch can be asked for at once.
    With `lengths` [n] and `batch_size` (examples a step) the order is cut into mega-batches of up to 50 steps, each sorted by
    length, the very longest first: `group_by_length` of transformers.

    >>> sorted(epoch_order(5, seed=0, epoch=0).tolist())
    [0, 1, 2, 3, 4]
    """
    order: Indices = np.random.Generator(np.random.Philox(key=[seed % 2**64, epoch])).permutation(n)
    if lengths is None or n == 0:
        return order
    if batch_size is None:
        raise ValueError("an order by length needs batch_size, the examples of a step")
    mega = max(1, min(n // (batch_size * 4), 50)) * batch_size
    groups = [order[start : start + mega] for start in range(0, n, mega)]
    order = np.concatenate([group[_longest_first(lengths[group])] for group in groups])
    first = int(np.argmax(lengths[order]))
    order[[0, first]] = order[[first, 0]]
    return order


def _longest_first(lengths: np.ndarray[Any, Any]) -> Indices:
    return np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
