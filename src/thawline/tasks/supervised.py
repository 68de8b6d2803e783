"""Encoded items beside their targets: what training and evaluation draw batches from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from thawline.data.encoded import Encoded
from thawline.tasks.base import Task
from thawline.types import Batch, Item


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

    def batch(self, indices: np.ndarray) -> Batch:
        """Return the examples at `indices`, padded to the longest of them."""
        return self.task.collate([self._item(int(i)) for i in indices])

    def _item(self, index: int) -> Item:
        item = {**self.items[index], "id": str(self.ids[index])}
        if self.targets is not None:
            item["target"] = self.targets[index]
        if self.weights is not None:
            item["weight"] = self.weights[index]
        return item
