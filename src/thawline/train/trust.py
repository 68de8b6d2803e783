"""A shorter way to the same gradients, gone once it has led to the same bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

import torch
from torch import Tensor

S = TypeVar("S")
Part = tuple[S, Sequence[Tensor | None]]
"""What is summed and counted of a micro-batch, and its gradients."""


@final
@dataclass
class Trust:
    """Whether the short way through a head is gone: once it has led to the same bits on the first steps, each gone twice."""

    left: int = 3

    def __call__(self, way: Callable[[bool], Part[S]]) -> Part[S]:
        """Return what the way leads to, called with whether it is to be short."""
        if self.left <= 0:
            return way(self.left == 0)
        (sums, gradients), (others, again) = way(False), way(True)
        pairs = zip(gradients, again, strict=True)
        same = sums == others and all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)
        self.left = self.left - 1 if same else -1
        return sums, gradients
