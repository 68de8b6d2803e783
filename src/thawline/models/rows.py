"""Only the rows of a vocabulary that the data touches: the others need neither gradient nor optimiser state."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from torch import nn


@final
class Rows:
    """The word embeddings of a model, narrowed to the rows in `used`, int64 [U]; `widen` puts the whole table back.

    Exact: a row that no example touches has a zero gradient, so that it only decays, and all such rows by one factor. A last
    row of ones, which nothing looks up, is trained along and comes to that factor. This holds for every optimiser whose decay
    is linear in the weight (AdamW, SGD), not for one that divides it by a moment (Adam with a coupled decay).
    """

    def __init__(self, model: nn.Module, used: np.ndarray) -> None:
        found = embedding_of(model)
        assert found is not None, "the model has no word embeddings of its own"
        self.module = found
        self.whole = self.module.weight
        self._used = torch.from_numpy(np.unique(used))
        place = torch.full((len(self.whole),), -1)
        place[self._used] = torch.arange(len(self._used))
        with torch.no_grad():
            rows = torch.cat([self.whole[self._used], torch.ones_like(self.whole[:1])])
        # A gradient of the few rows that a batch looks up: else each pass fills a whole one with zeros. Elsewhere than on a
        # processor they would be added up in any order, and torch cannot scale them by how often they occur.
        self.module.sparse = self.whole.device.type == "cpu" and not self.module.scale_grad_by_freq
        self._padding = self.module.padding_idx
        self.module.weight = nn.Parameter(rows, requires_grad=self.whole.requires_grad)
        if self._padding is not None:
            at = int(place[self._padding])
            self.module.padding_idx = at if at >= 0 else len(rows) - 1
        place = place.to(self.whole.device)
        self._hook = self.module.register_forward_pre_hook(lambda _, arguments: (place[arguments[0]], *arguments[1:]))

    def widen(self) -> None:
        """Give the model its whole table again, with what the rows have learned."""
        rows = self.module.weight.detach().to(self.whole.dtype)
        with torch.no_grad():
            untouched = torch.ones(len(self.whole), dtype=torch.bool, device=self.whole.device)
            untouched[self._used] = False
            if (factor := float(rows[-1, 0])) != 1.0:
                self.whole.mul_(torch.where(untouched, factor, 1.0).unsqueeze(1))
            self.whole[self._used] = rows[:-1]
        self._hook.remove()
        self.module.sparse = False
        self.module.weight, self.module.padding_idx = self.whole, self._padding


def embedding_of(model: Any) -> nn.Embedding | None:
    """Return the word embeddings of a model where they can be narrowed: a plain table that nothing else holds."""
    table = table_of(model)
    return table if table is not None and not_narrowed(model, table) is None else None


def table_of(model: Any) -> nn.Embedding | None:
    """Return the word embeddings of a model that reads tokens."""
    words = getattr(model, "main_input_name", "input_ids") == "input_ids" and hasattr(model, "get_input_embeddings")
    module = model.get_input_embeddings() if words else None
    return module if isinstance(module, nn.Embedding) else None


def not_narrowed(model: Any, table: nn.Embedding) -> str | None:
    """Return why a model's word embeddings cannot be narrowed, None where they can."""
    if model.config.is_encoder_decoder:
        return "the decoder uses them too"
    if sum(weight is table.weight for _, weight in model.named_parameters(remove_duplicate=False)) > 1:
        return "another layer uses them too"
    plain = type(table) is nn.Embedding and table.max_norm is None and not table.sparse
    return None if plain else f"{type(table).__name__} is not a plain table"


def touched(columns: list[np.ndarray], size: int) -> np.ndarray:
    """Return the ids below `size` that occur in any of the columns, sorted."""
    seen = np.zeros(size, dtype=bool)
    for column in columns:
        seen[column] = True
    return np.flatnonzero(seen)
