"""What of a frozen prefix is stored: decided by measuring, before the first step and wherever the thaw line moves to."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple, final

from thawline.memory import available_bytes
from thawline.recipe import Recipe
from thawline.run.assemble import Assembled, Decisions, order_of
from thawline.run.below import lines_of, shelf_of, store_of
from thawline.run.prepare import Prepared, Say
from thawline.tasks.supervised import Supervised
from thawline.thaw.cost import Measured, Outlook, measure, outlook
from thawline.thaw.prefix import Prefix
from thawline.thaw.store import Shelf, Store, StoreError, bandwidth
from thawline.train.device import Device


class Move(NamedTuple):
    """A line that a strategy came to while training: the step, what was predicted for the steps left, whether it is stored."""

    step: int
    view: Outlook
    stored: bool


@final
@dataclass
class Frozen:
    """The prefix of a run, and what decides what of it is stored; None where nothing ever is.

    `outlooks` are what was predicted of each depth before the first step, `moves` those after it.
    """

    prefix: Prefix
    keeper: Keeper | None = None
    outlooks: Mapping[int, Outlook] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)

    def begin(self, until: float = math.inf) -> None:
        """Decide for the lines known before the first step; all is filled in at `until`, a reading of time.monotonic."""
        if self.keeper is not None:
            self.outlooks = self.keeper.begin(self.prefix, until)

    def look_again(self) -> None:
        """Predict anew: the number of steps is another, or some of what was missing is there."""
        if self.keeper is not None:
            self.outlooks = self.keeper.outlooks(self.prefix)

    def settled(self, line: int, step: int) -> None:
        """Store at a line that a strategy has moved to while training, where that is predicted to win for the steps left."""
        depth = self.prefix.depth(line)
        view = self.keeper.move(self.prefix, depth, step=step) if self.keeper is not None else None
        if view is not None:
            self.moves.append(Move(step, view, depth in self.prefix.below.shelves))

    def size(self) -> int:
        """Return the bytes of what is stored of the run's examples."""
        sets = self.keeper.prepared.sets if self.keeper is not None else {}
        keys = [key for name in ("train", "validation") if name in sets for key in self.prefix.keys(sets[name])]
        return sum(shelf.size(keys) for shelf in self.prefix.below.shelves.values())

    def predicted(self) -> float | None:
        """Return the seconds that were predicted of the frozen part, each line for as long as it held; None if none were."""
        if self.keeper is None or not (self.outlooks or self.moves):
            return None
        steps = self.keeper.decisions["steps"]
        ends = [*(move.step for move in self.moves), steps]
        planned, held = (self.keeper.lines(self.prefix, until) for until in (steps, ends[0]))
        stored = self.keeper.decisions["stored"]
        parts = [(view.over(held[cut] / max(1, planned[cut])), cut in stored) for cut, view in self.outlooks.items()]
        for move, end in zip(self.moves, ends[1:], strict=True):
            parts.append((move.view.over((end - move.step) / (steps - move.step)), move.stored))
        return sum(view.stored if kept else view.computed for view, kept in parts)


def frozen_of(
    bare: Prefix,
    prepared: Prepared,
    assembled: Assembled,
    *,
    device: Device,
    decisions: Decisions,
    say: Say,
    others: Sequence[Collection[int]] = (),
) -> Frozen:
    """Return the prefix of a run, of which nothing is stored yet: `begin` decides, unless the recipe or a former run did.

    `others` are the thaw lines of each training to come that reads what this one stores.
    """
    recipe = assembled.recipe
    if not bare.cuts or recipe.store.features is False:
        return Frozen(bare)
    store = store_of(recipe)
    try:
        _speed(store.folder)
    except StoreError as error:
        say(f"warning: {error} Nothing of the frozen part is stored: it is computed anew each time.")
        return Frozen(bare)
    return Frozen(bare, Keeper(prepared, assembled, device, store, decisions, say, others))


@final
@dataclass(frozen=True)
class Keeper:
    """Decides what of a prefix is stored, and where. `considered` are the shelves that `begin` has decided about."""

    prepared: Prepared
    assembled: Assembled
    device: Device
    store: Store
    decisions: Decisions
    say: Say
    others: Sequence[Collection[int]] = ()
    considered: dict[int, Shelf] = field(default_factory=dict)

    def lines(self, prefix: Prefix, until: int | None = None) -> Counter[int]:
        """Return how many of all steps, or of those before `until`, each depth holds for."""
        lines = Counter[int]()
        for line, steps in lines_of(self.assembled, self.decisions["steps"], until).items():
            lines[prefix.depth(line)] += steps
        return lines

    def begin(self, prefix: Prefix, until: float = math.inf) -> dict[int, Outlook]:
        """Decide for the lines that are known before the first step, and return what is predicted of each.

        All that is decided to be stored is filled in at `until`, a reading of time.monotonic.
        """
        known, lines = self.decisions.get("stored"), self.lines(prefix)
        shelves = {cut: self._shelf(prefix, cut) for cut in sorted(lines) if cut and (known is None or cut in known)}
        outlooks = dict[int, Outlook]()
        if known is None:
            self.considered.update(shelves)
            known, filled, room = self.decisions.setdefault("stored", []), 0.0, self.store.largest()
            for cut, shelf in shelves.items():  # lowest first: those above go on from what is stored there
                view = outlooks[cut] = self._outlook(prefix, cut, shelf, steps=lines[cut])
                own = {line for line in lines_of(self.assembled, self.decisions["steps"]) if prefix.depth(line) == cut}
                readers = 1 + sum(not own.isdisjoint(other) for other in self.others)
                seconds = until - time.monotonic() - filled
                if self._decided(cut, view, room=room, seconds=seconds, readers=readers):
                    known.append(cut)
                    filled, room = filled + view.filled, room - int(view.size)
        prefix.below = prefix.below._replace(shelves={cut: shelf for cut, shelf in shelves.items() if cut in known})
        return outlooks

    def outlooks(self, prefix: Prefix) -> dict[int, Outlook]:
        """Predict what each depth costs that was decided about, for the steps and the store as they are now."""
        lines = self.lines(prefix)
        considered = {cut: shelf for cut, shelf in self.considered.items() if lines[cut]}
        return {cut: self._outlook(prefix, cut, shelf, steps=lines[cut]) for cut, shelf in considered.items()}

    def move(self, prefix: Prefix, cut: int, *, step: int) -> Outlook | None:
        """Decide for a depth that training has come to, and return what is predicted of it; None where nothing is cut off.

        What was stored of weights that have changed since is left behind.
        """
        kept = {d: s for d, s in prefix.below.shelves.items() if d <= cut and s.key == self._shelf(prefix, d).key}
        prefix.below = prefix.below._replace(shelves=kept)
        if not cut:
            return None
        shelf = kept[cut] if cut in kept else self._shelf(prefix, cut)
        view = self._outlook(prefix, cut, shelf, steps=self.decisions["steps"] - step)
        if cut not in kept and self._decided(cut, view, room=self.store.largest()):
            prefix.below = prefix.below._replace(shelves={**kept, cut: shelf})
        return view

    def _shelf(self, prefix: Prefix, cut: int) -> Shelf:
        return shelf_of(prefix, self.prepared, self.assembled, depth=cut, device=self.device, store=self.store)

    def _outlook(self, prefix: Prefix, cut: int, shelf: Shelf, *, steps: int) -> Outlook:
        """Predict what a depth costs that is read from in so many steps."""
        sets, order = self._sets(steps), order_of(self.prepared.sets["train"], self.assembled.recipe)
        evaluations = _evaluations(self.assembled.recipe, order.steps_per_epoch, steps)
        examples, speed, workers = sum(map(len, sets)), _speed(self.store.folder), self.decisions["workers"]

        def costs(depth: int, key: bytes) -> Measured:
            return _cost(f"{key.hex()} {self.prepared.dataset.origin}", lambda: measure(prefix, sets[0], depth)).shared(workers)

        cost = costs(cut, shelf.key)
        # What does not stay in memory between two readings comes from the disk each time.
        read = speed.cached if examples * cost.size <= available_bytes() else speed.read
        lower = max((depth for depth in self.decisions["stored"] if depth < cut), default=0)
        known = self.considered.get(cut)  # measured from the input on
        if known is not None and known.key == shelf.key and lower in self.considered and prefix.below.dtype is None:
            cost = cost.above(costs(lower, self.considered[lower].key), read * 1e6)
        return outlook(
            cost,
            examples=examples,
            missing=sum(len(shelf.missing(prefix.keys(data))) for data in sets),
            reads=steps * order.batch_size + evaluations * len(self.prepared.sets.get("validation", ())),
            write=speed.write * 1e6,
            read=read * 1e6,
        )

    def _sets(self, steps: int) -> list[Supervised]:
        """Return what is read in so many steps: the training set, all its views, and the validation set if it is evaluated."""
        train = self.prepared.sets["train"]
        per_epoch = order_of(train, self.assembled.recipe).steps_per_epoch
        evaluated = _evaluations(self.assembled.recipe, per_epoch, steps)
        epochs = -(-steps // per_epoch)
        views = [train.seen(view) for view in range(min(train.views.most or epochs, epochs))] if train.views else [train]
        return [*views, *(rows for name, rows in self.prepared.sets.items() if name == "validation" and evaluated)]

    def _decided(self, cut: int, view: Outlook, *, room: int, seconds: float = math.inf, readers: int = 1) -> bool:
        """Tell whether storing at a depth is predicted to win, fits in `room`, and is filled in within `seconds`, saying why.

        `readers` is how many trainings, this one among them, read what is stored.
        """
        name, over = f"{view.size / 1e6:,.0f} MB of outputs of the frozen part (depth {cut})", ""
        if readers > 1 and not view.pays:
            view, over = view.over(readers), f" over {readers} trainings"
        why = f"predicted {view.stored:.1f} s with, {view.computed:.1f} s without{over}"
        stored = view.pays or self.assembled.recipe.store.features is True
        if view.size > room:
            stored, why = False, f"there is room for {max(0, room) / 1e6:,.0f} MB"
        elif stored and view.filled > seconds:
            stored, why = False, f"that takes {view.filled:.1f} s, and the time budget has {max(0.0, seconds):.1f} s"
        self.say(f"note: {name} are {'' if stored else 'not '}stored: {why}")
        return stored


_speed = cache(bandwidth)
_costs = dict[str, Measured]()


def _cost(key: str, measured: Callable[[], Measured]) -> Measured:
    """Measure once in a process: sixteen trials over one frozen part ask sixteen times."""
    if key not in _costs:
        _costs[key] = measured()
    return _costs[key]


def _evaluations(recipe: Recipe, steps_per_epoch: int, steps: int) -> int:
    every = {"epoch": steps_per_epoch, "steps": recipe.train.eval_steps, "no": None}[recipe.train.eval_strategy]
    return steps // every if every else 0
