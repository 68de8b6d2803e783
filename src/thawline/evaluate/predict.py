"""Predictions by length, in the order given: no wasted padding, and no surprise about which answer belongs to whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from thawline.data.batch import by_length
from thawline.evaluate.metrics import METRICS
from thawline.models.trace import evaluating
from thawline.tasks.supervised import Supervised
from thawline.types import Batch, Prediction

MAX_TOKENS = 1 << 14
"""Tokens of a batch, padding included: enough to fill the processor, little enough for memory to stay flat."""

Context = Callable[[], AbstractContextManager[Any]]
Forward = Callable[[Supervised, np.ndarray, Batch], Any]
Each = Callable[[Callable[..., Any], Iterable[Any]], Iterable[Any]]


def outputs(
    model: nn.Module,
    data: Supervised,
    *,
    batch_size: int,
    autocast: Context = nullcontext,
    each: Each = map,
    forward: Forward | None = None,
    hollow: bool = False,
    told: Callable[[int], object] = lambda done: None,
) -> Iterator[tuple[np.ndarray, Batch, Any]]:
    """Run the model over `data`, longest batches first; yields the indices of a batch, the batch, and the outputs.

    `each` maps a function over batches in their order, and may do so in several threads; `forward` stands for the model, and
    where it is `hollow` it has no need of the inputs themselves.
    """
    first = next(model.parameters())

    def taken(value: torch.Tensor) -> torch.Tensor:
        return value.to(first.device, first.dtype if value.is_floating_point() else None)

    def run(indices: np.ndarray) -> tuple[np.ndarray, Batch, Any]:
        batch = data.hollow(indices) if hollow else data.batch(indices)
        moved = replace(batch, inputs={name: taken(value) for name, value in batch.inputs.items()})
        with torch.inference_mode(), autocast():
            return indices, batch, forward(data, indices, moved) if forward else data.task.forward(model, moved)

    done = 0
    with evaluating(model):
        for indices, batch, found in each(run, by_length(data.lengths, max_examples=batch_size, max_tokens=MAX_TOKENS)):
            yield indices, batch, found
            done += len(indices)
            told(done)


def predict(model: nn.Module, data: Supervised, *, batch_size: int = 64, **options: Any) -> list[Prediction]:
    """Return one prediction an example, in the order of `data`; options are those of `outputs`."""
    found: list[Prediction | None] = [None] * len(data)
    for indices, batch, output in outputs(model, data, batch_size=batch_size, **options):
        _keep(found, indices, data.task.decode(_answered(model, data, batch, output), batch))
    return _by_example(data, found)


def _answered(model: nn.Module, data: Supervised, batch: Batch, output: Any) -> Any:
    with torch.inference_mode():
        return data.task.answer(model, batch, output)


def _keep(found: list[Prediction | None], indices: np.ndarray, predictions: Sequence[Prediction]) -> None:
    for index, prediction in zip(indices, predictions, strict=True):
        found[index] = prediction


def _by_example(data: Supervised, found: Sequence[Prediction | None]) -> list[Prediction]:
    """Return one prediction an example, of those of its items."""
    whole = [prediction for prediction in found if prediction is not None]
    assert len(whole) == len(found), "an item was left without a prediction"
    if data.owners is None:
        return [data.task.combine([prediction]) for prediction in whole]
    ends = np.flatnonzero(np.diff(data.owners)) + 1
    return [data.task.combine(whole[start:end]) for start, end in pairwise([0, *ends.tolist(), len(whole)])]


def measure(model: nn.Module, data: Supervised, *, batch_size: int = 64, **options: Any) -> dict[str, float]:
    """Return the metrics of labelled data, and "loss", the weighted mean of the task's loss; options are those of `outputs`."""
    found: list[Prediction | None] = [None] * len(data)
    total = weight = 0.0
    for indices, batch, output in outputs(model, data, batch_size=batch_size, **options):
        loss = data.task.loss(output, batch)
        total, weight = total + float(loss.total), weight + float(loss.weight)
        _keep(found, indices, data.task.decode(_answered(model, data, batch, output), batch))
    assert data.targets is not None, "only labelled data can be measured"
    answers = data.task.answers(_by_example(data, found))
    return {"loss": total / weight if weight else 0.0, **METRICS[data.task.problem](data.targets, answers)}
