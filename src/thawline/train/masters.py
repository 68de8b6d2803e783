"""The float32 weights that an optimiser keeps, behind the weights that a model computes with."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from thawline.train.workers import Workers, side_by_side

_Pairs = list[tuple[nn.Parameter, Tensor]]
ALIGNED = 64
"""Bytes: torch's own tensors begin at multiples of this."""


@final
class Masters:
    """A model's parameters by name, in float32: its own, or copies of them behind `lower` ones that it computes with.

    With a `lower` dtype the model's parameters are rounded to it once a step instead of at every product, and activations are
    kept in it. Small steps are not lost, since they add up here; `restore` gives the model its parameters in float32 again.
    `learning` are the model's parameters that learn now, `now` their masters, in one order. Of those that are not among
    `learned`, which ever do, there is no copy where `lower` holds all of their digits.
    Source: Micikevicius et al. 2018, "Mixed Precision Training", section 3.1.
    """

    def __init__(self, model: nn.Module, lower: torch.dtype | None = None, learned: Collection[str] | None = None) -> None:
        self._model = dict(model.named_parameters())
        self.named: Mapping[str, nn.Parameter] = self._model
        self.learning: list[nn.Parameter] = []
        self.now: list[nn.Parameter] = []
        self._sums: dict[nn.Parameter, Tensor] = {}
        self.lower = lower
        if lower is not None:
            masters = dict(self._model)
            for name, parameter in lowered(model).items():
                whole, parameter.data = parameter.data, parameter.data.to(lower)
                if learned is None or name in learned or not torch.equal(parameter.data.to(whole.dtype), whole):
                    masters[name] = nn.Parameter(whole, requires_grad=parameter.requires_grad)
            self.named = masters
        for name, parameter in self.named.items():
            # What a file is mapped to begins anywhere, and by where it begins some kernels round.
            if parameter.data_ptr() % ALIGNED and (learned is None or name in learned):
                parameter.data = parameter.data.clone()
        self._behind = {self.named[name]: parameter for name, parameter in self._model.items()}

    def open(self, learning: Collection[str]) -> None:
        """Let these parameters learn, and no others."""
        for name, parameter in self._model.items():
            parameter.requires_grad_(name in learning)
            if name not in learning:
                self.named[name].grad = None
        names = [name for name in self._model if name in learning]
        self.learning = [self._model[name] for name in names]
        self.now = [self.named[name] for name in names]

    def beside(self, values: Mapping[str, Tensor]) -> Masters:
        """Return others that hold these values of some weights, in float32, and share the rest.

        The model is left as it is: what computes with these values takes `weights`, or a model that they are `lent` to.
        """
        other = copy.copy(self)
        model, named = dict(self._model), dict(self.named)
        for name, value in values.items():
            named[name] = nn.Parameter(value.clone())
            plain = self.named[name] is self._model[name]
            model[name] = named[name] if plain else nn.Parameter(value.to(self._model[name].dtype))
        other._model, other.named = model, named
        other._behind = {named[name]: parameter for name, parameter in model.items()}
        other.learning, other.now, other._sums = [], [], {}
        return other

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """What is computed with, by name."""
        return self._model

    def lend(self, model: nn.Module) -> None:
        """Copy what is computed with into another model."""
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter is not self._model[name]:
                    parameter.copy_(self._model[name])

    def add(self, gradients: Sequence[Tensor | None], workers: Workers | None = None) -> None:
        """Add the gradients of `learning`, in float32; None is a gradient of zero, and of a table there may be some rows."""
        pairs = self._paired(gradients)
        side_by_side([master for master, _ in pairs], lambda places: self._added([pairs[i] for i in places]), workers)

    def _paired(self, gradients: Sequence[Tensor | None]) -> _Pairs:
        both = zip(self.now, _apart(gradients), strict=True)
        return [(master, gradient) for master, gradient in both if gradient is not None]

    def _added(self, pairs: _Pairs) -> None:
        fresh, old = self._sorted(pairs)
        _each(torch._foreach_copy_, fresh)
        _each(torch._foreach_add_, old)

    def _sorted(self, pairs: _Pairs) -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
        """Return sums with the gradients that they are to be, and those with what is to be added; some rows are added here."""
        fresh, old = list[tuple[Tensor, Tensor]](), list[tuple[Tensor, Tensor]]()
        for master, gradient in pairs:
            if gradient.is_sparse:
                if master.grad is None:
                    master.grad = self._sum_of(master).zero_()
                rows, values = gradient._indices()[0], gradient._values()
                master.grad.index_add_(0, rows, values.to(master.dtype))
            elif master.grad is not None:
                old.append((master.grad, gradient))
            elif gradient.dtype == master.dtype:
                master.grad = gradient
            else:
                master.grad = self._sum_of(master)  # kept from step to step, since memory that is new each time costs
                fresh.append((master.grad, gradient))
        return fresh, old

    def _sum_of(self, master: nn.Parameter) -> Tensor:
        if master not in self._sums:
            self._sums[master] = torch.empty_like(master.data)
        return self._sums[master]

    def publish(self, masters: Iterable[nn.Parameter] | None = None) -> None:
        """Let the model have the values of these masters, of all of them where none are named."""
        if self.lower is not None:
            wanted = self.named.values() if masters is None else masters
            _each(torch._foreach_copy_, self._published(wanted))

    def _published(self, masters: Iterable[nn.Parameter]) -> list[tuple[Tensor, Tensor]]:
        return [(self._behind[master].data, master.data) for master in masters if self._behind[master] is not master]

    def restore(self) -> None:
        """Give the model its parameters in float32."""
        for name, parameter in self._model.items():
            whole = self.named[name].data
            parameter.data = whole.float() if whole.dtype == self.lower else whole


def add_abreast(all_masters: Sequence[Masters], gradients: Sequence[Sequence[Tensor | None]]) -> None:
    """Add the gradients of several models, as `Masters.add` does, with operations that all of them share."""
    both = [masters._sorted(masters._paired(own)) for masters, own in zip(all_masters, gradients, strict=True)]
    _each(torch._foreach_copy_, [pair for fresh, _ in both for pair in fresh])
    _each(torch._foreach_add_, [pair for _, old in both for pair in old])


def publish_abreast(all_masters: Sequence[Masters], moved: Sequence[Sequence[nn.Parameter]]) -> None:
    """Let each of several models have the values of its masters that have moved, as `Masters.publish` does."""
    pairs = [pair for masters, own in zip(all_masters, moved, strict=True) for pair in masters._published(own)]
    _each(torch._foreach_copy_, pairs)


def lowered(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters, by name, that a model can hold in a lower dtype than float32.

    Not those beside running statistics: these are float32, where small steps add up too, and torch wants both alike.
    """
    whole = {id(p) for m in model.modules() if isinstance(m, _NormBase) for p in m.parameters(recurse=False)}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) not in whole}


def _apart(gradients: Iterable[Tensor | None]) -> Iterator[Tensor | None]:
    """Yield gradients, a copy where one shares its memory with an earlier one: a sum of two parameters hands both the same."""
    taken = set[int]()
    for gradient in gradients:
        if gradient is None or gradient.is_sparse:
            yield gradient
            continue
        memory = gradient.untyped_storage().data_ptr()
        yield gradient.clone() if memory in taken else gradient
        taken.add(memory)


def _each(operation: object, pairs: list[tuple[Tensor, Tensor]]) -> None:
    if pairs:
        operation([first for first, _ in pairs], [second for _, second in pairs])  # type: ignore[operator]
