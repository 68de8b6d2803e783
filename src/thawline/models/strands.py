"""Whether one tensor is all that runs between two calls, read off the graph that autograd keeps of a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from thawline.models.trace import evaluating

Key = tuple[str, int]
"""The nth call of a module."""


def single_stranded(model: nn.Module, inputs: Mapping[str, Any], chains: Sequence[Sequence[Key]]) -> list[bool]:
    """Tell of each chain of calls whether, between any two, all that depends on the calls before goes through one tensor.

    So it is between residual blocks, and not inside of one, past which its input runs as well. Gradients tell, so masks and
    positions do not count.
    """
    named = dict(model.named_modules())
    with _learning(model), evaluating(model), torch.enable_grad():
        entered, roots = _graph(model, inputs, {name for chain in chains for name, _ in chain})
    told = []
    for chain in chains:
        below: set[nn.Parameter] = set()
        single = True
        for before, call in pairwise(chain):
            below |= set(named[before[0]].parameters())
            single = single and not _reaches(roots, below, past=entered.get(call))
        told.append(single)
    return told


def _graph(model: nn.Module, inputs: Mapping[str, Any], names: Iterable[str]) -> tuple[dict[Key, Any], list[Any]]:
    """Return the graph's node of the first tensor that enters each call, and the nodes of the model's answer."""
    entered, made, named = dict[Key, Any](), dict[str, int](), dict(model.named_modules())

    def enter(name: str, args: Any, kwargs: Mapping[str, Any]) -> None:
        made[name] = made.get(name, -1) + 1
        tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.is_floating_point())
        # Now, since what runs later may change the tensor in place, and with it the node.
        entered[name, made[name]] = getattr(next(tensors, None), "grad_fn", None)

    with ExitStack() as undo:
        for name in names:
            hook: Callable[..., None] = lambda _, args, kwargs, name=name: enter(name, args, kwargs)  # noqa: E731
            undo.callback(named[name].register_forward_pre_hook(hook, with_kwargs=True).remove)
        output = model(**inputs)
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else [output]
    answer = getattr(output, "logits", None)
    nodes = [answer] if isinstance(answer, Tensor) else values
    return entered, [value.grad_fn for value in nodes if isinstance(value, Tensor) and value.grad_fn is not None]


def _reaches(roots: Sequence[Any], parameters: set[nn.Parameter], *, past: Any) -> bool:
    """Tell whether the graph leads from `roots` to one of the parameters by a way that avoids the node `past`."""
    todo, seen = [node for node in roots if node is not past], set(roots)
    while todo:
        node = todo.pop()
        if getattr(node, "variable", None) in parameters:
            return True
        new = {after for after, _ in node.next_functions if after is not None and after is not past} - seen
        seen |= new
        todo += new
    return False


@contextmanager
def _learning(model: nn.Module) -> Iterator[None]:
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
