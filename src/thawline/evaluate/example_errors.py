"""How wrong each example is: what slices compare and mistakes are ordered by, whatever the problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.evaluate.answered import CLASSES, Answered
from thawline.evaluate.metrics import METRICS

Array = NDArray[Any]
RATE = "error rate"


@dataclass(frozen=True)
class Errors:
    """How wrong each example is, `size`, float [N], 0 being right, and what that is called."""

    size: Array
    measure: str

    @property
    def shares(self) -> bool:
        """Whether an example is right or wrong, 0 or 1, and nothing between."""
        return self.measure == RATE

    @property
    def tested(self) -> Array:
        """What is tested in the place of the size, float [N]: the same, or centred ranks, which no outlier rules."""
        if self.shares:
            return self.size
        from scipy.stats import rankdata

        ranks = rankdata(self.size) - (len(self.size) + 1) / 2
        return np.asarray(ranks / (ranks.std() or 1.0))


def errors(answered: Answered) -> Errors:
    """Return the error of each example.

    That is 1 for a wrong answer (several labels: for any wrong label), the absolute error of a number, and of other problems
    what their entry of METRICS says.

    >>> examples = [{"id": "1", "label": "fetch the red cup"}, {"id": "2", "label": "stop"}]
    >>> said = [{"id": "1", "text": "fetch a red cup"}, {"id": "2", "text": "stop"}]
    >>> found = errors(Answered(examples, said, "speech_recognition", ()))
    >>> found.measure, found.size.tolist()
    ('word error rate', [0.25, 0.0])
    """
    if answered.problem in CLASSES:
        return Errors((~answered.right).astype(float), RATE)
    if answered.problem == "regression":
        return Errors(np.abs(answered.predicted - answered.true), "mean absolute error")
    scoring = METRICS[answered.problem]
    assert scoring.error is not None, f"{answered.problem} does not say how wrong an example is"
    return Errors(np.asarray(scoring.error(scoring.terms(answered.true, answered.predicted)), float), scoring.measure)
