"""Several conversations in one row of a batch, without any of them seeing another."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

import numpy as np

from thawline.models.chat import Encoded

IGNORED = -100
"""The label of a token that is not learned, as in the losses of transformers."""

_ALIKE = 1e-3  # logits, relative to the largest: what a conversation sees of another changes them by a tenth and more


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


def laid_out(items: Sequence[Encoded], rows: Sequence[Sequence[int]], *, pad: int, length: int) -> dict[str, np.ndarray]:
    """Return items laid side by side in rows, each row naming its items by place; int64 arrays [B, L], L = `length`.

    `input_ids`; `position_ids`, which begin anew with each item: a model of transformers that is given these and no mask lets
    none of them see another, under any attention, sliding windows too, but for families that `sees_through` tells of; `owners`,
    the place of each token's item, -1 for padding; `labels`, IGNORED for what is not learned and for the first token of each
    item, which would otherwise be predicted from the one before.

    >>> made = laid_out([Encoded([5, 6], [False, True]), Encoded([7], [True])], [[0, 1]], pad=0, length=4)
    >>> made["position_ids"].tolist(), made["owners"].tolist(), made["labels"].tolist()
    ([[0, 1, 0, 0]], [[0, 0, 1, -1]], [[-100, 6, -100, -100]])
    """
    ids, positions = np.full((len(rows), length), pad, np.int64), np.zeros((len(rows), length), np.int64)
    labels, owners = np.full_like(ids, IGNORED), np.full_like(ids, -1)
    for number, row in enumerate(rows):
        begin = 0
        for which in row:
            item = items[which]
            place = (number, slice(begin, begin := begin + len(item.input_ids)))
            learned = np.array(item.supervised, np.bool_)
            learned[:1] = False
            ids[place], positions[place], owners[place] = item.input_ids, np.arange(len(learned)), which
            labels[place] = np.where(learned, item.input_ids, IGNORED)
    return {"input_ids": ids, "position_ids": positions, "labels": labels, "owners": owners}


def sees_through(model: Any) -> bool:
    """Tell whether a causal model lets conversations in one row see one another, by what it says of two, alone and together.

    So do those that take what came before from a state (Mamba), or positions from the mask (OPT, BLOOM).
    """
    import torch

    rows = [[1, 2, 3, 4, 5], [6, 7, 8, 9]]
    device = next(model.parameters()).device

    def said(*some: list[int]) -> torch.Tensor:
        ids = torch.tensor([[token for row in some for token in row]], device=device)
        places = torch.tensor([[place for row in some for place in range(len(row))]], device=device)
        with torch.no_grad():
            found: torch.Tensor = model(input_ids=ids, position_ids=places, use_cache=False).logits[0, -len(some[-1]) :].float()
        return found

    try:
        alone, among = said(rows[1]), said(*rows)
    except TypeError:  # a model without positions
        return True
    return bool((alone - among).abs().max() > _ALIKE * alone.abs().max())
