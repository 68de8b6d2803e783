"""Dropout with one rate, or with rates from the stem to the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from thawline.errors import UserError
from thawline.regularize.base import Regularizer

if TYPE_CHECKING:
    from thawline.models.stages import Stages
    from thawline.tasks.base import Objective

# Some families keep rates as plain numbers on the module that uses them.
_PLAIN = ("attention_dropout", "activation_dropout", "hidden_dropout", "dropout", "dropout_p", "dropout_prob")


def dropout(rates: float | Sequence[float]) -> Regularizer:
    """Set the rate of every dropout: one rate, or one for each of equal groups of stages, bottom first.

    Raises UserError for a rate that is not within 0 and 1, or more rates than stages.
    """
    listed: list[Any] = list(rates) if isinstance(rates, (list, tuple)) else [rates]
    if not listed or any(isinstance(r, bool) or not isinstance(r, (int, float)) or not 0 <= r < 1 for r in listed):
        raise UserError(
            f"dropout({rates}) is out of range; expected a rate from 0 to below 1, or a list of them, bottom first."
        )

    def wrap(objective: Objective, model: nn.Module, stages: Stages) -> Objective:
        if len(listed) > len(stages):
            raise UserError(f"dropout has {len(listed)} rates, but this model has {len(stages)} stages; give at most as many.")
        modules = dict(model.named_modules())
        for i, stage in enumerate(stages):
            for name in stage.modules:
                set_rate(modules[name], float(listed[i * len(listed) // len(stages)]))
        return objective

    return wrap


def set_rate(module: nn.Module, rate: float) -> None:
    """Set the dropout rate of one module, where it has one."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        module.p = rate
    for name in _PLAIN:
        if isinstance(getattr(module, name, None), (int, float)):  # 0 is a whole number in some configs
            setattr(module, name, rate)
