"""From a strategy to the frozen prefix of a run: where it may be cut, whether it is stored, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, final

import numpy as np
import torch
import transformers

from thawline.data.cache import hash_bytes, written_aside
from thawline.errors import ModelError
from thawline.recipe import Recipe
from thawline.run.assemble import Assembled, Decisions, order_of
from thawline.run.data import cache_of
from thawline.run.prepare import Prepared, Say
from thawline.tasks.supervised import Supervised
from thawline.thaw.canonical import RULE
from thawline.thaw.cost import Measured, Outlook, measure, outlook
from thawline.thaw.prefix import Below, Prefix
from thawline.thaw.replay import Replay
from thawline.thaw.replicas import Replicas
from thawline.thaw.store import Shelf, Store, bandwidth
from thawline.thaw.verify import of_targets, refusal
from thawline.train.device import Device
from thawline.train.workers import Workers

Lines = dict[int, int]
"""How many steps each thaw line holds for."""

_VERIFIED = 4  # examples in each of the two batches that a cut is verified on
_LABELS = (
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "architectures",
    "_name_or_path",
    "transformers_version",
    "dtype",
)


def lines_of(assembled: Assembled, steps: int) -> Lines:
    """Return the thaw lines of a run, from the first step to the last: the strategy is a pure function of progress."""
    whole = len(assembled.stages)
    active = (assembled.strategy.active(assembled.groups, step / steps) for step in range(steps))
    return dict(Counter(min(stages, default=whole) for stages in active))


def cuts_of(prepared: Prepared, assembled: Assembled, *, say: Say) -> tuple[int, ...]:
    """Return the depths, of those where the strategy may freeze, at which the model is verified to be replayed exactly."""
    adaptation = assembled.strategy.adaptation
    possible = {*lines_of(assembled, 1000), *(adaptation.lines(assembled.groups) if adaptation else ())}
    lines = sorted(line for line in possible if 0 < line < len(assembled.stages))
    if not lines:
        return ()
    if prepared.task.mixes:
        say("note: the frozen part is computed anew each time: examples are mixed or packed before they go through it")
        return ()
    cache = cache_of(assembled.recipe) / "verdicts"
    path = cache / f"{_verdict_key(prepared, assembled, lines)}.json"
    if path.is_file():
        verdicts = json.loads(path.read_text())
    else:
        verdicts = _verdicts(prepared, assembled, lines)
        with written_aside(path) as aside:
            aside.write_text(json.dumps(verdicts))
    for line in lines:
        if verdicts[str(line)] is not None:
            say(f"note: the frozen part is computed anew each time: {verdicts[str(line)]}")
    return tuple(line for line in lines if verdicts[str(line)] is None)


def with_views(prepared: Prepared, recipe: Recipe, *, stored: bool) -> Prepared:
    """Return what a run starts from with as many views of an example as are kept, where what is frozen may be stored."""
    train = prepared.sets["train"]
    if train.views is None or not stored or recipe.store.features is False:
        return prepared
    few = replace(train, views=replace(train.views, most=recipe.store.views))
    return replace(prepared, sets={**prepared.sets, "train": few})


def _verdicts(prepared: Prepared, assembled: Assembled, lines: list[int]) -> dict[str, str | None]:
    data = prepared.sets["train"]
    # Of all lengths: the shortest and the longest example share a batch, and no batch is the one that was traced.
    by_length = np.argsort(data.lengths, kind="stable")
    spread = by_length[np.linspace(0, len(by_length) - 1, min(2 * _VERIFIED, len(by_length))).astype(int)]
    parts = [np.unique(part) for part in (spread[::2], spread[1::2]) if len(part)]
    batches = [data.batch(part).inputs for part in parts]
    try:
        replay = Replay(assembled.model, assembled.stages, data.batch(np.arange(min(2, len(data)))).inputs)
    except ModelError as error:
        return {str(line): str(error) for line in lines}
    both = [(inputs, replace(data, targets=None).batch(part).inputs) for inputs, part in zip(batches, parts, strict=True)]
    return {str(line): refusal(replay, line, batches) or of_targets(replay, line, both) for line in lines}


def _verdict_key(prepared: Prepared, assembled: Assembled, lines: list[int]) -> str:
    weights = _weights(assembled, len(assembled.stages))
    facts = (prepared.dataset.origin, str(lines), type(assembled.model).__name__, _config(assembled), weights)
    return hash_bytes(*facts, torch.__version__, transformers.__version__)


def _config(assembled: Assembled) -> str:
    kept = {key: value for key, value in assembled.model.config.to_dict().items() if key not in _LABELS}
    return json.dumps(kept, sort_keys=True, default=str)


def _weights(assembled: Assembled, depth: int) -> str:
    """Return a hash of all that the stages below `depth` compute with."""
    modules = {name for stage in assembled.stages[:depth] for name in stage.modules}
    parameters = {name for stage in assembled.stages[:depth] for name in stage.parameters}
    named = {n: p for n, p in assembled.model.named_parameters() if n in parameters}
    named |= {n: b for n, b in assembled.model.named_buffers() if n.rpartition(".")[0] in modules}
    parts = list[str | bytes]()
    for name, tensor in sorted(named.items()):
        flat = tensor.detach().cpu().contiguous().flatten()
        parts += [f"{name} {tuple(tensor.shape)} {tensor.dtype}", flat.view(torch.uint8).numpy().tobytes()]
    return hash_bytes(*parts)


@final
@dataclass(frozen=True)
class Frozen:
    """The prefix of a run, what was predicted of each cut that is foreseen, and where tensors are kept, if anywhere."""

    prefix: Prefix
    outlooks: Mapping[int, Outlook]
    keeper: Keeper | None = None

    def settled(self, line: int, step: int) -> None:
        """Store at a line that a strategy has moved to while training, where that is predicted to win for the steps left."""
        if self.keeper is not None:
            self.keeper.move(self.prefix, self.prefix.depth(line), step=step)


def prefix_of(
    prepared: Prepared,
    assembled: Assembled,
    cuts: tuple[int, ...],
    *,
    device: Device,
    workers: Workers,
    decisions: Decisions,
    say: Say,
) -> Frozen:
    """Return the prefix of a run; what is stored is decided here, by measuring, unless the recipe or a former run says so."""
    recipe = assembled.recipe
    bare = bare_prefix(prepared, assembled, cuts, device=device, workers=workers, say=say)
    if not cuts or recipe.store.features is False:
        return Frozen(bare, {})
    keeper = Keeper(prepared, assembled, device, store_of(recipe), decisions, say)
    return Frozen(bare, keeper.begin(bare), keeper)


def bare_prefix(
    prepared: Prepared, assembled: Assembled, cuts: tuple[int, ...], *, device: Device, workers: Workers, say: Say
) -> Prefix:
    """Return a prefix of which nothing is stored."""
    recipe, train = assembled.recipe, prepared.sets["train"]
    inputs = train.batch(np.arange(min(2, len(train)))).inputs if cuts else None
    taken = {name: device.taken(value) for name, value in inputs.items()} if inputs is not None else None
    replicas = Replicas(assembled.model, workers.count, stages=assembled.stages, inputs=taken, cuts=cuts)
    kind = None if recipe.store.dtype == "auto" else getattr(torch, recipe.store.dtype)
    longest = max(int(data.lengths.max()) for data in prepared.sets.values() if len(data))
    below = Below(max(recipe.data.max_length or 0, longest), {}, kind)
    return Prefix(replicas, cuts, below, autocast=device.autocast, each=workers.each, say=say)


def store_of(recipe: Recipe) -> Store:
    """Return the store that a recipe names."""
    limit = None if recipe.store.max_gb is None else round(recipe.store.max_gb * 1e9)
    return Store(cache_of(recipe) / "features", max_bytes=limit)


def shelf_of(prefix: Prefix, prepared: Prepared, assembled: Assembled, *, depth: int, device: Device, store: Store) -> Shelf:
    """Return the shelf of the tensors at `depth`: the same for all runs that compute them alike."""
    return store.shelf(facts_of(prepared, assembled, depth, device=device, dtype=dtype_at(prefix, prepared, depth)))


def dtype_at(prefix: Prefix, prepared: Prepared, depth: int) -> str:
    """Return the dtype in which tensors at `depth` are kept."""
    return str(prefix.compute(prepared.sets["train"], np.array([0]), depth)[0].dtype).removeprefix("torch.")


def facts_of(prepared: Prepared, assembled: Assembled, depth: int, *, device: Device, dtype: str) -> dict[str, Any]:
    """Return all that a stored tensor depends on beside its example."""
    model = assembled.model
    return {
        "model": model.config.model_type,
        "depth": depth,
        "dtype": dtype,
        "weights": _weights(assembled, depth),
        "config": hash_bytes(_config(assembled)),
        "arithmetic": ["float32", "autocast to bfloat16", "bfloat16"][device.bf16 + device.lower],
        "attention": str(getattr(model.config, "_attn_implementation", None)),
        "shape": RULE,
        "padding": str(getattr(prepared.processor, "padding_side", None)),
        "device": device.device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


@final
@dataclass(frozen=True)
class Keeper:
    """Decides what of a prefix is stored, and where."""

    prepared: Prepared
    assembled: Assembled
    device: Device
    store: Store
    decisions: Decisions
    say: Say

    def begin(self, prefix: Prefix) -> dict[int, Outlook]:
        """Decide for the lines that are known before the first step, and return what is predicted of each."""
        lines = Counter[int]()
        for line, steps in lines_of(self.assembled, self.decisions["steps"]).items():
            lines[prefix.depth(line)] += steps
        known = self.decisions.get("stored")
        shelves = {cut: self._shelf(prefix, cut) for cut in sorted(lines) if cut and (known is None or cut in known)}
        outlooks = dict[int, Outlook]()
        if known is None:
            outlooks = {cut: self._outlook(prefix, cut, shelf, steps=lines[cut]) for cut, shelf in shelves.items()}
            self.decisions["stored"] = known = [cut for cut, view in outlooks.items() if self._decided(cut, view)]
        prefix.below = prefix.below._replace(shelves={cut: shelf for cut, shelf in shelves.items() if cut in known})
        return outlooks

    def move(self, prefix: Prefix, cut: int, *, step: int) -> None:
        """Decide for a depth that training has come to; what was stored of weights that have changed since is left behind."""
        kept = {d: s for d, s in prefix.below.shelves.items() if d <= cut and s.key == self._shelf(prefix, d).key}
        prefix.below = prefix.below._replace(shelves=kept)
        if cut and cut not in kept:
            shelf = self._shelf(prefix, cut)
            if self._decided(cut, self._outlook(prefix, cut, shelf, steps=self.decisions["steps"] - step)):
                prefix.below = prefix.below._replace(shelves={**kept, cut: shelf})

    def _shelf(self, prefix: Prefix, cut: int) -> Shelf:
        return shelf_of(prefix, self.prepared, self.assembled, depth=cut, device=self.device, store=self.store)

    def _outlook(self, prefix: Prefix, cut: int, shelf: Shelf, *, steps: int) -> Outlook:
        """Predict what a depth costs that is read from in so many steps."""
        sets, order = self._sets(steps), order_of(self.prepared.sets["train"], self.assembled.recipe)
        evaluations = _evaluations(self.assembled.recipe, order.steps_per_epoch, steps)
        cost = _cost(f"{shelf.key.hex()} {self.prepared.dataset.origin}", lambda: measure(prefix, sets[0], cut))
        return outlook(
            cost._replace(seconds=cost.seconds / self.decisions["workers"]),
            examples=sum(map(len, sets)),
            missing=sum(len(shelf.missing(data.digests)) for data in sets),
            reads=steps * order.batch_size + evaluations * len(self.prepared.sets.get("validation", ())),
            write=_speed(self.store.folder).write * 1e6,
            read=_speed(self.store.folder).cached * 1e6,
        )

    def _sets(self, steps: int) -> list[Supervised]:
        """Return what is read in so many steps: the training set, all its views, and the validation set if it is evaluated."""
        train = self.prepared.sets["train"]
        per_epoch = order_of(train, self.assembled.recipe).steps_per_epoch
        evaluated = _evaluations(self.assembled.recipe, per_epoch, steps)
        epochs = -(-steps // per_epoch)
        views = [train.seen(view) for view in range(min(train.views.most or epochs, epochs))] if train.views else [train]
        return [*views, *(rows for name, rows in self.prepared.sets.items() if name == "validation" and evaluated)]

    def _decided(self, cut: int, view: Outlook) -> bool:
        """Tell whether storing at a depth is predicted to win and has room, saying why."""
        name = f"{view.size / 1e6:,.0f} MB of outputs of the frozen part (depth {cut})"
        recipe, others = self.assembled.recipe, ""
        if recipe.data.fold is not None and not view.pays:  # the other folds read most of these examples too
            view, others = view.over(1 + (recipe.data.folds or 0)), " over all folds"
        times = f"predicted {view.stored:.1f} s with, {view.computed:.1f} s without{others}"
        room = self.store.largest()
        stored = view.size <= room and (view.pays or recipe.store.features is True)
        why = times if view.size <= room else f"there is room for {room / 1e6:,.0f} MB"
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
