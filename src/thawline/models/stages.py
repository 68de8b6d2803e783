"""Where a model can be cut: its stages, found by watching one forward pass.

A stage is one of the disjoint, ordered slices of a model, input first: stem, block 0 … block L-1, head. They are read off the
calls of the modules, not off module lists, so that a model needs no code of ours: lists mislead (one entry for the shared
layers of ALBERT, one list per resolution in a convolutional net).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from thawline.errors import ModelError, UserError, did_you_mean
from thawline.models.strands import single_stranded
from thawline.models.trace import Call, trace


@dataclass(frozen=True)
class Stage:
    """One slice of a model, by the names that its parameters and modules have in the model.

    `anew` are those of its parameters that were not in the checkpoint, where that is known.
    """

    name: str
    parameters: tuple[str, ...]
    modules: tuple[str, ...]
    anew: tuple[str, ...] = ()


Stages = tuple[Stage, ...]


def find_stages(model: nn.Module, inputs: Mapping[str, Any]) -> Stages:
    """Return the stages of `model`, in the order in which one forward pass over `inputs` goes through them.

    Every parameter belongs to exactly one stage; one that is shared or tied belongs to the lowest stage that uses it. What runs
    between two blocks belongs to the lower one; all after the last block (pooler, final norm) is the head. Blocks that share
    weights are one stage, so ALBERT is stem, block 0, head.

    Raises ModelError where no repeated block is found.
    """
    with torch.no_grad():
        visits = trace(model, inputs)
    blocks = _blocks(model, visits, inputs)
    if not blocks:
        raise ModelError(f"No repeated blocks were found in {type(model).__name__}, so it cannot be cut into stages.")
    names = ["stem", *(f"block {i}" for i in range(len(blocks))), "head"]
    return _stages(model, names, _stage_of_modules(model, visits, blocks))


def extended(stages: Stages, model: nn.Module) -> Stages:
    """Return the stages of a model that modules were put into since: each stands where the module around it does."""
    known = {name: i for i, stage in enumerate(stages) for name in stage.modules}
    modules = dict[str, int]()
    for name, _ in model.named_modules():
        modules[name] = known[name] if name in known else modules[name.rpartition(".")[0]]
    return tuple(
        replace(found, anew=tuple(name for name in stage.anew if name in found.parameters))
        for found, stage in zip(_stages(model, [stage.name for stage in stages], modules), stages, strict=True)
    )


def marked(stages: Stages, anew: Iterable[str]) -> Stages:
    """Return stages that know which of their parameters were made anew."""
    names = set(anew)
    return tuple(replace(stage, anew=tuple(n for n in stage.parameters if n in names)) for stage in stages)


def _stages(model: nn.Module, names: list[str], modules: dict[str, int]) -> Stages:
    parameters = _stage_of_parameters(model, modules)
    return tuple(
        Stage(name, tuple(p for p, s in parameters.items() if s == i), tuple(m for m, s in modules.items() if s == i))
        for i, name in enumerate(names)
    )


def _blocks(model: nn.Module, visits: list[Call], inputs: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Return start and end of each block: calls of one class that never nest and hold much of the model's parameters."""
    named = dict(model.named_modules())
    by_class = defaultdict[type, list[Call]](list)
    for visit in visits:
        module = named[visit.module]
        if any(True for _ in module.children()) and visit.module:
            by_class[type(module)].append(visit)
    chains = {kind: chain for kind, chain in by_class.items() if len(chain) > 1 and _in_sequence(chain)}
    if len(chains) > 1:
        chains.pop(nn.Sequential, None)  # of no kind of its own: it may hold layers, halves of layers, or the head
    sizes = {kind: _size(named[name] for name in {v.module for v in chain}) for kind, chain in chains.items()}
    # A class that holds less than half of what the largest holds is a part of a block, not a block.
    ample = [kind for kind in chains if 2 * sizes[kind] >= max(sizes.values())]
    ample.sort(key=lambda kind: sizes[kind], reverse=True)
    sets = list(dict.fromkeys(tuple(sorted(_beside(kind, ample, chains), key=str)) for kind in ample))
    if len(sets) > 1:
        # Not the halves of a residual block, past which its input runs as well, where there is anything else.
        single = single_stranded(model, inputs, [[(c.module, c.nth) for c in _joined(kinds, chains)] for kinds in sets])
        sets = [kinds for kinds, one in zip(sets, single, strict=True) if one] or sets
    held = [sum(sizes[kind] for kind in kinds) for kinds in sets]
    # The finest of those that hold nearly all: the layers within the resolutions of a convolutional net, but not the attentions
    # within the layers of a decoder, of which there are two each.
    fine = [kinds for kinds, size in zip(sets, held, strict=True) if 4 * size >= 3 * max(held)]
    best = max(fine, key=lambda kinds: sum(len(chains[kind]) for kind in kinds), default=())
    return _merge_shared(_joined(best, chains))


def _joined(kinds: Iterable[type], chains: Mapping[type, list[Call]]) -> list[Call]:
    return sorted((call for kind in kinds for call in chains[kind]), key=lambda call: call.start)


def _beside(first: type, kinds: list[type], chains: Mapping[type, list[Call]]) -> tuple[type, ...]:
    """Return `first` and the kinds that run apart from it and from one another, such as an encoder's and a decoder's layers."""
    chosen, taken = [first], list(chains[first])
    for kind in kinds:
        if all(v.end < other.start or other.end < v.start for v in chains[kind] for other in taken):
            chosen.append(kind)
            taken += chains[kind]
    return tuple(chosen)


def _in_sequence(chain: list[Call]) -> bool:
    return all(before.end < after.start for before, after in pairwise(chain))


def _size(modules: Any) -> int:
    """Count parameters. Embeddings do not count: they would make an encoder with its vocabulary outweigh its own blocks."""
    parts = (part for module in modules for part in module.modules() if not isinstance(part, nn.Embedding))
    return sum(p.numel() for p in {p for part in parts for p in part.parameters(recurse=False)})


def _merge_shared(chain: list[Call]) -> list[tuple[int, int]]:
    """Join calls between which a module runs again: weights cannot be frozen below a cut and learn above it."""
    last = {visit.module: i for i, visit in enumerate(chain)}
    blocks, start, reach = list[tuple[int, int]](), 0, 0
    for i, visit in enumerate(chain):
        reach = max(reach, last[visit.module])
        if i == reach:
            blocks.append((chain[start].start, visit.end))
            start = reach = i + 1
    return blocks


def _stage_of_modules(model: nn.Module, visits: list[Call], blocks: list[tuple[int, int]]) -> dict[str, int]:
    first: dict[str, int] = {}
    for visit in visits:
        first.setdefault(visit.module, visit.start)
    stages: dict[str, int] = {}
    for name, _ in model.named_modules():
        if name not in first:  # never called (lists, unused parts): where its parent is
            stages[name] = stages[name.rpartition(".")[0]] if name else 0
        elif first[name] > blocks[-1][1]:
            stages[name] = len(blocks) + 1
        else:
            stages[name] = sum(start <= first[name] for start, _ in blocks)
    return stages


def _stage_of_parameters(model: nn.Module, modules: dict[str, int]) -> dict[str, int]:
    lowest: dict[nn.Parameter, int] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            lowest[parameter] = min(modules[name], lowest.get(parameter, modules[name]))
    return {name: lowest[parameter] for name, parameter in model.named_parameters()}


def depth_of(stages: Stages, stage: int | str | None) -> int:
    """Return how many stages lie below `stage`, a number or a name; None is the head. Raises UserError for another."""
    names = [one.name for one in stages]
    if stage is None:
        return len(names) - 1
    number = int(stage) if str(stage).isascii() and str(stage).isdigit() else -1
    number = names.index(str(stage)) if str(stage) in names else number
    if not 1 <= number < len(names):
        known = ", ".join(f"{place} ({name})" for place, name in enumerate(names) if place)
        hint = did_you_mean(str(stage), names[1:]) or "."
        raise UserError(f"There is no stage {stage!r} with others below it{hint} Stages: {known}.")
    return number
