"""Encoded items beside their targets: what training and evaluation draw batches from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast, final

import numpy as np

from thawline.data.encoded import Encoded, length_of
from thawline.tasks.base import Task
from thawline.types import Batch, Example, Item


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
class Views:
    """Which view of an item is seen: `changes` names what changes it at random, by `seed`; there are `most` views of each.

    Views are numbered by epoch, so that no state is carried on: the same seed, epoch and item give the same view.
    """

    changes: str
    seed: int
    most: int | None = None
    epoch: int = 0

    @property
    def number(self) -> int:
        """The number of the view that is seen now."""
        return self.epoch if self.most is None else self.epoch % self.most

    def generator(self, of: bytes) -> np.random.Generator:
        """Return what the view of the item with this digest is drawn from."""
        return np.random.Generator(np.random.Philox(key=[self.seed % 2**64, int.from_bytes(self.digest(of)[:8], "big")]))

    def digest(self, of: bytes) -> bytes:
        """Return the digest of this view of the item with this digest."""
        return hashlib.blake2b(of + f"{self.changes} {self.seed} {self.number}".encode(), digest_size=16).digest()


@final
@dataclass(frozen=True)
class Supervised:
    """Items beside their examples' ids [N], targets [N] or [N, C] (None where unlabelled) and weights [N].

    `lengths` [M] are those of the items; `owners` [M] the place of the example of each, None where each example is one item, in
    order. `batch` picks some items by index. With `views` items are changed at random as they are picked.
    """

    task: Task
    items: Encoded | Sequence[Item]
    lengths: np.ndarray
    ids: Sequence[str]
    targets: Any = None
    weights: np.ndarray | None = None
    owners: np.ndarray | None = None
    views: Views | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: np.ndarray, length: int | None = None) -> Batch:
        """Return the items at `indices`, padded to the longest of them, or to `length`."""
        return self.task.collate([self._item(int(i)) for i in indices], length)

    def hollow(self, indices: np.ndarray, length: int | None = None) -> Batch:
        """Return the same for a model that goes on from stored outputs: of the inputs only the shape is right."""
        return self.task.hollow([self._item(int(i)) for i in indices], length)

    def seen(self, epoch: int) -> Supervised:
        """Return the items as they are seen in an epoch."""
        if self.views is None or self.views.epoch == epoch:
            return self
        known = self.__dict__.get("_seen")
        if known is not None and known.views.epoch == epoch:
            return cast(Supervised, known)  # the same one, so that what is known of its examples is found again
        other = replace(self, views=replace(self.views, epoch=epoch))
        other.__dict__["_plain"] = self._plain
        self.__dict__["_seen"] = other
        return other

    def owner(self, index: int) -> int:
        """Return the place of the example of an item."""
        return index if self.owners is None else int(self.owners[index])

    @cached_property
    def digests(self) -> Sequence[bytes]:
        """What the model sees of each item, as 16 bytes that tell it from all others."""
        return self._plain if self.views is None else [self.views.digest(plain) for plain in self._plain]

    @cached_property
    def _plain(self) -> Sequence[bytes]:
        return [digest(self.items[i]) for i in range(len(self))]

    def _item(self, index: int) -> Item:
        owner = self.owner(index)
        item = {**self.items[index], "id": str(self.ids[owner])}
        if self.targets is not None:
            item["target"] = self.targets[owner]
        if self.weights is not None:
            item["weight"] = self.weights[owner]
        if self.views is not None:
            item["random"] = self.views.generator(self._plain[index])
        return item


def of_examples(task: Task, examples: Sequence[Example], targets: Any = None) -> Supervised:
    """Encode examples without a cache."""
    items = task.encode(examples)
    owners = np.array([item["owner"] for item in items]) if items and "owner" in items[0] else None
    lengths = np.array([length_of(item) for item in items])
    return Supervised(task, items, lengths, [str(example["id"]) for example in examples], targets, owners=owners)
