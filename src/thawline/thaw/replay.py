"""Running a model to a cut, and from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import final

import torch
from torch import Tensor, nn

from thawline.errors import ModelError
from thawline.models.stages import Stages
from thawline.models.trace import evaluating
from thawline.thaw.cut import Cut, places, resized_leaf
from thawline.thaw.record import traces
from thawline.thaw.rows import MASK, Layout, frames_of, join, layout, positions, split
from thawline.thaw.search import Search, captured
from thawline.thaw.stub import Place, standing
from thawline.thaw.tape import Shortcut, Tape


@final
class Replay:
    """A model that can be run to a cut, and from it.

    A cut at depth k has the stages [0, k) below it; at k = len(stages) - 1 only the head is above. `depths` are those at which
    there is a tensor to store; whether it is all that the upper part needs, `thawline.thaw.verify.refusal` tells. `inputs` is a
    batch (two examples do) that is run through the model a few times; no hooks stay.
    """

    def __init__(self, model: nn.Module, stages: Stages, inputs: Mapping[str, Tensor]) -> None:
        self.model, self.stages = model, stages
        self._traces = traces(model, inputs)
        self._search, self._frames = Search(model, self._traces), frames_of(model)
        self._places = places(model, stages, self._traces.given)
        self._layouts = {d: found for d, options in self._places.items() if (found := self._layout_at(options[0]))}
        self._cuts: dict[int, Cut | None] = {}
        self._shortcuts: dict[int, Shortcut] = {}
        self.depths = tuple(self._layouts)

    def run(
        self, inputs: Mapping[str, Tensor], depths: Sequence[int], *, start: int = 0, hidden: Tensor | None = None
    ) -> dict[int, Tensor]:
        """Run what lies below the deepest of `depths` in eval mode without gradient, and return the tensors at `depths`.

        It starts from the input, or from `hidden` at depth `start`. Nothing above is computed. Autocast is the caller's to set.
        Raises ModelError for a depth at which there is nothing to store.
        """
        wanted = {depth: self.place(depth) for depth in depths if hidden is None or depth != start}
        found = {} if hidden is None else {start: hidden}
        if wanted:
            with nullcontext() if hidden is None else self.replaying(start, hidden):
                found |= captured(self.model, {**inputs, **self._traces.switches}, wanted)
        return {depth: found[depth] for depth in depths}

    @contextmanager
    def replaying(self, depth: int, hidden: Tensor, *, short: bool = False) -> Iterator[None]:
        """Within it `model(**inputs)`, any number of times, starts from `hidden` at `depth`: what lies below is not computed.

        Modules keep their modes, and what is left out takes no random numbers. Outputs that would not be true (hidden states
        below the cut, caches) are left out; with `short` the model's own code is, where it adds nothing: gradients are wanted,
        and modules have the same modes each time. Raises ModelError at a depth where one tensor is not enough.
        """
        cut = self._cuts.get(depth) or self.cut(depth)
        if cut is None:
            raise ModelError(self.needs_more(depth))
        if not short:
            with cut.replaying(hidden):
                yield
            return
        shortcut = self._shortcuts.setdefault(depth, Shortcut(self.model))
        shortcut.hidden = cut.laid(hidden)
        with nullcontext() if shortcut.known else cut.replaying(shortcut.hidden), standing([(self.model, shortcut)]):
            yield

    def tape(self, depth: int, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tape | None:
        """Return the operations from `hidden` at `depth` to the answer; None where the model's own code is needed."""
        with self.replaying(depth, hidden, short=True):
            if not self._shortcuts[depth].known:
                self.model(**inputs)
            return self._shortcuts[depth].tape

    def rows(self, hidden: Tensor, inputs: Mapping[str, Tensor], depth: int) -> list[Tensor]:
        """Return one tensor per example of that at `depth`, positions first and without padding where it has the mask's."""
        layout = self._layouts[depth]
        return split(hidden, layout, self.real(layout, inputs))

    def joined(self, rows: Sequence[Tensor], inputs: Mapping[str, Tensor], depth: int) -> Tensor:
        """Return the rows as one tensor at `depth` for another batch, on its device, zeros where there is padding."""
        layout, device = self._layouts[depth], next(iter(inputs.values())).device
        return join([row.to(device) for row in rows], layout, self.real(layout, inputs))

    def real(self, layout: Layout, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """Return which positions are not padding, bool [B, T]; None where there is no saying or no padding."""
        if layout.time is None or MASK not in inputs:
            return None
        return positions(inputs, self._frames if layout.frames else None)

    def layout(self, depth: int) -> Layout:
        """Return which axes of the tensor at `depth` count examples and positions."""
        return self._layouts[depth]

    def cut(self, depth: int) -> Cut | None:
        """Return the cut at `depth` that replays the traced batches bit for bit while all else holds NaN, None if none does."""
        if depth not in self._cuts:
            blocks, options = self.stages[1:depth], self._places[depth] if depth in self.depths else ()
            with torch.no_grad(), evaluating(self.model), torch.autocast(self.device, enabled=False):
                self._cuts[depth] = next((cut for place in options if (cut := self._search.cut(place, blocks))), None)
        return self._cuts[depth]

    def place(self, depth: int) -> Place:
        """Return where the tensor at `depth` is; raises ModelError where there is none."""
        if depth not in self.depths:
            raise ModelError(self.needs_more(depth))
        cut = self.cut(depth)
        return self._places[depth][0] if cut is None else cut.place

    def needs_more(self, depth: int) -> str:
        """Return the sentence that says that a cut at `depth` needs more than one stored tensor, or has none."""
        name = type(self.model).__name__
        if depth not in self.depths:
            return f"{name} has no tensor to store at depth {depth}; expected one of {', '.join(map(str, self.depths))}."
        return f"{name} cannot be replayed at depth {depth}: what lies above it needs more than one stored tensor."

    @property
    def device(self) -> str:
        """The kind of device that the model is on."""
        return next(self.model.parameters()).device.type

    def _layout_at(self, place: Place) -> Layout | None:
        return layout(place.leaf, resized_leaf(place, self._traces), self._traces, frames=self._frames)
