"""The shape in which a frozen prefix runs: it depends on the example alone, so that its result does too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

RULE = "16 to 176, then 256 512 768 …; what cuts it short is in the key; 16 rows without positions"
"""The rule by its name, as a fact of what is stored."""
_STEP, _EXACT, _BUCKET = 16, 176, 256
ROWS = 16
"""Rows of a batch of examples that all have one shape: kernels of convolutions differ with the number of rows."""
LEAST_ROWS = 2
"""Rows of any batch: a product of one matrix (DeBERTa's relative positions) takes another kernel than one of several."""
LEAST_ALONE = 16
"""Rows of a batch whose tensors have no positions left: a product of fewer rows takes another kernel (AVX-512, float32)."""
_TOKENS = 4096


class Group(NamedTuple):
    """Examples that run together: their indices, and the length to which each is padded (0: it has no length)."""

    indices: np.ndarray
    length: int


def canonical_length(length: int, most: int) -> int:
    """Return the length that an example is padded to, at most `most`, which no example is longer than.

    Up to 176 kernels give the same bits in all multiples of 16; above, only where the length is the same.

    >>> [canonical_length(n, 512) for n in (1, 16, 17, 176, 177, 400)], canonical_length(99, 100)
    ([16, 16, 32, 176, 256, 512], 100)
    """
    step = _STEP if length <= _EXACT else _BUCKET
    return min(-(-length // step) * step, most)


def cut_short(lengths: np.ndarray[Any, Any], most: int) -> np.ndarray[Any, Any]:
    """Tell which examples would have a longer shape but for `most`; bool, in the shape of `lengths`.

    >>> cut_short(np.array([96, 99, 100, 600]), 100).tolist(), cut_short(np.array([300, 512]), 512).tolist()
    ([False, True, True, True], [False, False])
    """
    step = np.where(lengths <= _EXACT, _STEP, _BUCKET)
    found: np.ndarray[Any, Any] = -(-lengths // step) * step > most
    return found


def even_rows(length: int, even: int) -> int:
    """Return how many rows each batch of this length has where their number counts: `even`, fewer of long ones.

    >>> [even_rows(length, 32) for length in (16, 512, 1024, 8192)]
    [32, 8, 4, 2]
    """
    return max(LEAST_ROWS, min(even, _TOKENS // length))


def least_rows(length: int, *, positions: bool, even: int) -> int:
    """Return how many rows a batch of this length (0: it has none) has at least, filled up by repeating.

    >>> [least_rows(length, positions=True, even=0) for length in (0, 5, 16)], least_rows(16, positions=False, even=0)
    ([16, 4, 2], 16)
    """
    if even and length:
        return even_rows(length, even)
    if not length:
        return ROWS
    return max(LEAST_ROWS, -(-LEAST_ALONE // length)) if positions else LEAST_ALONE


def groups(
    lengths: np.ndarray[Any, Any],
    indices: Sequence[int] | np.ndarray[Any, Any],
    *,
    most: int,
    workers: int = 1,
    even: int = 0,
) -> list[Group]:
    """Cut examples into batches of one canonical shape, longest first, so that each of `workers` has some of each.

    Whether an example fills its shape counts as shape: a batch without padding has no mask, and takes other kernels. Where
    batches have an `even` number of rows (0: any), none has more than `even_rows`, and the last one of a shape is to be filled
    up to it.
    """
    apart = defaultdict[tuple[int, bool], list[int]](list)
    for index in indices:
        length = int(lengths[index])
        padded = canonical_length(length, most)
        apart[padded, length == padded].append(int(index))
    found = list[Group]()
    for (length, _), members in sorted(apart.items(), reverse=True):
        rows = max(1, min(_TOKENS // length, max(LEAST_ROWS, -(-len(members) // workers))))
        rows = even_rows(length, even) if even else rows
        found += [Group(np.array(members[i : i + rows]), length) for i in range(0, len(members), rows)]
    return found


def fixed(indices: Iterable[int]) -> list[Group]:
    """Cut examples that all have one shape into batches of a fixed number of rows, the last one filled up by repeating."""
    all_of = np.array(list(indices), dtype=np.int64)
    return [Group(all_of[start : start + ROWS], 0) for start in range(0, len(all_of), ROWS)]
