"""Gradual unfreezing: stages open from the top."""

from __future__ import annotations

from thawline.errors import UserError
from thawline.strategies.base import Groups, Strategy, spec_of, strategy


def gradual(base: Strategy | str, *, until: float = 0.5) -> Strategy:
    """Open the stages that `base` trains one after the other from the top, at equal shares of progress.

    With n stages to open, the top one learns from the start and the j-th below it from progress until·j/(n-1) on, so that
    everything learns by `until`. What `base` keeps frozen at a moment stays frozen. Source: Howard & Ruder 2018,
    "Universal Language Model Fine-tuning for Text Classification", section 3.3.

    >>> from thawline.strategies.what import full
    >>> gradual(full(), until=0.5).spec
    'gradual(full, until=0.5)'

    Raises UserError where `until` is not within 0 and 1.
    """
    base = strategy(base)
    if not isinstance(until, (int, float)) or not 0 <= until <= 1:
        raise UserError(f"gradual(until={until}) is out of range; expected a share of the training from 0 to 1, such as 0.5.")

    def active(groups: Groups, progress: float) -> frozenset[int]:
        stages = sorted({group.stage for group in groups}, reverse=True)
        # Compared as progress·(n-1) >= until·j, so that no division makes the last stage miss `until` by rounding.
        opened = {stage for j, stage in enumerate(stages) if progress * (len(stages) - 1) >= until * j}
        return base.active(groups, progress) & opened

    return base._replace(spec=spec_of("gradual", base, until=until), active=active)
