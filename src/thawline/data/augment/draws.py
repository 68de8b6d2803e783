"""What augmentations draw follows from the generator handed in; torch's own state, which all threads share, is not touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from thawline.errors import UserError

if TYPE_CHECKING:
    from thawline.data.augment import Random

_DRAWING = {
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal, torch.bernoulli, torch.multinomial),
    *(Tensor.uniform_, Tensor.normal_, Tensor.random_, Tensor.bernoulli_, Tensor.exponential_),
}


@final
class Drawn(TorchFunctionMode):
    """Within it, what this thread draws from torch comes from a generator seeded by `generator`, and not from the global one.

    >>> def number() -> float:
    ...     with Drawn(np.random.default_rng(3)):
    ...         return float(torch.rand(()))
    >>> number() == number()
    True
    """

    def __init__(self, generator: Random) -> None:
        super().__init__()
        self._own = torch.Generator().manual_seed(int(numpy_of(generator).integers(2**63)))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _DRAWING:
            given.setdefault("generator", self._own)
        return func(*args, **given)


def numpy_of(generator: Random) -> np.random.Generator:
    """Return the generator itself, or one of numpy that follows from the one of torch."""
    if isinstance(generator, np.random.Generator):
        return generator
    return np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator)))


def within(call: str, least: float, most: float, **given: float) -> None:
    """Raise UserError for an argument of the call form that is no number from `least` to `most`.

    >>> within("flip", 0, 1, p=2)
    Traceback (most recent call last):
    thawline.errors.UserError: flip(p=2) is out of range; expected a number from 0 to 1.
    """
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            above = f"from {least} to {most}" if most < float("inf") else f"of at least {least}"
            raise UserError(f"{call}({name}={value}) is out of range; expected a number {above}.")
