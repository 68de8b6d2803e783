"""The blocks of an encoder without padding: where a model learns, products, norms and dropout are of real positions alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Cache

from thawline.models.trace import evaluating

_CLOSE = 1e-4
"""How far logits may lie apart, beside the largest of them."""
UNPADDED = "Unpadded"
"""What the names of such classes begin with."""
MOST = 0.85
"""Share of real positions above which leaving the others out costs what it gains."""
_GRID = 16
"""Kernels are made for each number of rows of a product, and kept; so some padding is computed too."""


@final
class Unpadded:
    """Lets the blocks of a model compute real positions alone where it learns; `restore` makes them ordinary blocks.

    Exact: a block takes and returns tensors [B, L, D] as before, with zeros where there is padding; only attention sees them
    side by side. Without gradients, and for batches with little padding, nothing differs. `answers` returns the logits of some
    examples of unlike lengths; where they do not stay as they are, and where blocks are not known, nothing is changed.
    """

    def __init__(self, model: Any, answers: Callable[[], Tensor]) -> None:
        known = [module for module in model.modules() if type(module).__name__ in _BLOCKS]
        self.blocks = [(module, type(module)) for module in known if not _apart(module)]
        same = False
        with evaluating(model), suppress(RuntimeError, ValueError, TypeError, IndexError, AttributeError):
            with torch.no_grad():
                before = answers()
            for module, kind in self.blocks:
                module.__class__ = _unpadded(kind, always=True)  # type: ignore[arg-type]  # however little there is to leave out here
            with torch.enable_grad():
                same = alike(before, answers().detach())
        for module, kind in self.blocks:
            module.__class__ = _unpadded(kind)  # type: ignore[arg-type]
        if not same:
            self.restore()

    def restore(self) -> None:
        """Give the blocks their own code again."""
        for module, kind in self.blocks:
            module.__class__ = kind
        self.blocks = []


def computed(real: int, positions: int) -> int:
    """Return how many of a batch's positions a block computes where it learns: the real ones, on a grid, or all of them.

    >>> computed(50, 100), computed(90, 100)
    (64, 100)
    """
    some = -(-real // _GRID) * _GRID
    return some if some <= MOST * positions else positions


@final
class Real:
    """The positions of a batch [B, L] that are computed, by the mask of attention, [B, 1, L, L]: true, or 0, at real ones."""

    def __init__(self, mask: Tensor, grid: int = _GRID) -> None:
        self.mask, row = mask, mask[:, 0, 0]
        self.shape, real = row.shape, (row if row.dtype == torch.bool else row >= 0).flatten()
        places = real.nonzero().squeeze(1)
        spare = (~real).nonzero().squeeze(1)[: -len(places) % grid]
        self.places = torch.cat([places, spare])

    @property
    def few(self) -> bool:
        """Whether there are so few that it pays to leave out the others."""
        return len(self.places) <= MOST * self.shape.numel()

    def taken(self, padded: Tensor) -> Tensor:
        """Return what stands at the real positions of a tensor [B, L, D]; [T, D]."""
        return padded.flatten(0, 1).index_select(0, self.places)

    def spread(self, real: Tensor) -> Tensor:
        """Return the inverse of `taken`, zeros where there is padding."""
        whole = real.new_zeros(self.shape.numel(), real.shape[1]).index_copy(0, self.places, real)
        return whole.view(*self.shape, -1)


def alike(one: Tensor, other: Tensor) -> bool:
    """Tell whether logits stayed as they are, to rounding."""
    return one.shape == other.shape and bool((other - one).abs().max() <= _CLOSE * one.abs().max())


def attended(heads: list[Tensor], mask: Tensor | None, dropout: nn.Dropout) -> Tensor:
    """Return what positions attend to, [B, L, D]; `heads` are queries, keys and values, [B, heads, L, D / heads]."""
    rate, (query, key, value) = dropout.p if dropout.training else 0.0, heads
    found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
    return found.transpose(1, 2).flatten(-2)


def split_heads(projected: list[Tensor], size: int) -> list[Tensor]:
    """Return tensors [B, L, D] as [B, heads, L, size]."""
    return [each.unflatten(-1, (-1, size)).transpose(1, 2) for each in projected]


def _bert(module: Any, given: Tensor, real: Real) -> Tensor:
    own = module.attention.self
    heads = split_heads([real.spread(part(given)) for part in (own.query, own.key, own.value)], own.attention_head_size)
    found = module.attention.output(real.taken(attended(heads, real.mask, own.dropout)), given)
    made: Tensor = module.feed_forward_chunk(found)
    return made


def _distilbert(module: Any, given: Tensor, real: Real) -> Tensor:
    own = module.attention
    heads = split_heads([real.spread(part(given)) for part in (own.q_lin, own.k_lin, own.v_lin)], own.attention_head_size)
    found = module.sa_layer_norm(own.out_lin(real.taken(attended(heads, real.mask, own.dropout))) + given)
    made: Tensor = module.output_layer_norm(module.ffn(found) + found)
    return made


_BLOCKS: Mapping[str, Callable[[Any, Tensor, Real], Tensor]] = {
    **{f"{name}Layer": _bert for name in ("Bert", "Roberta", "XLMRoberta", "Camembert", "Electra", "Ernie", "Data2VecText")},
    "TransformerBlock": _distilbert,
}
"""By the name of a class in transformers."""


def _apart(module: Any) -> bool:
    """Tell whether a block is of a decoder, or has an attention that is not its family's."""
    kind = type(module).__name__.removesuffix("Layer")
    own = type(module.attention).__name__
    return getattr(module, "is_decoder", False) or (kind != "TransformerBlock" and own != f"{kind}Attention")


@cache  # one class for all blocks of a kind, which share compiled code
def _unpadded(kind: Any, *, always: bool = False) -> type[Any]:
    """Return a class of blocks that compute real positions alone, `always` or where they are few."""

    def forward(module: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, *more: Any, **given: Any) -> Any:
        # Another sequence to attend to, or what was before this one.
        other = any(isinstance(value, Tensor | Cache) for value in (*more, *given.values()))
        if attention_mask is None or other or not torch.is_grad_enabled():
            return module.plain(hidden_states, attention_mask, *more, **given)
        real = Real(attention_mask, 1 if always else _GRID)
        if not (always or real.few):
            return module.plain(hidden_states, attention_mask, *more, **given)
        return real.spread(module.compute(module, real.taken(hidden_states), real))

    own = {"forward": forward, "plain": kind.forward, "compute": staticmethod(_BLOCKS[kind.__name__])}
    return type(f"{UNPADDED}{kind.__name__}", (kind,), own)
