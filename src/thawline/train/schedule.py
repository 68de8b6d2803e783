"""Learning-rate schedules: pure functions of the step, so that resuming is exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from thawline.calls import Call, make
from thawline.errors import UserError
from thawline.table import Table

SCHEDULES: Table[Callable[..., float]] = Table(
    "schedule",
    {
        "linear": "thawline.train.schedule:linear",
        "cosine": "thawline.train.schedule:cosine",
        "constant": "thawline.train.schedule:constant",
        "constant_with_warmup": "thawline.train.schedule:constant",
        "step": "thawline.train.schedule:step",
    },
)


def linear(progress: float) -> float:
    """Fall from 1 to 0.

    >>> linear(0.25)
    0.75
    """
    return 1.0 - progress


def cosine(progress: float, *, num_cycles: float = 0.5) -> float:
    """Fall from 1 to 0 along half a cosine. Source: Loshchilov & Hutter 2017, "SGDR", equation 5.

    >>> round(cosine(0.5), 3)
    0.5
    """
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * 2.0 * num_cycles * progress)))


def constant(progress: float) -> float:
    """Stay at 1."""
    return 1.0


def step(progress: float, *, steps: int = 3, gamma: float = 0.1) -> float:
    """Multiply by `gamma` at each end of `steps` equal parts.

    >>> [round(step(p), 2) for p in (0.0, 0.4, 0.9)]
    [1.0, 0.1, 0.01]
    """
    return float(gamma ** min(int(progress * steps), steps - 1))


def check_schedule(name: str, options: Mapping[str, Any]) -> None:
    """Raise UserError unless there is a schedule of this name (or `package.module:object`) that takes these options.

    >>> check_schedule("step", {"gama": 0.5})
    Traceback (most recent call last):
    thawline.errors.UserError: step has no argument 'gama', did you mean 'gamma'? It is step(progress, steps=3, gamma=0.1).
    """
    call = Call(name, (0.5,), tuple(options.items()))
    try:
        make(call, SCHEDULES[name], "float")
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"{Call(name, (), call.kwargs)} has an argument of the wrong kind or size ({error}).") from None


@dataclass(frozen=True)
class Schedule:
    """A shape with a warm-up over `warmup` steps of `total`; the first step already learns, at 1/warmup of the rate."""

    name: str
    total: int
    warmup: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, done: int) -> float:
        """Return the factor on the learning rate of the step after `done` steps."""
        if done < self.warmup and self.name != "constant":
            return (done + 1) / self.warmup
        progress = (done - self.warmup) / max(1, self.total - self.warmup)
        return SCHEDULES[self.name](min(progress, 1.0), **self.options)
