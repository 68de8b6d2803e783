"""What shares a step and a pass: nothing lost, as cheap as can be, the same every time."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawline.data.batch import by_length, epoch_order, micro_batches

LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=9).map(np.array)


def cost(parts: list[list[int]], fixed: float) -> float:
    return sum(fixed + len(part) * max(part) for part in parts)


def cheapest(lengths: np.ndarray, most: int, fixed: float) -> float:
    """By trying all partitions of the sorted lengths into runs."""
    values, n = sorted(lengths.tolist(), reverse=True), len(lengths)
    ways = [[0, *cuts, n] for k in range(n) for cuts in combinations(range(1, n), k)]
    return min(
        cost([values[a:b] for a, b in pairwise(way)], fixed) for way in ways if max(b - a for a, b in pairwise(way)) <= most
    )


@given(LENGTHS, st.integers(1, 9), st.sampled_from([0.0, 20.0, 200.0]))
def test_micro_batches_cost_least(lengths: np.ndarray, most: int, fixed: float) -> None:
    parts = micro_batches(lengths, max_examples=most, fixed=fixed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
    assert max(map(len, parts)) <= most
    assert cost([lengths[part].tolist() for part in parts], fixed) == cheapest(lengths, most, fixed)


def test_micro_batches_of_nothing() -> None:
    assert micro_batches(np.array([], np.int64), max_examples=4) == []


@given(LENGTHS, st.integers(1, 9), st.integers(1, 500))
def test_by_length(lengths: np.ndarray, most: int, tokens: int) -> None:
    batches = by_length(lengths, max_examples=most, max_tokens=tokens)
    order = np.concatenate(batches)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) <= 0).all()
    for batch in batches:
        assert len(batch) <= most
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= tokens


def test_epoch_order() -> None:
    orders = [epoch_order(100, seed=seed, epoch=epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len(set(map(tuple, orders))) == 4
    assert orders[3] == epoch_order(100, seed=1, epoch=1).tolist()


def test_epoch_order_by_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 1000)
    order = epoch_order(1000, seed=3, epoch=2, lengths=lengths, batch_size=8)
    assert sorted(order.tolist()) == list(range(1000))
    assert lengths[order[0]] == lengths.max()
    padded = sum(8 * lengths[order[i : i + 8]].max() for i in range(0, 1000, 8))
    assert padded < 1.1 * lengths.sum()
    with pytest.raises(ValueError, match="batch_size"):
        epoch_order(10, seed=0, epoch=0, lengths=lengths)
