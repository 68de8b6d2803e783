"""What is predicted of a training before its first step at no cost, and what it is compared with afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from thawline.memory import anonymous_bytes
from thawline.models.trace import evaluating
from thawline.run.assemble import Assembled, Decisions, order_of
from thawline.run.keeper import Frozen
from thawline.run.lighten import Light
from thawline.run.prepare import Prepared
from thawline.tasks.supervised import Supervised
from thawline.train.forecast import Seen, forecast, held_bytes
from thawline.train.steps import Order, Shapes

Facts = dict[str, Any]
_STEPS = 100  # looked at


class Passes(NamedTuple):
    """Tokens of the steps that were looked at: real ones, with padding in plain batches, and what micro-batches compute.

    `widest` is the most that is under way at once; `shapes` are all that micro-batches had, of `steps` steps.
    """

    tokens: int
    plain: int
    used: int
    widest: int
    shapes: int
    steps: int

    @property
    def shares(self) -> Facts:
        """Padding as a share of all, in plain batches and as it is computed, and how much of the first is saved."""
        before, after = self.plain - self.tokens, self.used - self.tokens
        return {"plain": before / self.plain, "used": after / self.used, "saved": 1 - after / before if before else 0.0}


def passes(order: Order, *, rows: int, workers: int) -> Passes:
    """Look at steps of the first epoch; plain batches have `rows` examples in the order given."""
    tokens = plain = used = widest = 0
    shapes = set[tuple[int, int]]()
    steps = np.unique(np.linspace(0, order.steps_per_epoch - 1, _STEPS).astype(int))
    for step in steps:
        lengths = order.lengths[order.examples(int(step))]
        parts = order.micro_batches(int(step), max_examples=rows, workers=workers)
        taken = [order.positions(part) for part in parts]
        shapes.update((len(part), order.length(part)) for part in parts)
        tokens, used = tokens + int(lengths.sum()), used + sum(taken)
        widest = max(widest, sum(sorted(taken, reverse=True)[:workers]))
        plain += sum(len(some) * int(some.max()) for some in np.split(lengths, range(rows, len(lengths), rows)))
    return Passes(tokens, plain, used, widest, len(shapes), len(steps))


def held_by(assembled: Assembled, data: Supervised) -> float | None:
    """Return what `thawline.train.forecast.held_bytes` finds, or None for a model of token ids, of which it is known."""
    first = np.arange(min(2, len(data)))
    batch, positions = data.batch(first), int(data.lengths[first].sum())
    if "input_ids" in batch.inputs:
        return None
    kind = next(assembled.model.parameters()).dtype
    inputs = {name: value.to(kind) if value.is_floating_point() else value for name, value in batch.inputs.items()}
    with evaluating(assembled.model):
        looked = replace(batch, inputs=inputs)
        return held_bytes(assembled.model, assembled.groups, looked, positions=positions, forward=data.task.forward)


def foresight(
    prepared: Prepared, assembled: Assembled, light: Light, *, frozen: Frozen, decisions: Decisions, shapes: Shapes
) -> Facts:
    """Return what plan.json holds: steps, padding, memory in MB (10^6 bytes), and what was decided of the frozen part."""
    recipe, data = assembled.recipe, prepared.sets["train"]
    rows, workers = recipe.train.per_device_train_batch_size, decisions["workers"]
    order = order_of(data, recipe, shapes)
    looked = passes(order, rows=rows, workers=workers)
    seen = Seen(looked.widest, round(looked.shapes * decisions["steps"] / looked.steps), held_by(assembled, data))
    needed = forecast(
        assembled.model,
        assembled.groups,
        data.lengths,
        rows=min(rows, len(data)),
        seen=seen,
        workers=workers,
        moments=1 if recipe.train.optim == "sgd" else 2,
    )
    held = anonymous_bytes()
    weights = _bytes_of(assembled.model, light)
    memory = {
        "program": held - weights,
        "weights": weights,
        "gradients": needed.gradients,
        "optimizer": needed.optimizer,
        "activations": needed.activations,
        "workspace": needed.workspace,
        "peak": held + needed.peak,
    }
    return {
        "steps": decisions["steps"],
        "steps_per_epoch": order.steps_per_epoch,
        "padding": looked.shares,
        "memory_mb": {name: round(size / 1e6, 1) for name, size in memory.items()},
        "store": _store_of(frozen),
    }


def beside(plan: Mapping[str, Any] | None, frozen: Frozen, *, whole: bool) -> Facts:
    """Return what metrics.json says of the plan and of what came of it.

    What the frozen part took is known only of a run that was done in one piece, the `whole`.
    """
    found: Facts = {}
    if plan is not None:
        found["predicted_peak_memory_mb"] = plan["memory_mb"]["peak"]
        if "seconds" in plan:
            found["predicted_seconds"] = plan["seconds"]["train"]
            found["predicted_seconds_per_epoch"] = plan["seconds"]["train"] * plan["steps_per_epoch"] / plan["steps"]
    prefix = frozen.prefix
    if prefix.cuts:
        store, predicted = (plan or {}).get("store", []), frozen.predicted() if whole else None
        if predicted is None and store:
            predicted = sum(one["seconds"] for one in store)
        found["prefix"] = {
            "depths": list(prefix.cuts),
            "stored": sorted(prefix.below.shelves),
            "examples_computed": prefix.computed if whole else None,
            "predicted_seconds": round(predicted, 3) if predicted is not None else None,
            "seconds": round(prefix.seconds, 3) if whole else None,
            "predicted_size_mb": round(sum(one["size_mb"] for one in store if one["stored"]), 3),
            "size_mb": round(frozen.size() / 1e6, 3),
        }
    return found


def _store_of(frozen: Frozen) -> list[Facts]:
    found = []
    for depth, view in sorted(frozen.outlooks.items()):
        stored = depth in frozen.prefix.below.shelves
        found.append(
            {
                "depth": depth,
                "stored": stored,
                "size_mb": round(view.size / 1e6, 3),
                "seconds_with": round(view.stored, 3),
                "seconds_without": round(view.computed, 3),
                "seconds": round(view.stored if stored else view.computed, 3),
                "seconds_to_fill": round(view.filled, 3) if stored else 0.0,
            }
        )
    return found


def _bytes_of(model: Any, light: Light) -> int:
    """Return the bytes of the weights, those of a model and those behind it."""
    tensors = [*model.parameters(), *light.masters.named.values(), *([light.rows.whole] if light.rows else [])]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())
