"""Adaptive freezing: stages whose gradients have settled are frozen from the bottom, while training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from thawline.errors import UserError
from thawline.strategies.base import Adaptation, Decisions, Groups, Signals, Strategy, spec_of, strategy

if TYPE_CHECKING:
    from thawline.models.stages import Stages

_TIMES = 20
_WEIGHT = 0.5
"""Of the newest part of the training in the smoothed norm that the next one is compared with."""


def adaptive(base: Strategy | str, *, after: float = 0.5, most: float = 0.7, change: float = 0.3) -> Strategy:
    """Freeze the stages that `base` trains from the bottom up, each once it and all below it have settled; none ever thaws.

    Training is looked at in 20 equal parts. In each the geometric mean norm of a stage's gradient is compared with the smoothed
    one of the parts before; the stage has settled where it changed by less than the share `change`. Nothing is frozen in the
    warm-up or in the first share `after` of the training; never more than the share `most` of the stages below the topmost one
    that learns, and that one never.

    Source: Liu et al. 2021, "AutoFreeze", arXiv 2102.01386, section 4, which freezes what changes less than the median of the
    active layers, so that about half of them settle at any time, whatever they do; a bound on the change itself does not.

    >>> from thawline.strategies.what import full
    >>> adaptive(full(), most=0.4).spec
    'adaptive(full, after=0.5, most=0.4, change=0.3)'

    Raises UserError where a number is out of range, where `base` decides while training itself, or trains one stage only.
    """
    base = strategy(base)
    for name, value in {"after": after, "most": most, "change": change}.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise UserError(f"adaptive({name}={value!r}) is out of range; expected a share from 0 to 1, such as 0.3.")
    if base.adaptation is not None:
        raise UserError(f"adaptive({base.spec}) would freeze twice; expected a strategy without adaptive, such as full.")

    def groups(stages: Stages) -> Groups:
        found = base.groups(stages)
        if len({group.stage for group in found}) < 2:
            raise UserError(f"adaptive({base.spec}) has nothing to freeze, since only one stage learns; use {base.spec} alone.")
        return found

    def lines(groups: Groups) -> list[int]:
        learning = sorted({group.stage for group in groups})
        return learning[1 : 1 + int((len(learning) - 1) * most + 0.5)]

    def decide(groups: Groups, signals: Signals, before: Decisions) -> Decisions:
        known = dict(before.memory)
        logs = {str(stage): math.log(norm) for stage, norm in signals.norms.items()}
        settled = {s for s, log in logs.items() if s in known and abs(log - known[s]) <= math.log1p(change)}
        memory = {s: known.get(s, log) * (1 - _WEIGHT) + log * _WEIGHT for s, log in logs.items()}
        line, learning = before.line, sorted({group.stage for group in groups})
        if signals.progress >= after:
            for below, above in zip(learning, lines(groups), strict=False):
                if below < line:
                    continue
                if str(below) not in settled:
                    break
                line = above
        return Decisions(line, memory)

    spec = spec_of("adaptive", base, after=after, most=most, change=change)
    return base._replace(spec=spec, groups=groups, adaptation=Adaptation(_TIMES, lines, decide))
