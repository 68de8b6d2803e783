"""A time budget: how many steps fit into it, from a short measurement before the first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from torch import nn

from thawline.train.gradients import Gradients
from thawline.train.learner import Learner
from thawline.train.loop import Rhythm
from thawline.train.steps import Order

_STEPS = 4  # measured
_SLACK = 0.98  # the machine's speed drifts; the deadline of the loop catches what this does not


class Costs(NamedTuple):
    """Seconds: of a step, of one evaluation with its checkpoint, and of all that comes after the last step."""

    step: float
    evaluation: float
    ending: float


def steps_within(costs: Costs, seconds: float, *, every: int | None, most: int) -> int:
    """Return how many steps fit into `seconds`, at most `most`, with an evaluation each `every` steps and one at the end.

    >>> steps_within(Costs(step=1.0, evaluation=10.0, ending=20.0), 100.0, every=None, most=1000)
    68
    """
    left = seconds * _SLACK - costs.ending - costs.evaluation
    each = costs.step + (costs.evaluation / every if every else 0.0)
    return max(1, min(most, int(left / each)))


class Spent(NamedTuple):
    """Seconds, and those of them that the frozen part took."""

    whole: float
    below: float


def step_seconds(learner: Learner, gradients: Gradients, rhythm: Rhythm) -> Spent:
    """Measure the seconds of a step by computing gradients that are thrown away; the weights stay as they are."""
    learner.open(rhythm.total)  # the end of training is where most is learning
    gradients, prefix, start = replace(gradients, ahead=0), gradients.prefix, time.monotonic()
    before = prefix.seconds

    def step(number: int) -> None:
        gradients(learner, number, 1.0)
        learner.forget()

    with unmoved(learner):
        seconds = mean_seconds(step, spread(gradients.order, _STEPS))
    return Spent(seconds, seconds * (prefix.seconds - before) / (time.monotonic() - start))


@contextmanager
def unmoved(learner: Learner) -> Iterator[None]:
    """Put buffers back as they were: running statistics move with each pass."""
    buffers = [buffer for model in (learner.model, *learner.copies) for buffer in model.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)


def spread(order: Order, count: int) -> list[int]:
    """Return `count` steps of the first epoch that stand for all of it."""
    tokens = [int(order.lengths[order.examples(step)].sum()) for step in range(order.steps_per_epoch)]
    # Of like share among the steps of an epoch by their tokens: where order goes by length, neighbours are all long or short.
    by_tokens = np.argsort(tokens)
    return [int(by_tokens[int((place + 0.5) / count * len(tokens))]) for place in range(count)]


def mean_seconds(action: Callable[[int], object], numbers: Sequence[int]) -> float:
    """Return how long an action takes, the second time that it is done with each of these numbers."""
    seconds = 0.0
    for number in numbers:
        for measured in (False, True):  # kernels for a new shape are made in its first pass, which may take twice as long
            start = time.monotonic()
            action(number)
            seconds += (time.monotonic() - start) * measured
    return seconds / len(numbers)


def seconds_of(action: Callable[[nn.Module], object], model: nn.Module) -> float:
    """Return how long one call takes."""
    start = time.monotonic()
    action(model)
    return time.monotonic() - start
