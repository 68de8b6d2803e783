"""Which calls need not be computed at a cut, and what stands for their outputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any, final

from torch import Tensor, nn

from thawline.models.stages import Stage, Stages
from thawline.thaw.record import Leaf, Record, Traces
from thawline.thaw.stub import HIDDEN, NOTHING, Fill, Front, Live, Place, Stub, Template, standing


def places(model: nn.Module, stages: Stages, records: Sequence[Record]) -> dict[int, tuple[Place, ...]]:
    """Return for each depth where the hidden tensor could be, best first; depths at which there is none are missing."""
    named, stage_of = dict(model.named_modules()), {name: k for k, stage in enumerate(stages) for name in stage.modules}
    first: dict[int, Record] = {}
    for call in records:
        first.setdefault(stage_of[call.module], call)
    last: dict[int, Record] = {}
    for call in records:
        k = stage_of[call.module]
        if type(named[call.module]) is type(named[first[k].module]):
            last[k] = max(last.get(k, call), call, key=lambda call: call.end)
    found: dict[int, tuple[Place, ...]] = {}
    for k in range(1, len(stages)):
        head = k == len(stages) - 1
        inside = [] if head or k not in first else _before(first[k])
        outside = _after(last[k - 1], first[k].start if head and k in first else None) if k > 1 and k - 1 in last else []
        if inside or outside:
            found[k] = (*inside, *outside)
    return found


def _before(call: Record) -> list[Place]:
    keys = [key for key, leaf in call.args.items() if leaf.dtype.is_floating_point and len(leaf.shape) > 1]
    return [Place(call.module, call.nth, keys[0], False, call.start, call.args[keys[0]])] if keys else []


def _after(call: Record, head: int | None) -> list[Place]:
    floats = [i for i, leaf in enumerate(call.output) if isinstance(leaf, Leaf) and leaf.dtype.is_floating_point]
    # Up to the head whole containers may be left out, such as an encoder.
    times = [time for time in (head, call.end) if time is not None]
    return [Place(call.module, call.nth, floats[0], True, time, call.output[floats[0]]) for time in times if floats]


def skipped(records: Sequence[Record], place: Place) -> tuple[Record, ...]:
    """Return the largest calls that need not be computed, those left out whose outputs later calls take as they are."""
    calls = _outermost(call for call in records if call.end <= place.time)
    used = {leaf.token for call in records if call.start >= place.time for leaf in call.inputs} - {place.leaf.token}
    while leaking := [call for call in calls if used & {leaf.token for leaf in call.output if isinstance(leaf, Leaf)}]:
        calls = opened(records, calls, leaking)
    return calls


def opened(records: Sequence[Record], calls: Iterable[Record], some: Iterable[Record]) -> tuple[Record, ...]:
    """Return the calls, with `some` of them replaced by the calls inside them."""
    chosen = list(some)
    inner = [_outermost(c for c in records if call.start < c.start and c.end < call.end) for call in chosen]
    kept = [call for call in calls if call not in chosen]
    return tuple(sorted([*kept, *(call for part in inner for call in part)], key=lambda call: call.start))


def spares(model: nn.Module, blocks: Iterable[Stage], calls: Iterable[Record]) -> bool:
    """Tell whether the calls that are not computed hold most of each block: else replaying would be running it again."""
    named = dict(model.named_modules())
    spared = {parameter for call in calls for parameter in named[call.module].parameters()}
    held = dict(model.named_parameters())
    for block in blocks:
        own = [held[name] for name in block.parameters]
        if 2 * sum(p.numel() for p in own if p in spared) < sum(p.numel() for p in own):
            return False
    return True


def _outermost(calls: Iterable[Record]) -> tuple[Record, ...]:
    chosen: list[Record] = []
    for call in calls:
        if not chosen or call.start > chosen[-1].end:
            chosen.append(call)
    return tuple(chosen)


def template(call: Record, place: Place, traces: Traces) -> Template:
    """Return what stands for the output of a call."""
    index = traces.given.index(call)
    other = traces.resized[index] if traces.resized else call
    low = traces.lowered[index] if traces.lowered else call
    known = {**traces.sizes, **_axes(place, traces)}

    def stand_in(leaf: Any, resized: Any, lowered: Any) -> Any:
        if not isinstance(leaf, Leaf):
            return leaf
        if leaf.token == place.leaf.token:
            return HIDDEN
        pairs = zip(leaf.shape, resized.shape, strict=True)
        dims = tuple(a if a == b else known.get((a, b), a) for a, b in pairs)
        return Fill(dims, leaf.dtype, lowered.dtype != leaf.dtype)

    return Template(tuple(map(stand_in, call.output, other.output, low.output)), call.spec)


def resized_leaf(place: Place, traces: Traces) -> Leaf:
    """Return the hidden tensor as it was in the resized trace, or as given where there is none."""
    call = next(c for c in traces.resized or traces.given if (c.module, c.nth) == (place.module, place.nth))
    leaf: Leaf = call.output[int(place.key)] if place.after else call.args[place.key]
    return leaf


def _axes(place: Place, traces: Traces) -> dict[tuple[int, int], tuple[str, int]]:
    other = resized_leaf(place, traces).shape
    return {pair: ("", axis) for axis, pair in enumerate(zip(place.leaf.shape, other, strict=True))}


@final
class Cut:
    """A cut at one place: the stubs that are set up to replay from it."""

    def __init__(self, model: nn.Module, place: Place, calls: Sequence[Record], traces: Traces) -> None:
        self.place, self.calls, self.live = place, calls, Live()
        self.templates = [template(call, place, traces) for call in calls]
        modules, answers = dict(model.named_modules()), defaultdict[str, dict[int, Template]](dict)
        for call, made in zip(calls, self.templates, strict=True):
            answers[call.module][call.nth] = made
        inject = {} if place.after else {place.module: (place.nth, place.key)}
        stubs = {name: Stub(self.live, answers[name], inject.get(name)) for name in {*answers, *inject}}
        self.front = Front(self.live, list(stubs.values()), traces.switches, names=signature(model.forward).parameters)
        self.standing = [(model, self.front), *((modules[name], stub) for name, stub in stubs.items())]
        axes = sorted(range(len(place.leaf.stride)), key=lambda axis: -place.leaf.stride[axis])
        self.order = None if axes == sorted(axes) else axes
        self.inverse = sorted(axes, key=axes.__getitem__)

    def laid(self, hidden: Tensor) -> Tensor:
        """Return the hidden tensor in the memory layout that it had in the trace, since some kernels round by it."""
        if self.order is None or (turned := hidden.permute(self.order)).is_contiguous():
            return hidden
        return turned.contiguous().permute(self.inverse)

    @contextmanager
    def replaying(self, hidden: Tensor, value: float = 0.0) -> Iterator[None]:
        """Put up the stubs; what is not computed holds `value`."""
        live = self.live
        live.stored, live.value = self.laid(hidden), value
        try:
            with standing(self.standing):
                yield
        finally:
            live.stored, live.hidden, live.value = NOTHING, NOTHING, 0.0
