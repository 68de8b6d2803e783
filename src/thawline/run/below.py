"""From a strategy to the frozen prefix of a run: where it may be cut, how it runs, and what a stored tensor depends on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from thawline.data.cache import hash_bytes, written_aside
from thawline.errors import ModelError
from thawline.models.heads import of_head
from thawline.models.unpadded import UNPADDED
from thawline.recipe import Recipe
from thawline.run.assemble import Assembled
from thawline.run.data import cache_of
from thawline.run.prepare import Prepared, Say
from thawline.tasks.supervised import Supervised
from thawline.thaw.canonical import RULE
from thawline.thaw.prefix import Below, Prefix
from thawline.thaw.replay import Replay
from thawline.thaw.replicas import Replicas, replay_of
from thawline.thaw.store import Shelf, Store
from thawline.thaw.verify import of_targets, refusal, refusal_in_use
from thawline.train.device import Device
from thawline.train.workers import Workers

Lines = dict[int, int]
"""How many steps each thaw line holds for."""

ANEW = "note: the frozen part is computed anew each time: "
"""What a note says before it says why nothing can be stored."""
LOOKED = 100_000
"""Steps at which a strategy is asked; of more, so many."""
_WIDE = 3  # positions
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


def lines_of(assembled: Assembled, steps: int, until: int | None = None) -> Lines:
    """Return the thaw lines of so many steps, or of those before `until`: the strategy is a pure function of progress."""
    whole = len(assembled.stages)
    stride = -(-steps // LOOKED)
    some = range(0, steps if until is None else until, stride)
    active = (assembled.strategy.active(assembled.groups, step / steps) for step in some)
    return {line: stride * count for line, count in Counter(min(stages, default=whole) for stages in active).items()}


def cuts_of(prepared: Prepared, assembled: Assembled, *, say: Say) -> tuple[int, ...]:
    """Return the depths, of those where the strategy may freeze, at which the model is verified to be replayed exactly."""
    adaptation = assembled.strategy.adaptation
    possible = {*lines_of(assembled, 1000), *(adaptation.lines(assembled.groups) if adaptation else ())}
    lines = sorted(line for line in possible if 0 < line < len(assembled.stages))
    if not lines:
        return ()
    if prepared.task.mixes:
        say(f"{ANEW}examples are mixed or packed before they go through it")
        return ()
    key = _verdict_key(prepared, assembled, lines)
    return _verified(assembled.recipe, key, lines, judge=lambda: _verdicts(prepared, assembled, lines), say=say)


def _verified(
    recipe: Recipe, key: str, lines: Sequence[int], *, judge: Callable[[], Mapping[str, str | None]], say: Say
) -> tuple[int, ...]:
    """Return the depths that nothing speaks against, by the verdicts kept under a key or, where there are none, by `judge`."""
    path = cache_of(recipe) / "verdicts" / f"{key}.json"
    verdicts = _kept(path, lines)
    if verdicts is None:
        verdicts = judge()
        with written_aside(path) as aside:
            aside.write_text(json.dumps(verdicts))
    for line in lines:
        if verdicts[str(line)] is not None:
            say(f"{ANEW}{verdicts[str(line)]}")
    return tuple(line for line in lines if verdicts[str(line)] is None)


def with_views(prepared: Prepared, recipe: Recipe, *, stored: bool, say: Say) -> Prepared:
    """Return what a run starts from with as many views of an example as are kept, where what is frozen may be stored."""
    train = prepared.sets["train"]
    if train.views is None or not stored or recipe.store.features is False:
        return prepared
    say(f"note: {recipe.store.views} views of each example take turns, so that what is frozen can be stored (store.views)")
    few = replace(train, views=replace(train.views, most=recipe.store.views))
    return replace(prepared, sets={**prepared.sets, "train": few})


def _verdicts(prepared: Prepared, assembled: Assembled, lines: list[int]) -> dict[str, str | None]:
    data, parts = prepared.sets["train"], _parts(prepared.sets["train"])
    device, bare = next(assembled.model.parameters()).device, replace(data, targets=None)
    batches = [_inputs(data, part, device) for part in parts]
    try:
        replay = Replay(assembled.model, assembled.stages, _inputs(data, _traced(data), device))
    except ModelError as error:
        return {str(line): str(error) for line in lines}
    both = [(inputs, _inputs(bare, part, device)) for inputs, part in zip(batches, parts, strict=True)]
    return {str(line): refusal(replay, line, batches) or of_targets(replay, line, both) for line in lines}


def _parts(data: Supervised) -> list[np.ndarray]:
    """Return the examples of two batches, of all lengths: the shortest and the longest are in one, and neither was traced."""
    by_length = np.argsort(data.lengths, kind="stable")
    spread = by_length[np.linspace(0, len(by_length) - 1, min(2 * _VERIFIED, len(by_length))).astype(int)]
    return [np.unique(part) for part in (spread[::2], spread[1::2]) if len(part)]


def _traced(data: Supervised) -> np.ndarray:
    """Return two examples that a model is traced on, of three positions or more where there are any: fewer tell less."""
    wide = np.flatnonzero(data.lengths >= _WIDE)[:2]
    return wide if len(wide) else np.arange(min(2, len(data)))


def _inputs(data: Supervised, indices: np.ndarray, device: torch.device) -> dict[str, torch.Tensor]:
    return {name: value.to(device) for name, value in data.batch(indices).inputs.items()}


def _kept(path: Path, lines: Sequence[int]) -> Mapping[str, str | None] | None:
    """Return the verdicts of a file; None where it is not there, or not whole."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() == {str(line) for line in lines} else None


def _verdict_key(prepared: Prepared, assembled: Assembled, lines: Sequence[int]) -> str:
    weights, modules = _weights(assembled, len(assembled.stages)), _modules(assembled, len(assembled.stages))
    facts = (prepared.dataset.origin, str(lines), modules, _config(assembled, head=True), weights)
    batches = (prepared.task.encoding_key(), _collated(prepared), _padding(prepared), prepared.recipe.data.max_length)
    return hash_bytes(*facts, *map(str, batches), torch.__version__, transformers.__version__)


def _collated(prepared: Prepared) -> str:
    return prepared.task.collating_key() + prepared.task.code


def _padding(prepared: Prepared) -> str:
    return str(getattr(prepared.processor, "padding_side", None))


def _config(assembled: Assembled, *, head: bool) -> str:
    """Return a model's config without what labels make of it, with or without what is of its `head` alone."""
    config = assembled.model.config.to_dict()
    kept = {key: value for key, value in config.items() if key not in _LABELS and (head or not of_head(key))}
    return json.dumps(kept, sort_keys=True, default=str)


def _modules(assembled: Assembled, depth: int) -> str:
    """Return a hash of the kinds of modules below `depth`: the last block may be a short one.

    That blocks leave padding out where they learn is no difference here, where nothing does.
    """
    below = {name for stage in assembled.stages[:depth] for name in stage.modules}
    kinds = [f"{name} {_kind(type(module))}" for name, module in assembled.model.named_modules() if name in below]
    return hash_bytes(_kind(type(assembled.model)), *kinds)


def _kind(module: type) -> str:
    """Return what a class is known by: its name, and of code that is a model's own the place, which changes with the code."""
    own = next(kind.__module__ for kind in module.__mro__ if not kind.__module__.startswith("thawline."))
    name = module.__name__.removeprefix(UNPADDED)
    return name if own.partition(".")[0] in ("torch", "transformers") else f"{name} of {own}"


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


def bare_prefix(
    prepared: Prepared, assembled: Assembled, cuts: tuple[int, ...], *, device: Device, workers: Workers, say: Say
) -> Prefix:
    """Return a prefix of which nothing is stored, with those cuts that hold in the model as training has it."""
    recipe, train = assembled.recipe, prepared.sets["train"]
    inputs = train.batch(_traced(train)).inputs if cuts else None
    taken = {name: device.taken(value) for name, value in inputs.items()} if inputs is not None else None
    replicas = Replicas(assembled.model, workers.count, stages=assembled.stages, inputs=taken, cuts=cuts)
    kind = None if recipe.store.dtype == "auto" else getattr(torch, recipe.store.dtype)
    longest = max(int(data.lengths.max()) for data in prepared.sets.values() if len(data))
    below = Below(max(recipe.data.max_length or 0, longest), {}, kind, even=device.even_rows(workers.inside))
    if cuts:
        facts = (_verdict_key(prepared, assembled, cuts), arithmetic_of(device), processor_key(), "in use")

        def judge() -> dict[str, str | None]:
            batches = [{n: device.taken(v) for n, v in train.batch(part).inputs.items()} for part in _parts(train)]
            with replicas.taken() as replica, device.autocast():
                return {str(cut): refusal_in_use(replay_of(replica), cut, batches) for cut in cuts}

        cuts = _verified(recipe, hash_bytes(*facts), cuts, judge=judge, say=say)
    return Prefix(replicas, cuts, below, autocast=device.autocast, each=workers.each, say=say)


def processor_key() -> str:
    """Return what decides which code torch computes with: results of another one differ in the last bits."""
    able = torch.cpu.get_capabilities()
    return " ".join([torch.backends.cpu.get_cpu_capability(), *sorted(name for name, there in able.items() if there is True)])


def arithmetic_of(device: Device) -> str:
    """Return what products are computed in."""
    return ["float32", "autocast to bfloat16", "bfloat16"][device.bf16 + device.lower]


def store_of(recipe: Recipe) -> Store:
    """Return the store that a recipe names."""
    limit = None if recipe.store.max_gb is None else round(recipe.store.max_gb * 1e9)
    return Store(cache_of(recipe) / "features", max_bytes=limit)


def shelf_of(prefix: Prefix, prepared: Prepared, assembled: Assembled, *, depth: int, device: Device, store: Store) -> Shelf:
    """Return the shelf of the tensors at `depth`: the same for all runs that compute them alike."""
    return store.shelf(facts_of(prefix, prepared, assembled, depth=depth, device=device))


def dtype_at(prefix: Prefix, prepared: Prepared, depth: int) -> str:
    """Return the dtype in which tensors at `depth` are kept."""
    return str(prefix.compute(prepared.sets["train"], np.array([0]), depth)[0].dtype).removeprefix("torch.")


def facts_of(prefix: Prefix, prepared: Prepared, assembled: Assembled, *, depth: int, device: Device) -> dict[str, Any]:
    """Return all that a stored tensor depends on beside its example."""
    model, even = assembled.model, prefix.below.even
    return {
        "model": model.config.model_type,
        "depth": depth,
        "dtype": dtype_at(prefix, prepared, depth),
        "weights": _weights(assembled, depth),
        "config": hash_bytes(_config(assembled, head=False)),
        "modules": _modules(assembled, depth),
        "arithmetic": arithmetic_of(device),
        "attention": str(getattr(model.config, "_attn_implementation", None)),
        "shape": f"{RULE}; {even} rows" if even else RULE,
        "collated": _collated(prepared),
        "padding": _padding(prepared),
        "device": device.device.type,
        "processor": processor_key(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
