"""Blocks of a model as compiled code, where they learn."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import nn

_VARIANTS = 64
"""Forms of a block that torch may make code for; what comes in yet another one runs as it is."""
_OPTIONS: dict[str, Any] = {"fallback_random": True}
"""Random numbers are those of the model's own code."""


@final
class Compiled:
    """The repeated blocks of models that share their weights, as compiled code; `restore` makes them ordinary again.

    Batches are `by_length` or at random. Without gradients, in what is frozen, and where a stand-in takes a block's place, the
    model's own code runs. What is shared by blocks of a kind, and by all threads, is compiled once, for any number of examples
    and positions. Source: Ansel et al. 2024, "PyTorch 2: Faster Machine Learning Through Dynamic Python Bytecode Transformation
    and Graph Compilation".
    """

    def __init__(self, models: Sequence[nn.Module], *, by_length: bool) -> None:
        import torch._dynamo

        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # that there is no CUDA is no news here
        torch._dynamo.config.recompile_limit = max(_VARIANTS, torch._dynamo.config.recompile_limit)
        self.blocks: list[Any] = [block for model in models for block in repeated(model)]
        for block in self.blocks:
            # Blocks without padding have two forms, of which the order of examples decides which is the usual one.
            if hasattr(block, "compute") and by_length:
                block.plain = _where_it_learns(block, block.plain)
            elif hasattr(block, "compute"):
                block.compute = _fast(block.compute)
            else:
                block._compiled_call_impl = _where_it_learns(block, block._call_impl)

    def restore(self) -> None:
        """Let every block run its own code."""
        for block in self.blocks:
            block._compiled_call_impl = None
            for name in ("compute", "plain"):
                vars(block).pop(name, None)
        self.blocks = []


def repeated(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of a model: modules of a list in which their kind comes up more than once, in one size.

    >>> repeated(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Linear(2, 3)))
    [Linear(in_features=2, out_features=2, bias=True), Linear(in_features=2, out_features=2, bias=True)]
    """
    found, inside = list[nn.Module](), set[nn.Module]()
    for part in model.modules():
        if isinstance(part, (nn.ModuleList, nn.Sequential)) and part not in inside:
            kinds = Counter(_kind(block) for block in part)
            blocks = [block for block in part if kinds[_kind(block)] > 1]
            found += blocks
            inside.update(module for block in blocks for module in block.modules())
    return found


def _kind(block: nn.Module) -> tuple[Any, ...]:
    """Return what blocks share that run the same code: each size of weights has its own."""
    return type(block), *(parameter.shape for parameter in block.parameters())


def _fast(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True, options=_OPTIONS)


def _where_it_learns(block: nn.Module, own: Callable[..., Any]) -> Callable[..., Any]:
    fast = _fast(own)

    def call(*args: Any, **kwargs: Any) -> Any:
        compiled = block.training and torch.is_grad_enabled() and "forward" not in vars(block)
        return (fast if compiled else own)(*args, **kwargs)

    return call
