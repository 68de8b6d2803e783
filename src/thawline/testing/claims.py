"""What the checks have in common: a claim with its sentence, and when two numbers count as the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

CLOSE = 1e-5
"""How far two sums may lie apart, relative to their scale, when only the order or the padding differs."""


def claim(holds: bool, sentence: str) -> None:
    """Raise AssertionError with `sentence` unless `holds`.

    >>> claim(1 > 2, "One is not above two.")
    Traceback (most recent call last):
    AssertionError: One is not above two.
    """
    if not holds:
        raise AssertionError(sentence)


def close(one: Any, other: Any, scale: float | None = None) -> bool:
    """Tell whether numbers or tensors are equal to within rounding of `scale`, by default the largest of them, at least 1.

    >>> close(1.0, 1.000001), close(1.0, 1.001)
    (True, False)
    """
    first, second = torch.as_tensor(one).detach().double(), torch.as_tensor(other).detach().double()
    largest = max(1.0, *second.abs().flatten().tolist()) if scale is None else scale
    return first.shape == second.shape and bool(((first - second).abs() <= CLOSE * largest).all())


def largest(gradients: Mapping[str, Tensor]) -> float:
    """Return the largest number in gradients: what their rounding is relative to."""
    return max((float(gradient.abs().max()) for gradient in gradients.values()), default=0.0)


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in what a module returns."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from tensors(part)
