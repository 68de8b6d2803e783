"""What the stages of a model must hold to."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from thawline.models.stages import Stages, find_stages
from thawline.testing.claims import claim, close, largest, tensors
from thawline.thaw.replay import Replay


def check_stages(model: nn.Module, inputs: Mapping[str, Any], stages: Stages | None = None) -> Stages:
    """Check the stages of a model, the ones that are found in it where none are given, and return them.

    They are disjoint and cover every parameter and every module. They are in order: with everything below any of them frozen,
    nothing below has gradients to compute, and every gradient above is what it was. And they are cuts: running to a stage and
    replaying from it, where the model can be replayed there, gives the same answers and the same gradients above it as running
    through, bit for bit, in the model's own dtype and under bfloat16 autocast. `inputs` are what the model is called with, a
    batch of three examples or more, of unlike lengths where there are lengths.

    Raises AssertionError with a sentence where this does not hold.
    """
    if stages is None:
        stages = find_stages(model, inputs)
        claim(stages == find_stages(model, inputs), "The stages of one model are found differently the second time.")
    _check_partition("parameters", [stage.parameters for stage in stages], [name for name, _ in model.named_parameters()])
    _check_partition("modules", [stage.modules for stage in stages], [name for name, _ in model.named_modules()])
    model = copy.deepcopy(model).eval()
    _check_order(model, inputs, stages)
    _check_freezing(model, inputs, stages)
    _check_replay(model, inputs, stages)
    return stages


def _check_partition(what: str, parts: Sequence[Sequence[str]], whole: Iterable[str]) -> None:
    held, there = [name for part in parts for name in part], set(whole)
    twice = {name for name in held if held.count(name) > 1} if len(set(held)) < len(held) else set()
    claim(not twice, f"The stages are not disjoint; two hold the {what} {_listed(twice)}.")
    claim(there <= set(held), f"No stage holds the {what} {_listed(there - set(held))}.")
    claim(set(held) <= there, f"Stages hold {what} that the model has not: {_listed(set(held) - there)}.")


def _listed(names: set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)[:5])


def _check_order(model: nn.Module, inputs: Mapping[str, Any], stages: Stages) -> None:
    """As modules begin for the first time, their stages never fall."""
    begun: dict[str, None] = {}
    with ExitStack() as undo, torch.no_grad():
        for name, module in model.named_modules():
            undo.callback(module.register_forward_pre_hook(lambda _, __, name=name: begun.setdefault(name)).remove)
        model(**inputs)
    place = {name: k for k, stage in enumerate(stages) for name in stage.modules}
    for before, after in pairwise(begun):
        told = f"{after!r} of {stages[place[after]].name} first runs after {before!r} of {stages[place[before]].name}."
        claim(place[before] <= place[after], told)


def _check_freezing(model: nn.Module, inputs: Mapping[str, Any], stages: Stages) -> None:
    free = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    whole = _gradients(model, inputs, learning=free)
    for k, stage in enumerate(stages):
        own = free & set(stage.parameters)
        reached = not own or any(whole[name].any() for name in own & set(whole))
        claim(reached, f"Nothing in {stage.name} has a gradient, so the outputs do not depend on it.")
        above = {name for upper in stages[k:] for name in upper.parameters} & free
        if not above:
            continue
        below = {name for lower in stages[:k] for name in lower.modules}
        part, frozen = _gradients(model, inputs, learning=above, below=below), f"with everything below {stage.name} frozen"
        claim(set(part) == above & set(whole), f"Other parameters than those above have gradients {frozen}.")
        for name, gradient in part.items():
            claim(close(gradient, whole[name], largest(whole)), f"The gradient of {name} is not what it was {frozen}.")


def _gradients(
    model: nn.Module, inputs: Mapping[str, Any], *, learning: set[str], below: Iterable[str] = ()
) -> dict[str, Tensor]:
    """Return the gradients of a mixture of the outputs; the modules `below` must return nothing that has one to compute."""
    lower, begun, early = set(below), list[str](), list[str]()

    def leave(name: str, output: Any) -> None:
        # What runs again after a cut (a shared activation, the model itself) may well depend on what learns.
        if not begun and any(tensor.requires_grad for tensor in tensors(output)):
            early.append(name)

    with ExitStack() as undo:
        for name, module in model.named_modules():
            if name in lower:
                hook = module.register_forward_hook(lambda _, __, output, name=name: leave(name, output))
            else:
                hook = module.register_forward_pre_hook(lambda _, __, name=name: begun.append(name))
            undo.callback(hook.remove)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in learning).grad = None
        output = model(**inputs)
    claim(not early, f"{_listed(set(early))} depends on a parameter of a stage above its own.")
    _mixture(output).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _check_replay(model: nn.Module, inputs: Mapping[str, Any], stages: Stages) -> None:
    replay = Replay(model, stages, {name: value[:2] if isinstance(value, Tensor) else value for name, value in inputs.items()})
    depths = [depth for depth in replay.depths if replay.cut(depth) is not None]
    claim(bool(depths), "The model cannot be replayed at any depth.")
    for lowered in (False, True):
        with torch.autocast(replay.device, torch.bfloat16, enabled=lowered):
            hidden, where = replay.run(inputs, depths), " under bfloat16 autocast" if lowered else ""
            for lower, depth in pairwise([depths[0], *depths]):
                _check_depth(replay, inputs, depth, hidden=hidden[depth], where=where)
                onwards = replay.run(inputs, [depth], start=lower, hidden=hidden[lower])[depth]
                told = f"Running from depth {lower} to {depth} does not give what running from the input gives{where}."
                claim(torch.equal(onwards, hidden[depth]), told)


def _check_depth(replay: Replay, inputs: Mapping[str, Any], depth: int, *, hidden: Tensor, where: str) -> None:
    above = {name for stage in replay.stages[depth:] for name in stage.parameters}
    answer, gradients = _learned(replay.model, inputs, above)
    with replay.replaying(depth, hidden):
        replayed, others = _learned(replay.model, inputs, above)
    claim(torch.equal(replayed, answer), f"Replaying from depth {depth} does not answer as running through does{where}.")
    differing = {
        n for n in {*gradients, *others} if n not in gradients or n not in others or not torch.equal(gradients[n], others[n])
    }
    claim(not differing, f"Replaying from depth {depth} gives other gradients of {_listed(differing)}{where}.")


def _learned(model: nn.Module, inputs: Mapping[str, Any], learning: set[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the answer and the gradients of a mixture of it."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learning).grad = None
    output = model(**inputs)
    _mixture(output).backward()
    return next(tensors(getattr(output, "logits", output))), {
        n: p.grad for n, p in model.named_parameters() if p.grad is not None
    }


def _mixture(output: Any) -> Tensor:
    """Return one number that depends on every number of the answer, each in another way."""
    answer = next(tensors(getattr(output, "logits", output))).double().flatten()
    return answer @ torch.arange(1, len(answer) + 1, dtype=torch.float64, device=answer.device).cos()
