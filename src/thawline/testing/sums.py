"""Labelled batches for the checks, and the rule that every objective must hold to: two halves make the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from thawline.tasks.base import Objective, Step, Task
from thawline.tasks.supervised import Supervised, of_examples
from thawline.testing.claims import claim, close, largest
from thawline.types import Batch, Example


class Sums(NamedTuple):
    """What a step adds up over its micro-batches."""

    total: float
    weight: float
    gradients: dict[str, Tensor]


def supervised(task: Task, examples: Sequence[Example]) -> Supervised:
    """Encode labelled examples, without a cache."""
    claim(len(examples) > 1, "A check needs at least two labelled examples.")
    return of_examples(task, examples, task.targets(columns_of(examples)))


def columns_of(examples: Sequence[Example]) -> dict[str, list[Any]]:
    """Return examples as columns."""
    return {key: [example[key] for example in examples] for key in examples[0]}


def whole(data: Supervised, weights: np.ndarray | None = None) -> Batch:
    """Return all of `data` as one batch, with `weights` [N] where they are given."""
    return (data if weights is None else replace(data, weights=weights)).batch(np.arange(len(data)))


def check_halves(objective: Objective, model: nn.Module, data: Supervised) -> Sums:
    """Check that loss, weight and gradients of two halves add up to those of the whole, which are returned.

    The examples weigh differently, so that a mean of means shows.
    """
    data = replace(data, weights=np.linspace(0.5, 2.0, len(data)))
    all_of_it = sums(objective, model, [(data.task, whole(data))])
    parts = np.array_split(np.arange(len(data)), 2)
    halves = sums(objective, model, [(data.task, data.batch(part)) for part in parts])
    claim(close(halves.total, all_of_it.total), f"The losses of two halves come to {halves.total}, not {all_of_it.total}.")
    claim(close(halves.weight, all_of_it.weight), f"The weights of two halves come to {halves.weight}, not {all_of_it.weight}.")
    broken = [name for name, gradient in all_of_it.gradients.items() if not gradient.isfinite().all()]
    claim(not broken, f"The gradient of {broken[:1]} is not finite.")
    scale = largest(all_of_it.gradients)
    apart = [n for n, gradient in all_of_it.gradients.items() if not close(halves.gradients[n], gradient, scale)]
    claim(not apart, f"The gradients of two halves do not add up, first in {apart[:1]}.")
    return all_of_it


def sums(objective: Objective, model: nn.Module, batches: Sequence[tuple[Task, Batch]]) -> Sums:
    """Add up loss, weight and gradients over micro-batches, as a step does."""
    total = weight = 0.0
    model.zero_grad()
    for task, batch in batches:
        loss = objective(Step(model, task, batch, 0.5))
        loss.total.backward()
        total, weight = total + float(loss.total.detach()), weight + float(loss.weight)
    return Sums(total, weight, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
