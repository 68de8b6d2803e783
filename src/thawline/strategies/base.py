"""The one small type that every strategy is, and the table of strategies.

A strategy says what learns, how fast and when, as data and pure functions of progress. Wrappers take one and return one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from thawline.calls import Call, make, parse_call
from thawline.errors import UserError
from thawline.table import Table

if TYPE_CHECKING:
    from pathlib import Path

    from thawline.models.stages import Stages


class Group(NamedTuple):
    """Parameters of one stage that learn at one rate.

    `stage` is an index into the stages, `parameters` are names. `rate` is a learning rate of its own; None means the recipe's.
    `scale` multiplies either.
    """

    stage: int
    parameters: tuple[str, ...]
    rate: float | None = None
    scale: float = 1.0


Groups = tuple[Group, ...]


class Signals(NamedTuple):
    """What gradients said since it was last decided by them, at a progress.

    `norms` are geometric means over the steps of the norm of a stage's gradient before clipping, by stage; one that did not
    learn in every step has none. Geometric, since the norms of single batches differ by factors.
    """

    progress: float
    norms: Mapping[int, float]


class Decisions(NamedTuple):
    """What a strategy decided while training: stages below `line` are frozen from now on. `memory` is its own; all is JSON."""

    line: int = 0
    memory: Mapping[str, Any] = {}


class Adaptation(NamedTuple):
    """How a strategy decides while training, and not by progress alone.

    It does so after each of `times` equal parts of the steps. `lines(groups)` are the values that `line` may take beside 0, and
    `decide(groups, signals, before)` is pure and never lowers it.
    """

    times: int
    lines: Callable[[Groups], Sequence[int]]
    decide: Callable[[Groups, Signals, Decisions], Decisions]


class Strategy(NamedTuple):
    """What learns, how fast, and when.

    `spec` is the call form that makes it again. `groups(stages)` holds each parameter that will ever learn, exactly once.
    `active(groups, progress)` gives the indices of the stages that learn now, where progress is steps done / steps planned,
    never time; it is pure, so resuming is exact. An `adaptation` freezes some of them from the bottom.

    `prepare(model, stages)` puts modules into a model whose weights are loaded, in place, before `groups` is asked; those stand
    in the stages that they are put into. `finish(model, groups, folder)` makes the plain model of it that is saved in `folder`.
    `rate` is the learning rate that suits the strategy where the recipe names none, in multiples of the one of `full`.
    """

    spec: str
    groups: Callable[[Stages], Groups]
    active: Callable[[Groups, float], frozenset[int]]
    adaptation: Adaptation | None = None
    prepare: Callable[[Any, Stages], None] | None = None
    finish: Callable[[Any, Groups, Path], None] | None = None
    rate: float = 1.0

    def __repr__(self) -> str:
        return self.spec


STRATEGIES: Table[Callable[..., Strategy]] = Table(
    "strategy",
    {
        "full": "thawline.strategies.what:full",
        "head": "thawline.strategies.what:head",
        "encoder": "thawline.strategies.what:encoder",
        "freeze": "thawline.strategies.what:freeze",
        "lora": "thawline.strategies.lora:lora",
        "bitfit": "thawline.strategies.bitfit:bitfit",
        "layerwise": "thawline.strategies.layerwise:layerwise",
        "discriminative": "thawline.strategies.discriminative:discriminative",
        "gradual": "thawline.strategies.gradual:gradual",
        "adaptive": "thawline.strategies.adaptive:adaptive",
    },
)


def strategy(spec: object) -> Strategy:
    """Make the strategy that a call form names; a strategy is returned as it is.

    >>> strategy("gradual(layerwise(full, decay=0.9))").spec
    'gradual(layerwise(full, decay=0.9), until=0.5)'

    Raises UserError for an unknown name, argument or value.
    """
    made = _make(parse_call(spec)) if isinstance(spec, str) else spec
    if not isinstance(made, Strategy):
        raise UserError(f"{made!r} is not a strategy; expected one such as full, freeze(4) or layerwise(full, decay=0.9).")
    return made


def _make(call: Call) -> Strategy:
    def argument(value: Any) -> Any:
        if isinstance(value, list):
            return [argument(part) for part in value]
        if not isinstance(value, Call):
            return value
        # A bare word that is no strategy is for the maker to judge: lora(target=attention).
        return (
            value.name if value == Call(value.name) and value.name not in STRATEGIES and ":" not in value.name else _make(value)
        )

    return make(call, STRATEGIES[call.name], "Strategy", argument=argument)


def spec_of(name: str, *args: Any, **kwargs: Any) -> str:
    """Return the canonical call form of a part made with these arguments; strategies among them stand as their own."""

    def plain(value: Any) -> Any:
        return parse_call(value.spec) if isinstance(value, Strategy) else value

    return str(Call(name, tuple(map(plain, args)), tuple((key, plain(value)) for key, value in kwargs.items())))
