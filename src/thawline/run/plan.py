"""What a training will take, told before it is started: measured on a few steps, and nothing is learned or kept of them."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from thawline.memory import available_bytes
from thawline.recipe import Recipe, trials_of
from thawline.recipe.vary import trainings
from thawline.run.assemble import Assembled, assemble, evaluator, judge_of
from thawline.run.below import LOOKED
from thawline.run.carry_out import Job, device_of
from thawline.run.finish import ending_seconds
from thawline.run.folder import RunFolder, refuse_existing
from thawline.run.prepare import Say, prepare
from thawline.tasks.supervised import Supervised
from thawline.train.budget import Costs, mean_seconds, spread, steps_within
from thawline.train.loop import Loop, untold
from thawline.train.observe import refuse_trackers
from thawline.train.workers import threads_inside

Plan = dict[str, Any]

_STEPS = 6  # measured, over all thaw lines
_LEAST_STEPS = 2  # of each thaw line
_EVALUATED = 128  # examples
_GRID = 1000  # points of progress at which a strategy is asked


def plan_of(recipe: Recipe, say: Say) -> Plan:
    """Return what carrying out a recipe is predicted to take. Raises what training would raise before its first step.

    Of a recipe that varies keys it is the first trial; "trials" says how many there are.
    """
    begun, trials = time.monotonic(), trials_of(recipe)
    if recipe.output.dir is not None:
        refuse_existing(Path(recipe.output.dir))
    refuse_trackers(recipe.train.report_to)
    recipe = trials[0].recipe if trials else recipe
    prepared = prepare(recipe, say)
    judge_of(prepared.recipe, prepared.task)
    assembled = assemble(prepared, say)
    device = device_of(assembled.recipe)
    stages = stages_of(assembled)  # before the rows of the vocabulary are narrowed
    with tempfile.TemporaryDirectory() as place, threads_inside():
        start = time.monotonic()
        job = Job(prepared, assembled, RunFolder(place), device, say, progress=False, begun=begun)
        loop = job.loop()
        known: Plan = job.folder.read("plan.json") or {}
        found = {"start": time.monotonic() - start, **seconds_of(job, loop, known)}
        if recipe.train.max_minutes is not None:
            known |= _within(recipe.train.max_minutes * 60, start - begun, found, loop=loop)
        found |= _total(found, known["steps"], loop)
    train = prepared.sets["train"]
    return {
        "model": assembled.recipe.model.name,
        "strategy": assembled.recipe.strategy,
        "trials": max(1, trainings(trials)),
        "examples": {name: len(rows.ids) for name, rows in prepared.sets.items()},
        "stages": stages,
        **known,
        "epochs": round(known["steps"] / known["steps_per_epoch"], 3),
        "tokens_per_epoch": int(train.lengths.sum()),
        "memory_available_mb": round(available_bytes() / 1e6, 1),
        "seconds": {name: round(value, 4) for name, value in found.items()},
    }


def stages_of(assembled: Assembled) -> list[dict[str, Any]]:
    """Return each stage: its parameters, how many of them learn, from and until which share of the training, at which rates."""
    sizes = {name: parameter.numel() for name, parameter in assembled.model.named_parameters()}
    grid = [assembled.strategy.active(assembled.groups, point / _GRID) for point in range(_GRID)]
    found = []
    for number, stage in enumerate(assembled.stages):
        groups = [group for group in assembled.groups if group.stage == number]
        rates = {float(group.rate or assembled.recipe.train.learning_rate) * group.scale for group in groups}
        learning = [place for place, active in enumerate(grid) if number in active] if groups else []
        found.append(
            {
                "stage": stage.name,
                "parameters": sum(sizes[name] for name in stage.parameters),
                "learning": sum(sizes[name] for group in groups for name in group.parameters),
                "since": learning[0] / _GRID if learning else None,
                "until": (learning[-1] + 1) / _GRID if learning else None,
                "learning_rates": sorted(rates) if learning else [],
            }
        )
    return found


def seconds_of(job: Job, loop: Loop, known: Plan) -> dict[str, float]:
    """Measure what a step of each thaw line and an evaluation take; return seconds, those of steps as means over the run."""
    for group in loop.learner.optimizer.param_groups:
        group["rate"] = 0.0  # so that a whole step can be measured and no weight changes
    lines = _lines(loop, known["steps"])
    each = max(_LEAST_STEPS, _STEPS // len(lines))
    total = sum(count * _step_seconds(loop, first, each) for first, count in lines)
    evaluation = 0.0
    if "validation" in job.prepared.sets and loop.evaluate is not None:
        some = spread_over(job.prepared.sets["validation"], _EVALUATED)
        measured = evaluator(job.assembled.recipe, some, loop.gradients, learner=loop.learner)
        assert measured is not None, "there is something to evaluate"
        seconds = mean_seconds(lambda _: measured(loop.learner.model, untold), [0])
        evaluation = seconds * job.prepared.sets["validation"].lengths.sum() / some.lengths.sum()
    step = total / known["steps"]
    size, bf16 = loop.gradients.order.batch_size, loop.gradients.device.bf16
    return {
        "step": step,
        "fill": sum(one["seconds_to_fill"] for one in known["store"]),
        "evaluation": float(evaluation),
        "ending": ending_seconds(job.prepared, float(evaluation), example=step / size, bf16=bf16),
    }


def spread_over(data: Supervised, count: int) -> Supervised:
    """Return at most `count` examples, of all lengths alike, each with all its items."""
    by_length = np.argsort(data.lengths, kind="stable")
    some = np.unique(by_length[np.linspace(0, len(data) - 1, min(count, len(data))).astype(int)])
    return chosen(data, some if data.owners is None else np.flatnonzero(np.isin(data.owners, data.owners[some])))


def chosen(data: Supervised, indices: np.ndarray) -> Supervised:
    """Return the items at `indices`, and the examples that they are of."""
    examples, owners = np.unique([data.owner(int(i)) for i in indices], return_inverse=True)
    return replace(
        data,
        items=[data.items[int(i)] for i in indices],
        lengths=data.lengths[indices],
        ids=[data.ids[i] for i in examples],
        targets=_of(data.targets, examples),
        weights=_of(data.weights, examples),
        owners=owners,
    )


def _of(values: Any, examples: np.ndarray) -> Any:
    if values is None or isinstance(values, np.ndarray):
        return None if values is None else values[examples]
    return [values[i] for i in examples]


def _lines(loop: Loop, steps: int) -> list[tuple[int, int]]:
    """Return the first step and the number of steps of each run of steps in which the same stages learn."""
    learner, stride = loop.learner, -(-steps // LOOKED)
    runs = groupby(range(0, steps, stride), lambda step: learner.strategy.active(learner.groups, step / steps))
    found = [list(run) for _, run in runs]
    return [(run[0], min(stride * len(run), steps - run[0])) for run in found]


def _step_seconds(loop: Loop, first: int, count: int) -> float:
    learner, gradients = loop.learner, replace(loop.gradients, ahead=0)
    learner.open(first)
    numbers = spread(gradients.order, count)
    some = np.concatenate([gradients.order.examples(number) for number in numbers])
    gradients.prefix.fill(chosen(gradients.data, some), learner.thaw_line)

    def step(number: int) -> None:
        sums = gradients(learner, number, first / loop.rhythm.total)
        learner.step(first, max(sums["weight"], 1e-9))

    return mean_seconds(step, numbers)


def _within(seconds: float, spent: float, found: dict[str, float], *, loop: Loop) -> Plan:
    """Return how many of the steps that `train.max_minutes` leads to will be done in time, as they were measured here."""
    costs = Costs(found["step"], found["evaluation"], found["ending"] + found["evaluation"] + found["fill"])
    left = seconds - spent - found["start"]
    return {"steps": steps_within(costs, left, every=loop.rhythm.evaluate_every, most=loop.rhythm.total)}


def _total(found: dict[str, float], steps: int, loop: Loop) -> dict[str, float]:
    every, per_epoch = loop.rhythm.evaluate_every, loop.gradients.order.steps_per_epoch
    evaluations = math.ceil(steps / every) if every else 0
    train = found["start"] + found["fill"] + steps * found["step"]
    return {
        "epoch": min(steps, per_epoch) * found["step"] + (found["evaluation"] if every else 0.0),
        "train": train,
        "total": train + evaluations * found["evaluation"] + found["ending"],
    }
