"""Gradients watched for a strategy that decides by them: all that is kept of them is data, so that resuming is exact."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

from torch import Tensor

from thawline.strategies.base import Adaptation, Decisions, Groups, Signals


@final
class Watch:
    """What the gradients said since it was last decided, and what was decided; without `adaptation` it does nothing.

    `total` are the planned steps, of which the first `warmup` are not looked at.
    """

    def __init__(self, adaptation: Adaptation | None, groups: Groups, *, total: int, warmup: int) -> None:
        self.adaptation, self.groups, self.total, self.warmup = adaptation, groups, total, warmup
        self.decisions = Decisions()
        self._steps, self._logs, self._counts = 0, dict[int, float](), dict[int, int]()

    def see(self, done: int, stages: Sequence[int], norms: Tensor) -> None:
        """Take the norms of the gradients of one step, [P], after `done` steps; `stages` says which each belongs to."""
        if self.adaptation is None or done < self.warmup:
            return
        squares = dict.fromkeys(stages, 0.0)
        for stage, norm in zip(stages, norms.tolist(), strict=True):
            squares[stage] += norm * norm
        self._steps += 1
        for stage, square in squares.items():
            if 0 < square < math.inf:
                self._logs[stage] = self._logs.get(stage, 0.0) + 0.5 * math.log(square)
                self._counts[stage] = self._counts.get(stage, 0) + 1

    def line(self, step: int) -> int:
        """Return the line below which stages are frozen at this step, after deciding where that is due."""
        if self.adaptation is None:
            return 0
        times = self.adaptation.times
        if self._steps and step * times // self.total > (step - 1) * times // self.total:
            whole = [stage for stage, count in self._counts.items() if count == self._steps]
            signals = Signals(step / self.total, {stage: math.exp(self._logs[stage] / self._steps) for stage in whole})
            self.decisions = self.adaptation.decide(self.groups, signals, self.decisions)
            self._steps, self._logs, self._counts = 0, {}, {}
        return self.decisions.line

    def state(self) -> dict[str, Any]:
        """Return everything as JSON."""
        sums = [[stage, self._counts[stage], self._logs[stage]] for stage in self._logs]
        return {"decisions": list(self.decisions), "steps": self._steps, "sums": sums}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` returned."""
        self.decisions, self._steps = Decisions(*state["decisions"]), state["steps"]
        self._counts = {stage: count for stage, count, _ in state["sums"]}
        self._logs = {stage: log for stage, _, log in state["sums"]}
