"""How good predictions are: one table of the kinds of problem, each with its metrics.

`METRICS[problem](true, predicted, weights=None)` returns metrics by name. The tests hold them against scikit-learn, seqeval,
jiwer and rouge-score. What `true` and `predicted` are is said by the module of each entry, under `evaluate/scores/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from thawline.evaluate.resample import Scoring
from thawline.table import Table

METRICS: Table[Scoring] = Table(
    "problem",
    {
        "single_label_classification": "thawline.evaluate.scores.labels:classification",
        "multi_label_classification": "thawline.evaluate.scores.labels:multilabel",
        "regression": "thawline.evaluate.scores.numbers:regression",
        "token_classification": "thawline.evaluate.scores.entities:token_classification",
        "speech_recognition": "thawline.evaluate.scores.transcripts:speech_recognition",
        "text_generation": "thawline.evaluate.scores.generated:text_generation",
    },
)

GREATER: Mapping[str, bool] = MappingProxyType({name: is_so for p in METRICS for name, is_so in METRICS[p].greater.items()})
"""Whether a greater value of the metric is a better one, for all metrics of the table."""


def main_metric(problem: str) -> str:
    """Return the metric that decides which of two models is better, where the user names none.

    >>> main_metric("regression"), GREATER[main_metric("regression")]
    ('rmse', False)
    """
    return METRICS[problem].main
