"""A time budget: how many steps fit into it, from a short measurement before the first."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from thawline.train.learner import Learner
from thawline.train.loop import Gradients, Rhythm

_STEPS = 3  # measured, after one that is not
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


def step_seconds(learner: Learner, gradients: Gradients, rhythm: Rhythm) -> float:
    """Measure the seconds of a step by computing gradients that are thrown away; the weights stay as they are."""
    learner.open(rhythm.total)  # the end of training is where most is learning
    seconds = 0.0
    for step in range(_STEPS + 1):
        start = time.monotonic()
        gradients(learner.model, step, 1.0)
        learner.optimizer.zero_grad(set_to_none=True)
        seconds += time.monotonic() - start if step else 0.0
    return seconds / _STEPS


def seconds_of(action: Callable[[nn.Module], object], model: nn.Module) -> float:
    """Return how long one call takes."""
    start = time.monotonic()
    action(model)
    return time.monotonic() - start
