"""The gradients of one step: sums over its micro-batches, of whatever learns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import final

import numpy as np
import torch

from thawline.tasks.base import Objective, Step
from thawline.tasks.supervised import Supervised
from thawline.thaw.prefix import Prefix
from thawline.train.device import Device
from thawline.train.learner import Learner
from thawline.train.steps import Order
from thawline.train.trust import Part, Trust
from thawline.train.workers import Workers
from thawline.types import Batch, Loss

SUMS = ("total", "weight", "examples", "tokens", "positions")
"""What is summed over a step: of its micro-batches loss and weight, examples, tokens, and these with the padding computed."""


@final
@dataclass(frozen=True)
class Gradients:
    """Computes the gradients of one step: micro-batch by micro-batch, sums and not means.

    `workers` compute micro-batches side by side; their gradients are added up in one order, whoever is done first. `seed`, the
    step and the place of a micro-batch in it decide every random number. What is frozen comes from `prefix`. With `whole` the
    examples of a step run together, as far as `max_examples` lets them. What is not stored of the frozen part is computed for
    up to `ahead` steps at once; with 0 a step does not profit from the one before, as where steps are measured.
    """

    data: Supervised
    order: Order
    objective: Objective
    max_examples: int
    seed: int
    device: Device
    workers: Workers
    prefix: Prefix
    whole: bool = False
    trust: Trust = field(default_factory=Trust)
    ahead: int = 16

    def __call__(self, learner: Learner, step: int, progress: float) -> dict[str, float]:
        """Leave Σ w·l's gradients with the masters; return sums of loss and weight, and counts of examples and tokens."""
        sums = dict.fromkeys(SUMS, 0.0)
        depth, workers = self.prefix.depth(learner.thaw_line), self.device.processes * self.workers.count
        # Where little is left to compute, threads and micro-batches cost more than they gain.
        head_only = depth == len(learner.stages) - 1
        uncut = head_only or self.whole
        count = 0 if uncut else workers
        parts = self.order.micro_batches(step, max_examples=self.max_examples, workers=count)
        data = self.data.seen(step // self.order.steps_per_epoch)
        if depth and (head_only or self.device.processes == 1):
            self.prefix.ahead(data, self.coming(learner, step), depth, anew=self.ahead == 0)

        def part(item: tuple[int, np.ndarray], short: bool = False) -> Part[dict[str, float]]:
            place, indices = item
            batch = self.batch(data, indices, hollow=depth > 0)
            draws, replaying = self.device.draws(self.seed, step, place), self.prefix.replaying
            with (
                self.prefix.replicas.taken() as replica,
                self.device.autocast(),
                draws,
                replaying(replica, data, indices, batch=batch, depth=depth, short=short),
            ):
                loss = self.objective(Step(replica.model, data.task, batch, progress))
            # Not added to the parameters' own, which all workers share.
            gradients = torch.autograd.grad(loss.total, learner.masters.learning, allow_unused=True)
            return self.counts(loss, indices), gradients

        shared = self.device.share(list(enumerate(parts)))
        alone = (self.trust(partial(part, item)) for item in shared)
        for counts, gradients in alone if head_only else self.workers.each(part, shared):
            learner.masters.add(gradients, self.workers)
            sums = {key: value + counts[key] for key, value in sums.items()}
        return self.device.summed(learner.masters, sums)

    def coming(self, learner: Learner, step: int) -> Iterator[np.ndarray]:
        """Yield the examples of this step and of those after it that find the same stored, as far as that is known."""
        per_epoch, total = self.order.steps_per_epoch, learner.schedule.total
        for number in range(step, min(step + max(1, self.ahead), (step // per_epoch + 1) * per_epoch, max(total, step + 1))):
            if number > step and not learner.learns_the_same(number):
                return
            yield self.order.examples(number)

    def batch(self, data: Supervised, indices: np.ndarray, *, hollow: bool) -> Batch:
        """Return some items as a batch of a length on the grid; `hollow` where stored outputs stand for them."""
        return on_device((data.hollow if hollow else data.batch)(indices, self.order.length(indices)), self.device)

    def counts(self, loss: Loss, indices: np.ndarray) -> dict[str, float]:
        """Return what is summed over a step of one micro-batch."""
        tokens, positions = int(self.data.lengths[indices].sum()), self.order.positions(indices)
        counts = (float(loss.total.detach()), float(loss.weight), len(indices), tokens, positions)
        return dict(zip(SUMS, counts, strict=True))


def on_device(batch: Batch, device: Device) -> Batch:
    """Return a batch with its tensors on the device, numbers among the inputs in the dtype of the weights."""
    targets = batch.targets.to(device.device) if batch.targets is not None else None
    inputs = {name: device.taken(value) for name, value in batch.inputs.items()}
    return Batch(inputs, targets, batch.weights.to(device.device), batch.ids, batch.items)
