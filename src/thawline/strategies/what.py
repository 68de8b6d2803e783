"""What learns: everything, the head, the encoder, or all above a frozen bottom."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from thawline.errors import UserError
from thawline.strategies.base import Group, Groups, Strategy, spec_of

if TYPE_CHECKING:
    from thawline.models.stages import Stages


def full() -> Strategy:
    """Everything learns.

    >>> full().spec
    'full'
    """
    return _fixed("full", lambda stages: range(len(stages)))


def head() -> Strategy:
    """Only the head learns: feature extraction, everything below it is frozen."""
    return _fixed("head", lambda stages: [len(stages) - 1])


def encoder() -> Strategy:
    """The blocks learn; embeddings and head are fixed."""
    return _fixed("encoder", lambda stages: range(1, len(stages) - 1))


def freeze(below: int | float) -> Strategy:
    """The bottom is frozen, the rest learns.

    A whole number counts stages, of which the stem is the first: `freeze(4)` freezes the stem and three blocks. A fraction is
    the share of the blocks that is frozen together with the stem: `freeze(0.5)` freezes the stem and half of the blocks.

    Raises UserError where the number is out of range, or leaves nothing to learn in the model at hand.
    """
    if isinstance(below, bool) or not isinstance(below, (int, float)) or below < 0 or (isinstance(below, float) and below > 1):
        raise UserError(
            f"freeze({below}) is out of range; expected a number of stages such as 4, or a fraction from 0.0 to 1.0."
        )

    def learning(stages: Stages) -> range:
        blocks = len(stages) - 2
        bottom = 1 + int(blocks * below + 0.5) if isinstance(below, float) else below
        if bottom >= len(stages):
            raise UserError(
                f"freeze({below}) leaves nothing to learn: this model has {len(stages)} stages; try {len(stages) - 1} at most."
            )
        return range(bottom, len(stages))

    return _fixed(spec_of("freeze", below), learning)


def _fixed(spec: str, learning: Callable[[Stages], range | list[int]]) -> Strategy:
    def groups(stages: Stages) -> Groups:
        return tuple(Group(i, stages[i].parameters) for i in learning(stages) if stages[i].parameters)

    return Strategy(spec, groups, all_stages)


def all_stages(groups: Groups, progress: float) -> frozenset[int]:
    """Return every stage that has a group: what learns does so from the first step to the last."""
    return frozenset(group.stage for group in groups)
