"""The last block of an encoder, computed for the first position alone, where the head reads no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, final

import torch
from torch import Tensor

from thawline.models.trace import evaluating
from thawline.models.unpadded import alike, attended, split_heads


@final
class FirstOnly:
    """Lets the last block of a model leave out what nobody reads; `restore` makes it the ordinary block.

    Exact: keys and values are of every position, the query and all that follows are of the first. `answers` returns the logits
    of some examples; where they do not stay as they are, and in models whose last block is not known, nothing is changed.
    """

    def __init__(self, model: Any, answers: Callable[[], Tensor]) -> None:
        found = [module for module in model.modules() if type(module).__name__ in _SHORT]
        self.block: Any = found[-1] if found else None
        if self.block is None:
            return
        self._kind, same = type(self.block), False
        with torch.no_grad(), evaluating(model), suppress(RuntimeError, ValueError, TypeError, IndexError, AttributeError):
            before = answers()
            self.block.__class__ = _shortened(self._kind)
            same = alike(before, answers())
        if not same:
            self.restore()

    def restore(self) -> None:
        """Give the block its own code again."""
        if self.block is not None:
            self.block.__class__ = self._kind
            self.block = None


def _bert(module: Any, hidden: Tensor, mask: Tensor | None) -> Any:
    """The attention of a BERT: what comes out goes on as the only position."""
    own, first = module.self, _first(hidden)
    heads = split_heads([own.query(first), own.key(hidden), own.value(hidden)], own.attention_head_size)
    return module.output(attended(heads, _row(mask), own.dropout), first), None


def _distilbert(module: Any, hidden: Tensor, mask: Tensor | None) -> Any:
    """The block of a DistilBERT, whose attention adds nothing up."""
    own, first = module.attention, _first(hidden)
    heads = split_heads([own.q_lin(first), own.k_lin(hidden), own.v_lin(hidden)], own.attention_head_size)
    found = module.sa_layer_norm(own.out_lin(attended(heads, _row(mask), own.dropout)) + first)
    return module.output_layer_norm(module.ffn(found) + found)


def _first(hidden: Tensor) -> Tensor:
    """Return the first position, [B, 1, D], as a tensor of its own: else a product's bits depend on the number of rows."""
    return hidden[:, :1].contiguous()


def _row(mask: Tensor | None) -> Tensor | None:
    return mask if mask is None else mask[..., :1, :]


_SHORT: Mapping[str, Callable[[Any, Tensor, Tensor | None], Any]] = {
    **{
        f"{name}Attention": _bert for name in ("Bert", "Roberta", "XLMRoberta", "Camembert", "Electra", "Ernie", "Data2VecText")
    },
    "TransformerBlock": _distilbert,
}
"""By the name of a class in transformers."""


def _shortened(kind: Any) -> type[Any]:
    """Return a class of modules that leave out what nobody reads."""
    short = _SHORT[kind.__name__]

    def forward(module: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, **given: Any) -> Any:
        if given.get("past_key_values") is not None:
            return kind.forward(module, hidden_states, attention_mask, **given)
        return short(module, hidden_states, attention_mask)

    return type(f"First{kind.__name__}", (kind,), {"forward": forward})
