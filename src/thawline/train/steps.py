"""Which examples share a step: a pure function of the seed and the step, so that resuming is exact."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple, final

import numpy as np

from thawline.data.batch import epoch_order, even_batches, on_grid, shared_batches
from thawline.models.unpadded import MOST, computed

_PACKED = 1e9
"""What a pass through the model costs beside its tokens, in tokens, where there is no padding to be spared by another one."""


class Shapes(NamedTuple):
    """How micro-batches are computed: at lengths on a `grid`, and `real` positions alone where the model leaves padding out."""

    grid: int = 2
    real: bool = False


PLAIN = Shapes()


@final
class Order:
    """The order of `n` examples through all epochs, in steps of `batch_size`; the last step of an epoch may be smaller.

    With `tokens` an epoch has as many steps as it takes for each to hold about so many instead, and `batch_size` is what that
    is in examples. `lengths` [n] are those of the items; with `by_length` an epoch is ordered so that neighbours are of like
    length. Where items are `packed`, not padded, nothing is gained by cutting steps more than workers and memory ask for.
    `shapes` says what is computed of a micro-batch.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        *,
        seed: int,
        by_length: bool = False,
        packed: bool = False,
        tokens: int | None = None,
        shapes: Shapes = PLAIN,
    ) -> None:
        self.lengths, self.seed, self.by_length, self._tokens, self.shapes = lengths, seed, by_length, tokens, shapes
        whole = max(1, int(lengths.sum()))
        self._steps = None if tokens is None else min(len(lengths), max(1, -(-whole // tokens)))
        self.batch_size = batch_size if self._steps is None else -(-len(lengths) // self._steps)
        self._fixed = {"fixed": _PACKED} if packed else {}
        self.longest = int(lengths.max(initial=0))
        self._epoch: tuple[int, list[np.ndarray]] = (-1, [])

    @cached_property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one pass over the examples."""
        return self._steps or -(-len(self.lengths) // self.batch_size)

    def examples(self, step: int) -> np.ndarray:
        """Return the indices of the examples of one step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            lengths = self.lengths if self.by_length else None
            order = epoch_order(len(self.lengths), seed=self.seed, epoch=epoch, lengths=lengths, batch_size=self.batch_size)
            self._epoch = (epoch, np.split(order, self._cuts(order)))
        return self._epoch[1][place]

    def length(self, part: np.ndarray) -> int:
        """Return the length of a micro-batch, padding included."""
        return int(on_grid(self.lengths[part], self.longest, self.shapes.grid).max())

    def positions(self, part: np.ndarray) -> int:
        """Return how many positions are computed of a micro-batch, padding among them unless the model leaves it out."""
        padded = len(part) * self.length(part)
        return computed(int(self.lengths[part].sum()), padded) if self.shapes.real else padded

    def _cuts(self, order: np.ndarray) -> np.ndarray:
        """Return where the steps of an epoch begin, but for the first: equal numbers of examples, or about of tokens."""
        if self._steps is None:
            return np.arange(self.batch_size, len(order), self.batch_size)
        ends, steps = np.cumsum(self.lengths[order]), np.arange(1, self._steps)
        cuts = np.searchsorted(ends, steps * ends[-1] / self._steps, side="right")
        cuts = np.maximum.accumulate(np.maximum(cuts - steps, 0)) + steps  # no step is without an example, however long one is
        return np.asarray(np.minimum(cuts, len(order) - self._steps + steps))

    def micro_batches(self, step: int, *, max_examples: int, workers: int = 1) -> list[np.ndarray]:
        """Return the examples of one step, cut into micro-batches of like length that keep `workers` busy; uncut for none.

        Where much of them would be padding, and the model can leave it out, each has about as many real tokens.
        """
        examples = self.examples(step)
        if workers == 0:
            return [examples[start : start + max_examples] for start in range(0, len(examples), max_examples)]
        lengths = on_grid(self.lengths[examples], self.longest, self.shapes.grid)
        parts = shared_batches(lengths, workers, max_examples=max_examples, **self._fixed)
        if self.shapes.real and self.lengths[examples].sum() <= MOST * sum(len(part) * lengths[part].max() for part in parts):
            parts = even_batches(self.lengths[examples], workers, max_examples=max_examples)
        return [examples[part] for part in parts]
