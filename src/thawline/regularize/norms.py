"""Penalties on the size of the weights that learn. Norms and biases are left out, as with weight decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from thawline.errors import UserError
from thawline.models.heads import decays
from thawline.regularize.base import Regularizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from thawline.models.stages import Stages
    from thawline.tasks.base import Objective, Step
    from thawline.types import Loss


def l1(strength: float) -> Regularizer:
    """Add strength · Σ|w| to the mean loss. Raises UserError for a negative strength."""
    return _penalty("l1", strength, lambda weight: weight.abs().sum())


def l2(strength: float) -> Regularizer:
    """Add strength/2 · Σw² to the mean loss: the penalty, where `train.weight_decay` of AdamW is decoupled from it."""
    return _penalty("l2", strength, lambda weight: weight.square().sum() / 2)


def _penalty(name: str, strength: float, size: Callable[[Tensor], Tensor]) -> Regularizer:
    if isinstance(strength, bool) or not isinstance(strength, (int, float)) or strength < 0:
        raise UserError(f"{name}({strength}) is out of range; expected a strength of 0 or more, such as {name}(1e-5).")

    def wrap(objective: Objective, model: nn.Module, stages: Stages) -> Objective:
        def penalised(step: Step) -> Loss:
            loss = objective(step)
            weights = [p for n, p in step.model.named_parameters() if p.requires_grad and decays(n, p.dim())]
            # Times the weight, because the step's sum is divided by the step's weight: every micro-batch carries its share.
            total = loss.total + strength * loss.weight * sum(size(weight) for weight in weights)
            return loss._replace(total=total)

        return penalised

    return wrap
