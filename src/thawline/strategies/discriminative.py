"""Learning rates given for equal groups of stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from thawline.errors import UserError
from thawline.strategies.base import Groups, Strategy, spec_of, strategy

if TYPE_CHECKING:
    from thawline.models.stages import Stages


def discriminative(base: Strategy | str, *, rates: Sequence[float]) -> Strategy:
    """Cut the stages into len(rates) equal groups, bottom first, and give each a learning rate of its own.

    Where the stages do not divide, the upper groups are the larger ones. Source: Howard & Ruder 2018, section 3.2
    ("discriminative fine-tuning").

    >>> from thawline.strategies.what import full
    >>> discriminative(full(), rates=[1e-5, 5e-5, 1e-4]).spec
    'discriminative(full, rates=[1e-05, 5e-05, 0.0001])'

    Raises UserError for an empty list, a rate that is not above 0, or more rates than the model has stages.
    """
    base = strategy(base)
    rates = list(rates) if isinstance(rates, Sequence) else [rates]
    if not rates or any(isinstance(r, bool) or not isinstance(r, (int, float)) or r <= 0 for r in rates):
        raise UserError(f"discriminative(rates={rates}) is out of range; expected learning rates such as [1e-5, 5e-5, 1e-4].")

    def groups(stages: Stages) -> Groups:
        if len(rates) > len(stages):
            raise UserError(
                f"discriminative has {len(rates)} rates, but this model has {len(stages)} stages; give at most as many."
            )
        return tuple(g._replace(rate=rates[g.stage * len(rates) // len(stages)]) for g in base.groups(stages))

    return base._replace(spec=spec_of("discriminative", base, rates=rates), groups=groups)
