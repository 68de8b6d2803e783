"""Which evaluation was the best so far, and whether it is time to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from thawline.errors import RecipeError


class Standing(NamedTuple):
    """The best evaluation so far: its value, its step, and how many evaluations since brought nothing better."""

    value: float | None = None
    step: int = 0
    waited: int = 0


@dataclass(frozen=True)
class Judge:
    """Compares evaluations by one metric. `patience` evaluations without a gain above `threshold` end the training."""

    metric: str
    greater: bool
    patience: int | None = None
    threshold: float = 0.0

    def judge(self, before: Standing, metrics: dict[str, Any], step: int) -> Standing:
        """Return the standing after an evaluation; the earlier of two equal ones stays the best.

        Raises RecipeError where the evaluation lacks the metric.

        >>> Judge("accuracy", True).judge(Standing(0.8, 10, 0), {"accuracy": 0.9}, 20)
        Standing(value=0.9, step=20, waited=0)
        """
        if self.metric not in metrics:
            have = ", ".join(metrics)
            raise RecipeError([f"train.metric_for_best_model: evaluations while training have {have}, and no {self.metric}."])
        value = float(metrics[self.metric])
        if before.value is None or self._gain(value, before.value) > 0:
            enough = before.value is None or self._gain(value, before.value) > self.threshold
            return Standing(value, step, 0 if enough else before.waited + 1)
        return before._replace(waited=before.waited + 1)

    def ends(self, standing: Standing) -> bool:
        """Tell whether patience has run out."""
        return self.patience is not None and standing.waited >= self.patience

    def _gain(self, value: float, before: float) -> float:
        return value - before if self.greater else before - value
