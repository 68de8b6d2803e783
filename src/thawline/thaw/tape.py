"""The operations above a cut that lead from the stored tensor to the answer, without the model's own code around them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from thawline.thaw.stub import NOTHING, outputs

_OF_SHAPE = ("__get__", "size", "dim", "stride", "numel", "__len__", "is_floating_point", "is_complex", "is_contiguous")
"""What may be asked of a tensor without looking at its values."""


class Slot(NamedTuple):
    """Stands for the value of this number among those that are computed; 0 is the stored tensor."""

    number: int


class Operation(NamedTuple):
    """A function, the leaves of its arguments, and the numbers of what it makes."""

    function: Callable[..., Any]
    given: tuple[Any, ...]
    spec: TreeSpec | None  # None: the leaves are the arguments
    made: tuple[int | None, ...]

    def call(self, leaves: list[Any]) -> Any:
        """Return what the function makes of these leaves."""
        if self.spec is None:
            return self.function(*leaves)
        args, kwargs = tree_unflatten(leaves, self.spec)
        return self.function(*args, **kwargs)

    def flat(self, out: Any) -> list[Any]:
        """Return what it made, in the order of `made`."""
        return [out] if len(self.made) == 1 else tree_flatten(out)[0]


@final
class Tape:
    """Operations in order; called with a stored tensor it returns what the model would, of the outputs that depend on it."""

    def __init__(self, operations: Iterable[Operation], kind: Callable[..., Any], answers: Mapping[str, int]) -> None:
        needed, kept = set(answers.values()), list[Operation]()
        for operation in reversed(list(operations)):
            if needed.intersection(operation.made):
                kept.append(operation)
                needed |= {leaf.number for leaf in operation.given if isinstance(leaf, Slot)}
        self.operations, self._kind, self._answers = tuple(reversed(kept)), kind, answers

    def of(self, weights: Mapping[int, Tensor]) -> Tape:
        """Return the same with other weights, each by the id of the one whose place it takes."""
        other = copy.copy(self)
        other.operations = tuple(
            operation._replace(given=tuple(weights.get(id(leaf), leaf) for leaf in operation.given))
            for operation in self.operations
        )
        return other

    def __call__(self, hidden: Tensor) -> Any:
        values: dict[int | None, Any] = {0: hidden}
        for operation in self.operations:
            leaves = [values[leaf.number] if type(leaf) is Slot else leaf for leaf in operation.given]
            values.update(zip(operation.made, operation.flat(operation.call(leaves)), strict=True))
        return self.answer(values)

    def answer(self, values: Mapping[int | None, Any]) -> Any:
        """Return the output that is made of these values, by their numbers, of which it takes those that are `wanted`."""
        return self._kind(**{name: values[number] for name, number in self._answers.items()})

    @property
    def wanted(self) -> frozenset[int]:
        """The numbers of the values that the output is made of."""
        return frozenset(self._answers.values())


@final
class Recorder(TorchFunctionMode):
    """Within it what a model computes from `hidden` is noted; `tape` gives it, or None where more than that would be needed.

    Beside the stored tensor an operation may take the model's weights and buffers, and numbers that follow from shapes. What
    depends on other inputs, on values that Python looked at, on a change in place or on another arithmetic is not noted down.
    """

    def __init__(self, model: nn.Module, hidden: Tensor) -> None:
        super().__init__()
        self._lasting = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self._slots, self._alive = {id(hidden): 0}, [hidden]  # alive, so that no other tensor gets its id
        self._operations = list[Operation]()
        self._arithmetic, self._broken = _arithmetic(hidden), False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        leaves, spec = tree_flatten((args, dict(kwargs or {})))
        given = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if not any(id(tensor) in self._slots for tensor in given):
            return func(*args, **(kwargs or {}))
        versions = [tensor._version for tensor in given]
        out = func(*args, **(kwargs or {}))
        self._note(func, leaves, spec, out=out)
        self._broken |= versions != [tensor._version for tensor in given]
        return out

    def _note(self, func: Callable[..., Any], leaves: list[Any], spec: TreeSpec, *, out: Any) -> None:
        results = tree_flatten(out)[0]
        if not any(isinstance(result, Tensor) for result in results):
            self._broken |= getattr(func, "__name__", "") not in _OF_SHAPE
            return
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if self._arithmetic != _arithmetic(tensors[0]) or any(id(t) not in {*self._slots, *self._lasting} for t in tensors):
            return  # what comes of it has no slot
        named = tuple(Slot(self._slots[id(x)]) if isinstance(x, Tensor) and id(x) in self._slots else x for x in leaves)
        made = list[int | None]()
        for result in results:
            made.append(len(self._alive) if isinstance(result, Tensor) else None)
            if isinstance(result, Tensor):
                self._slots[id(result)] = len(self._alive)
                self._alive.append(result)
        flat = spec == tree_flatten((tuple(leaves), {}))[1]
        self._operations.append(Operation(func, named, None if flat else spec, tuple(made)))

    def tape(self, output: Any) -> Tape | None:
        """Return the way to what the model returned."""
        found = outputs(output)
        if self._broken or not isinstance(output, dict) or "logits" not in found or id(found["logits"]) not in self._slots:
            return None
        answers = {name: self._slots[id(value)] for name, value in found.items() if id(value) in self._slots}
        return Tape(self._operations, type(output), answers)


def _arithmetic(tensor: Tensor) -> tuple[bool, bool]:
    return torch.is_grad_enabled(), torch.is_autocast_enabled(tensor.device.type)


@final
class Shortcut:
    """Stands for a model's forward above a cut: it notes down what is computed from `hidden`, once for each of its shapes."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.hidden = model, NOTHING
        self.forward: Callable[..., Any] = self
        self._tapes: dict[tuple[torch.Size, torch.dtype], Tape | None] = {}

    @property
    def tape(self) -> Tape | None:
        """What is noted down for a tensor like `hidden`."""
        return self._tapes.get((self.hidden.shape, self.hidden.dtype))

    @property
    def known(self) -> bool:
        """Whether nothing of the model's own code is needed for `hidden`."""
        return self.tape is not None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        key = self.hidden.shape, self.hidden.dtype
        if (tape := self.tape) is not None:
            return tape(self.hidden)
        if key in self._tapes:
            return self.forward(*args, **kwargs)
        with Recorder(self.model, self.hidden) as recorder:
            output = self.forward(*args, **kwargs)
        self._tapes[key] = recorder.tape(output)
        return output
