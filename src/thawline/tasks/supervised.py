"""Encoded items beside their targets: what training and evaluation draw batches from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np

from thawline.data.encoded import Encoded
from thawline.tasks.base import Task
from thawline.types import Batch, Item


def digest(item: Item) -> bytes:
    """Return 16 bytes that stand for an item.

    >>> digest({"input_ids": np.array([1, 2])}) == digest({"input_ids": [1, 3]})
    False
    """
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(item):
        values = np.asarray(item[name])
        state.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        state.update(np.ascontiguousarray(values).data)
    return state.digest()


@final
@dataclass(frozen=True)
class Supervised:
    """Items, targets [N] or [N, C] (None where unlabelled), weights [N] and ids [N]; `batch` picks some of them by index."""

    task: Task
    items: Encoded | Sequence[Item]
    lengths: np.ndarray
    ids: Sequence[str]
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: np.ndarray, length: int | None = None) -> Batch:
        """Return the examples at `indices`, padded to the longest of them, or to `length`."""
        return self.task.collate([self._item(int(i)) for i in indices], length)

    @cached_property
    def digests(self) -> Sequence[bytes]:
        """What the model sees of each example, as 16 bytes that tell it from all others."""
        return [digest(self.items[i]) for i in range(len(self))]

    def _item(self, index: int) -> Item:
        item = {**self.items[index], "id": str(self.ids[index])}
        if self.targets is not None:
            item["target"] = self.targets[index]
        if self.weights is not None:
            item["weight"] = self.weights[index]
        return item
