"""The gradients of depthwise convolutions in bfloat16, computed by what is quick on a processor.

There torch hands some of them to code that is 10 to 40 times slower than the convolution itself: those of kernels of five and
more in the weights, and of strides in the inputs (docs/methods/speed.md has times). The first is itself a convolution, of
each example's channel with its gradient as the kernel; the second is quick in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from thawline.memory import has_bf16

_LARGE = 5
"""From this size of a kernel on, the gradient of its weights is slow."""
_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
Pair = tuple[int, int]


class _Way(NamedTuple):
    """How a kernel moves over a picture, heights first."""

    stride: Pair
    padding: Pair
    dilation: Pair


class _Taken(NamedTuple):
    """What a convolution was of, and the gradient of what came out."""

    gradient: Tensor
    values: Tensor
    weight: Tensor


def conv2d(func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Return what `func`, torch's conv2d, returns; the gradients of what is slow are found another way, to rounding the same.

    >>> pictures, kernels = torch.randn(2, 8, 9, 9).bfloat16(), torch.randn(8, 1, 5, 5).bfloat16().requires_grad_()
    >>> conv2d(torch.conv2d, (pictures, kernels), {"groups": 8}).grad_fn.name()
    '_DepthwiseBackward'
    """
    given = dict(zip(_NAMES, args, strict=False)) | dict(kwargs)
    if given.get("groups", 1) == 1:
        return func(*args, **kwargs)
    values, weight, bias = (_cast(given.get(name)) for name in _NAMES[:3])
    if not _is_depthwise(values, weight, given["groups"]):
        return func(*args, **kwargs)
    way = _way(given)
    if way is None or (max(weight.shape[-2:]) < _LARGE and way.stride == (1, 1)):
        return func(*args, **kwargs)
    found: Tensor = _Depthwise.apply(way, values, weight, bias)
    return found


def _cast(tensor: Any) -> Any:
    """Return a tensor as autocast would take it, which casts at torch's own functions only."""
    lower = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return tensor.to(torch.bfloat16) if lower and tensor is not None and tensor.device.type == "cpu" else tensor


def _is_depthwise(values: Tensor, weight: Tensor, groups: int) -> bool:
    """Tell whether each channel has one kernel of its own, in bfloat16 on a processor, and something learns."""
    kinds = (values.device.type, values.dtype, weight.dtype) == ("cpu", torch.bfloat16, torch.bfloat16)
    learns = torch.is_grad_enabled() and (values.requires_grad or weight.requires_grad)
    return kinds and learns and values.dim() == 4 and values.shape[1] == groups == weight.shape[0]


def _way(given: Mapping[str, Any]) -> _Way | None:
    """Return how a kernel moves; None where "same" pads one side more than the other."""
    sizes, padding = given["weight"].shape[-2:], given.get("padding", 0)
    stride, dilation = _pair(given.get("stride", 1)), _pair(given.get("dilation", 1))
    if padding == "same":
        high, wide = (apart * (size - 1) for apart, size in zip(dilation, sizes, strict=True))
        return None if high % 2 or wide % 2 else _Way(stride, (high // 2, wide // 2), dilation)
    return _Way(stride, (0, 0) if isinstance(padding, str) else _pair(padding), dilation)


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        way, values, weight, bias = given
        ctx.save_for_backward(values, weight)
        ctx.way = way
        found: Tensor = functional.conv2d(values, weight, bias, way.stride, way.padding, way.dilation, len(weight))
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        taken = _Taken(*gradients, *ctx.saved_tensors)
        _, of_values, of_weight, of_bias = ctx.needs_input_grad
        return (
            None,
            _of_values(taken, ctx.way) if of_values else None,
            _of_weight(taken, ctx.way) if of_weight else None,
            taken.gradient.sum((0, 2, 3)) if of_bias else None,
        )


def _of_values(taken: _Taken, way: _Way) -> Tensor:
    # Where the processor cannot multiply in bfloat16, torch adds up in it, and loses two digits.
    exact = taken if way.stride == (1, 1) and has_bf16() else _Taken(*(tensor.float() for tensor in taken))
    return _native(exact, way, [True, False, False])[0].to(taken.values.dtype)


def _of_weight(taken: _Taken, way: _Way) -> Tensor:
    (count, channels, high, wide), shape = taken.values.shape, taken.weight.shape
    if max(shape[-2:]) < _LARGE:
        return _native(taken, way, [False, True, False])[1]
    # Every channel of every example becomes a channel of one picture, the channels side by side.
    picture = taken.values.permute(2, 3, 0, 1).reshape(1, high, wide, count * channels).permute(0, 3, 1, 2)
    kernels = taken.gradient.reshape(count * channels, 1, *taken.gradient.shape[-2:])
    # What the kernel strode over lies apart here, and the other way round; a stride may leave a rest, which is cut off.
    found = functional.conv2d(picture, kernels, None, way.dilation, way.padding, way.stride, count * channels)
    found = found[..., : shape[-2], : shape[-1]].reshape(count, *shape)
    return found.sum(0, dtype=torch.float32).to(taken.weight.dtype)


def _native(taken: _Taken, way: _Way, wanted: list[bool]) -> list[Tensor]:
    found: list[Tensor] = torch.ops.aten.convolution_backward(
        *taken, [0], *map(list, way), False, [0, 0], len(taken.weight), wanted
    )
    return found
