"""Tensors that a number decides, written to a shelf and compared bit for bit; imported by child processes too."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from thawline.thaw.store import Shelf

FACTS: dict[str, Any] = {"weights": "5f3a", "depth": 4, "dtype": "float32", "autocast": None, "lengths": [16, 176]}


def key(number: int) -> bytes:
    return blake2b(number.to_bytes(8, "little"), digest_size=16).digest()


def made(number: int, dtype: str = "float32") -> Tensor:
    """A tensor that its number alone decides."""
    shape = (1 + number % 7, 12)
    return torch.randn(shape, generator=torch.Generator().manual_seed(number)).to(getattr(torch, dtype))


def stored_of(run: Any) -> list[int]:
    """The cuts of a run at which tensors were stored; none where nothing was frozen."""
    found: list[int] = run.metrics["train"].get("prefix", {"stored": []})["stored"]
    return found


def same(one: Tensor | None, other: Tensor) -> bool:
    """Whether shape, dtype and every bit agree, that of a NaN too."""
    if one is None or (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def fill(shelf: Shelf, numbers: Sequence[int]) -> None:
    shelf.add([key(n) for n in numbers], [made(n, shelf.dtype) for n in numbers])


def check(shelf: Shelf, numbers: Sequence[int]) -> int:
    """Every tensor is there exactly or not at all; return how many are there."""
    found = shelf.read([key(n) for n in numbers])
    assert all(tensor is None or same(tensor, made(n, shelf.dtype)) for n, tensor in zip(numbers, found, strict=True))
    return sum(tensor is not None for tensor in found)
