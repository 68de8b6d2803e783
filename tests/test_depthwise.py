"""Gradients of depthwise convolutions: those of torch in float32, to the rounding of bfloat16."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from thawline.train.draws import Draws

SHAPES: list[dict[str, Any]] = [
    {"kernel_size": 5, "padding": "same"},
    {"kernel_size": 5, "padding": 2, "stride": 2},
    {"kernel_size": 5, "stride": 2, "padding": "valid"},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 7, "padding": 3, "bias": False},
    {"kernel_size": (3, 5), "padding": (0, 2), "stride": (2, 1)},
    {"kernel_size": 5, "padding": 4, "dilation": 2},
    {"kernel_size": 5, "padding": 1, "stride": 3},
    {"kernel_size": (1, 6), "padding": "same"},
]


def gradients(layer: nn.Conv2d, values: torch.Tensor, towards: torch.Tensor, draws: Any) -> list[torch.Tensor]:
    values = values.to(layer.weight.dtype).requires_grad_()
    with draws:
        out = layer(values)
    out.backward(towards.to(out.dtype))
    assert values.grad is not None
    return [out.detach().float(), values.grad.float(), *(p.grad.float() for p in layer.parameters() if p.grad is not None)]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_are_those_of_torch(shape: dict[str, Any], order: torch.memory_format) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 8, groups=8, **shape).to(memory_format=order).bfloat16()
    values = torch.randn(3, 8, 13, 12).bfloat16().to(memory_format=order)
    towards = torch.randn_like(layer(values)).bfloat16().float()
    exact = gradients(copy.deepcopy(layer).float(), values.float(), towards, Draws([1]))
    for ours, wanted in zip(gradients(layer, values, towards, Draws([1])), exact, strict=True):
        assert ours.shape == wanted.shape
        assert float((ours - wanted).abs().max() / wanted.abs().max()) < 0.01


@pytest.mark.parametrize(
    ("layer", "own"),
    [
        (nn.Conv2d(8, 8, 5, groups=8).bfloat16(), True),
        (nn.Conv2d(8, 8, 3, groups=8, stride=2).bfloat16(), True),
        (nn.Conv2d(8, 8, 3, groups=8).bfloat16(), False),
        (nn.Conv2d(8, 16, 5, groups=8).bfloat16(), False),
        (nn.Conv2d(8, 8, 5, groups=2).bfloat16(), False),
        (nn.Conv2d(8, 8, 5).bfloat16(), False),
        (nn.Conv2d(8, 8, 5, groups=8), False),
    ],
    ids=str,
)
def test_only_what_is_slow_goes_another_way(layer: nn.Conv2d, own: bool) -> None:
    with Draws([1]):
        out = layer(torch.randn(2, 8, 9, 9).to(layer.weight.dtype))
    assert out.grad_fn is not None and ("Depthwise" in out.grad_fn.name()) == own
    with Draws([1]), torch.no_grad():
        assert layer(torch.randn(2, 8, 9, 9).to(layer.weight.dtype)).grad_fn is None


def test_autocast_is_heeded() -> None:
    layer, values = nn.Conv2d(8, 8, 5, groups=8), torch.randn(2, 8, 9, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16), Draws([1]):
        out = layer(values)
    assert out.dtype == torch.bfloat16 and out.grad_fn is not None and "Depthwise" in out.grad_fn.name()
    out.float().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32
