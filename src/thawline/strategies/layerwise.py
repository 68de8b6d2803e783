"""Learning rates that fall from the head to the stem."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thawline.errors import UserError
from thawline.strategies.base import Groups, Strategy, spec_of, strategy

if TYPE_CHECKING:
    from thawline.models.stages import Stages


def layerwise(base: Strategy | str, *, decay: float = 0.9) -> Strategy:
    """Scale the learning rate by `decay` for each stage below the head: head lr, top block lr·decay, next lr·decay², …

    Source: Howard & Ruder 2018, "Universal Language Model Fine-tuning", section 3.2, with one factor per stage; the form with a
    decay is that of Clark et al. 2020, "ELECTRA", appendix A.

    >>> from thawline.strategies.what import full
    >>> layerwise(full(), decay=0.8).spec
    'layerwise(full, decay=0.8)'

    Raises UserError where decay is not above 0 and at most 1.
    """
    base = strategy(base)
    if not isinstance(decay, (int, float)) or not 0 < decay <= 1:
        raise UserError(f"layerwise(decay={decay}) is out of range; expected a number above 0 and at most 1, such as 0.9.")

    def groups(stages: Stages) -> Groups:
        top = len(stages) - 1
        return tuple(group._replace(scale=group.scale * decay ** (top - group.stage)) for group in base.groups(stages))

    return base._replace(spec=spec_of("layerwise", base, decay=decay), groups=groups)
