"""Several conversations in one row of a batch, without any of them seeing another."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from thawline.models.chat import Encoded

if TYPE_CHECKING:
    from torch import Tensor, dtype

IGNORED = -100
"""The label of a token that is not learned, as in the losses of transformers."""


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Return bins of positions in `lengths` whose lengths add up to at most `capacity`.

    Best-fit decreasing: the longest first, each into the fullest bin that has room for it; at most 11/9 of the fewest bins and
    one (Johnson et al. 1974, Worst-case performance bounds for simple one-dimensional packing algorithms). Raises ValueError
    for a length above `capacity`.

    >>> pack([3, 5, 2, 4], 7)
    [[1, 2], [3, 0]]
    """
    if lengths and max(lengths) > capacity:
        raise ValueError(f"a length of {max(lengths)} does not fit into {capacity}; truncate first")
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # sorted: (what is left, bin)
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        fits = bisect_left(room, (lengths[place], -1))
        if fits == len(room):
            left, chosen = capacity, len(bins)
            bins.append([])
        else:
            left, chosen = room.pop(fits)
        bins[chosen].append(place)
        insort(room, (left - lengths[place], chosen))
    return bins


def packed(rows: Sequence[Sequence[Encoded]], *, pad: int, precision: dtype) -> dict[str, Tensor]:
    """Return what a causal model takes so that each conversation of a row [B, L] is seen as if it were alone.

    `input_ids` and `position_ids` [B, L], the latter beginning anew with each conversation; `attention_mask` [B, 1, L, L], to
    be added to the scores: 0 where a token may look, the least number of `precision` elsewhere (both "eager" and "sdpa" take it
    as it is); `labels` [B, L], IGNORED for what is not learned and for the first token of each conversation, which would
    otherwise be predicted from the one before.
    """
    import torch

    length = max(sum(len(item.input_ids) for item in row) for row in rows)
    ids = np.full((len(rows), length), pad, np.int64)
    labels = np.full_like(ids, IGNORED)
    positions = np.zeros_like(ids)
    owner = np.full_like(ids, -1)
    for number, row in enumerate(rows):
        begin = 0
        for which, item in enumerate(row):
            place = (number, slice(begin, begin := begin + len(item.input_ids)))
            learned = np.array(item.supervised, np.bool_)
            learned[:1] = False
            ids[place], positions[place], owner[place] = item.input_ids, np.arange(len(learned)), which
            labels[place] = np.where(learned, item.input_ids, IGNORED)
    allowed = torch.from_numpy((owner[:, :, None] == owner[:, None, :]) & np.tri(length, dtype=np.bool_))
    mask = torch.zeros(allowed.shape, dtype=precision).masked_fill_(~allowed, torch.finfo(precision).min)
    arrays = {"input_ids": ids, "position_ids": positions, "labels": labels}
    return {**{name: torch.from_numpy(array) for name, array in arrays.items()}, "attention_mask": mask[:, None]}
