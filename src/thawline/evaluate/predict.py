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

Context = Callable[[], AbstractContextManager[Any]]
Forward = Callable[[Supervised, np.ndarray, Batch], Any]
Each = Callable[[Callable[..., Any], Iterable[Any]], Iterable[Any]]
Told = Callable[[int], object]


def outputs(
    model: nn.Module,
    data: Supervised,
    batches: Iterable[np.ndarray],
    *,
    autocast: Context = nullcontext,
    each: Each = map,
    forward: Forward | None = None,
    hollow: bool = False,
) -> Iterator[tuple[np.ndarray, Batch, Any]]:
    """Run the model over `batches` of the items, each an array of indices; yields the indices, the batch, and the outputs.

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

    with evaluating(model):
        yield from each(run, batches)


def predict(
    model: nn.Module, data: Supervised, *, batch_size: int = 64, answered: np.ndarray | None = None, **options: Any
) -> list[Prediction]:
    """Return one prediction an example, in the order of `data`; options are those of `outputs`.

    `answered`, bool [N], says of which examples; None: of all. Of the others it is what one pass of the model says.
    """
    found: list[Prediction | None] = [None] * len(data)
    for indices, _, _, predictions in _decoded(model, data, answered, batch_size=batch_size, **options):
        _keep(found, indices, predictions)
    return _by_example(data, found)


def spread(there: Sequence[bool] | np.ndarray, most: int) -> np.ndarray:
    """Return which examples are answered where at most so many are, evenly spread over those that are `there`, bool [N].

    >>> spread([True, False, True, True, True], 2).tolist()
    [True, False, False, False, True]
    """
    places = np.flatnonzero(there)
    chosen = np.zeros(len(there), np.bool_)
    chosen[places[np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int)]] = True
    return chosen


def _decoded(
    model: nn.Module,
    data: Supervised,
    answered: np.ndarray | None,
    *,
    batch_size: int,
    told: Told = lambda done: None,
    **options: Any,
) -> Iterator[tuple[np.ndarray, Batch, Any, list[Prediction]]]:
    """Yield what `outputs` yields, beside the predictions: first of what is answered, then of what is not."""
    chosen = np.array([answered is None or answered[data.owner(i)] for i in range(len(data))], np.bool_)
    done = 0
    for some, whole in ((np.flatnonzero(chosen), True), (np.flatnonzero(~chosen), False)):
        runs = by_length(data.lengths[some], max_examples=batch_size, max_tokens=data.task.tokens_at_once)
        for indices, batch, output in outputs(model, data, [some[places] for places in runs], **options):
            with torch.inference_mode():
                said = data.task.answer(model, batch, output) if whole else output
            yield indices, batch, output, data.task.decode(said, batch)
            done += len(indices)
            told(done)


def _on(device: torch.device, batch: Batch) -> Batch:
    """Return a batch with what a loss reads on the device that the outputs are on."""
    targets = None if batch.targets is None else batch.targets.to(device)
    return replace(batch, targets=targets, weights=batch.weights.to(device))


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
    """Return the metrics of labelled data, and "loss", the weighted mean of the task's loss; options are those of `outputs`.

    As many examples are answered as the task does while training.
    """
    assert data.targets is not None, "only labelled data can be measured"
    found: list[Prediction | None] = [None] * len(data)
    total, weight, device = 0.0, 0.0, next(model.parameters()).device
    most = data.task.answered_in_training
    answered = None if most is None else spread([target is not None for target in data.targets], most)
    for indices, batch, output, predictions in _decoded(model, data, answered, batch_size=batch_size, **options):
        loss = data.task.loss(output, _on(device, batch))
        total, weight = total + float(loss.total), weight + float(loss.weight)
        _keep(found, indices, predictions)
    answers = data.task.answers(_by_example(data, found))
    return {"loss": total / weight if weight else 0.0, **METRICS[data.task.problem](data.targets, answers)}
