"""What a strategy must hold to."""

from __future__ import annotations

from collections.abc import Iterable

from thawline.models.stages import Stages
from thawline.strategies.base import Group, Groups, Strategy, strategy
from thawline.testing.claims import claim

_MOMENTS = [i / 40 for i in range(41)]


def check_strategy(made: str | Strategy, stages: Stages) -> Strategy:
    """Check a strategy, or the one that a call form names, on the stages of a model, and return it.

    Its groups hold parameters that exist, each at most once and under its own stage, at rates above 0. `active` is pure, opens
    only stages that have a group, and always at least one. `spec` makes an equal strategy again.

    >>> from thawline.models.stages import Stage
    >>> check_strategy("freeze(1)", (Stage("stem", ("a",), ("",)), Stage("head", ("b",), ("top",)))).spec
    'freeze(1)'

    Raises AssertionError with a sentence where this does not hold.
    """
    made = strategy(made)
    groups = made.groups(stages)
    claim(bool(groups), f"{made.spec} has no group, so nothing would ever learn.")
    claim(made.groups(stages) == groups, f"{made.spec} makes other groups the second time.")
    for group in groups:
        _check_group(group, stages, made.spec)
    held = [name for group in groups for name in group.parameters]
    twice = sorted({name for name in held if held.count(name) > 1}) if len(set(held)) < len(held) else []
    claim(not twice, f"{made.spec} holds {', '.join(twice)} twice.")
    _check_course(made, groups)
    _check_spec(made, stages)
    return made


def _check_group(group: Group, stages: Stages, spec: str) -> None:
    claim(group.stage in range(len(stages)), f"{spec} has a group for stage {group.stage}; there are {len(stages)}.")
    stage = stages[group.stage]
    strange = sorted(set(group.parameters) - set(stage.parameters))
    claim(not strange, f"{spec} holds parameters that {stage.name} has not: {', '.join(strange)}.")
    claim(bool(group.parameters), f"{spec} has a group without parameters for {stage.name}.")
    positive = (group.rate is None or group.rate > 0) and group.scale > 0
    claim(positive, f"{spec} gives {stage.name} the rate {group.rate} times {group.scale}; expected numbers above 0.")


def _check_course(made: Strategy, groups: Groups) -> None:
    course, able = _course(made, groups, _MOMENTS), {group.stage for group in groups}
    claim(_course(made, groups, reversed(_MOMENTS)) == course, f"{made.spec} opens other stages when asked in another order.")
    for moment, active in course.items():
        claim(active <= able, f"{made.spec} opens stages that have no group at progress {moment}: {sorted(active - able)}.")
        claim(bool(active), f"{made.spec} lets nothing learn at progress {moment}.")


def _check_spec(made: Strategy, stages: Stages) -> None:
    again, groups = strategy(made.spec), made.groups(stages)
    claim(again.spec == made.spec, f"{made.spec} says {again.spec} once it was parsed.")
    claim(again.groups(stages) == groups, f"{made.spec} makes other groups once it was parsed.")
    same = _course(again, groups, _MOMENTS) == _course(made, groups, _MOMENTS)
    claim(same, f"{made.spec} opens other stages once it was parsed.")


def _course(made: Strategy, groups: Groups, moments: Iterable[float]) -> dict[float, frozenset[int]]:
    return {moment: made.active(groups, moment) for moment in moments}
