"""Heads of several trials as one: what their linear layers compute is one product, to the bits of each alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from thawline.thaw.tape import Slot, Tape
from thawline.train.masters import ALIGNED


class _Each(NamedTuple):
    """A value that each trial has of its own: side by side in one tensor, or one after the other."""

    one: Tensor | None
    all: Sequence[Any]


@final
class Stacked:
    """Tapes of the same operations with weights of their own, gone together from one stored tensor; `answers`: what each says.

    Linear layers are one product of stacked weights. A mask of dropout is drawn once: each trial's would be the same. All else
    is done for one after the other, since what an operation rounds may depend on where in memory its numbers stand.
    """

    def __init__(self, tapes: Sequence[Tape], hidden: Tensor) -> None:
        self._leaves = list[Tensor]()
        self._places = dict[int, tuple[int, int]]()  # of a trial's weight: which leaf, which row of it
        self._count = len(tapes)
        values: dict[int | None, Any] = {0: hidden}
        for operations in zip(*(tape.operations for tape in tapes), strict=True):
            given = [self._given(leaves, values) for leaves in zip(*(one.given for one in operations), strict=True)]
            first = operations[0]
            out = self._done(first.function, given, first.call)
            if isinstance(out, _Each) and len(first.made) > 1:
                flat = zip(*(first.flat(each) for each in out.all), strict=True)
                values.update(zip(first.made, (_Each(None, each) for each in flat), strict=True))
            else:
                values.update(zip(first.made, [out] if isinstance(out, _Each) else first.flat(out), strict=True))
        self.answers = [
            tape.answer({number: self._of(values[number], place) for number in tape.wanted}) for place, tape in enumerate(tapes)
        ]

    def gradients(self, totals: Sequence[Tensor], learning: Sequence[Sequence[Tensor]]) -> list[Tensor | None]:
        """Return the gradients of what learns, trial by trial."""
        every = [weight for own in learning for weight in own]
        rest = [weight for weight in every if id(weight) not in self._places]
        found = torch.autograd.grad(totals, [*self._leaves, *rest], allow_unused=True)
        others = iter(found[len(self._leaves) :])
        rows = [None if whole is None else whole.unbind() for whole in found[: len(self._leaves)]]
        gradients = list[Tensor | None]()
        for weight in every:
            if (place := self._places.get(id(weight))) is None:
                gradients.append(next(others))
            else:
                own = rows[place[0]]
                gradients.append(None if own is None else own[place[1]])
        return gradients

    def _given(self, leaves: Sequence[Any], values: dict[int | None, Any]) -> Any:
        first = leaves[0]
        if isinstance(first, Slot):
            return values[first.number]
        return first if all(leaf is first for leaf in leaves) else _Each(None, leaves)

    def _done(self, function: Callable[..., Any], given: list[Any], call: Callable[[list[Any]], Any]) -> Any:
        if not any(isinstance(leaf, _Each) for leaf in given):
            return call(given)
        if function is functional.linear and len(given) == 3 and all(isinstance(leaf, _Each) for leaf in given[1:]):
            return self._linear(call, given)
        if function is functional.dropout and isinstance(given[0], _Each):
            kept = call([torch.ones_like(given[0].all[0]), *given[1:]])
            return self._split(self._side_by_side(given[0]) * kept)
        return self._one_by_one(call, given)

    def _linear(self, call: Callable[[list[Any]], Any], given: list[Any]) -> _Each:
        inputs, weight, bias = given
        one, (outputs, size) = (inputs.all[0] if isinstance(inputs, _Each) else inputs), weight.all[0].shape
        sizes, dtypes = (one.numel() // size, size, outputs), (one.dtype, weight.all[0].dtype)
        if one.dim() < 2 or torch.is_autocast_enabled("cpu") or not _alike(self._count, sizes, dtypes):
            return self._one_by_one(call, given)
        whole = self._side_by_side(inputs) if isinstance(inputs, _Each) else one.expand(self._count, *one.shape).contiguous()
        found = _product(whole.flatten(1, -2), self._leaf(weight), self._leaf(bias))
        return self._split(found.view(*whole.shape[:-1], -1))

    def _one_by_one(self, call: Callable[[list[Any]], Any], given: Sequence[Any]) -> _Each:
        return _Each(None, [call([self._of(leaf, place) for leaf in given]) for place in range(self._count)])

    def _leaf(self, weights: _Each) -> Tensor:
        """Return the trials' weights as one tensor that has a gradient."""
        key = id(weights.all[0])
        if key not in self._places:
            self._places |= {id(weight): (len(self._leaves), row) for row, weight in enumerate(weights.all)}
            kept = [weight.detach() for weight in weights.all]
            whole = _whole(kept)
            self._leaves.append((torch.stack(kept) if whole is None else whole).requires_grad_())
        return self._leaves[self._places[key][0]]

    def _side_by_side(self, value: _Each) -> Tensor:
        return torch.stack(list(value.all)) if value.one is None else value.one

    def _split(self, whole: Tensor) -> _Each:
        return _Each(whole, whole.unbind())

    def _of(self, value: Any, place: int) -> Any:
        return value.all[place] if isinstance(value, _Each) else value


def lay_side_by_side(weights: Sequence[nn.Parameter]) -> None:
    """Let parameters of one shape lie in memory one after the other, so that a step need not copy them together."""
    size = weights[0].numel() * weights[0].element_size()
    if size % ALIGNED == 0:  # else some would begin where torch's own tensors do not, and some kernels round by that
        for weight, row in zip(weights, torch.stack([weight.detach() for weight in weights]), strict=True):
            weight.data = row


def _whole(weights: Sequence[Tensor]) -> Tensor | None:
    """Return the tensor whose rows these are; None where they are not."""
    first, size = weights[0], weights[0].numel() * weights[0].element_size()
    begin, memory = first.data_ptr(), first.untyped_storage().data_ptr()
    apart = any(each.data_ptr() != begin + place * size for place, each in enumerate(weights))
    if apart or len(weights) < 2 or weights[-1].untyped_storage().data_ptr() != memory or not first.is_contiguous():
        return None
    return first.as_strided((len(weights), *first.shape), (first.numel(), *first.stride()))


class _Products(torch.autograd.Function):
    """Linear layers of [T, N, I] by [T, O, I] with biases [T, O]: [T, N, O]; gradients lie in memory as weights do."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        inputs, weights, biases = given
        ctx.save_for_backward(inputs, weights)
        return torch.baddbmm(biases.unsqueeze(1), inputs, weights.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        (inputs, weights), (gradient,) = ctx.saved_tensors, gradients
        below = torch.bmm(gradient, weights) if ctx.needs_input_grad[0] else None
        return below, torch.bmm(gradient.transpose(1, 2), inputs), gradient.sum(1)


def _product(inputs: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    found: Tensor = _Products.apply(inputs, weights, biases)
    return found


@cache
def _alike(count: int, sizes: tuple[int, int, int], dtypes: tuple[torch.dtype, torch.dtype]) -> bool:
    """Tell whether stacked layers of these sizes come to the bits of single ones: answers and gradients of numbers at random.

    Of a small product there may be another code, whose last bits are others.
    """
    rows, size, outputs = sizes
    draw = np.random.default_rng(0)  # not torch's, which may be that of a training
    shapes = ((rows, size), (outputs, size), (outputs,), (rows, outputs))
    inputs, weights, biases, gradient = (torch.from_numpy(draw.standard_normal((count, *shape))) for shape in shapes)
    drawn = [inputs.to(dtypes[0]), weights.to(dtypes[1]), biases.to(dtypes[1]), gradient]

    def found(layer: Callable[..., Tensor], given: Sequence[Tensor]) -> list[Tensor]:
        leaves = [each.clone().requires_grad_() for each in given[:3]]
        said = layer(*leaves)
        return [said, *torch.autograd.grad(said, leaves, given[3].to(said.dtype))]

    whole = found(_product, drawn)
    single = [found(functional.linear, [each[place] for each in drawn]) for place in range(count)]
    return all(torch.equal(each[place], own) for place in range(count) for each, own in zip(whole, single[place], strict=True))
