"""What stands in the place of calls that are not computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from thawline.errors import ModelError
from thawline.thaw.record import Leaf

NOTHING = torch.empty(0)
HIDDEN = object()
"""Stands for the stored tensor in a template."""


class Fill(NamedTuple):
    """A tensor of nothing: `dims` are numbers, or axes of the hidden ("") or of an input; `low` where autocast lowers it."""

    dims: tuple[int | tuple[str, int], ...]
    dtype: torch.dtype
    low: bool


class Place(NamedTuple):
    """Where the hidden tensor is: an argument of a call (by position or name), or, with `after`, a leaf of its output.

    Calls that end before `time` need not be computed.
    """

    module: str
    nth: int
    key: int | str
    after: bool
    time: int
    leaf: Leaf


@dataclass(eq=False)
class Live:
    """What stubs know of the pass that is being replayed; `poisoned` is the one call whose answer is all NaN, if any.

    `copied` where the model changes the tensor in place, `dense` where it does so with what fillers stand for.
    """

    stored: Tensor = NOTHING
    hidden: Tensor = NOTHING
    inputs: Mapping[str, Any] = field(default_factory=dict)
    low: torch.dtype | None = None
    value: float = 0.0
    dense: bool = False
    copied: bool = False
    poisoned: Template | None = None

    def filled(self, fill: Fill, value: float) -> Tensor:
        """Return a tensor that holds `value` everywhere, expanded from one number unless `dense`."""
        sizes = [d if isinstance(d, int) else (self.inputs[d[0]] if d[0] else self.hidden).shape[d[1]] for d in fill.dims]
        dtype = self.low if fill.low and self.low else fill.dtype
        number = value if dtype.is_floating_point else math.isnan(value)  # both 0 and 1 are tried on what is no float
        one = torch.full(sizes if self.dense else (), number, dtype=dtype, device=self.hidden.device)
        return one if self.dense else one.expand(sizes)


@dataclass(frozen=True, eq=False)
class Template:
    """What a call returned, with fillers for its tensors."""

    leaves: tuple[Any, ...]
    spec: TreeSpec

    def build(self, live: Live) -> Any:
        """Return it anew."""
        value = math.nan if live.poisoned is self else live.value
        leaves = [live.hidden if x is HIDDEN else live.filled(x, value) if type(x) is Fill else x for x in self.leaves]
        return leaves[0] if self.spec.is_leaf() else tree_unflatten(leaves, self.spec)


class Stub:
    """Stands for a module's forward: answers some calls by a template, gives one the hidden tensor, passes on the others."""

    def __init__(self, live: Live, templates: Mapping[int, Template], inject: tuple[int, int | str] | None) -> None:
        self.live, self.templates, self.inject = live, templates, inject
        self.calls = 0
        self.forward: Callable[..., Any] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        nth = self.calls
        self.calls = nth + 1
        template = self.templates.get(nth)
        if template is not None:
            return template.build(self.live)
        if self.inject is not None and self.inject[0] == nth:
            key = self.inject[1]
            if isinstance(key, str):
                kwargs[key] = self.live.hidden
            else:
                args = (*args[:key], self.live.hidden, *args[key + 1 :])
        return self.forward(*args, **kwargs)


class Reached(Exception):  # noqa: N818 - not an error: nothing above is needed
    """Raised by a capture when the last tensor is there."""


class Capture:
    """Stands for a module's forward and takes the hidden tensors that pass it; above the last one nothing runs."""

    def __init__(self, found: dict[int, Tensor], places: Mapping[int, Place], *, last: int) -> None:
        self.found, self.places, self.last = found, places, last
        self.calls = 0
        self.forward: Callable[..., Any] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        nth = self.calls
        self.calls = nth + 1
        here = {depth: place for depth, place in self.places.items() if place.nth == nth}
        for depth, place in here.items():
            if not place.after:
                self._take(depth, kwargs[place.key] if isinstance(place.key, str) else args[place.key])
        output = self.forward(*args, **kwargs)
        for depth, place in here.items():
            if place.after:
                self._take(depth, tree_flatten(output)[0][int(place.key)])
        return output

    def _take(self, depth: int, tensor: Tensor) -> None:
        # What runs on may change the tensor in place.
        self.found[depth] = tensor if depth == self.last else tensor.clone()
        if depth == self.last:
            raise Reached


class Front:
    """Stands for the model's own forward: tells the stubs of the inputs, and lets through only what is true of the outputs."""

    def __init__(self, live: Live, stubs: Sequence[Stub], switches: Mapping[str, Any], *, names: Iterable[str]) -> None:
        self.live, self.stubs, self.switches, self.names = live, stubs, switches, tuple(names)
        self.true: frozenset[str] | None = None
        self.forward: Callable[..., Any] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for asked in ("output_hidden_states", "output_attentions"):
            if kwargs.get(asked):
                raise ModelError(f"{asked} cannot be answered from a stored tensor, since what lies below it is not computed.")
        kwargs |= self.switches
        for stub in self.stubs:
            stub.calls = 0
        live = self.live
        live.hidden = live.stored.clone() if live.copied else live.stored
        live.inputs, device = {**dict(zip(self.names, args, strict=False)), **kwargs}, live.hidden.device.type
        live.low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        output = self.forward(*args, **kwargs)
        if self.true is None or not isinstance(output, dict) or self.true.issuperset(output):
            return output
        return type(output)(**{key: value for key, value in output.items() if key in self.true})


@contextmanager
def standing(places: Sequence[tuple[nn.Module, Any]]) -> Iterator[None]:
    """Let each of the second stand for the forward of the module beside it, which it knows as its own `forward`."""
    before = [(module.__dict__, module.__dict__.get("forward")) for module, _ in places]
    try:
        for module, stub in places:
            stub.forward = module.forward
            module.__dict__["forward"] = stub
        yield
    finally:
        for own, forward in reversed(before):
            if forward is None:
                own.pop("forward", None)
            else:
                own["forward"] = forward


def outputs(output: Any) -> dict[str, Tensor]:
    """Return the tensors of what a model returns by name, the one that is its answer (the logits, or the first) first."""
    named = output if isinstance(output, Mapping) else dict(enumerate(tree_flatten(output)[0]))
    found = {str(key): value for key, value in named.items() if isinstance(value, Tensor)}
    return {key: found[key] for key in sorted(found, key=lambda key: key != "logits")}
