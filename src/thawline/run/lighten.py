"""The same result with less work: weights in bfloat16 to compute with, only the embedding rows and positions in use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import nn

from thawline.calls import parse_call
from thawline.models.last import FirstOnly
from thawline.models.layout import fast_layout, usual_layout
from thawline.models.rows import Rows, not_narrowed, table_of, touched
from thawline.models.trace import evaluating
from thawline.models.unpadded import Unpadded
from thawline.recipe import Recipe
from thawline.run.assemble import Assembled, Decisions
from thawline.run.prepare import Prepared, Say
from thawline.train.device import Device
from thawline.train.masters import Masters, lowered

_LEAST_ROWS_SAVED = 0.2
"""Share of a vocabulary that must be out of use for narrowing to be worth its line in the log."""
_EXACT = ("sgd", "adam", "adamw")
"""Optimisers that treat every row by itself, and one without a gradient by a factor at most."""


@final
@dataclass(frozen=True)
class Light:
    """A model's weights as training sees them; `restore` makes it the ordinary model again."""

    masters: Masters
    rows: Rows | None
    model: Any

    def restore(self) -> None:
        """Put float32 weights, their usual layout and the whole vocabulary back."""
        self.masters.restore()
        usual_layout(self.model)
        if self.rows is not None:
            self.rows.widen()


def lighten(prepared: Prepared, assembled: Assembled, device: Device, *, decisions: Decisions, say: Say) -> Light:
    """Lighten a model in place, where that leaves the result as it is, and say so."""
    rows = narrowed(prepared, assembled, say)
    fast_layout(assembled.model)
    wanted = decisions.get("bf16_weights")
    if wanted is None:
        wanted = decisions["bf16"] and device.device.type == "cpu" and not _penalised(assembled.recipe)
    device.lower = bool(wanted and _runs_in_bf16(prepared, assembled.model))
    decisions["bf16_weights"] = device.lower
    learned = {name for group in assembled.groups for name in group.parameters}
    return Light(Masters(assembled.model, torch.bfloat16 if device.lower else None, learned), rows, assembled.model)


@final
@dataclass(frozen=True)
class Spared:
    """What blocks leave out of a batch; `restore` makes them compute all of it again."""

    last: FirstOnly
    padding: Unpadded

    def restore(self) -> None:
        """Give every block its own code."""
        self.padding.restore()
        self.last.restore()


def spared(prepared: Prepared, model: Any) -> Spared:
    """Let blocks leave out padding and what the head does not read; before a model is traced, since tensors change shape."""
    return Spared(FirstOnly(model, lambda: _answers(prepared, model)), Unpadded(model, lambda: _answers(prepared, model)))


def _answers(prepared: Prepared, model: Any) -> torch.Tensor:
    """Return what a model says of the longest and the shortest example; of positions, what it says of real ones."""
    data = prepared.sets["train"]
    batch = data.batch(np.array([data.lengths.argmax(), data.lengths.argmin()]))
    device = next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in batch.inputs.items()}
    said: torch.Tensor = data.task.forward(model, replace(batch, inputs=inputs)).logits
    mask = inputs.get("attention_mask")
    return said if mask is None or said.dim() < 3 else said[mask.bool()]


def narrowed(prepared: Prepared, assembled: Assembled, say: Say) -> Rows | None:
    """Narrow the word embeddings to the rows that the data touches, where they learn and where that is exact."""
    model, table = assembled.model, table_of(assembled.model)
    if table is None or not _learns(table.weight, assembled):
        return None
    used = _used(prepared, len(table.weight))
    if used is None or len(used) > (1 - _LEAST_ROWS_SAVED) * len(table.weight):
        return None
    if (why := _whole(prepared, assembled, table)) is not None:
        say(f"note: every row of the word embeddings is trained, because {why}")
        return None
    say(f"note: {len(used):,} of {len(table.weight):,} rows of the word embeddings are in use; the others only decay")
    return Rows(model, used)


def _whole(prepared: Prepared, assembled: Assembled, table: nn.Embedding) -> str | None:
    """Return why training fewer rows of a table would not be exact; None where it is."""
    recipe, why = assembled.recipe, not_narrowed(assembled.model, table)
    if why is not None:
        return why
    if prepared.task.generates:
        return "what the model writes may hold any of them"
    if recipe.train.optim not in _EXACT:
        return f"it is not known what {recipe.train.optim} does to rows that are not in use"
    if _penalised(recipe) or (recipe.train.optim == "adam" and recipe.train.weight_decay):
        return "a penalty on the weights changes the unused ones too"
    return None


def _learns(weight: torch.Tensor, assembled: Assembled) -> bool:
    named = dict(assembled.model.named_parameters())
    return any(named[name] is weight for group in assembled.groups for name in group.parameters)


def _penalised(recipe: Recipe) -> bool:
    return any(parse_call(spec).name != "dropout" for spec in recipe.regularize)


def _used(prepared: Prepared, size: int) -> np.ndarray | None:
    """Return the ids that any batch of any set can hold, those of padding among them; None where that cannot be told."""
    columns = list[np.ndarray]()
    for data in prepared.sets.values():
        values = getattr(data.items, "values", None)
        if values is None or (ids := values("input_ids")) is None:
            return None
        padded = data.batch(np.array([data.lengths.argmin(), data.lengths.argmax()])).inputs["input_ids"]
        columns += [*ids, padded.numpy().ravel()]
    pad: Any = getattr(prepared.processor, "pad_token_id", None)
    return touched([*columns, np.array([] if pad is None else [pad], dtype=np.int64)], size)


def _runs_in_bf16(prepared: Prepared, model: Any) -> bool:
    """Tell whether a model can hold its weights in bfloat16: not all can be given numbers of two kinds."""
    data = prepared.sets["train"]
    batch = data.batch(np.arange(min(2, len(data))))
    kept = {name: parameter.data for name, parameter in lowered(model).items()}
    try:
        for parameter in lowered(model).values():
            parameter.data = parameter.data.to(torch.bfloat16)
        inputs = {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in batch.inputs.items()}
        with torch.no_grad(), evaluating(model):
            outputs = data.task.forward(model, replace(batch, inputs=inputs))
            said = outputs.logits if batch.targets is None else data.task.loss(outputs, batch).total
        return bool(said.isfinite().all())
    except (RuntimeError, ValueError, TypeError):
        return False
    finally:
        for name, parameter in lowered(model).items():
            parameter.data = kept[name]
