"""What every regulariser is, and the table of them: `regularize: [l1(1e-5), dropout(0.2)]`, wrapped in that order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from thawline.calls import make, parse_call
from thawline.table import Table

if TYPE_CHECKING:
    from torch import nn

    from thawline.models.stages import Stages
    from thawline.tasks.base import Objective

Regularizer = Callable[["Objective", "nn.Module", "Stages"], "Objective"]

REGULARIZERS: Table[Callable[..., Regularizer]] = Table(
    "regularizer",
    {
        "l1": "thawline.regularize.norms:l1",
        "l2": "thawline.regularize.norms:l2",
        "dropout": "thawline.regularize.dropout:dropout",
    },
)


def regularizer(spec: str) -> Regularizer:
    """Make the regulariser that a call form names; raises UserError for an unknown name, argument or value.

    >>> callable(regularizer("l1(1e-5)"))
    True
    """
    call = parse_call(spec)
    return make(call, REGULARIZERS[call.name], "Regularizer")


def regularized(objective: Objective, specs: Iterable[str], model: nn.Module, *, stages: Stages) -> Objective:
    """Wrap an objective in regularisers, in the order given."""
    for spec in specs:
        objective = regularizer(spec)(objective, model, stages)
    return objective
