"""What a strategy must hold to."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from thawline.models.stages import Stages, extended
from thawline.strategies.base import Adaptation, Decisions, Group, Groups, Signals, Strategy, strategy
from thawline.testing.claims import claim

_MOMENTS = [i / 40 for i in range(41)]


def check_strategy(made: str | Strategy, stages: Stages, model: nn.Module | None = None) -> Strategy:
    """Check a strategy, or the one that a call form names, on the stages of a model, and return it.

    Its groups hold parameters that exist, each at most once and under its own stage, at rates above 0. `active` is pure, opens
    only stages that have a group, and always at least one. `spec` makes an equal strategy again. What decides while training is
    pure, never lowers the line, keeps to its `lines`, and leaves something to learn.

    What puts modules into a model is given one, and leaves it as it was, bit for bit: with the weights that were there while
    training, and, finished before anything was learned, with those and no others.

    >>> from thawline.models.stages import Stage
    >>> check_strategy("freeze(1)", (Stage("stem", ("a",), ("",)), Stage("head", ("b",), ("top",)))).spec
    'freeze(1)'

    Raises AssertionError with a sentence where this does not hold.
    """
    made = strategy(made)
    if made.prepare is not None:
        claim(model is not None, f"{made.spec} puts modules into a model; give the check one.")
        assert model is not None
        with _prepared(made, model, stages) as prepared:
            return _checked(made, prepared)
    return _checked(made, stages)


@contextmanager
def _prepared(made: Strategy, model: nn.Module, stages: Stages) -> Iterator[Stages]:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learned = {parameter: parameter.requires_grad for parameter in model.parameters()}
    assert made.prepare is not None
    made.prepare(model, stages)
    now = {parameter: parameter.requires_grad for parameter in model.parameters()}
    claim(learned.items() <= now.items(), f"{made.spec} takes weights away, or changes which of them may learn.")
    prepared = extended(stages, model)
    yield prepared
    if made.finish is not None:
        with TemporaryDirectory() as folder:
            made.finish(model, made.groups(prepared), Path(folder))
    after = model.state_dict()
    claim(list(after) == list(before), f"{made.spec} leaves other weights: {', '.join(sorted(set(after) ^ set(before)))}.")
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    claim(not changed, f"{made.spec} changes weights though nothing was learned: {', '.join(changed)}.")


def _checked(made: Strategy, stages: Stages) -> Strategy:
    groups = made.groups(stages)
    claim(bool(groups), f"{made.spec} has no group, so nothing would ever learn.")
    claim(made.groups(stages) == groups, f"{made.spec} makes other groups the second time.")
    for group in groups:
        _check_group(group, stages, made.spec)
    held = [name for group in groups for name in group.parameters]
    twice = sorted({name for name in held if held.count(name) > 1}) if len(set(held)) < len(held) else []
    claim(not twice, f"{made.spec} holds {', '.join(twice)} twice.")
    _check_course(made, groups)
    if made.adaptation is not None:
        _check_adaptation(made, made.adaptation, groups)
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


def _check_adaptation(made: Strategy, adaptation: Adaptation, groups: Groups) -> None:
    lines, able = adaptation.lines(groups), {group.stage for group in groups}
    claim(adaptation.times > 0, f"{made.spec} never decides.")
    claim(set(lines) <= able, f"{made.spec} may move to lines that have no group: {sorted(set(lines) - able)}.")
    for moment in _MOMENTS:
        left = {stage for stage in made.active(groups, moment) if stage >= max(lines, default=0)}
        claim(bool(left), f"{made.spec} could leave nothing to learn at progress {moment}.")
    story = _decisions(made, groups)
    claim(_decisions(made, groups) == story, f"{made.spec} decides otherwise on equal signals.")
    came = [decisions.line for decisions in story]
    claim(came == sorted(came), f"{made.spec} lowers its line: {came}.")
    claim(set(came) <= {0, *lines}, f"{made.spec} moves to a line that it does not name: {came}.")
    kept = Decisions(*json.loads(json.dumps(story[-1])))
    claim(kept == story[-1], f"{made.spec} keeps decisions that JSON cannot hold.")


def _decisions(made: Strategy, groups: Groups) -> list[Decisions]:
    """Return what is decided on made-up signals: gradients that shake, and then settle."""
    assert made.adaptation is not None
    rng, found = random.Random(0), [Decisions()]
    for moment in _MOMENTS[1:]:
        learning = [s for s in made.active(groups, moment) if s >= found[-1].line]
        signals = Signals(moment, {stage: 2.0 ** rng.uniform(-2, 2) if moment < 0.5 else 1.0 for stage in sorted(learning)})
        found.append(made.adaptation.decide(groups, signals, found[-1]))
    return found


def _check_spec(made: Strategy, stages: Stages) -> None:
    again, groups = strategy(made.spec), made.groups(stages)
    claim(again.spec == made.spec, f"{made.spec} says {again.spec} once it was parsed.")
    claim(again.groups(stages) == groups, f"{made.spec} makes other groups once it was parsed.")
    same = _course(again, groups, _MOMENTS) == _course(made, groups, _MOMENTS)
    claim(same, f"{made.spec} opens other stages once it was parsed.")
    claim((again.adaptation is None) == (made.adaptation is None), f"{made.spec} adapts only before it was parsed, or after.")
    if made.adaptation is not None:
        claim(_decisions(again, groups) == _decisions(made, groups), f"{made.spec} decides otherwise once it was parsed.")


def _course(made: Strategy, groups: Groups, moments: Iterable[float]) -> dict[float, frozenset[int]]:
    return {moment: made.active(groups, moment) for moment in moments}
