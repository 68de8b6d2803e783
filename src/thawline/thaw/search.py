"""Finding out, on the traced batches, what of a model need not be computed above a stored tensor."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import product
from typing import Any, final

import torch
from torch import Tensor, nn

from thawline.models.stages import Stage
from thawline.models.trace import evaluating
from thawline.thaw.cut import Cut, opened, skipped, spares
from thawline.thaw.record import Record, Traces
from thawline.thaw.stub import Capture, Place, Reached, Template, outputs, standing


def captured(
    model: nn.Module, inputs: Mapping[str, Any], places: Mapping[int, Place], *, learning: bool = False
) -> dict[int, Tensor]:
    """Run `model` in eval mode up to the last of the places, by depth, and return the tensors there.

    They come without gradient, or, if `learning`, with the graph of what made them.
    """
    found: dict[int, Tensor] = {}
    named = dict(model.named_modules())
    captures = [
        (named[name], Capture(found, {d: p for d, p in places.items() if p.module == name}, last=max(places)))
        for name in {place.module for place in places.values()}
    ]
    with torch.set_grad_enabled(learning), evaluating(model), standing(captures), suppress(Reached):
        model(**inputs)
    return found


ROUNDS = 4
"""How often what leaks is looked into: what is still found then reads what lies below in general, such as a decoder."""


@final
class Search:
    """The search for cuts of a model whose traces are given: what replays the traced batches bit for bit is one."""

    def __init__(self, model: nn.Module, traces: Traces) -> None:
        self.model, self.traces = model, traces

    def cut(self, place: Place, blocks: Sequence[Stage]) -> Cut | None:
        """Return the cut at a place with `blocks` below it, None where the upper part needs more than the tensor there.

        Every call below holds NaN; one that leaks into the answer is run for real, or rather what in it leaks.
        """
        calls, dense = skipped(self.traces.given, place), False
        hidden = [captured(self.model, {**b, **self.traces.switches}, {0: place})[0] for b in self.traces.batches]
        for _ in range(ROUNDS):
            if not spares(self.model, blocks, calls):
                break
            cut = Cut(self.model, place, calls, self.traces)
            cut.live.dense = dense
            try:
                if self._holds(cut, hidden):
                    return cut
                calls, leaked = self._opened(cut, hidden[0])
            except Exception:  # fillers may break a forward in any way
                if dense:
                    return None
                dense = True
                continue
            if not leaked:
                return None
        return None

    def _holds(self, cut: Cut, hidden: Sequence[Tensor]) -> bool:
        trials = product(zip(self.traces.batches, self._straight, hidden, strict=True), (0.0, math.nan))
        for (inputs, straight, stored), value in trials:
            kept = stored.clone()
            with _strict(), cut.replaying(stored, value):
                replayed = self._answers(inputs)
            if not torch.equal(kept, stored):  # changed in place: from now on a copy is
                if cut.live.copied:
                    return False
                cut.live.copied = True
                stored.copy_(kept)
                return self._holds(cut, hidden)
            true = {key for key in straight if key in replayed and torch.equal(straight[key], replayed[key])}
            if not true.issuperset(list(straight)[:2]):
                return False
            cut.front.true = frozenset(true | {"loss"}) & (cut.front.true or true | {"loss"})
        return True

    def _opened(self, cut: Cut, hidden: Tensor) -> tuple[tuple[Record, ...], bool]:
        """Return the calls with those opened whose outputs matter, and whether there were any."""

        def answer(poisoned: Template | None) -> Tensor:
            cut.live.poisoned = poisoned
            with cut.replaying(hidden):
                return list(self._answers(self.traces.batches[0]).values())[1]

        plain = answer(None)
        leaking = [c for c, t in zip(cut.calls, cut.templates, strict=True) if not torch.equal(answer(t), plain)]
        return opened(self.traces.given, cut.calls, leaking), bool(leaking)

    @cached_property
    def _straight(self) -> list[dict[str, Tensor]]:
        return [self._answers(batch) for batch in self.traces.batches]

    def _answers(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the outputs after the random numbers that are left: what is left out must not have drawn any."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found = outputs(self.model(**inputs, **self.traces.switches))
            return {"": torch.get_rng_state(), **found}


@contextmanager
def _strict() -> Iterator[None]:
    """Let it be an error, each time, when something is written into an expanded tensor."""
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*expanded tensors")
            yield
    finally:
        torch.set_warn_always(always)
